//! The source folder of a service: its `schema.sql`, its `migrations/`, and the files of new migrations.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{Migration as MigrationFile, MigrationType, Migrator},
};

use super::{
    MakeError,
    write::{Script, Statements},
};
use crate::{history::Migration, sql::Engine};

const NO_TRANSACTION: &str = "-- no-transaction";

/// The contents of the folder.
pub(super) struct Sources {
    pub(super) folder: PathBuf,
    /// The text of `schema.sql`.
    pub(super) schema: String,
    pub(super) migrations: Migrator,
}

/// The files of a new migration.
pub(super) struct MigrationFiles {
    /// The name of the migration, for example `0004_name`.
    pub(super) name: String,
    up: MigrationFile,
    down: MigrationFile,
}

impl Sources {
    /// Reads the folder.
    pub(super) async fn read(folder: &Path) -> Result<Self, MakeError> {
        let (path, migrations) = (folder.join("schema.sql"), folder.join("migrations"));
        if !path.is_file() || !migrations.is_dir() {
            return Err(MakeError::NoSources(folder.to_owned()));
        }
        let schema = fs::read_to_string(&path).map_err(|source| MakeError::File { path, source })?;
        let read = Migrator::new(migrations.clone()).await;
        let migrations = read.map_err(|error| MakeError::File { path: migrations, source: io::Error::other(error) })?;
        Ok(Self { folder: folder.to_owned(), schema, migrations })
    }

    /// Returns the migrations for a script, with this name and the next numbers.
    pub(super) fn migrations_of(&self, name: &str, script: &Script) -> Vec<MigrationFiles> {
        let Script { renames, sqlite, postgres, online, irreversible } = script;
        let down = |shared: &Statements, sqlite: &Statements, postgres: &Statements| match irreversible {
            Some(why) => format!("-- irreversible: {why}\n"),
            None => text(&Statements::new(), sqlite, postgres, shared),
        };
        let none = Statements::new();
        let mut texts = Vec::new();
        if online.up.is_empty() {
            let up = text(&renames.up, &sqlite.up, &postgres.up, &none);
            texts.push((name.to_owned(), up, down(&renames.down, &sqlite.down, &postgres.down)));
        } else if renames.up.is_empty() && postgres.up.is_empty() {
            let up = format!("{NO_TRANSACTION}\n{}", text(&none, &sqlite.up, &online.up, &none));
            texts.push((name.to_owned(), up, down(&none, &sqlite.down, &online.down)));
        } else {
            let up = text(&renames.up, &sqlite.up, &postgres.up, &none);
            texts.push((name.to_owned(), up, down(&renames.down, &sqlite.down, &postgres.down)));
            let up = format!("{NO_TRANSACTION}\n{}", text(&none, &none, &online.up, &none));
            texts.push((format!("{name}_online"), up, text(&none, &none, &online.down, &none)));
        }
        let numbered = (self.next_number()..).zip(texts);
        numbered.map(|(number, (name, up, down))| MigrationFiles::new(number, &name, up, down)).collect()
    }

    /// Returns an empty migration.
    pub(super) fn empty(&self, name: &str) -> MigrationFiles {
        MigrationFiles::new(
            self.next_number(),
            name,
            "-- Write the statements of the migration here.\n".to_owned(),
            "-- Write the statements that revert it here.\n".to_owned(),
        )
    }

    fn next_number(&self) -> i64 {
        self.migrations.iter().map(|migration| migration.version).max().unwrap_or_default() + 1
    }

    /// Returns the paths of the files, and their texts.
    pub(super) fn texts<'a>(&self, migrations: &'a [MigrationFiles]) -> Vec<(PathBuf, &'a str)> {
        let mut texts = Vec::new();
        for files in migrations {
            for (kind, migration) in [("up", &files.up), ("down", &files.down)] {
                let path = self.folder.join("migrations").join(format!("{}.{kind}.sql", files.name));
                texts.push((path, migration.sql.as_str()));
            }
        }
        texts
    }

    /// Writes the files, and returns their paths.
    pub(super) fn write(&self, migrations: &[MigrationFiles]) -> Result<Vec<String>, MakeError> {
        let mut written = Vec::new();
        for (path, text) in self.texts(migrations) {
            let created = fs::File::create_new(&path);
            let outcome = created.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
            outcome.map_err(|source| MakeError::File { path: path.clone(), source })?;
            written.push(path.display().to_string());
        }
        Ok(written)
    }
}

impl MigrationFiles {
    fn new(number: i64, name: &str, up: String, down: String) -> Self {
        let migration = |kind, text: String| {
            let no_tx = text.starts_with(NO_TRANSACTION);
            MigrationFile::new(number, name.replace('_', " ").into(), kind, AssertSqlSafe(text).into_sql_str(), no_tx)
        };
        Self {
            name: format!("{number:04}_{name}"),
            up: migration(MigrationType::ReversibleUp, up),
            down: migration(MigrationType::ReversibleDown, down),
        }
    }

    pub(super) fn migration(&self) -> Migration<'_> {
        Migration { up: &self.up, down: Some(&self.down) }
    }
}

/// Returns the text of a file: statements for both engines, then those for each engine, then again statements for both. Statements that
/// are the same for both engines are written once.
fn text(first: &[String], sqlite: &[String], postgres: &[String], last: &[String]) -> String {
    let same = sqlite.iter().zip(postgres).take_while(|(one, other)| one == other).count();
    let (sqlite_rest, postgres_rest) = (&sqlite[same..], &postgres[same..]);
    let same_end = sqlite_rest.iter().rev().zip(postgres_rest.iter().rev()).take_while(|(one, other)| one == other).count();
    let (sqlite_own, end) = sqlite_rest.split_at(sqlite_rest.len() - same_end);
    let postgres_own = &postgres_rest[..postgres_rest.len() - same_end];
    let parts = [
        ("", [first, &sqlite[..same]]),
        (Engine::Sqlite.section(), [sqlite_own, &[]]),
        (Engine::Postgres.section(), [postgres_own, &[]]),
        ("-- on both:", [end, last]),
    ];
    let mut text = String::new();
    for (section, statements) in parts {
        let statements = statements.concat();
        // The statements before the first section are for both engines.
        if !statements.is_empty()
            && !section.is_empty()
            && (section != "-- on both:" || text.contains("\n-- on ") || text.starts_with("-- on "))
        {
            let _ = writeln!(text, "{section}");
        }
        for statement in statements {
            let _ = writeln!(text, "{statement};");
        }
    }
    text
}
