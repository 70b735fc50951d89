//! `import django`: profiles, notes, friends and favorite notes.
//!
//! auth-service imports the users themselves. Their ids are computed from their keys in Django, so this import does not call
//! auth-service.

mod mapping;
mod notes;
mod profiles;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use access::{AuditedCall, Clock, UserId};
use audit::{AuditLog, Entry};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use django::{ImportArgs, ImportError, Importer, Report, Table};
use server::command::operating_system_user;
use store::{DatabaseArgs, Db};

use self::mapping::{Mapping, NoteSection, ProfileSection, UserSection};
use crate::{MIGRATIONS, OTHER_SERVICES, SCHEMA, cli_error::CliError};

/// The largest message that a client of the API can read, in bytes.
const MESSAGE_LIMIT: usize = (1 << 20) - 1024;

/// The systems that data can be imported from.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Imports profiles, notes, friends and favorite notes from Django.
    Django(Django),
}

#[derive(Debug, Args)]
pub(crate) struct Django {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    import: ImportArgs,
    /// The file that `auth-service import django --report` wrote. Users that it lists as skipped get no profile.
    #[arg(long, value_name = "FILE")]
    auth_report: Option<PathBuf>,
}

/// A user who can have a profile.
struct User {
    id: UserId,
    username: String,
    joined: Option<DateTime<Utc>>,
}

/// An import in progress.
struct Import {
    mapping: Mapping,
    importer: Importer,
    /// The users, by their keys.
    users: HashMap<String, User>,
    /// The owners of the imported profiles, by the keys of the profiles.
    profiles: HashMap<String, UserId>,
    /// The owners of the imported notes, by the keys of the notes.
    notes: HashMap<String, UserId>,
    /// The pairs of a profile's key and the key of its favorite note.
    favorites: Vec<(String, String)>,
}

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    let Command::Django(Django { database, import: args, auth_report }) = command;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
    let skipped = match auth_report {
        Some(path) => Report::skipped_in(&path, "users").map_err(|source| ImportError::File { path, source })?,
        None => Vec::new(),
    };
    if !args.dry_run {
        record_start(&db, &Clock::system()).await.map_err(|error| CliError::Failed(error.into()))?;
    }
    let mut import = Import {
        importer: Importer::open(&args, db.clone(), Clock::system()).await?,
        mapping: args.mapping()?,
        users: HashMap::new(),
        profiles: HashMap::new(),
        notes: HashMap::new(),
        favorites: Vec::new(),
    };
    import.read_users(&args.project, &skipped.into_iter().collect()).await?;
    import.import_profiles().await?;
    import.import_notes().await?;
    import.import_friends().await?;
    import.import_favorites().await?;
    let report = import.importer.finish().await?;
    db.close().await;
    Ok(args.finish(&report)?)
}

/// Writes one entry to the audit log before the first row is imported, because an import commits many transactions.
async fn record_start(db: &Db, clock: &Clock) -> Result<(), access::Error> {
    let entry = Entry::of_call(&AuditedCall::command("import django", operating_system_user()));
    AuditLog::new(db.clone(), clock.clone()).record_alone(entry).await
}

impl Import {
    /// Reads the users, except those that auth-service has skipped.
    async fn read_users(&mut self, project: &str, skipped: &HashSet<String>) -> Result<(), ImportError> {
        let UserSection { table, key, username, date_joined } = &self.mapping.users;
        let columns = [&**username, &**date_joined];
        let read = |key: String, row: &django::Row| {
            if !skipped.contains(&key) {
                let id = django::user_id(project, &key);
                let user = User { id, username: row.text(username)?, joined: row.time(date_joined)? };
                self.users.insert(key, user);
            }
            Ok(())
        };
        self.importer.read_table("users", Table::new(table, key, &columns), read).await
    }
}
