//! The migration commands, the same for every service. Their output follows Django's.

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

/// The migration commands.
#[derive(Debug, Subcommand)]
pub enum MigrationCommand {
    /// Applies all migrations, or applies and reverts migrations up to a target.
    Migrate(Migrate),
    /// Lists all migrations and marks the applied ones.
    Showmigrations(Showmigrations),
    /// Prints the SQL of a migration.
    Sqlmigrate(Sqlmigrate),
    /// Creates a migration from the changes to `schema.sql`.
    #[cfg(feature = "autogenerate")]
    Makemigrations(Box<Makemigrations>),
}

/// The flags of `migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The last migration to be applied afterwards: its number, its name, or a prefix of its name. `zero` reverts all migrations.
    #[arg(value_name = "TARGET")]
    target: Option<Target>,
    /// Marks the migrations as applied or unapplied without running them.
    #[arg(long)]
    fake: bool,
    /// Prints the planned operations without running them.
    #[arg(long, conflicts_with = "check")]
    plan: bool,
    /// Exits with an error if there are planned operations, without running them.
    #[arg(long)]
    check: bool,
}

/// The flags of `showmigrations`.
#[derive(Debug, Args)]
pub struct Showmigrations {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Omits the times.
    #[arg(long)]
    plan: bool,
}

/// The flags of `sqlmigrate`.
#[derive(Debug, Args)]
pub struct Sqlmigrate {
    /// The migration: its number, its name, or a prefix of its name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Prints the SQL that reverts the migration.
    #[arg(long)]
    backwards: bool,
}

/// The reason why a command failed.
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
    #[error("{0} planned operation(s): run `migrate`")]
    Unapplied(usize),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl MigrationCommand {
    /// Runs the command with the migrations of a service. Progress is written to standard error, results to standard output.
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
    let mut is_running = false;
    let outcome = migrate_to(&db, migrations, &target, mode, |progress| {
        is_running = matches!(progress, MigrationEvent::Started(_));
        match progress {
            MigrationEvent::Started(Change::Apply(name)) => eprint!("  Applying {name}..."),
            MigrationEvent::Started(Change::Unapply(name)) => eprint!("  Unapplying {name}..."),
            MigrationEvent::Finished => eprintln!(" {done}"),
        }
    });
    let outcome = outcome.await;
    if is_running {
        // The error starts on a new line.
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

/// Writes a line to standard output. Unlike `println!`, it does not panic if the reader has closed the pipe.
fn write(line: &str) -> Result<(), CommandError> {
    use io::Write;
    Ok(writeln!(io::stdout(), "{line}")?)
}
