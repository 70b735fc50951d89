//! `import django`: users, groups, permissions, and the refresh tokens of simplejwt.
//!
//! Each user is imported in one transaction, together with their memberships and permissions.

mod groups;
mod mapping;
mod tokens;
mod users;

use access::{AuditedCall, Clock, Result};
use audit::Entry;
use clap::{Args, Subcommand};
use django::{ImportArgs, ImportSink, Importer};
use server::command::operating_system_user;
use store::{DatabaseArgs, Tx};

use self::mapping::{Mapping, UserSection};
use crate::{
    MIGRATIONS, OTHER_SERVICES, SCHEMA,
    cli_error::CliError,
    events::{EventLog, OutboxTransaction},
};

/// The systems that data can be imported from.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Imports users with their password hashes, groups, permissions and simplejwt's refresh tokens from Django.
    Django(Django),
}

#[derive(Debug, Args)]
pub(crate) struct Django {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    import: ImportArgs,
}

impl ImportSink for EventLog {
    type Tx = OutboxTransaction;

    async fn begin(&self) -> Result<OutboxTransaction> {
        EventLog::begin(self).await
    }

    fn tx(tx: &mut OutboxTransaction) -> &mut Tx {
        tx
    }

    async fn commit(tx: OutboxTransaction) -> Result<()> {
        tx.commit().await
    }
}

/// An import in progress.
struct Import {
    mapping: Mapping,
    importer: Importer<EventLog>,
}

/// Writes one entry to the audit log before the first row is imported, because an import commits many transactions.
async fn record_start(events: &EventLog) -> Result<()> {
    let mut change = events.begin().await?;
    change.set_entry(Entry::of_call(&AuditedCall::command("import django", operating_system_user())));
    change.commit().await
}

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    let Command::Django(Django { database, import: args }) = command;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
    let events = EventLog::new(db.clone(), Clock::system());
    let importer = Importer::open(&args, events.clone(), Clock::system()).await?;
    if !args.dry_run {
        record_start(&events).await?;
    }
    let mut import = Import { mapping: args.mapping()?, importer };
    let groups = import.import_groups().await?;
    import.import_users(groups).await?;
    import.import_tokens().await?;
    let report = import.importer.finish().await?;
    db.close().await;
    Ok(args.finish(&report)?)
}
