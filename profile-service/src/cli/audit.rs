//! The commands `profile-service audit …`, which read and verify the audit log directly in the database.

use audit::{
    AuditKeys,
    command::{FilterArgs, ListArgs, VerifyArgs},
};
use clap::{Args, Subcommand};

use super::{
    CliError,
    administration::{Administered, Administration},
};
use crate::settings::AuditKeyArgs;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists entries of the audit log, the newest first.
    List(Administered<ListArgs>),
    /// Writes entries of the audit log as JSON, one a line, the oldest first.
    Export(Administered<FilterArgs>),
    /// Verifies the audit log against its seals. Fails if an entry or a seal was altered, inserted or removed.
    Verify(Administered<Verify>),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    key: AuditKeyArgs,
    #[command(flatten)]
    verify: VerifyArgs,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(command) => {
            let service = command.administration.open().await?;
            let filter = command.arguments.filter.filter(async |name| user_id(&service, name).await).await?;
            Ok(audit::command::list(&service.db, service.output, &filter, command.arguments.limit).await?)
        }
        Command::Export(command) => {
            let service = command.administration.open().await?;
            let filter = command.arguments.filter(async |name| user_id(&service, name).await).await?;
            Ok(audit::command::export(&service.db, &filter).await?)
        }
        Command::Verify(command) => {
            let service = command.administration.open().await?;
            let Verify { key, verify } = command.arguments;
            let key = key.read()?.ok_or(CliError::NoAuditKey)?;
            Ok(audit::command::verify_log(&service.db, service.output, &AuditKeys::new([key]), verify).await?)
        }
    }
}

async fn user_id(service: &Administration, name: &str) -> Result<Option<String>, CliError> {
    match service.profile(name).await {
        Ok(profile) => Ok(Some(profile.user_id.to_string())),
        Err(CliError::NoProfile(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
