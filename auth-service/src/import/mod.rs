//! `import django`: users, groups, permissions, and the refresh tokens of simplejwt.
//!
//! A user comes over whole, with memberships and permissions, in one transaction.

mod groups;
mod tokens;
mod users;

use access::{Clock, Result};
use clap::{Args, Subcommand};
use django::django_section;
use django::{BatchWriter, ImportArgs, ImportError, ImportSink, JoinSection, Report, Source};
use serde::{Deserialize, de::IgnoredAny};
use store::DatabaseArgs;

use crate::{
    MIGRATIONS, SCHEMA,
    cli_error::CliError,
    events::{EventLog, OutboxTransaction},
};

/// From where something comes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// From Django: users with the hashes of their passwords, groups, permissions, and simplejwt's refresh tokens.
    Django(Django),
}

#[derive(Debug, Args)]
pub(crate) struct Django {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    import: ImportArgs,
}

/// Where Django's tables and columns are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mapping {
    users: UserSection,
    groups: GroupSection,
    permissions: PermissionSection,
    content_types: ContentTypeSection,
    user_groups: JoinSection,
    user_permissions: JoinSection,
    group_permissions: JoinSection,
    outstanding_tokens: OutstandingSection,
    blacklisted_tokens: BlacklistedSection,
    #[serde(rename = "profiles")]
    _profiles: Option<IgnoredAny>,
    #[serde(rename = "friends")]
    _friends: Option<IgnoredAny>,
    #[serde(rename = "notes")]
    _notes: Option<IgnoredAny>,
}

django_section!(UserSection {
    table: "auth_user",
    key: "id",
    username: "username",
    password: "password",
    email: "email",
    first_name: "first_name",
    last_name: "last_name",
    is_active: "is_active",
    is_superuser: "is_superuser",
    last_login: "last_login",
    date_joined: "date_joined",
});

django_section!(GroupSection { table: "auth_group", key: "id", name: "name" });

django_section!(PermissionSection { table: "auth_permission", key: "id", content_type: "content_type_id", codename: "codename" });

django_section!(ContentTypeSection { table: "django_content_type", key: "id", app_label: "app_label" });

django_section!(OutstandingSection {
    table: "token_blacklist_outstandingtoken",
    key: "id",
    user: "user_id",
    jti: "jti",
    expires_at: "expires_at",
});

django_section!(BlacklistedSection { table: "token_blacklist_blacklistedtoken", key: "id", token: "token_id" });

impl ImportSink for EventLog {
    type Tx = OutboxTransaction;

    async fn begin(&self) -> Result<OutboxTransaction> {
        EventLog::begin(self).await
    }

    async fn commit(change: OutboxTransaction) -> Result<()> {
        change.commit().await
    }
}

/// One import that is under way.
struct Import<'a> {
    source: Source,
    mapping: Mapping,
    origin: &'a str,
    clock: Clock,
    batch: BatchWriter<EventLog>,
    report: Report,
}

pub(crate) async fn run(command: Command) -> Result<(), CliError> {
    let Command::Django(Django { database, import }) = command;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA).await?;
    let mut under_way = Import {
        source: import.source().await?,
        mapping: import.mapping()?,
        origin: &import.project,
        clock: Clock::system(),
        batch: BatchWriter::begin(EventLog::new(db.clone(), Clock::system()), import.dry_run),
        report: Report::default(),
    };
    under_way.run().await?;
    under_way.batch.end().await.map_err(ImportError::from)?;
    db.close().await;
    Ok(import.finish(&under_way.report)?)
}

impl Import<'_> {
    async fn run(&mut self) -> Result<(), ImportError> {
        let groups = self.import_groups().await?;
        self.import_users(groups).await?;
        self.import_tokens().await
    }
}
