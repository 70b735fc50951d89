//! The parts that all administration commands of this service share. They work on the database directly, so that they serve when the
//! service does not run, and act as a superuser.

use access::{Clock, UserId};
use chrono::{DateTime, SubsecRound, Utc};
use clap::Args;
use gateway::MessageJson;
use prost::Message;
use serde_json::Value;
use server::{
    command::{OutputArgs, operating_system_user},
    config::LogArgs,
    telemetry::LogGuard,
};
use store::{DatabaseArgs, Db};

use super::CliError;
use crate::{
    DESCRIPTORS, MIGRATIONS, OTHER_SERVICES, SCHEMA,
    events::{EventLog, OutboxTransaction},
    groups::{self, Group, GroupId},
    users::{self, User},
};

/// The flags of every administration command.
#[derive(Debug, Args)]
pub(super) struct AdministrationArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// An administration command: its own arguments, and those of every administration command.
#[derive(Debug, Args)]
pub(super) struct Administered<T: Args> {
    #[command(flatten)]
    pub(super) arguments: T,
    #[command(flatten)]
    pub(super) administration: AdministrationArgs,
}

/// The arguments of a command that has none of its own.
#[derive(Debug, Args)]
pub(super) struct Nothing {}

impl AdministrationArgs {
    /// Opens the database, whose schema must be the one of this version.
    pub(super) async fn open(&self) -> Result<Administration, CliError> {
        let log = self.log.init_for_command()?;
        let db = self.database.open()?;
        migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
        let json = MessageJson::new(DESCRIPTORS).map_err(|error| CliError::Failed(error.into()))?;
        let clock = Clock::system();
        let event_log = EventLog::new(db.clone(), clock.clone());
        Ok(Administration { db, clock, event_log, output: self.output, json, actor: operating_system_user(), log })
    }
}

/// The database of the service, and the output of a command.
pub(super) struct Administration {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) event_log: EventLog,
    pub(super) output: OutputArgs,
    json: MessageJson,
    /// The operating-system user.
    actor: String,
    /// Writes the log lines until the command ends.
    #[expect(dead_code, reason = "held until it is dropped")]
    log: Option<LogGuard>,
}

impl Administration {
    pub(super) async fn begin(&self) -> Result<OutboxTransaction, CliError> {
        Ok(self.event_log.begin().await?)
    }

    /// Commits a change, and logs who made it. `command` and `subject` say what was changed.
    pub(super) async fn commit(
        &self,
        mut change: OutboxTransaction,
        command: &'static str,
        subject: &str,
    ) -> Result<(), CliError> {
        change.set_command(command);
        change.commit().await?;
        self.record(command, subject);
        Ok(())
    }

    /// Logs who has changed what.
    pub(super) fn record(&self, command: &str, subject: &str) {
        tracing::warn!(command, subject, actor = self.actor, "the database was changed from the command line");
    }

    /// Returns the user with this id, username or e-mail address.
    pub(super) async fn user(&self, name: &str) -> Result<User, CliError> {
        find_user(&self.db, name).await
    }

    /// Returns the user with this id, username or e-mail address, and locks it.
    pub(super) async fn lock_user(&self, change: &mut OutboxTransaction, name: &str) -> Result<User, CliError> {
        let user_id = self.user(name).await?.user_id;
        users::lock(change, user_id).await?.ok_or_else(|| CliError::NoUser(name.to_owned()))
    }

    /// Returns the group with this id or name.
    pub(super) async fn group(&self, name: &str) -> Result<Group, CliError> {
        if let Ok(group_id) = GroupId::parse("group", name)
            && let Some(group) = groups::find(&self.db, group_id).await?
        {
            return Ok(group);
        }
        groups::find_by_name(&self.db, name).await?.ok_or_else(|| CliError::NoGroup(name.to_owned()))
    }

    /// Returns the group with this id or name, and locks it.
    pub(super) async fn lock_group(&self, change: &mut OutboxTransaction, name: &str) -> Result<Group, CliError> {
        let group_id = self.group(name).await?.group_id;
        groups::lock(change, group_id).await?.ok_or_else(|| CliError::NoGroup(name.to_owned()))
    }

    /// Returns a message of the type `auth.v1.{name}` in the JSON of the HTTP API.
    pub(super) fn json(&self, name: &str, message: &impl Message) -> Value {
        self.json.value(&format!("auth.v1.{name}"), message)
    }
}

/// Returns the user with this id, username or e-mail address. An imported username may look like an id.
pub(super) async fn find_user(db: &Db, name: &str) -> Result<User, CliError> {
    if let Ok(user_id) = UserId::parse("user", name)
        && let Some(user) = users::find(db, user_id).await?
    {
        return Ok(user);
    }
    users::find_by_login(db, name).await?.ok_or_else(|| CliError::NoUser(name.to_owned()))
}

/// Returns the text of a time in a list: its day.
pub(super) fn day(time: DateTime<Utc>) -> String {
    time.format("%F").to_string()
}

/// Returns the text of a time with its seconds.
pub(super) fn moment(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.trunc_subsecs(0).format("%FT%TZ").to_string())
}

/// Returns the text of a state.
pub(super) fn state(is_active: bool) -> String {
    if is_active { "ACTIVE" } else { "INACTIVE" }.to_owned()
}
