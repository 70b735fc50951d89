//! A service that is given the database of the other service refuses it, and names the other service.

use auth_service::keys::MasterKey;
use clap::Parser;
use migrate::{Mode, Target, migrate_to};
use testing::{Engine, TestDatabase, on_both_engines};

/// The databases of the two services. In one round all migrations are applied, and in the other the first one only, whose name both
/// services share.
struct Databases {
    auth: TestDatabase,
    profile: TestDatabase,
}

impl Databases {
    async fn start(engine: Engine) -> Self {
        Self { auth: TestDatabase::new(engine).await, profile: TestDatabase::new(engine).await }
    }
}

async fn auth_service(arguments: &[&str]) -> String {
    let cli = auth_service::cli::Cli::try_parse_from([&["auth-service"], arguments].concat()).unwrap();
    auth_service::cli::run(cli).await.unwrap_err().to_string()
}

async fn profile_service(arguments: &[&str]) -> String {
    let cli = profile_service::cli::Cli::try_parse_from([&["profile-service"], arguments].concat()).unwrap();
    profile_service::cli::run(cli).await.unwrap_err().to_string()
}

on_both_engines! {
    async fn the_database_of_the_other_service_is_refused_by_name(databases: Databases) {
        let Databases { auth, profile } = databases;
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("master.key");
        std::fs::write(&key, MasterKey::generate()).unwrap();
        let (key, first) = (key.to_str().unwrap(), Target::Named("0001_initial".to_owned()));
        for target in [first, Target::Latest] {
            migrate_to(&auth.open(), &auth_service::MIGRATIONS, &target, Mode::Run, |_| {}).await.unwrap();
            migrate_to(&profile.open(), &profile_service::MIGRATIONS, &target, Mode::Run, |_| {}).await.unwrap();
            let belongs = |database: &TestDatabase, service| {
                format!("the database {} belongs to {service}, not to this service: check --database-url", database.open().name())
            };
            let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url"];
            let sentence = belongs(&profile, "profile-service");
            assert_eq!(auth_service(&[&serve[..], &[profile.url(), "--master-key-file", key]].concat()).await, sentence);
            assert_eq!(auth_service(&["migrate", "--database-url", profile.url()]).await, sentence);
            let sentence = belongs(&auth, "auth-service");
            assert_eq!(profile_service(&[&serve[..], &[auth.url()]].concat()).await, sentence);
            assert_eq!(profile_service(&["migrate", "--plan", "--database-url", auth.url()]).await, sentence);
        }
    }
}
