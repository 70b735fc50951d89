//! Migrations and their errors, on both engines.

#![allow(missing_docs)]

use migrate::{Change, Entry, MigrationEvent, Migrator, Mode, Problem, SchemaError, Target, history, migrate, migrate_to, plan};
use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType},
};
use store::{Db, Executor};
use testing::on_both_engines;
use testing::{Engine, TestDatabase, rounds};

struct Scratch {
    db: Db,
    _database: TestDatabase,
}

impl Scratch {
    async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        Self { db: database.open(), _database: database }
    }

    async fn applied(&self, migrations: &Migrator) -> Vec<String> {
        let entries = history(&self.db, migrations).await.expect("a history");
        entries.into_iter().filter(|entry| entry.applied.is_some()).map(|entry| entry.name).collect()
    }

    async fn migrate_to(&self, migrations: &Migrator, target: &str) -> Result<usize, SchemaError> {
        migrate_to(&self.db, migrations, &target.parse().expect("a target"), Mode::Run, |_| {}).await
    }

    async fn execute(&self, sql: &'static str) -> store::Result<u64> {
        let mut tx = self.db.begin().await.expect("a transaction");
        let changed = tx.query(sql).execute().await?;
        tx.commit().await.expect("a commit");
        Ok(changed)
    }
}

/// Migrations of these numbers, names and texts, forwards and back.
fn migrator(migrations: &[(i64, &'static str, &'static str, Option<&'static str>)]) -> Migrator {
    let mut files = Vec::new();
    for &(version, name, up, down) in migrations {
        let mut file =
            |kind, sql: &'static str| files.push(Migration::new(version, name.into(), kind, sql.into_sql_str(), false));
        file(MigrationType::ReversibleUp, up);
        if let Some(down) = down {
            file(MigrationType::ReversibleDown, down);
        }
    }
    Migrator::with_migrations(files)
}

const A: (i64, &str, &str, Option<&str>) = (1, "a", "CREATE TABLE a (id BIGINT PRIMARY KEY)", Some("DROP TABLE a"));
const B: (i64, &str, &str, Option<&str>) =
    (2, "b and more", "CREATE TABLE b (id BIGINT REFERENCES a (id) ON DELETE CASCADE)", Some("DROP TABLE b"));

on_both_engines! {
    async fn a_migration_is_called_as_its_file_is(app: Scratch) {
        let migrations = migrator(&[A, B]);
        let entries = history(&app.db, &migrations).await.expect("a history");
        let entry = |name: &str| Entry { name: name.to_owned(), applied: None, problem: None };
        assert_eq!(entries, [entry("0001_a"), entry("0002_b_and_more")]);
        let names = |changes: Vec<Change>| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(plan(&app.db, &migrations, &Target::Latest, Mode::Run).await.expect("a plan")), ["Apply 0001_a", "Apply 0002_b_and_more"]);
        assert_eq!(migrate(&app.db, &migrations).await.expect("migrations"), 2);
        let back = plan(&app.db, &migrations, &Target::Zero, Mode::Run).await.expect("a plan");
        assert_eq!(names(back), ["Unapply 0002_b_and_more", "Unapply 0001_a"]);
    }

    async fn a_migration_that_fails_changes_nothing_and_those_before_it_stay(app: Scratch) {
        let broken = (3, "c", "CREATE TABLE c (id BIGINT); CREATE TABLE a (id BIGINT)", Some("DROP TABLE c"));
        let migrations = migrator(&[A, B, broken]);
        let error = migrate(&app.db, &migrations).await.expect_err("a table that is there");
        assert!(error.to_string().starts_with("migration 0003_c failed and was rolled back: "), "{error}");
        assert_eq!(app.applied(&migrations).await, ["0001_a", "0002_b_and_more"]);
        app.execute("SELECT * FROM c").await.expect_err("a table that is not there");
        assert_eq!(app.migrate_to(&migrator(&[A, B, (3, "c", "CREATE TABLE c (id BIGINT)", None)]), "3").await.expect("a mended one"), 1);
    }

    async fn a_history_that_does_not_fit_is_named_and_listed_and_can_be_repaired(app: Scratch) {
        let c = (3, "c", "CREATE TABLE c (id BIGINT)", Some("DROP TABLE c"));
        migrate(&app.db, &migrator(&[A, c])).await.expect("migrations");
        for (migrations, beginning, problems) in [
            (
                migrator(&[A]),
                "the database has migration 0003_c, which this version of the service does not have: run the version that applied it",
                [("0001_a", None), ("0003_c", Some(Problem::Unknown))].to_vec(),
            ),
            (
                migrator(&[A, (3, "c", "CREATE TABLE c (id TEXT)", Some("DROP TABLE c"))]),
                "migration 0003_c was changed after it was applied to this database: run the version of the service that applied it",
                [("0001_a", None), ("0003_c", Some(Problem::Changed))].to_vec(),
            ),
            (
                migrator(&[A, B, c]),
                "migration 0002_b_and_more is not applied, but 0003_c, which has a higher number, is: restore the database from a backup",
                [("0001_a", None), ("0002_b_and_more", Some(Problem::Gap)), ("0003_c", None)].to_vec(),
            ),
        ] {
            for target in ["zero", "1", "0001_a"] {
                let error = app.migrate_to(&migrations, target).await.expect_err(beginning).to_string();
                assert!(error.starts_with(beginning) && error.contains("--fake` "), "{error}");
            }
            let listed = history(&app.db, &migrations).await.expect("a history");
            let listed: Vec<_> = listed.iter().map(|entry| (&*entry.name, entry.problem)).collect();
            assert_eq!(listed, problems);

            let last = listed.last().map(|(name, _)| *name).expect("a migration");
            let target = if last == "0003_c" && problems.contains(&("0003_c", Some(Problem::Unknown))) { "0001_a" } else { last };
            migrate_to(&app.db, &migrations, &target.parse().expect("a target"), Mode::Fake, |_| {}).await.expect("records");
            let repaired = history(&app.db, &migrations).await.expect("a history");
            assert!(repaired.iter().all(|entry| entry.applied.is_some() && entry.problem.is_none()), "{repaired:?}");
            assert_eq!(migrate(&app.db, &migrations).await.expect("nothing to do"), 0);

            app.execute("DELETE FROM _sqlx_migrations").await.expect("no records");
            for file in [A, c] {
                let both = migrator(&[A, c]);
                let target = file.0.to_string().parse().expect("a target");
                migrate_to(&app.db, &both, &target, Mode::Fake, |_| {}).await.expect("the records at the start");
            }
        }
        app.execute("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 3").await.expect("an incomplete migration");
        let error = app.migrate_to(&migrator(&[A, c]), "3").await.expect_err("an incomplete migration").to_string();
        assert!(error.starts_with("migration 0003_c was applied only in part: "), "{error}");
        migrate_to(&app.db, &migrator(&[A, c]), &Target::Latest, Mode::Fake, |_| {}).await.expect("a record");
        assert_eq!(migrate(&app.db, &migrator(&[A, c])).await.expect("nothing to do"), 0);
    }

    async fn a_database_of_another_service_is_named_as_such(app: Scratch) {
        migrate(&app.db, &migrator(&[A, B])).await.expect("migrations");
        let other = migrator(&[(1, "a", "CREATE TABLE x (id BIGINT)", None), (2, "y", "CREATE TABLE y (id BIGINT)", None)]);
        let error = app.migrate_to(&other, "2").await.expect_err("another service").to_string();
        let sentence = " belongs to another service, whose migrations are 0001_a, 0002_b_and_more: check --database-url";
        assert!(error.starts_with(&format!("the database {}", app.db.name())) && error.ends_with(sentence), "{error}");
    }

    async fn two_migrations_with_one_number_are_refused(app: Scratch) {
        let same = migrator(&[A, (1, "x", "CREATE TABLE x (id BIGINT)", None)]);
        let error = migrate(&app.db, &same).await.expect_err("two migrations with number 1");
        let sentence = "the migrations 0001_a and 0001_x have the same number: `makemigrations --merge` renumbers one of them";
        assert_eq!(error.to_string(), sentence);
    }

    async fn the_first_migration_is_only_recorded_if_its_tables_exist(app: Scratch) {
        let mut fakes = Vec::new();
        let migrations = migrator(&[A, B]);
        app.execute("CREATE TABLE a (id BIGINT PRIMARY KEY)").await.expect("a table");
        migrate(&app.db, &migrations).await.expect_err("the table exists");
        let mut report = |event: MigrationEvent<'_>| {
            if let MigrationEvent::Finished { is_fake, .. } = event {
                fakes.push(is_fake);
            }
        };
        migrate_to(&app.db, &migrations, &Target::Latest, Mode::FakeInitial, &mut report).await.expect("migrations");
        migrate_to(&app.db, &migrations, &Target::Zero, Mode::Run, |_| {}).await.expect("reverted migrations");
        migrate_to(&app.db, &migrations, &Target::Latest, Mode::FakeInitial, &mut report).await.expect("migrations");
        assert_eq!(fakes, [true, false, false, false]);
        app.execute("SELECT * FROM b").await.expect("the second migration ran");
    }

    async fn what_is_for_one_engine_runs_on_that_one(app: Scratch) {
        let sections = "CREATE TABLE a (id BIGINT);\n-- on sqlite:\nCREATE TABLE b (id BIGINT);\n-- on postgres:\nCREATE TABLE c (id BIGINT);\n-- on both:\nCREATE TABLE d (id BIGINT);";
        let back = "DROP TABLE a; DROP TABLE d;\n-- on sqlite:\nDROP TABLE b;\n-- on postgres:\nDROP TABLE c;";
        let migrations = migrator(&[(1, "a", sections, Some(back))]);
        migrate(&app.db, &migrations).await.expect("migrations");
        let mut there = Vec::new();
        for table in ["SELECT * FROM a", "SELECT * FROM b", "SELECT * FROM c", "SELECT * FROM d"] {
            there.push(app.db.query(table).execute().await.is_ok());
        }
        assert!(there == [true, true, false, true] || there == [true, false, true, true], "{there:?}");
        app.migrate_to(&migrations, "zero").await.expect("a way back");
        let misspelled = migrator(&[(1, "a", "-- on sqlight:\nCREATE TABLE b (id BIGINT)", None)]);
        let error = app.migrate_to(&misspelled, "1").await.expect_err("a section that is none");
        let sentence = "migration 0001_a has the line `-- on sqlight:`: expected `-- on sqlite:`, `-- on postgres:` or `-- on both:`";
        assert_eq!(error.to_string(), sentence);
    }

    async fn what_can_t_be_undone_is_said_before_anything_is(app: Scratch) {
        let hashed = (2, "hash", "CREATE TABLE b (id BIGINT)", Some("-- irreversible: a hash has no way back\n"));
        for (second, why) in [(hashed, "a hash has no way back"), ((2, "hash", "CREATE TABLE b (id BIGINT)", None), "it has no .down.sql file")] {
            let migrations = migrator(&[A, second, (3, "c", "CREATE TABLE c (id BIGINT)", Some("DROP TABLE c"))]);
            migrate(&app.db, &migrations).await.expect("migrations");
            let error = app.migrate_to(&migrations, "zero").await.expect_err("no way back");
            assert_eq!(error.to_string(), format!("migration 0002_hash is irreversible: {why}"));
            assert_eq!(app.applied(&migrations).await.len(), 3);
            app.migrate_to(&migrations, "2").await.expect("a way back that does not pass it");
            // Recorded as undone it can be, by whoever has undone it.
            migrate_to(&app.db, &migrations, &Target::Zero, Mode::Fake, |_| {}).await.expect("no record");
            for table in ["DROP TABLE b", "DROP TABLE a"] {
                app.execute(table).await.expect("what was undone by hand");
            }
        }
    }
}

/// `PostgreSQL` alters what `SQLite` makes anew.
#[tokio::test]
async fn a_table_of_sqlite_is_made_anew_under_those_that_refer_to_it() {
    let app = Scratch::start(Engine::Sqlite).await;
    migrate(&app.db, &migrator(&[A, B])).await.expect("migrations");
    for row in ["INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (1)"] {
        app.execute(row).await.expect("a row");
    }
    let anew = "CREATE TABLE new_a (id BIGINT PRIMARY KEY, name TEXT); INSERT INTO new_a (id) SELECT id FROM a; DROP TABLE a;
                ALTER TABLE new_a RENAME TO a";
    app.migrate_to(&migrator(&[A, B, (3, "name", anew, None)]), "3").await.expect("a table made anew");
    let (rows,): (i64,) = app.db.query("SELECT COUNT(*) FROM b").one().await.expect("a count");
    assert_eq!(rows, 1, "the rows that refer to it stay");

    let migrations = migrator(&[A, B, (3, "name", anew, None), (4, "empty", "DELETE FROM a", None)]);
    let error = app.migrate_to(&migrations, "4").await.expect_err("rows that refer to nothing");
    assert_eq!(error.to_string(), "migration 0004_empty failed and was rolled back: rows of b refer to rows that do not exist");
    assert_eq!(app.applied(&migrations).await.len(), 3);
}

/// An index that is made in no transaction waits for all that have a snapshot, and whoever waits for the lock must not be one of them.
#[tokio::test]
async fn replicas_that_wait_for_the_lock_do_not_hold_up_what_runs_in_no_transaction() {
    let app = Scratch::start(Engine::Postgres).await;
    let index = "-- no-transaction\nDROP INDEX CONCURRENTLY IF EXISTS a_again; CREATE INDEX CONCURRENTLY a_again ON a (id)";
    let mut migrations = migrator(&[A, (2, "index", index, Some("DROP INDEX a_again"))]);
    migrations.migrations.to_mut().iter_mut().for_each(|file| file.no_tx = file.sql.as_str().starts_with("-- no-transaction"));
    let migrations = std::sync::Arc::new(migrations);
    migrate(&app.db, &migrator(&[A])).await.expect("a table");
    for _ in 0..rounds(10) {
        let all = [(); 4].map(|()| {
            let (db, migrations) = (app.db.clone(), std::sync::Arc::clone(&migrations));
            tokio::spawn(async move { migrate(&db, &migrations).await })
        });
        let mut applied = 0;
        for one in all {
            applied += one.await.expect("no panic").expect("migrations");
        }
        assert_eq!(applied, 1);
        app.migrate_to(&migrations, "1").await.expect("a way back");
    }
    // Killed between two statements it leaves a half, which the next attempt begins with removing.
    app.execute("CREATE INDEX a_again ON a (id)").await.expect("half of it");
    assert_eq!(app.migrate_to(&migrations, "2").await.expect("the whole of it"), 1);
    let mut broken = migrator(&[
        A,
        (2, "index", index, None),
        (3, "b", "-- no-transaction\nCREATE TABLE b (id BIGINT); CREATE TABLE a (id BIGINT)", None),
    ]);
    broken.migrations.to_mut().iter_mut().for_each(|file| file.no_tx = file.sql.as_str().starts_with("-- no-transaction"));
    let error = app.migrate_to(&broken, "3").await.expect_err("a table that is there").to_string();
    assert!(
        error.starts_with("migration 0003_b failed without a transaction, so its earlier statements are not rolled back; `migrate` runs all of them again: "),
        "{error}"
    );
}
