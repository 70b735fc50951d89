//! The parts that all administration commands of this service share. They work on the database directly, so that they serve when the
//! service does not run.

use access::{Clock, UserId};
use chrono::{DateTime, SubsecRound, Utc};
use clap::Args;
use gateway::MessageJson;
use server::{command::OutputArgs, config::LogArgs, telemetry::LogGuard};
use store::{DatabaseArgs, Db};

use super::CliError;
use crate::{
    DESCRIPTORS, MIGRATIONS, OTHER_SERVICES, SCHEMA,
    profiles::{self, Profile},
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
        Ok(Administration { db, clock: Clock::system(), output: self.output, json, log })
    }
}

/// The database of the service, and the output of a command.
pub(super) struct Administration {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) output: OutputArgs,
    pub(super) json: MessageJson,
    #[expect(dead_code, reason = "held until it is dropped")]
    log: Option<LogGuard>,
}

impl Administration {
    /// Returns the profile of the user with this id or username, as its owner sees it.
    pub(super) async fn profile(&self, name: &str) -> Result<Profile, CliError> {
        let user_ids = match UserId::parse("user", name) {
            Ok(user_id) => vec![user_id],
            Err(_) => profiles::find_by_username(&self.db, name).await?,
        };
        match user_ids[..] {
            [user_id] => {
                let profile = profiles::find(&self.db, Some(user_id), user_id).await?;
                profile.ok_or_else(|| CliError::NoProfile(name.to_owned()))
            }
            [] => Err(CliError::NoProfile(name.to_owned())),
            _ => Err(CliError::SeveralProfiles(name.to_owned())),
        }
    }
}

/// Returns the text of a time with its seconds.
pub(super) fn moment(time: DateTime<Utc>) -> String {
    time.trunc_subsecs(0).format("%FT%TZ").to_string()
}
