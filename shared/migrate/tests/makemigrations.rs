//! `makemigrations`, with services made up for it: what is declared is what the files that it writes build.

#![allow(missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use migrate::{CommandError, MigrationCommand, Migrator, Mode, Target, migrate, migrate_to};
use store::{Db, Executor};
use testing::on_both_engines;
use testing::{Engine, TestDatabase};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: MigrationCommand,
}

const NOTHING: Migrator = Migrator { migrations: std::borrow::Cow::Borrowed(&[]), ..Migrator::DEFAULT };

/// A service: a folder with its schema, and two databases of an engine: one that is migrated, and one that nothing is done to.
struct Service {
    folder: tempfile::TempDir,
    database: TestDatabase,
    db: Db,
    scratch: Option<TestDatabase>,
    engine: Engine,
}

/// Tables that refer to one another, with rows. `parents` is referred to.
const FIRST: &str = "
CREATE TABLE parents (
    id BIGINT NOT NULL PRIMARY KEY,
    -- How it is called.
    name TEXT NOT NULL,
    nick TEXT,
    size INTEGER NOT NULL DEFAULT 1,
    kind TEXT NOT NULL DEFAULT 'a' CHECK (kind IN ('a', 'b')), -- not 'c'
    code TEXT UNIQUE
);

CREATE INDEX parents_by_name ON parents (name);
CREATE INDEX parents_by_kind ON parents (kind) WHERE kind = 'a';

-- Those that belong to a parent.
CREATE TABLE children (
    parent_id BIGINT NOT NULL REFERENCES parents ON DELETE CASCADE,
    id BIGINT NOT NULL,
    note TEXT,
    PRIMARY KEY (parent_id, id),
    CHECK (id > 0)
);
";

const ROWS: [&str; 4] = [
    "INSERT INTO parents (id, name, nick, size, kind, code) VALUES (1, 'one', 'uno', 5, 'b', 'x')",
    "INSERT INTO parents (id, name, code) VALUES (2, 'two', NULL)",
    "INSERT INTO children (parent_id, id, note) VALUES (1, 1, 'a note')",
    "INSERT INTO children (parent_id, id, note) VALUES (1, 2, 'another')",
];

const EVERY_ROW: &str = "
    SELECT CAST(p.id AS TEXT) || ' ' || p.name || ' ' || COALESCE(c.note, '-') || ' ' || COALESCE(CAST(c.id AS TEXT), '-')
    FROM parents AS p LEFT JOIN children AS c ON c.parent_id = p.id ORDER BY p.id, c.id";

impl Service {
    /// One whose first migration builds [`FIRST`], applied to a database with rows.
    async fn start(engine: Engine) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("migrations")).expect("a folder");
        let database = TestDatabase::new(engine).await;
        let scratch = if engine == Engine::Postgres { Some(TestDatabase::new(engine).await) } else { None };
        let service = Self { db: database.open(), database, folder, scratch, engine };
        service.declare(FIRST);
        service.make(&["initial"]).await.expect("a first migration");
        service.check().await.expect("nothing left to do");
        assert_eq!(service.migrate().await, 1);
        for row in ROWS {
            service.execute(row).await.expect("a row");
        }
        service
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn declare(&self, schema: &str) {
        fs::write(self.path("schema.sql"), schema).expect("a write");
    }

    /// Declares the first schema with changes: what stands there, and what is to stand there instead.
    fn change(&self, changes: &[(&str, &str)]) {
        let mut schema = FIRST.to_owned();
        for (old, new) in changes {
            assert!(schema.contains(old), "{old}");
            schema = schema.replace(old, new);
        }
        self.declare(&schema);
    }

    async fn make(&self, arguments: &[&str]) -> Result<(), CommandError> {
        let folder = self.folder.path().to_str().expect("a path");
        let mut all = vec!["service", "makemigrations", "--source", folder];
        if let Some(scratch) = &self.scratch {
            all.extend(["--database-url", scratch.url()]);
        } else {
            all.extend(["--database-url", "sqlite:nowhere"]);
        }
        all.extend(arguments);
        let outcome =
            Box::pin(Cli::try_parse_from(all).expect("arguments").verb.run("things", &NOTHING, &[], async |_, _| Ok(()))).await;
        if let Some(scratch) = &self.scratch {
            assert_eq!(scratch.schema().await, [""; 0], "nothing is left on the server");
        }
        outcome
    }

    async fn check(&self) -> Result<(), String> {
        self.make(&["--check"]).await.map_err(|error| error.to_string())
    }

    async fn refused(&self, arguments: &[&str]) -> String {
        let before = self.files();
        let error = self.make(arguments).await.expect_err("a refusal").to_string();
        assert_eq!(self.files(), before, "nothing is written");
        error
    }

    /// The names of the migrations.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("migrations")).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("migrations").join(name)).expect(name)
    }

    async fn migrations(&self) -> Migrator {
        Migrator::new(Path::new(&self.path("migrations"))).await.expect("migrations")
    }

    async fn migrate(&self) -> usize {
        migrate(&self.db, &self.migrations().await).await.expect("migrations that apply")
    }

    async fn back(&self) {
        let first = Target::Named("0001".to_owned());
        migrate_to(&self.db, &self.migrations().await, &first, Mode::Run, |_| {}).await.expect("a way back");
    }

    async fn execute(&self, sql: &'static str) -> store::Result<u64> {
        let mut tx = self.db.begin().await.expect("a transaction");
        let changed = tx.query(sql).execute().await?;
        tx.commit().await.expect("a commit");
        Ok(changed)
    }

    async fn rows(&self, sql: &'static str) -> Vec<String> {
        let rows: Vec<(String,)> = self.db.query(sql).all().await.expect("rows");
        rows.into_iter().map(|(row,)| row).collect()
    }

    /// Returns the schema that the engine reports for schema.sql alone.
    async fn declared(&self) -> Vec<String> {
        let database = TestDatabase::new(self.engine).await;
        let schema = fs::read_to_string(self.path("schema.sql")).expect("a schema");
        let mut tx = database.open().begin().await.expect("a transaction");
        for statement in schema.split(';').filter(|statement| statement.contains("CREATE")) {
            tx.query(statement.to_owned().leak()).execute().await.expect("a statement");
        }
        tx.commit().await.expect("a commit");
        database.schema().await
    }

    /// Makes the migration, goes forwards, back and forwards, and looks at the schema and at the rows each time.
    async fn applies_and_reverts(&self, arguments: &[&str], files: &[&str]) {
        let before = self.database.schema().await;
        let rows = self.rows(EVERY_ROW).await;
        self.make(arguments).await.expect("a migration");
        let expected = files.iter().flat_map(|name| [format!("{name}.down.sql"), format!("{name}.up.sql")]);
        let written: Vec<_> = self.files().into_iter().filter(|name| !name.starts_with("0001")).collect();
        assert_eq!(written, expected.collect::<Vec<_>>());
        let outcome = self.check().await;
        assert!(
            outcome.as_ref().is_ok_and(|()| true) || outcome.as_ref().is_err_and(|error| error.contains("not safe")),
            "{outcome:?}"
        );
        for _ in 0..2 {
            assert_eq!(self.migrate().await, files.len());
            assert_eq!(self.database.schema().await, self.declared().await);
            assert_eq!(self.rows(EVERY_ROW).await, rows, "forwards");
            self.back().await;
            assert_eq!(self.database.schema().await, before);
            assert_eq!(self.rows(EVERY_ROW).await, rows, "back");
        }
        self.migrate().await;
        let orphan = self.execute("INSERT INTO children (parent_id, id) VALUES (99, 1)").await;
        orphan.expect_err("a row that refers to nothing");
        assert_eq!(self.execute("DELETE FROM parents WHERE id = 1").await.expect("a row less"), 1);
        assert_eq!(self.rows("SELECT 'left' FROM children").await.len(), 0, "those that belonged to it went with it");
    }
}

on_both_engines! {
    async fn a_dry_run_prints_the_files_and_writes_none(service: Service) {
        let before = service.files();
        service.change(&[("nick TEXT,", "nick TEXT,\n    weight BIGINT,")]);
        service.make(&["--dry-run"]).await.expect("a dry run");
        assert_eq!(service.files(), before);
        service.make(&[]).await.expect("a migration");
        assert!(service.files().len() > before.len());
    }

    async fn two_migrations_with_one_number_are_merged(service: Service) {
        let both = ["0002_b.up.sql", "0002_a.up.sql"];
        for (name, table) in both.iter().zip(["b", "a"]) {
            fs::write(service.path("migrations").join(name), format!("CREATE TABLE {table} (id BIGINT);")).expect("a write");
        }
        let refused = service.check().await.expect_err("two migrations with number 2");
        assert!(refused.ends_with("have the same number: `makemigrations --merge` renumbers one of them"), "{refused}");
        assert_eq!(service.refused(&["--merge", "0002_c"]).await, "no migration `0002_c` has the same number as another one");
        let before = service.files();
        service.make(&["--merge", "--dry-run"]).await.expect("a dry run");
        assert_eq!(service.files(), before);
        service.make(&["--merge", "0002_a"]).await.expect("a merge");
        assert_eq!(service.files()[2..], ["0002_b.up.sql", "0003_a.up.sql"]);
        assert_eq!(service.migrate().await, 2);
        service.make(&["--merge"]).await.expect("nothing to merge");
    }

    async fn the_first_migration_is_not_compared_with_a_previous_release(service: Service) {
        let up = service.path("migrations").join("0001_initial.up.sql");
        let text = service.read("0001_initial.up.sql");
        let unsafe_statements = "CREATE TABLE old (id BIGINT); ALTER TABLE old RENAME TO other; DROP TABLE other;";
        fs::write(&up, format!("{text}\n{unsafe_statements}\n")).expect("a write");
        service.check().await.expect("a first migration is safe");
    }
}

on_both_engines! {
    async fn a_table_is_added_with_its_indexes(app: Service) {
        app.declare(&format!("{FIRST}\n-- Those who look.\nCREATE TABLE viewers (\n    id BIGINT PRIMARY KEY,\n    parent_id BIGINT REFERENCES parents (id)\n);\nCREATE INDEX viewers_of ON viewers (parent_id);\n"));
        app.applies_and_reverts(&[], &["0002_create_viewers"]).await;
        let up = app.read("0002_create_viewers.up.sql");
        assert!(up.starts_with("-- Those who look.\nCREATE TABLE viewers (\n") && !up.contains("-- on "), "{up}");
        app.check().await.expect("what is new can be released");
    }

    async fn a_table_is_dropped_that_refers_to_another(app: Service) {
        let viewers = "CREATE TABLE viewers (id BIGINT PRIMARY KEY, parent_id BIGINT REFERENCES parents (id)); CREATE INDEX viewers_of ON viewers (parent_id);";
        app.declare(&format!("{FIRST}{viewers}"));
        app.make(&[]).await.expect("a migration");
        app.migrate().await;
        let before = app.database.schema().await;
        app.declare(FIRST);
        app.make(&["viewers_go"]).await.expect("a migration");
        assert_eq!(app.read("0003_viewers_go.up.sql"), "DROP TABLE viewers;\n");
        let error = app.check().await.expect_err("not at once");
        assert!(error.starts_with("1 statement(s) are not safe to release: "), "{error}");
        let up = format!("-- safe: nobody has looked since last year\n{}", app.read("0003_viewers_go.up.sql"));
        fs::write(app.path("migrations/0003_viewers_go.up.sql"), up).expect("a write");
        app.check().await.expect("a reason");
        app.migrate().await;
        assert_eq!(app.database.schema().await, app.declared().await);
        migrate_to(&app.db, &app.migrations().await, &Target::Named("2".to_owned()), Mode::Run, |_| {}).await.expect("a way back");
        assert_eq!(app.database.schema().await, before);
    }

    async fn a_column_is_added(app: Service) {
        app.change(&[("    nick TEXT,", "    nick TEXT,\n    -- In metres.\n    height BIGINT NOT NULL DEFAULT 7,")]);
        app.applies_and_reverts(&[], &["0002_add_parents_height"]).await;
        let up = app.read("0002_add_parents_height.up.sql");
        assert_eq!(up, "-- In metres.\nALTER TABLE parents ADD COLUMN height BIGINT NOT NULL DEFAULT 7;\n");
        assert_eq!(app.rows("SELECT CAST(height AS TEXT) FROM parents").await, ["7"]);
        app.check().await.expect("what the previous release does not see");
    }

    async fn a_column_is_added_that_refers_to_another_table(app: Service) {
        app.change(&[("    note TEXT,", "    note TEXT,\n    god_id BIGINT REFERENCES parents (id) ON DELETE SET NULL,")]);
        app.applies_and_reverts(&["god"], &["0002_god", "0003_god_online"]).await;
        let online = app.read("0003_god_online.up.sql");
        assert!(online.starts_with("-- no-transaction\n-- on postgres:\n") && online.contains(" NOT VALID;\n"), "{online}");
        app.check().await.expect("what keeps nobody waiting");
    }

    async fn a_column_is_dropped(app: Service) {
        app.change(&[("    nick TEXT,\n", "")]);
        app.applies_and_reverts(&[], &["0002_drop_parents_nick"]).await;
        assert_eq!(app.read("0002_drop_parents_nick.up.sql"), "ALTER TABLE parents DROP COLUMN nick;\n");
    }

    async fn a_column_is_dropped_that_is_checked_and_indexed(app: Service) {
        app.change(&[
            ("    kind TEXT NOT NULL DEFAULT 'a' CHECK (kind IN ('a', 'b')), -- not 'c'\n", ""),
            ("CREATE INDEX parents_by_kind ON parents (kind) WHERE kind = 'a';\n", ""),
        ]);
        app.applies_and_reverts(&["kind_goes"], &["0002_kind_goes"]).await;
    }

    async fn a_type_changes(app: Service) {
        app.change(&[("size INTEGER NOT NULL DEFAULT 1", "size BIGINT NOT NULL DEFAULT 1")]);
        app.applies_and_reverts(&[], &["0002_change_parents_size"]).await;
        assert!(app.check().await.expect_err("another type").contains("not safe"));
    }

    async fn a_default_changes(app: Service) {
        app.change(&[("size INTEGER NOT NULL DEFAULT 1", "size INTEGER NOT NULL DEFAULT -2")]);
        app.applies_and_reverts(&[], &["0002_change_parents_size"]).await;
        app.execute("INSERT INTO parents (id, name) VALUES (3, 'three')").await.expect("a row");
        assert_eq!(app.rows("SELECT CAST(size AS TEXT) FROM parents WHERE id = 3").await, ["-2"]);
        app.check().await.expect("a default like another");
    }

    async fn a_column_is_required_and_another_is_not(app: Service) {
        app.change(&[("note TEXT", "note TEXT NOT NULL"), ("    name TEXT NOT NULL", "    name TEXT")]);
        app.applies_and_reverts(&["required"], &["0002_required", "0003_required_online"]).await;
        app.execute("INSERT INTO parents (id) VALUES (3)").await.expect("a row without a name");
        app.execute("INSERT INTO children (parent_id, id) VALUES (3, 1)").await.expect_err("a row without a note");
        assert!(app.check().await.expect_err("NULLs of the previous release").contains("not safe"));
    }

    async fn an_index_is_added_and_one_is_dropped(app: Service) {
        app.change(&[("CREATE INDEX parents_by_name ON parents (name);\n", "CREATE UNIQUE INDEX parents_by_size ON parents (size, id) WHERE size > 0;\n")]);
        app.applies_and_reverts(&["indexes"], &["0002_indexes", "0003_indexes_online"]).await;
        app.check().await.expect("what keeps nobody waiting");
    }

    async fn an_index_alone_is_one_migration(app: Service) {
        app.declare(&format!("{FIRST}CREATE INDEX children_by_note ON children (note);"));
        app.applies_and_reverts(&[], &["0002_add_children_by_note"]).await;
        let up = app.read("0002_add_children_by_note.up.sql");
        let expected = "-- no-transaction
-- on sqlite:
CREATE INDEX children_by_note ON children (note);
-- on postgres:
DROP INDEX CONCURRENTLY IF EXISTS children_by_note;
CREATE INDEX CONCURRENTLY children_by_note ON children (note);
";
        assert_eq!(up, expected);
        assert_eq!(app.read("0002_add_children_by_note.down.sql"), "DROP INDEX children_by_note;\n");
        app.check().await.expect("what keeps nobody waiting");
    }

    async fn an_index_changes(app: Service) {
        app.change(&[("parents_by_name ON parents (name)", "parents_by_name ON parents (name DESC, id)")]);
        app.applies_and_reverts(&["by_name"], &["0002_by_name", "0003_by_name_online"]).await;
    }

    async fn a_check_changes(app: Service) {
        app.change(&[("CHECK (kind IN ('a', 'b'))", "CHECK (kind IN ('a', 'b', 'c'))"), ("CHECK (id > 0)", "CHECK (id > 0 AND id < 100)")]);
        app.applies_and_reverts(&["kinds"], &["0002_kinds", "0003_kinds_online"]).await;
        app.execute("INSERT INTO parents (id, name, kind) VALUES (3, 'three', 'c')").await.expect("a kind that is new");
        app.execute("INSERT INTO parents (id, name, kind) VALUES (4, 'four', 'd')").await.expect_err("a kind that is none");
        app.check().await.expect("what keeps nobody waiting");
    }

    async fn a_unique_constraint_is_added_and_another_dropped(app: Service) {
        app.change(&[("code TEXT UNIQUE", "code TEXT,\n    UNIQUE (name, kind)")]);
        app.applies_and_reverts(&["unique"], &["0002_unique", "0003_unique_online"]).await;
        app.execute("INSERT INTO parents (id, name) VALUES (3, 'two')").await.expect_err("a name that is there");
    }

    async fn the_action_of_a_foreign_key_changes(app: Service) {
        app.change(&[("REFERENCES parents ON DELETE CASCADE", "REFERENCES parents (id) ON UPDATE CASCADE ON DELETE CASCADE")]);
        app.applies_and_reverts(&["follows"], &["0002_follows", "0003_follows_online"]).await;
        app.execute("INSERT INTO children (parent_id, id) VALUES (2, 9)").await.expect("a row");
        app.execute("UPDATE parents SET id = 22 WHERE id = 2").await.expect("a change");
        assert_eq!(app.rows("SELECT CAST(parent_id AS TEXT) FROM children").await, ["22"]);
    }

    async fn a_primary_key_changes(app: Service) {
        app.change(&[("PRIMARY KEY (parent_id, id)", "PRIMARY KEY (id, parent_id)")]);
        app.applies_and_reverts(&["key"], &["0002_key", "0003_key_online"]).await;
    }

    async fn a_column_is_renamed_with_the_flag(app: Service) {
        app.change(&[("    nick TEXT,", "    nickname TEXT,")]);
        let question = "possible rename: pass `--rename parents.nick=nickname` if it is one, or --no-rename to drop the old one and add the new one";
        assert_eq!(app.refused(&[]).await, question);
        app.applies_and_reverts(&["--rename", "parents.nick=nickname"], &["0002_rename_parents_nick_nickname"]).await;
        assert_eq!(app.read("0002_rename_parents_nick_nickname.up.sql"), "ALTER TABLE parents RENAME COLUMN nick TO nickname;\n");
        app.back().await;
        assert_eq!(app.rows("SELECT COALESCE(nick, '-') FROM parents").await, ["-"]);
    }

    async fn a_column_is_dropped_with_no_rename(app: Service) {
        app.change(&[("    nick TEXT,", "    nickname TEXT,")]);
        app.applies_and_reverts(&["nicks", "--no-rename"], &["0002_nicks"]).await;
        assert_eq!(app.rows("SELECT COALESCE(nickname, '-') FROM parents").await, ["-"]);
    }

    async fn a_table_and_its_checked_column_are_renamed_and_more(app: Service) {
        let renamed = FIRST.replace("children", "kids").replace("CHECK (id > 0)", "CHECK (number > 0)");
        let renamed = renamed.replace("    id BIGINT NOT NULL,\n    note TEXT,", "    number BIGINT NOT NULL,\n    note TEXT NOT NULL DEFAULT '',\n    extra TEXT,");
        app.declare(&renamed.replace("PRIMARY KEY (parent_id, id)", "PRIMARY KEY (parent_id, number)"));
        let arguments = ["kids", "--rename", "children=kids", "--rename", "kids.id=number"];
        let before = app.database.schema().await;
        app.make(&arguments).await.expect("a migration");
        app.execute("UPDATE children SET note = '' WHERE note IS NULL").await.expect("no NULLs");
        for _ in 0..2 {
            assert_eq!(app.migrate().await, 2);
            assert_eq!(app.database.schema().await, app.declared().await);
            assert_eq!(app.rows("SELECT note FROM kids ORDER BY number").await, ["a note", "another"]);
            app.back().await;
            assert_eq!(app.database.schema().await, before);
            assert_eq!(app.rows(EVERY_ROW).await, ["1 one a note 1", "1 one another 2", "2 two - -"]);
        }
    }

    async fn a_new_column_needs_a_value_and_dropping_a_required_one_is_irreversible(app: Service) {
        app.change(&[("    nick TEXT,", "    nick TEXT,\n    age BIGINT NOT NULL,")]);
        let sentence = "parents.age is NOT NULL without a default, and existing rows have no value: give it a DEFAULT, or add it without NOT NULL, fill it, and add NOT NULL in another migration";
        assert_eq!(app.refused(&["--no-rename"]).await, sentence);
        app.change(&[("    -- How it is called.\n    name TEXT NOT NULL,\n", ""), ("CREATE INDEX parents_by_name ON parents (name);\n", "")]);
        app.make(&["nameless"]).await.expect("a migration");
        let down = app.read("0002_nameless.down.sql");
        assert_eq!(down, "-- irreversible: parents.name is NOT NULL without a default, and its values are lost\n");
        app.migrate().await;
        assert_eq!(app.database.schema().await, app.declared().await);
    }

    async fn a_type_that_the_engines_convert_differently_is_refused(app: Service) {
        app.change(&[("    nick TEXT,", "    nick TIMESTAMPTZ,")]);
        assert!(app.refused(&[]).await.starts_with("the engines convert parents.nick from TEXT to TIMESTAMPTZ in different ways"));
    }

    async fn another_spelling_is_not_a_change(app: Service) {
        app.change(&[
            ("    code TEXT UNIQUE\n", "    \"code\" text,\n    CONSTRAINT parents_code_unique UNIQUE (code)\n"),
            ("REFERENCES parents ON", "REFERENCES parents (id) ON"),
            ("id BIGINT NOT NULL PRIMARY KEY", "id BIGINT PRIMARY KEY"),
            ("CHECK (kind IN ('a', 'b'))", "check(kind in('a','b'))"),
            ("CREATE INDEX parents_by_name ON parents (name)", "create index parents_by_name on parents(\"name\" asc)"),
        ]);
        app.check().await.expect("no change");
        app.make(&["nothing"]).await.expect("no change");
        assert_eq!(app.files().len(), 2);
    }

    async fn a_missing_migration_fails_the_check(app: Service) {
        app.change(&[("size INTEGER NOT NULL DEFAULT 1", "size INTEGER NOT NULL DEFAULT 2")]);
        assert_eq!(app.refused(&["--check"]).await, "schema.sql has changes that are not in a migration: run `makemigrations`");
        app.declare("CREATE VIEW v AS SELECT 1;");
        assert!(app.refused(&["--check"]).await.ends_with("but it has `CREATE VIEW v AS SELECT 1`"));
        app.declare("CREATE TABLE t (");
        app.refused(&["--check"]).await;
        fs::remove_file(app.path("schema.sql")).expect("a file");
        assert!(app.refused(&["x"]).await.contains(" has no schema.sql and migrations/: "));
    }

    async fn an_empty_migration_is_named_and_numbered(app: Service) {
        app.make(&["by_hand", "--empty"]).await.expect("a migration");
        assert_eq!(app.files()[2..], ["0002_by_hand.down.sql", "0002_by_hand.up.sql"]);
        assert_eq!(app.migrate().await, 1);
        app.check().await.expect("nothing to do");
        app.back().await;
    }
}
