//! The commands `auth-service audit …`, which read and verify the audit log directly in the database.

use audit::command::{FilterArgs, ListArgs, VerifyArgs};
use clap::{Args, Subcommand};

use super::{
    CliError, MasterKeyArgs,
    administration::{Administered, Administration},
};
use crate::keys;

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
    master_key: MasterKeyArgs,
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
            let Verify { master_key, verify } = command.arguments;
            let keys = keys::audit_keys(&service.db, &master_key.read()?).await?;
            Ok(audit::command::verify_log(&service.db, service.output, &keys, verify).await?)
        }
    }
}

async fn user_id(service: &Administration, name: &str) -> Result<Option<String>, CliError> {
    match service.user(name).await {
        Ok(user) => Ok(Some(user.user_id.to_string())),
        Err(CliError::NoUser(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
