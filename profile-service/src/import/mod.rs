//! `import django`: profiles, notes, friends and favourites.
//!
//! The users themselves are the auth service's. Their ids follow from their primary keys in Django, so both services know them
//! without asking one another.

mod notes;
mod profiles;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use access::{Clock, UserId};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use django::django_section;
use django::{BatchWriter, ImportArgs, ImportError, JoinSection, Report, RowOutcome, Source, Table};
use serde::{Deserialize, de::IgnoredAny};
use store::DatabaseArgs;
use tokio_stream::StreamExt;

use crate::{MIGRATIONS, SCHEMA, cli_error::CliError, notes::Visibility};

/// From where something comes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// From Django: profiles, notes, friends and favourite notes.
    Django(Django),
}

#[derive(Debug, Args)]
pub(crate) struct Django {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    import: ImportArgs,
    /// The `--report` of the auth service's import: whom that has skipped gets no profile here.
    #[arg(long, value_name = "FILE")]
    auth_report: Option<PathBuf>,
}

/// Where Django's tables and columns are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mapping {
    users: UserSection,
    profiles: ProfileSection,
    friends: JoinSection,
    notes: NoteSection,
    #[serde(rename = "groups")]
    _groups: Option<IgnoredAny>,
    #[serde(rename = "permissions")]
    _permissions: Option<IgnoredAny>,
    #[serde(rename = "content_types")]
    _content_types: Option<IgnoredAny>,
    #[serde(rename = "user_groups")]
    _user_groups: Option<IgnoredAny>,
    #[serde(rename = "user_permissions")]
    _user_permissions: Option<IgnoredAny>,
    #[serde(rename = "group_permissions")]
    _group_permissions: Option<IgnoredAny>,
    #[serde(rename = "outstanding_tokens")]
    _outstanding_tokens: Option<IgnoredAny>,
    #[serde(rename = "blacklisted_tokens")]
    _blacklisted_tokens: Option<IgnoredAny>,
}

/// What is needed of the users. The other entries are the auth service's.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct UserSection {
    table: String,
    key: String,
    username: String,
    date_joined: String,
}

impl Default for UserSection {
    fn default() -> Self {
        let [table, key, username, date_joined] = ["auth_user", "id", "username", "date_joined"].map(str::to_owned);
        Self { table, key, username, date_joined }
    }
}

django_section!(ProfileSection {
    table: "profile_profile",
    key: "id",
    user: "user_id",
    bio: "bio",
    birth_date: "birth_date",
    website: "website",
    is_active: "is_active",
    favorite_note: "favorite_note_id",
});

django_section!(NoteSection {
    table: "profile_note",
    key: "id",
    owner: "owner_id",
    title: "title",
    body: "body",
    created: "created_at",
    updated: "updated_at",
    visibility: "private",
});

/// A user whom a profile can belong to.
struct User {
    id: UserId,
    username: String,
    joined: Option<DateTime<Utc>>,
}

/// One import that is under way.
struct Import<'a> {
    source: Source,
    mapping: Mapping,
    origin: &'a str,
    clock: Clock,
    batch: BatchWriter,
    report: Report,
    /// Those whom the auth service has skipped, by their keys.
    skipped: HashSet<String>,
    /// The users, by their keys.
    users: HashMap<String, User>,
    /// The users whose profiles have come over, by the profiles' keys.
    profiles: HashMap<String, UserId>,
    /// Whose the notes are that have come over, by their keys.
    notes: HashMap<String, UserId>,
    /// The favourite notes' keys, by the profiles'.
    favorites: Vec<(String, String)>,
}

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    let Command::Django(Django { database, import, auth_report }) = command;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA).await?;
    let skipped = match auth_report {
        Some(path) => Report::skipped_in(&path, "users").map_err(|source| ImportError::File { path, source })?,
        None => Vec::new(),
    };
    let mut under_way = Import {
        source: import.source().await?,
        mapping: import.mapping()?,
        origin: &import.project,
        clock: Clock::system(),
        batch: BatchWriter::begin(db.clone(), import.dry_run),
        report: Report::default(),
        skipped: skipped.into_iter().collect(),
        users: HashMap::new(),
        profiles: HashMap::new(),
        notes: HashMap::new(),
        favorites: Vec::new(),
    };
    under_way.run().await?;
    under_way.batch.end().await.map_err(ImportError::from)?;
    db.close().await;
    Ok(import.finish(&under_way.report)?)
}

impl Import<'_> {
    async fn run(&mut self) -> Result<(), ImportError> {
        self.read_users().await?;
        self.import_profiles().await?;
        self.import_notes().await?;
        self.import_friends().await?;
        self.import_favorites().await
    }

    async fn read_users(&mut self) -> Result<(), ImportError> {
        let UserSection { table, key, username, date_joined } = self.mapping.users.clone();
        let columns = [&*username, &*date_joined];
        let mut rows = self.source.rows(Table::new(&table, &key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(&key)?.unwrap_or_default();
            if !self.skipped.contains(&key) {
                let id = django::user_id(self.origin, &key);
                let user = User { id, username: row.text(&username)?, joined: row.time(&date_joined)? };
                self.users.insert(key, user);
            }
        }
        Ok(())
    }

    fn visibility(&self) -> Result<Visibility, ImportError> {
        match &*self.mapping.notes.visibility {
            "private" => Ok(Visibility::Private),
            "friends" => Ok(Visibility::Friends),
            "public" => Ok(Visibility::Public),
            other => Err(ImportError::Entry(format!("notes.visibility={other}"))),
        }
    }
}

fn skipped(reason: &str) -> RowOutcome {
    RowOutcome::Skipped(reason.to_owned())
}
