//! A service that cannot start fails with a message that names the reason, and changes nothing in the database.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use auth_service::{MIGRATIONS, keys::MasterKey, proto::LoginRequest};
use store::Executor;
use testing::on_both_engines;
use testing::{Engine, TestDatabase};
use tokio::task::JoinSet;

use crate::app::{App, PASSWORD};

/// An empty database, and the commands that use it.
pub(crate) struct Fresh(pub(crate) TestDatabase);

impl Fresh {
    pub(crate) async fn start(engine: Engine) -> Self {
        Self(TestDatabase::new(engine).await)
    }

    pub(crate) fn command(&self, command: &str) -> Command {
        process(&[command, "--database-url", self.0.url()])
    }

    pub(crate) fn serve(&self, master_key: &str) -> Command {
        let mut process = self.command("serve");
        process.args(["--listen", "127.0.0.1:0"]).env("MASTER_KEY", master_key);
        process
    }

    /// Starts the service, waits until it serves, and kills it.
    pub(crate) fn serves_with(&self, master_key: &str) {
        let mut serving = self.serve(master_key).stderr(Stdio::piped()).spawn().expect("a process");
        let mut lines = BufReader::new(serving.stderr.take().expect("a pipe")).lines();
        let serves = lines.any(|line| line.is_ok_and(|line| line.contains("serving")));
        serving.kill().expect("a kill");
        serving.wait().expect("an end");
        assert!(serves, "a service that serves");
    }

    pub(crate) async fn migrated(&self) {
        migrate::migrate(&self.0.open(), &MIGRATIONS).await.expect("a migrated database");
    }

    /// Runs a command on a terminal, types an answer for each prompt, and returns what the terminal shows.
    fn on_terminal(&self, command: &[&str], dialog: &[(&str, &str)]) -> String {
        let mut terminal = Command::new("python3");
        terminal.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/terminal.py"));
        terminal.args(dialog.iter().flat_map(|(prompt, answer)| [prompt, answer]));
        terminal.args(["--", env!("CARGO_BIN_EXE_auth-service")]).args(command).args(["--database-url", self.0.url()]);
        let output = terminal.output().expect("Python 3");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
        shown
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        let mut tx = self.0.open().begin().await.expect("a transaction");
        tx.query(sql).execute().await.expect("a statement");
        tx.commit().await.expect("a commit");
    }
}

pub(crate) fn process(arguments: &[&str]) -> Command {
    let mut process = Command::new(env!("CARGO_BIN_EXE_auth-service"));
    process.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    process
}

/// Returns the names of the migrations, in order.
pub(crate) fn migration_names() -> Vec<String> {
    let up = MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration());
    up.map(|migration| format!("{:04}_{}", migration.version, migration.description.replace(' ', "_"))).collect()
}

async fn password_hash(app: &Fresh) -> String {
    let db = app.0.open();
    db.query("SELECT password_hash FROM users").one::<(String,)>().await.expect("one user").0
}

#[track_caller]
pub(crate) fn assert_fails(output: &Output, sentence: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(sentence), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

on_both_engines! {
    async fn an_empty_database_has_to_be_migrated_first(app: Fresh) {
        let output = app.serve(&MasterKey::generate()).output().expect("a process");
        let count = migration_names().len();
        assert_fails(&output, &format!("the database has {count} unapplied migration(s): run `migrate` first"));
        let output = app.command("migrate").output().expect("a process");
        let applied = migration_names().iter().map(|name| format!("  Applying auth-service.{name}... OK\n")).collect::<Vec<_>>().concat();
        let beginning = "Operations to perform:\n  Apply all migrations: auth-service\nRunning migrations:\n";
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{beginning}{applied}"));
        let output = app.command("migrate").output().expect("a process");
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{beginning}  No migrations to apply.\n"));
    }

    async fn a_default_group_that_does_not_exist_is_refused(app: Fresh) {
        app.migrated().await;
        let output = app.serve(&MasterKey::generate()).args(["--default-group", "Members"]).output().expect("a process");
        assert_fails(&output, "there is no group \"Members\": create the group that --default-group names");
    }

    async fn a_schema_of_the_future_is_refused(app: Fresh) {
        app.migrated().await;
        app.execute("UPDATE _sqlx_migrations SET version = 99 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)").await;
        let output = app.serve(&MasterKey::generate()).output().expect("a process");
        assert_fails(&output, "which this version of the service does not have: run the version that applied it");
    }

    async fn a_migration_that_was_changed_is_refused(app: Fresh) {
        app.migrated().await;
        let mut tx = app.0.open().begin().await.expect("a transaction");
        tx.query("UPDATE _sqlx_migrations SET checksum = $1").bind(vec![1_u8, 2, 3]).execute().await.expect("a statement");
        tx.commit().await.expect("a commit");
        let output = app.serve(&MasterKey::generate()).output().expect("a process");
        assert_fails(&output, "migration 0001_initial was changed after it was applied");
    }

    async fn a_wrong_master_key_is_refused_and_changes_nothing(app: Fresh) {
        app.migrated().await;
        app.serves_with(&MasterKey::generate());
        let output = app.serve(&MasterKey::generate()).output().expect("a process");
        assert_fails(&output, "cannot be decrypted with this master key");
        let output = app.serve("too short").output().expect("a process");
        assert_fails(&output, "the master key must be 32 bytes in base64");
    }

    async fn a_table_that_is_missing_is_said(app: Fresh) {
        app.migrated().await;
        app.execute("DROP TABLE signing_keys").await;
        let output = app.serve(&MasterKey::generate()).output().expect("a process");
        assert_fails(&output, "the schema is damaged, restore the database from a backup: ");
        assert_fails(&output, "signing_keys");
    }

    async fn the_master_key_is_found_where_the_configuration_file_says(app: Fresh) {
        app.migrated().await;
        let folder = tempfile::tempdir().expect("a folder");
        let (key, config) = (folder.path().join("master.key"), folder.path().join("config.toml"));
        std::fs::write(&config, format!("master-key-file = '{}'\nlisten = '127.0.0.1:0'", key.display())).expect("a write");
        let serve = || app.command("serve").arg("--config").arg(&config).output().expect("a process");
        assert_fails(&serve(), "master.key: No such file or directory");
        std::fs::write(&key, "too short").expect("a write");
        assert_fails(&serve(), "the master key must be 32 bytes in base64");
        let output = app.command("serve").output().expect("a process");
        assert_fails(&output, "the master key is missing: pass its file with `--master-key-file`");
        // An empty variable counts as not set.
        let output = app.command("serve").env("MASTER_KEY_FILE", "").env("LISTEN", "").env("NO_PAGE", "").output().expect("a process");
        assert_fails(&output, "the master key is missing: pass its file with `--master-key-file`");
    }

    async fn settings_have_prefixed_variables_and_are_shown(app: Fresh) {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("config.toml");
        std::fs::write(&config, "key-bits = '3072'").expect("a write");
        let mut show = process(&["config", "show", "--database-url", "postgres://auth:secret@localhost/auth", "--config"]);
        show.arg(&config).stdout(Stdio::piped()).env("LISTEN", "nowhere").env("AUTH_LISTEN", "localhost:1");
        let output = show.env("STRICT_REFRESH", "1").env("MASTER_KEY", "secret").output().expect("a process");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for line in [
            "listen = \"localhost:1\"  # environment variable AUTH_LISTEN\n".to_owned(),
            "database-url = \"postgres://auth:***@localhost/auth\"  # command line\n".to_owned(),
            "strict-refresh = true  # environment variable STRICT_REFRESH\n".to_owned(),
            "# master-key is set, but it is not shown  # environment variable MASTER_KEY\n".to_owned(),
            "access-lifetime = 600  # default\n".to_owned(),
            format!("key-bits = 3072  # {}\n", config.display()),
        ] {
            assert!(shown.contains(&line), "{line}: {shown}");
        }
        assert!(!shown.contains("secret\""), "{shown}");

        app.migrated().await;
        for (flag, value, sentence) in [
            ("--issuer", "auth", "must be an http or https URL without a query and a fragment"),
            ("--listen", "localhost", "expected an IP address or a host name, and a port"),
        ] {
            let output = app.command("serve").args([flag, value]).output().expect("a process");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(sentence), "{said}");
        }
        std::fs::write(&config, "access-lifetime = 1").expect("a write");
        let output = app.command("serve").arg("--config").arg(&config).output().expect("a process");
        let said = String::from_utf8_lossy(&output.stderr);
        let sentence = format!("auth-service: {}: `access-lifetime` has the wrong value `1`: 1 is not in 10..=86400\n", config.display());
        assert_eq!(said, sentence);
    }

    async fn an_issuer_that_others_cannot_reach_is_warned_of(app: Fresh) {
        app.migrated().await;
        for (listen, warns) in [("0.0.0.0:0", true), ("localhost:0", false)] {
            let mut serve = app.command("serve");
            serve.args(["--listen", listen]).env("MASTER_KEY", MasterKey::generate()).stderr(Stdio::piped());
            let mut serving = serve.spawn().expect("a process");
            let lines = BufReader::new(serving.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
            let mut warned = false;
            for line in lines {
                warned |= line.contains("the issuer is http://127.0.0.1:50051, which other machines cannot reach");
                if line.contains("serving") {
                    break;
                }
            }
            serving.kill().expect("a kill");
            serving.wait().expect("an end");
            assert_eq!(warned, warns, "{listen}");
        }
    }

    async fn a_superuser_is_made_and_changed_as_by_manage_py(app: Fresh) {
        app.migrated().await;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), PASSWORD).expect("a write");
        let run = |arguments: &[&str]| app.command(arguments[0]).args(&arguments[1..]).output().expect("a process");
        assert_fails(&run(&["createsuperuser"]), "no username was given: pass --username");
        assert_fails(&run(&["createsuperuser", "--username", "root"]), "no password was given on standard input");
        let noinput = ["createsuperuser", "--noinput", "--username", "root", "--email", "root@example.com"];
        assert_fails(&run(&noinput), "no password was given: set AUTH_SUPERUSER_PASSWORD or pass --password-file");
        let output = app.command(noinput[0]).args(&noinput[1..]).env("AUTH_SUPERUSER_PASSWORD", PASSWORD).output().expect("a process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let before = password_hash(&app).await;
        let path = file.path().to_str().expect("a path");
        assert_fails(&run(&["changepassword", "nobody", "--password-file", path]), "there is no user nobody");
        assert_fails(&run(&["changepassword", "root"]), "no password was given on standard input");
        assert_eq!(password_hash(&app).await, before);
        let output = run(&["changepassword", "Root", "--password-file", path]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_ne!(password_hash(&app).await, before);
    }

    async fn a_terminal_is_asked_for_what_is_not_given(app: Fresh) {
        app.migrated().await;
        let other = "eight green teas of lead";
        let shown = app.on_terminal(
            &["createsuperuser"],
            &[
                ("Username: ", "root"),
                ("Email address: ", "root@example.com"),
                ("Password: ", ""),
                ("Password: ", PASSWORD),
                ("Password (again): ", other),
                ("Password: ", PASSWORD),
                ("Password (again): ", PASSWORD),
            ],
        );
        for text in ["Blank passwords aren't allowed.", "Your passwords didn't match.", "Superuser created successfully."] {
            assert!(shown.contains(text), "{text}: {shown}");
        }
        assert!(!shown.contains(PASSWORD), "a password is not shown: {shown}");
        let before = password_hash(&app).await;
        let shown = app.on_terminal(&["changepassword", "root"], &[("Password: ", other), ("Password (again): ", other)]);
        assert!(shown.contains("Changing password for user 'root'"), "{shown}");
        assert_ne!(password_hash(&app).await, before);
    }

    async fn a_superuser_is_made_once(app: Fresh) {
        app.migrated().await;
        let create = |password: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), password).expect("a write");
            app.command("createsuperuser").args(["--username", "root", "--password-file"]).arg(file.path()).output().expect("a process")
        };
        assert_fails(&create("short"), "the password must have at least 15 characters");
        assert!(create("seven blue cafes of tin").status.success());
        assert_fails(&create("seven blue cafes of tin"), "the username is taken");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let app = Fresh::start(Engine::Sqlite).await;
    let path = app.0.url().trim_start_matches("sqlite:");
    std::fs::write(path, "this is no database, and long enough to be told from an empty one".repeat(100)).expect("a write");
    let output = app.serve(&MasterKey::generate()).output().expect("a process");
    assert_fails(&output, "file is not a database");
    assert_eq!(std::fs::read_to_string(path).expect("the file").len(), 6500);
}

#[test]
fn a_database_that_can_t_be_reached_or_named_is_said() {
    for (url, sentence) in [
        ("postgres://nobody@127.0.0.1:1/none", "cannot read the schema"),
        ("mysql://root@localhost/test", "the database URL must begin with `sqlite:` or `postgres:`"),
        ("sqlite::memory:", "an in-memory SQLite database cannot be served"),
    ] {
        let output =
            process(&["serve", "--database-url", url]).env("MASTER_KEY", MasterKey::generate()).output().expect("a process");
        assert_fails(&output, sentence);
    }
}

#[tokio::test]
async fn calls_in_flight_come_to_their_end_when_the_service_stops() {
    let app = App::start(Engine::Sqlite).await;
    app.register("alice").await;
    let mut logins = JoinSet::new();
    for _ in 0..8 {
        let mut tokens = app.tokens();
        let request = LoginRequest { username: "alice".to_owned(), password: PASSWORD.to_owned() };
        logins.spawn(async move { tokens.login(request).await });
    }
    // When the first call has ended, the other calls are still running, because only a few passwords are verified at the same
    // time.
    let first = logins.join_next().await.expect("a login").expect("no panic");
    let (others, ()) = tokio::join!(logins.join_all(), app.server.stop());
    for answer in others.into_iter().chain([first]) {
        answer.expect("an answer");
    }
}
