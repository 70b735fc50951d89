//! The migration commands on the command line.

use std::process::{Command, Output, Stdio};

use store::Executor;
use testing::on_both_engines;
use testing::{Engine, FaultProxy, rounds};
use tokio::task::spawn_blocking;

use crate::{
    crash::pass_on_sqlite,
    starting::{Fresh, assert_fails, migration_names, process},
};

fn command(database_url: &str, arguments: &[&str]) -> Command {
    let mut command = process(arguments);
    command.args(["--database-url", database_url]).stdout(Stdio::piped());
    command
}

fn outcome(app: &Fresh, arguments: &[&str]) -> Output {
    command(app.0.url(), arguments).output().expect("a process")
}

/// Runs a command that succeeds, and returns its output.
#[track_caller]
fn run(app: &Fresh, arguments: &[&str]) -> String {
    let output = outcome(app, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
}

/// Returns the names of the migrations that `showmigrations` marks as applied.
#[track_caller]
fn applied(app: &Fresh) -> Vec<String> {
    let shown = run(app, &["showmigrations", "--plan"]);
    assert_eq!(shown.lines().count(), migration_names().len());
    shown.lines().filter_map(|line| line.strip_prefix("[X]  ")).map(str::to_owned).collect()
}

/// Returns the output of `migrate`: the operation, and the migrations that are applied or unapplied.
fn progress(operation: &str, verb: &str, names: &[impl AsRef<str>], end: &str) -> String {
    let lines: Vec<_> = names.iter().map(|name| format!("  {verb} auth-service.{}... {end}\n", name.as_ref())).collect();
    let lines = if lines.is_empty() { "  No migrations to apply.\n".to_owned() } else { lines.concat() };
    format!("Operations to perform:\n  {operation}\nRunning migrations:\n{lines}")
}

const ALL: &str = "Apply all migrations: auth-service";

/// Returns the line for a single target.
fn target(name: &str) -> String {
    format!("Target specific migration: {name}, from auth-service")
}

/// Counts the tables of the first three migrations.
async fn tables(app: &Fresh) -> usize {
    let db = app.0.open();
    let mut count = 0;
    for probe in ["SELECT 1 FROM users", "SELECT 1 FROM sessions", "SELECT 1 FROM signing_keys", "SELECT 1 FROM attempts"] {
        count += usize::from(db.query(probe).execute().await.is_ok());
    }
    // An open connection would delay SQLite's recovery after the next process is killed, so that an unacknowledged commit would appear
    // between two reads.
    db.close().await;
    count
}

on_both_engines! {
    async fn migrations_are_applied_shown_and_reverted(app: Fresh) {
        let all = migration_names();
        assert_eq!(applied(&app), [""; 0]);
        assert_eq!(run(&app, &["migrate", "0002"]), progress(&target("0002"), "Applying", &["0001_initial", "0002_key_lifecycle"], "OK"));
        assert_eq!(applied(&app), all[..2]);
        let shown = run(&app, &["showmigrations"]);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[0].starts_with("[X]  0001_initial (20") && lines[0].ends_with(" UTC)"), "{shown}");
        assert_eq!(lines[2], "[ ]  0003_attempts");

        assert_eq!(run(&app, &["migrate"]), progress(ALL, "Applying", &all[2..], "OK"));
        assert_eq!(run(&app, &["migrate"]), progress(ALL, "Applying", &[""; 0], "OK"));
        assert_eq!(tables(&app).await, 4);
        let backwards: Vec<_> = all[1..].iter().rev().cloned().collect();
        assert_eq!(run(&app, &["migrate", "0001_initial"]), progress(&target("0001_initial"), "Unapplying", &backwards, "OK"));
        assert_eq!((applied(&app), tables(&app).await), (vec![all[0].clone()], 3));
        run(&app, &["migrate", "zero"]);
        assert_eq!((applied(&app).len(), tables(&app).await), (0, 0));
        run(&app, &["migrate"]);
        assert_eq!((applied(&app), tables(&app).await), (all, 4));
    }

    async fn rows_are_kept_if_their_table_is_kept(app: Fresh) {
        run(&app, &["migrate"]);
        let (db, clock) = (app.0.open(), access::Clock::system());
        let policy = auth_service::passwords::Policy::default();
        auth_service::create_superuser(&db, &clock, "root", "", crate::app::PASSWORD, policy).await.expect("a superuser");
        db.close().await;
        run(&app, &["migrate", "1"]);
        run(&app, &["migrate"]);
        let (users,): (i64,) = app.0.open().query("SELECT COUNT(*) FROM users").one().await.expect("a count");
        assert_eq!(users, 1);
    }

    async fn a_plan_changes_nothing(app: Fresh) {
        let all = migration_names();
        run(&app, &["migrate", "1"]);
        let planned = all[1..].iter().map(|name| format!("  Apply {name}\n")).collect::<Vec<_>>().concat();
        assert_eq!(run(&app, &["migrate", "--plan"]), format!("Planned operations:\n{planned}"));
        assert_eq!(run(&app, &["migrate", "zero", "--plan"]), "Planned operations:\n  Unapply 0001_initial\n");
        assert_fails(&outcome(&app, &["migrate", "--check"]), &format!("{} planned operation(s): run `migrate`", all.len() - 1));
        assert_eq!(applied(&app), all[..1]);
        run(&app, &["migrate"]);
        assert_eq!(run(&app, &["migrate", "--check"]), "Planned operations:\n  No planned migration operations.\n");
    }

    async fn fake_records_a_migration_that_was_applied_by_hand(app: Fresh) {
        run(&app, &["migrate", "2"]);
        let by_hand = sql(&["3"]);
        let mut tx = app.0.open().begin().await.expect("a transaction");
        for statement in by_hand.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            tx.query(statement.to_owned().leak()).execute().await.expect("a statement");
        }
        tx.commit().await.expect("a commit");
        assert_fails(&outcome(&app, &["migrate"]), "migration 0003_attempts failed and was rolled back: ");
        assert_eq!(run(&app, &["migrate", "3", "--fake"]), progress(&target("3"), "Applying", &["0003_attempts"], "FAKED"));
        run(&app, &["migrate"]);
        app.serves_with(&auth_service::keys::MasterKey::generate());
        run(&app, &["migrate", "3"]);
        assert_eq!(run(&app, &["migrate", "2", "--fake"]), progress(&target("2"), "Unapplying", &["0003_attempts"], "FAKED"));
        assert_eq!((applied(&app), tables(&app).await), (migration_names()[..2].to_vec(), 4));
        run(&app, &["migrate", "3", "--fake"]);
        run(&app, &["migrate", "zero"]);
        assert_eq!(tables(&app).await, 0);
    }

    async fn an_unknown_target_is_an_error(app: Fresh) {
        for (target, sentence) in [
            ("0999", "no migration matches 0999: `showmigrations` lists all migrations"),
            ("initial", "no migration matches initial"),
            ("000", "more than one migration matches 000: 0001_initial, 0002_key_lifecycle, 0003_attempts, "),
        ] {
            assert_fails(&outcome(&app, &["migrate", target]), sentence);
        }
        assert_eq!(applied(&app), [""; 0]);
    }

    async fn each_migration_runs_once_if_two_processes_migrate(app: Fresh) {
        let (mut is_applied, all) = (true, migration_names());
        let last = all.last().expect("a migration");
        for round in 0..rounds(50) {
            // The rounds apply and revert in turn.
            let target = if round % 2 == 0 { last } else { "zero" };
            let [one, other] = [(); 2].map(|()| {
                let mut command = command(app.0.url(), &["migrate", target]);
                spawn_blocking(move || command.output().expect("a process"))
            });
            let mut changes = 0;
            for output in [one.await.expect("no panic"), other.await.expect("no panic")] {
                let log = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{log}");
                changes += log.lines().filter(|line| line.ends_with("... OK")).count();
            }
            assert_eq!(changes, all.len(), "round {round}");
            is_applied = round % 2 == 0;
        }
        assert_eq!(tables(&app).await, if is_applied { 4 } else { 0 });
    }

    async fn a_killed_migration_is_applied_or_not(app: Killed) {
        let (mut step, mut kills, all) = (0, 0, migration_names());
        let last = all.last().expect("a migration");
        while kills < rounds(30) {
            let target = if run(&app.database, &["migrate", "--plan"]).contains("No planned") { "zero" } else { last };
            if app.kill_at(step, target).await {
                (step, kills) = (step + 1, kills + 1);
            } else {
                step = 0;
            }
            // No migration is partly applied, and no lock is left.
            let before = applied(&app.database);
            assert_eq!(before, all[..before.len()]);
            let expected = [0, 3, 3, 4][before.len().min(3)];
            assert_eq!(tables(&app.database).await, expected, "after {before:?}");
            run(&app.database, &["migrate", target]);
            assert_eq!(applied(&app.database).len(), if target == "zero" { 0 } else { all.len() });
        }
    }
}

/// A database whose migrations are killed.
struct Killed {
    database: Fresh,
    proxy: Option<FaultProxy>,
}

impl Killed {
    async fn start(engine: Engine) -> Self {
        let database = Fresh::start(engine).await;
        let proxy = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(FaultProxy::to(database.0.url()).await),
        };
        Self { database, proxy }
    }

    /// Migrates, and kills the process at the given step. Returns false if the process ended before that step.
    async fn kill_at(&self, step: usize, target: &str) -> bool {
        let url = self.proxy.as_ref().map_or(self.database.0.url(), |proxy| &proxy.url);
        let mut migrating = command(url, &["migrate", target]);
        let mut migrating = migrating.stderr(Stdio::null()).spawn().expect("a process");
        let was_running = if let Some(proxy) = &self.proxy {
            let stopped = proxy.stops_after(step);
            tokio::select! {
                () = stopped => true,
                () = async { while migrating.try_wait().expect("a process").is_none() { tokio::task::yield_now().await } } => {
                    proxy.stops_nowhere();
                    false
                }
            }
        } else {
            let url = self.database.0.url();
            tokio::select! {
                () = pass_on_sqlite(step, url) => true,
                () = async { while migrating.try_wait().expect("a process").is_none() { tokio::task::yield_now().await } } => false,
            }
        };
        // A process that has ended cannot be killed.
        let _ = migrating.kill();
        migrating.wait().expect("an end");
        if let Some(proxy) = &self.proxy {
            proxy.renew();
        }
        was_running
    }
}

/// Returns the output of `sqlmigrate`, which needs no database.
fn sql(arguments: &[&str]) -> String {
    let output = process(&["sqlmigrate"]).args(arguments).stdout(Stdio::piped()).output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The modes of the file and of the files next to it, which SQLite creates itself.
#[tokio::test]
async fn an_sqlite_database_is_created_by_migrate_only_and_for_its_owner_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("auth.db");
    let url = format!("sqlite:{}", path.display());
    let arguments = ["--database-url", &url];
    for command in [&["showmigrations"][..], &["migrate", "--plan"], &["serve"], &["keys", "list"], &["clients", "list"]] {
        let mut process = process(command);
        process.args(arguments).env("MASTER_KEY", auth_service::keys::MasterKey::generate());
        assert_fails(
            &process.output().expect("a process"),
            &format!("there is no database file {}: `migrate` creates it", path.display()),
        );
        assert!(!path.exists());
    }
    let elsewhere = format!("sqlite:{}", folder.path().join("missing/auth.db").display());
    let output = process(&["migrate", "--database-url", &elsewhere]).output().expect("a process");
    assert_fails(&output, "cannot create the database file ");

    // With this umask every file would be readable by everybody.
    let migrate = ["-c", r#"umask 000; exec "$0" migrate --database-url "$1""#, env!("CARGO_BIN_EXE_auth-service"), &url];
    assert!(Command::new("sh").args(migrate).status().expect("a process").success());
    let db = store::Db::new(&url, None, 1).expect("a URL");
    let mut tx = db.begin().await.expect("a transaction");
    tx.query("DELETE FROM attempts").execute().await.expect("a statement");
    tx.commit().await.expect("a commit");
    db.query("SELECT 1").execute().await.expect("a reader");
    let mut modes = Vec::new();
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().expect("the metadata").permissions());
        modes.push((entry.file_name().into_string().expect("a name"), format!("{:o}", mode & 0o777)));
    }
    modes.sort();
    let expected = ["auth.db", "auth.db-shm", "auth.db-wal"].map(|name| (name.to_owned(), "600".to_owned()));
    assert_eq!(modes, expected);
}

#[test]
fn the_sql_of_a_migration_is_shown() {
    assert_eq!(sql(&["0003"]).trim(), include_str!("../../migrations/0003_attempts.up.sql").trim());
    assert_eq!(sql(&["0003_att", "--backwards"]), "DROP TABLE attempts;\n");
}
