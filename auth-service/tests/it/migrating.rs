//! Django's verbs, from the command line.

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

/// What a command that succeeds says.
#[track_caller]
fn says(app: &Fresh, arguments: &[&str]) -> String {
    let output = outcome(app, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
}

/// The names of the migrations that are applied, as `showmigrations` marks them.
#[track_caller]
fn applied(app: &Fresh) -> Vec<String> {
    let shown = says(app, &["showmigrations", "--plan"]);
    assert_eq!(shown.lines().count(), migration_names().len());
    shown.lines().filter_map(|line| line.strip_prefix("[X]  ")).map(str::to_owned).collect()
}

/// What is said of each migration that is applied, or undone.
fn done(verb: &str, names: &[String]) -> String {
    names.iter().map(|name| format!("  {verb} {name}... OK\n")).collect::<Vec<_>>().concat()
}

/// How many of the tables of the first three migrations are there.
async fn tables(app: &Fresh) -> usize {
    let db = app.0.open();
    let mut count = 0;
    for probe in ["SELECT 1 FROM users", "SELECT 1 FROM sessions", "SELECT 1 FROM signing_keys", "SELECT 1 FROM attempts"] {
        count += usize::from(db.query(probe).execute().await.is_ok());
    }
    // A connection that stays would keep SQLite from recovering when the next process is killed: a commit that nobody was told of would
    // be seen late, between one look at the database and the next.
    db.close().await;
    count
}

on_both_engines! {
    async fn migrations_are_applied_shown_and_undone(app: Fresh) {
        let all = migration_names();
        assert_eq!(applied(&app), [""; 0]);
        assert_eq!(says(&app, &["migrate", "0002"]), "  Applying 0001_initial... OK\n  Applying 0002_key_lifecycle... OK\n");
        assert_eq!(applied(&app), all[..2]);
        let shown = says(&app, &["showmigrations"]);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[0].starts_with("[X]  0001_initial (20") && lines[0].ends_with(" UTC)"), "{shown}");
        assert_eq!(lines[2], "[ ]  0003_attempts");

        assert_eq!(says(&app, &["migrate"]), done("Applying", &all[2..]));
        assert_eq!(says(&app, &["migrate"]), "  No migrations to apply.\n");
        assert_eq!(tables(&app).await, 4);
        let backwards: Vec<_> = all[1..].iter().rev().cloned().collect();
        assert_eq!(says(&app, &["migrate", "0001_initial"]), done("Unapplying", &backwards));
        assert_eq!((applied(&app), tables(&app).await), (vec![all[0].clone()], 3));
        says(&app, &["migrate", "zero"]);
        assert_eq!((applied(&app).len(), tables(&app).await), (0, 0));
        says(&app, &["migrate"]);
        assert_eq!((applied(&app), tables(&app).await), (all, 4));
    }

    async fn rows_stay_where_the_schema_has_a_place_for_them(app: Fresh) {
        says(&app, &["migrate"]);
        let (db, clock) = (app.0.open(), access::Clock::system());
        let policy = auth_service::passwords::Policy::default();
        auth_service::create_superuser(&db, &clock, "root", "", crate::app::PASSWORD, policy).await.expect("a superuser");
        db.close().await;
        says(&app, &["migrate", "1"]);
        says(&app, &["migrate"]);
        let (users,): (i64,) = app.0.open().query("SELECT COUNT(*) FROM users").one().await.expect("a count");
        assert_eq!(users, 1);
    }

    async fn a_plan_is_shown_and_nothing_is_done(app: Fresh) {
        let all = migration_names();
        says(&app, &["migrate", "1"]);
        let planned = all[1..].iter().map(|name| format!("  Apply {name}\n")).collect::<Vec<_>>().concat();
        assert_eq!(says(&app, &["migrate", "--plan"]), format!("Planned operations:\n{planned}"));
        assert_eq!(says(&app, &["migrate", "zero", "--plan"]), "Planned operations:\n  Unapply 0001_initial\n");
        assert_fails(&outcome(&app, &["migrate", "--check"]), &format!("{} migration(s) are to be applied or undone", all.len() - 1));
        assert_eq!(applied(&app), all[..1]);
        says(&app, &["migrate"]);
        assert_eq!(says(&app, &["migrate", "--check"]), "Planned operations:\n  No planned migration operations.\n");
    }

    async fn what_was_done_by_hand_is_recorded_and_not_done_again(app: Fresh) {
        says(&app, &["migrate", "2"]);
        let by_hand = sql(&["3"]);
        let mut tx = app.0.open().begin().await.expect("a transaction");
        for statement in by_hand.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            tx.query(statement.to_owned().leak()).execute().await.expect("a statement");
        }
        tx.commit().await.expect("a commit");
        assert_fails(&outcome(&app, &["migrate"]), "migration 0003_attempts failed, and changed nothing: ");
        assert_eq!(says(&app, &["migrate", "3", "--fake"]), "  Applying 0003_attempts... FAKED\n");
        says(&app, &["migrate"]);
        app.serves_with(&auth_service::keys::MasterKey::generate());
        says(&app, &["migrate", "3"]);
        assert_eq!(says(&app, &["migrate", "2", "--fake"]), "  Unapplying 0003_attempts... FAKED\n");
        assert_eq!((applied(&app), tables(&app).await), (migration_names()[..2].to_vec(), 4));
        says(&app, &["migrate", "3", "--fake"]);
        says(&app, &["migrate", "zero"]);
        assert_eq!(tables(&app).await, 0);
    }

    async fn a_target_that_is_none_is_said(app: Fresh) {
        for (target, sentence) in [
            ("0999", "there is no migration 0999: `showmigrations` lists those that there are"),
            ("initial", "there is no migration initial"),
            ("000", "000 may be 0001_initial or 0002_key_lifecycle or 0003_attempts or "),
        ] {
            assert_fails(&outcome(&app, &["migrate", target]), sentence);
        }
        assert_eq!(applied(&app), [""; 0]);
    }

    async fn of_two_that_migrate_together_one_does_it(app: Fresh) {
        let (mut there, all) = (true, migration_names());
        let last = all.last().expect("a migration");
        for round in 0..rounds(50) {
            // Forwards in one round, and back in the next.
            let target = if round % 2 == 0 { last } else { "zero" };
            let [one, other] = [(); 2].map(|()| {
                let mut command = command(app.0.url(), &["migrate", target]);
                spawn_blocking(move || command.output().expect("a process"))
            });
            let mut changes = 0;
            for output in [one.await.expect("no panic"), other.await.expect("no panic")] {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{said}");
                changes += said.lines().filter(|line| line.ends_with("... OK")).count();
            }
            assert_eq!(changes, all.len(), "round {round}");
            there = round % 2 == 0;
        }
        assert_eq!(tables(&app).await, if there { 4 } else { 0 });
    }

    async fn a_migration_that_was_killed_happened_or_did_not(app: Killed) {
        let (mut step, mut kills, all) = (0, 0, migration_names());
        let last = all.last().expect("a migration");
        while kills < rounds(30) {
            let target = if says(&app.database, &["migrate", "--plan"]).contains("No planned") { "zero" } else { last };
            if app.kill_at(step, target).await {
                (step, kills) = (step + 1, kills + 1);
            } else {
                step = 0;
            }
            // Neither half a migration, nor a lock that nobody gives back.
            let before = applied(&app.database);
            assert_eq!(before, all[..before.len()]);
            let expected = [0, 3, 3, 4][before.len().min(3)];
            assert_eq!(tables(&app.database).await, expected, "after {before:?}");
            says(&app.database, &["migrate", target]);
            assert_eq!(applied(&app.database).len(), if target == "zero" { 0 } else { all.len() });
        }
    }
}

/// A database whose migrations are killed.
struct Killed {
    database: Fresh,
    wire: Option<FaultProxy>,
}

impl Killed {
    async fn start(engine: Engine) -> Self {
        let database = Fresh::start(engine).await;
        let wire = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(FaultProxy::to(database.0.url()).await),
        };
        Self { database, wire }
    }

    /// Migrates, and kills the process at the given step. False where there was no such step.
    async fn kill_at(&self, step: usize, target: &str) -> bool {
        let url = self.wire.as_ref().map_or(self.database.0.url(), |wire| &wire.url);
        let mut migrating = command(url, &["migrate", target]);
        let mut migrating = migrating.stderr(Stdio::null()).spawn().expect("a process");
        let was_there = if let Some(wire) = &self.wire {
            let stopped = wire.stops_after(step);
            tokio::select! {
                () = stopped => true,
                () = async { while migrating.try_wait().expect("a process").is_none() { tokio::task::yield_now().await } } => {
                    wire.stops_nowhere();
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
        // One that has come to its end can't be killed, and need not be.
        let _ = migrating.kill();
        migrating.wait().expect("an end");
        if let Some(wire) = &self.wire {
            wire.renew();
        }
        was_there
    }
}

/// What `sqlmigrate` shows, which needs no database.
fn sql(arguments: &[&str]) -> String {
    let output = process(&["sqlmigrate"]).args(arguments).stdout(Stdio::piped()).output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_sql_of_a_migration_is_shown() {
    assert_eq!(sql(&["0003"]).trim(), include_str!("../../migrations/0003_attempts.up.sql").trim());
    assert_eq!(sql(&["0003_att", "--backwards"]), "DROP TABLE attempts;\n");
}
