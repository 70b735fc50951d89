//! The migrations build the schema that `schema.sql` declares.

use std::process::{Command, Stdio};

use migrate::{Mode, Target, migrate, migrate_to};
use profile_service::MIGRATIONS;
use testing::on_both_engines;
use testing::{Engine, TestDatabase};

struct Fresh(TestDatabase);

impl Fresh {
    async fn start(engine: Engine) -> Self {
        Self(TestDatabase::new(engine).await)
    }
}

on_both_engines! {
    async fn schema_sql_has_no_changes_without_a_migration_and_all_are_safe_to_release(app: Fresh) {
        let mut check = Command::new(env!("CARGO_BIN_EXE_profile-service"));
        check.args(["makemigrations", "--check", "--source", env!("CARGO_MANIFEST_DIR"), "--database-url", app.0.url()]);
        let output = check.env_clear().stdin(Stdio::null()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    }

    async fn the_schema_is_the_same_after_all_migrations_are_reverted_and_applied(app: Fresh) {
        let db = app.0.open();
        migrate(&db, &MIGRATIONS).await.unwrap();
        let schema = app.0.schema().await;
        assert!(!schema.is_empty());
        migrate_to(&db, &MIGRATIONS, &Target::Zero, Mode::Run, |_| {}).await.unwrap();
        assert_eq!(app.0.schema().await, [""; 0]);
        migrate(&db, &MIGRATIONS).await.unwrap();
        assert_eq!(app.0.schema().await, schema);
    }
}
