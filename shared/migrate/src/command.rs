//! The verbs as commands, the same for every service. They say what Django's say.

use std::io;

use clap::{Args, Subcommand};
use sqlx::migrate::Migrator;

use store::{DatabaseArgs, OpenError};

#[cfg(feature = "autogenerate")]
use crate::autogenerate::{self, MakeError, Makemigrations, Report};
use crate::{
    error::SchemaError,
    history::{self, Change, Target},
    run::{MigrationEvent, Mode, history, migrate_to, plan},
};

/// What can be done to the schema.
#[derive(Debug, Subcommand)]
pub enum MigrationCommand {
    /// Applies the migrations that are not applied yet, or goes forwards or back to one of them.
    Migrate(Migrate),
    /// Lists the migrations, and marks those that are applied.
    Showmigrations(Showmigrations),
    /// Shows the SQL of a migration.
    Sqlmigrate(Sqlmigrate),
    /// Writes the migration that leads to the schema that `schema.sql` declares.
    #[cfg(feature = "autogenerate")]
    Makemigrations(Box<Makemigrations>),
}

/// The flags of `migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The migration that is the last one applied afterwards: its number, its name, or the beginning of it. `zero` undoes all.
    #[arg(value_name = "TARGET")]
    target: Option<Target>,
    /// Records the migrations as applied, or as not applied, without running them.
    #[arg(long)]
    fake: bool,
    /// Shows what would be done, and does nothing.
    #[arg(long, conflicts_with = "check")]
    plan: bool,
    /// Fails where something would be done, and does nothing.
    #[arg(long)]
    check: bool,
}

/// The flags of `showmigrations`.
#[derive(Debug, Args)]
pub struct Showmigrations {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Without the times.
    #[arg(long)]
    plan: bool,
}

/// The flags of `sqlmigrate`.
#[derive(Debug, Args)]
pub struct Sqlmigrate {
    /// The migration: its number, its name, or the beginning of it.
    #[arg(value_name = "NAME")]
    name: String,
    /// What undoes it.
    #[arg(long)]
    backwards: bool,
}

/// Why a verb failed, as a sentence.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CommandError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[cfg(feature = "autogenerate")]
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error("{0} migration(s) are to be applied or undone")]
    Unapplied(usize),
    #[error("the output can't be written: {0}")]
    Output(#[from] io::Error),
}

impl MigrationCommand {
    /// Does it, with the migrations of a service. Progress goes to standard error, what was asked for to standard output.
    ///
    /// # Errors
    ///
    /// What a person has to be told.
    pub async fn run(self, migrations: &Migrator) -> Result<(), CommandError> {
        match self {
            Self::Migrate(arguments) => migrate(arguments, migrations).await,
            Self::Showmigrations(Showmigrations { database, plan }) => show(&database, plan, migrations).await,
            Self::Sqlmigrate(Sqlmigrate { name, backwards }) => write(history::sql(migrations, &name, backwards)?.trim_end()),
            #[cfg(feature = "autogenerate")]
            Self::Makemigrations(arguments) => {
                let mut report = Report::default();
                let outcome = autogenerate::run(*arguments, &mut report).await;
                eprint!("{}", report.remarks);
                if !report.output.is_empty() {
                    write(report.output.trim_end_matches('\n'))?;
                }
                Ok(outcome?)
            }
        }
    }
}

async fn migrate(arguments: Migrate, migrations: &Migrator) -> Result<(), CommandError> {
    let db = arguments.database.open()?;
    let target = arguments.target.unwrap_or(Target::Latest);
    if arguments.plan || arguments.check {
        let changes = plan(&db, migrations, &target).await?;
        write("Planned operations:")?;
        for change in &changes {
            write(&format!("  {change}"))?;
        }
        if changes.is_empty() {
            write("  No planned migration operations.")?;
        }
        return if arguments.check && !changes.is_empty() { Err(CommandError::Unapplied(changes.len())) } else { Ok(()) };
    }
    let (mode, done) = if arguments.fake { (Mode::Fake, "FAKED") } else { (Mode::Run, "OK") };
    let mut is_under_way = false;
    let outcome = migrate_to(&db, migrations, &target, mode, |progress| {
        is_under_way = matches!(progress, MigrationEvent::Started(_));
        match progress {
            MigrationEvent::Started(Change::Apply(name)) => eprint!("  Applying {name}..."),
            MigrationEvent::Started(Change::Unapply(name)) => eprint!("  Unapplying {name}..."),
            MigrationEvent::Finished => eprintln!(" {done}"),
        }
    });
    let outcome = outcome.await;
    if is_under_way {
        // The error begins a line of its own.
        eprintln!();
    }
    if outcome? == 0 {
        eprintln!("  No migrations to apply.");
    }
    db.close().await;
    Ok(())
}

async fn show(database: &DatabaseArgs, without_times: bool, migrations: &Migrator) -> Result<(), CommandError> {
    let db = database.open()?;
    for entry in history(&db, migrations).await? {
        write(&match entry.applied {
            None => format!("[ ]  {}", entry.name),
            Some(_) if without_times => format!("[X]  {}", entry.name),
            Some(time) => format!("[X]  {} ({})", entry.name, time.format("%F %T UTC")),
        })?;
    }
    db.close().await;
    Ok(())
}

/// Unlike `println!`, it does not panic where nobody reads.
fn write(line: &str) -> Result<(), CommandError> {
    use io::Write;
    Ok(writeln!(io::stdout(), "{line}")?)
}
