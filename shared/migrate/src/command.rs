//! The migration commands, the same for every service. Their output follows Django's.

use std::{fmt::Write, io};

use clap::{Args, Subcommand};
use sqlx::migrate::Migrator;

use store::{DatabaseArgs, Db, OpenError};

#[cfg(feature = "autogenerate")]
use crate::autogenerate::{self, MakeError, Makemigrations, Report};
use crate::{
    check::{OtherService, name_service},
    error::SchemaError,
    history::{self, Change, Problem, Target},
    run::{MigrationEvent, Mode, history, migrate_to, plan},
};

/// The migration commands.
#[derive(Debug, Subcommand)]
pub enum MigrationCommand {
    /// Applies all migrations, or applies and reverts migrations up to a target.
    Migrate(Migrate),
    /// Lists all migrations, marks the applied ones, and says what is wrong with the history.
    Showmigrations(Showmigrations),
    /// Prints the SQL of a migration.
    Sqlmigrate(Sqlmigrate),
    /// Creates a migration from the changes to `schema.sql`.
    #[cfg(feature = "autogenerate")]
    Makemigrations(Box<Makemigrations>),
}

/// The flags of `migrate`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The last migration to be applied afterwards: its number, its name, or a prefix of its name. `zero` reverts all migrations.
    #[arg(value_name = "TARGET")]
    target: Option<Target>,
    /// Records exactly the migrations up to the target as applied, without running any. This also repairs a history with a gap, or with
    /// migrations that this version of the service does not have.
    #[arg(long)]
    fake: bool,
    /// Only records the first migration if no migration is recorded and all its tables exist.
    #[arg(long, conflicts_with = "fake")]
    fake_initial: bool,
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
    /// The flags do not lead to a database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The schema cannot be used or migrated.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// `makemigrations` failed.
    #[cfg(feature = "autogenerate")]
    #[error(transparent)]
    Make(#[from] MakeError),
    /// `migrate --check` has found this many planned operations.
    #[error("{0} planned operation(s): run `migrate`")]
    Unapplied(usize),
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The migrations cannot be recorded.
    #[error("the database is migrated, but this is not in its audit log: {0}")]
    Record(#[source] access::Error),
}

impl MigrationCommand {
    /// Runs the command with the migrations of the service with this name. An error names the one of `others` to which the
    /// database belongs. Progress is written to standard error, results to standard output.
    ///
    /// If `migrate` has changed the database, it calls `record` with the operations, for example `applied.0001_initial`, also when a later
    /// operation has failed.
    pub async fn run(
        self,
        service: &str,
        migrations: &Migrator,
        others: &[OtherService],
        record: impl AsyncFnOnce(&Db, Vec<String>) -> access::Result<()>,
    ) -> Result<(), CommandError> {
        match self {
            Self::Migrate(arguments) => migrate(arguments, service, migrations, others, record).await,
            Self::Showmigrations(Showmigrations { database, plan }) => show(&database, plan, migrations).await,
            Self::Sqlmigrate(Sqlmigrate { name, backwards }) => write(history::sql(migrations, &name, backwards)?.trim_end()),
            #[cfg(feature = "autogenerate")]
            Self::Makemigrations(arguments) => {
                let mut report = Report::default();
                let outcome = autogenerate::run(*arguments, &mut report).await;
                if !report.output.is_empty() {
                    write(report.output.trim_end_matches('\n'))?;
                }
                eprint!("{}", report.remarks);
                Ok(outcome?)
            }
        }
    }
}

async fn migrate(
    arguments: Migrate,
    service: &str,
    migrations: &Migrator,
    others: &[OtherService],
    record: impl AsyncFnOnce(&Db, Vec<String>) -> access::Result<()>,
) -> Result<(), CommandError> {
    let db = arguments.database.open()?;
    let target = arguments.target.unwrap_or(Target::Latest);
    let mode = match (arguments.fake, arguments.fake_initial) {
        (true, _) => Mode::Fake,
        (false, true) => Mode::FakeInitial,
        (false, false) => Mode::Run,
    };
    if arguments.plan || arguments.check {
        let changes = match plan(&db, migrations, &target, mode).await {
            Ok(changes) => changes,
            Err(error) => return Err(name_service(&db, others, error).await.into()),
        };
        write("Planned operations:")?;
        for change in &changes {
            write(&format!("  {change}"))?;
        }
        if changes.is_empty() {
            write("  No planned migration operations.")?;
        }
        return if arguments.check && !changes.is_empty() { Err(CommandError::Unapplied(changes.len())) } else { Ok(()) };
    }
    eprintln!("Operations to perform:");
    match &target {
        Target::Latest => eprintln!("  Apply all migrations: {service}"),
        Target::Zero => eprintln!("  Unapply all migrations: {service}"),
        Target::Named(name) => eprintln!("  Target specific migration: {name}, from {service}"),
    }
    eprintln!("Running migrations:");
    let (mut is_running, mut operations) = (false, Vec::new());
    let outcome = migrate_to(&db, migrations, &target, mode, |progress| {
        is_running = matches!(progress, MigrationEvent::Started(_));
        match progress {
            MigrationEvent::Started(Change::Apply(name)) => eprint!("  Applying {service}.{name}..."),
            MigrationEvent::Started(Change::Unapply(name)) => eprint!("  Unapplying {service}.{name}..."),
            MigrationEvent::Finished { change, is_fake } => {
                eprintln!("{}", if is_fake { " FAKED" } else { " OK" });
                operations.push(operation(change, is_fake));
            }
        }
    });
    let outcome = outcome.await;
    if is_running {
        // The error starts on a new line.
        eprintln!();
    }
    if outcome.is_ok() && operations.is_empty() {
        eprintln!("  No migrations to apply.");
    }
    let recorded = if operations.is_empty() { Ok(()) } else { record(&db, operations).await };
    if let Err(error) = outcome {
        return Err(name_service(&db, others, error).await.into());
    }
    db.close().await;
    recorded.map_err(CommandError::Record)
}

/// Returns the text for an operation.
fn operation(change: &Change, is_fake: bool) -> String {
    let verb = match (change, is_fake) {
        (Change::Apply(_), false) => "applied",
        (Change::Unapply(_), false) => "unapplied",
        (Change::Apply(_), true) => "recorded_as_applied",
        (Change::Unapply(_), true) => "recorded_as_unapplied",
    };
    format!("{verb}.{}", change.name())
}

async fn show(database: &DatabaseArgs, without_times: bool, migrations: &Migrator) -> Result<(), CommandError> {
    let db = database.open()?;
    for entry in history(&db, migrations).await? {
        let mark = match (entry.applied, entry.problem) {
            (_, Some(Problem::Unknown | Problem::Partial)) => '?',
            (Some(_), _) => 'X',
            (None, _) => ' ',
        };
        let mut line = format!("[{mark}]  {}", entry.name);
        if let Some(time) = entry.applied.filter(|_| !without_times) {
            let _ = write!(line, " ({})", time.format("%F %T UTC"));
        }
        if let Some(problem) = entry.problem {
            let _ = write!(line, "  {problem}");
        }
        write(&line)?;
    }
    db.close().await;
    Ok(())
}

/// Writes a line to standard output. Unlike `println!`, it does not panic if the reader has closed the pipe.
fn write(line: &str) -> Result<(), CommandError> {
    use io::Write;
    Ok(writeln!(io::stdout(), "{line}")?)
}
