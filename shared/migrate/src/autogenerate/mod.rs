//! `makemigrations`: compares the schema that the migrations build with the one that `schema.sql` declares, and writes the
//! migration from the first schema to the second.
//!
//! Both schemas are built in scratch databases of each engine, and the comparison uses the catalogs of the engines. Before a migration
//! is written, it is applied, reverted and applied again in a scratch database.

mod compare;
mod constraint;
mod error;
mod files;
mod merge;
mod names;
mod normalize;
mod rename;
mod schema;
mod scratch;
mod text;
mod write;

use std::{fmt::Write, path::PathBuf, str::FromStr};

use clap::Args;

use self::{
    compare::{Change, changes, disagreement, possible_renames},
    files::{MigrationFiles, Sources},
    names::Names,
    rename::Rename,
    schema::Schema,
    scratch::Scratch,
    text::SchemaText,
    write::script,
};
use access::read_secret_file;
use sqlx::postgres::PgConnectOptions;
use store::UrlError;

use crate::{
    history::{self, History},
    lint,
    sql::Engine,
};

pub use self::error::MakeError;
use self::error::list;

/// The flags of `makemigrations`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Makemigrations {
    /// The name of the migration: lower-case letters, digits and `_`. By default it is made from the changes.
    #[arg(value_name = "NAME", value_parser = name, required_if_eq("empty", "true"))]
    name: Option<String>,
    /// Creates an empty migration.
    #[arg(long, conflicts_with_all = ["check", "rename"])]
    empty: bool,
    /// Prints the files of the migration without writing them.
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// Where two migrations have the same number, gives the next number to NAME or, without NAME, to the later one in the alphabet.
    #[arg(long, conflicts_with_all = ["check", "rename", "empty"])]
    merge: bool,
    /// Writes nothing, and exits with an error if `schema.sql` has changes without a migration, or if a migration is not safe to release.
    #[arg(long, conflicts_with = "rename")]
    check: bool,
    /// A rename: `table.old=new` for a column, `old=new` for a table. May be given more than once.
    #[arg(long, value_name = "OLD=NEW")]
    rename: Vec<Rename>,
    /// Drops and adds columns and tables instead of asking whether they were renamed.
    #[arg(long)]
    no_rename: bool,
    /// The folder with `schema.sql` and `migrations/`. `cargo run` sets it.
    #[arg(long, env = "CARGO_MANIFEST_DIR", value_name = "FOLDER", default_value = ".")]
    source: PathBuf,
    /// A PostgreSQL database, to compare the schemas there as well: `postgres://user@host/name`. Its tables are not read or changed.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A file with the password of the database.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    database_password_file: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_name { Ok(text.to_owned()) } else { Err("a name must have lower-case letters, digits and `_`".to_owned()) }
}

/// The comparison on one engine.
struct Comparison {
    engine: Engine,
    /// The schema that the migrations build, before and after the renames.
    built: Schema,
    before: Schema,
    /// The schema that `schema.sql` declares.
    after: Schema,
    /// The statements of the schema after the renames. Only SQLite keeps them.
    texts: String,
    changes: Vec<Change>,
}

/// The text for standard output and for standard error.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) output: String,
    pub(super) remarks: String,
}

/// Runs the command.
pub(super) async fn run(arguments: Makemigrations, report: &mut Report) -> Result<(), MakeError> {
    let sources = Sources::read(&arguments.source).await?;
    if arguments.empty {
        let files = sources.empty(&arguments.name.unwrap_or_default());
        return list_files(&sources, &[files], arguments.dry_run, report);
    }
    let password = arguments.database_password_file.as_deref().map(read_secret_file).transpose()?;
    let is_postgres = |url: &&String| url.starts_with("postgres");
    let server = arguments.database_url.as_ref().filter(is_postgres);
    let server = server.map(|url| PgConnectOptions::from_str(url).map_err(UrlError::Malformed)).transpose()?;
    let server = server.map(|options| match &password {
        Some(password) => options.password(password),
        None => options,
    });
    let outcome = if arguments.merge {
        merge::run(sources, arguments.name.as_deref(), arguments.dry_run, server.as_ref(), report).await
    } else {
        make(arguments, &sources, server.as_ref(), report).await
    };
    if server.is_none() {
        report
            .remarks
            .push_str("PostgreSQL was not compared: pass --database-url postgres://user@host/name to compare it too.\n");
    }
    outcome
}

/// Compares the schemas, and writes the migration.
async fn make(
    arguments: Makemigrations,
    sources: &Sources,
    server: Option<&PgConnectOptions>,
    report: &mut Report,
) -> Result<(), MakeError> {
    let servers: Vec<_> = std::iter::once(None).chain(server.map(Some)).collect();
    let after = SchemaText::parse(&sources.schema).map_err(MakeError::Foreign)?;
    let mut compared = Vec::new();
    for server in &servers {
        compared.push(compare(sources, &arguments.rename, *server).await?);
    }
    let (sqlite, postgres) = (&compared[0], compared.get(1));
    let before = SchemaText::parse(&sqlite.texts).map_err(MakeError::Foreign)?;
    if let Some(postgres) = postgres {
        ensure_engines_agree(sqlite, postgres)?;
    }
    for change in &sqlite.changes {
        let _ = writeln!(report.output, "    {change}");
    }
    if arguments.check {
        return check(sources, sqlite, report);
    }
    if sqlite.changes.is_empty() && arguments.rename.is_empty() {
        report.output.push_str("No changes detected\n");
        return Ok(());
    }
    reject_ambiguous(sqlite, arguments.no_rename, &before, &after)?;
    let names = Names::new(&sqlite.changes, &before, &after, postgres.map(|found| (&found.before, &*found.changes)));
    let script = script(&sqlite.changes, &arguments.rename, &before, &after, &names);
    let name = arguments.name.unwrap_or_else(|| propose(&arguments.rename, &sqlite.changes));
    let migrations = sources.migrations_of(&name, &script);
    for (server, compared) in servers.iter().zip(&compared) {
        verify_round_trip(sources, &migrations, script.irreversible.is_none(), Scratch::new(*server).await?, compared).await?;
    }
    if let Some(why) = &script.irreversible {
        let _ = writeln!(report.remarks, "The migration is irreversible, unless you edit its .down.sql file: {why}.");
    }
    // Before the first migration there is no release that could run next to it.
    let linted = if sources.migrations.migrations.is_empty() { &[][..] } else { &migrations };
    for finding in linted.iter().flat_map(|files| lint::findings(&files.name, files.migration().up.sql.as_str())) {
        let _ = writeln!(report.remarks, "Not safe to release: {finding}");
    }
    list_files(sources, &migrations, arguments.dry_run, report)
}

fn list_files(sources: &Sources, migrations: &[MigrationFiles], is_dry_run: bool, report: &mut Report) -> Result<(), MakeError> {
    if is_dry_run {
        for (path, text) in sources.texts(migrations) {
            let _ = writeln!(report.output, "{}\n{}\n", path.display(), text.trim_end());
        }
        return Ok(());
    }
    for path in sources.write(migrations)? {
        let _ = writeln!(report.output, "{path}");
    }
    Ok(())
}

async fn compare(sources: &Sources, renames: &[Rename], server: Option<&PgConnectOptions>) -> Result<Comparison, MakeError> {
    let (mut scratch, mut wanted) = (Scratch::new(server).await?, Scratch::new(server).await?);
    let engine = scratch.engine();
    scratch.build(&sources.migrations).await?;
    let built = scratch.schema().await?;
    for rename in renames {
        let statement = rename.statement();
        let outcome = scratch.execute(&statement).await;
        outcome.map_err(|cause| MakeError::Rename { statement, engine, cause })?;
    }
    let before = scratch.schema().await?;
    wanted.execute(&sources.schema).await.map_err(|cause| MakeError::Declared { engine, cause })?;
    let after = wanted.schema().await?;
    let changes = changes(&before, &after);
    Ok(Comparison { engine, built, texts: scratch.texts().await?, before, after, changes })
}

/// Returns an error if the engines report different changes.
fn ensure_engines_agree(sqlite: &Comparison, postgres: &Comparison) -> Result<(), MakeError> {
    // PostgreSQL rewrites the constraints and indexes of a column when its type changes.
    let follows_a_type = |change: &&Change| {
        let is_type = |other: &Change| matches!(other, Change::Retype(table, _) if table == change.table());
        let is_rewritten = matches!(
            change,
            Change::AddConstraint(..) | Change::DropConstraint(..) | Change::AddIndex(..) | Change::DropIndex(..)
        );
        is_rewritten && sqlite.changes.iter().any(is_type) && !sqlite.changes.contains(change)
    };
    let seen: Vec<_> = postgres.changes.iter().filter(|change| !follows_a_type(change)).cloned().collect();
    match disagreement(&sqlite.changes, &seen) {
        (sqlite, postgres) if sqlite.is_empty() && postgres.is_empty() => Ok(()),
        (sqlite, postgres) => Err(MakeError::Disagree { sqlite, postgres }),
    }
}

/// Returns an error if there are changes, or if a migration is not safe to release.
fn check(sources: &Sources, sqlite: &Comparison, report: &mut Report) -> Result<(), MakeError> {
    let history = History::new(&sources.migrations, Vec::new())?;
    // Before the first migration there is no release that could run next to it.
    let findings: Vec<_> =
        history.migrations().skip(1).flat_map(|migration| lint::findings(&migration.name(), migration.up.sql.as_str())).collect();
    for finding in &findings {
        let _ = writeln!(report.output, "{finding}");
    }
    if !sqlite.changes.is_empty() {
        return Err(MakeError::Behind);
    }
    if findings.is_empty() { Ok(()) } else { Err(MakeError::Unsafe(findings.len())) }
}

/// Returns an error if the changes are ambiguous or lose data.
fn reject_ambiguous(found: &Comparison, no_rename: bool, before: &SchemaText, after: &SchemaText) -> Result<(), MakeError> {
    let renames = possible_renames(&found.changes, &found.before, &found.after);
    if !renames.is_empty() && !no_rename {
        return Err(MakeError::Ask(renames.iter().map(|rename| format!("`--rename {rename}`")).collect()));
    }
    for change in &found.changes {
        match change {
            Change::AddColumn(table, column) if after.column(table, column).is_some_and(|column| !column.can_be_added()) => {
                return Err(MakeError::NoValue(format!("{table}.{column}")));
            }
            Change::Retype(table, column) => {
                let type_in =
                    |texts: &SchemaText| texts.column(table, column).map(|column| column.type_name.clone()).unwrap_or_default();
                let (from, to) = (type_in(before), type_in(after));
                if !converts(&from, &to) {
                    return Err(MakeError::Conversion { column: format!("{table}.{column}"), from, to });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns true if both engines convert every value in the same way. SQLite keeps values that it cannot convert.
fn converts(from: &str, to: &str) -> bool {
    let is_integer = |name: &str| matches!(name, "SMALLINT" | "INTEGER" | "INT" | "BIGINT");
    let is_text = |name: &str| name == "TEXT" || name.starts_with("VARCHAR");
    (is_integer(from) && (is_integer(to) || to == "TEXT")) || (is_text(from) && is_text(to))
}

/// Returns a name for the migration.
fn propose(renames: &[Rename], changes: &[Change]) -> String {
    let mut names = renames.iter().map(Rename::proposed_name).chain(changes.iter().map(Change::proposed_name));
    match (names.next(), names.next()) {
        (Some(first), None) => first,
        (Some(first), Some(_)) => format!("{first}_and_more"),
        (None, _) => "nothing".to_owned(),
    }
}

/// Applies the migrations, reverts them and applies them again, and checks the schema after each step.
async fn verify_round_trip(
    sources: &Sources,
    migrations: &[MigrationFiles],
    is_reversible: bool,
    mut scratch: Scratch,
    found: &Comparison,
) -> Result<(), MakeError> {
    let engine = found.engine;
    let failed = |error: crate::SchemaError| MakeError::Unproven { engine, why: error.to_string() };
    scratch.build(&sources.migrations).await?;
    for is_first in [true, false] {
        for files in migrations {
            let change = history::Change::Apply(files.name.clone());
            scratch.perform(&change, files.migration()).await.map_err(failed)?;
        }
        ensure_schema(engine, &found.after, &scratch.schema().await?, "after it was applied")?;
        if !(is_first && is_reversible) {
            break;
        }
        for files in migrations.iter().rev() {
            let change = history::Change::Unapply(files.name.clone());
            scratch.perform(&change, files.migration()).await.map_err(failed)?;
        }
        ensure_schema(engine, &found.built, &scratch.schema().await?, "after it was reverted")?;
    }
    Ok(())
}

fn ensure_schema(engine: Engine, expected: &Schema, actual: &Schema, step: &str) -> Result<(), MakeError> {
    let missing: Vec<_> = changes(actual, expected).iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(MakeError::Unproven { engine, why: format!("{step}, the schema lacks {}", list(&missing)) })
}
