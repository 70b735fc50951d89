//! The errors of the commands.

use crate::{ServeError, access_explanation::MethodNameError, keys::KeyError, permissions::CatalogueError};
use access::{Error, SecretFileError, error::Violation};
use django::ImportError;
use migrate::{CommandError, SchemaError};
use server::{command::ConfirmError, health::HealthError};
use std::{error::Error as StdError, io, net::SocketAddr, path::PathBuf};

/// The error of a command. Its message is for the operator.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CliError {
    #[error(transparent)]
    Open(#[from] store::OpenError),
    #[error("the database failed: {0}")]
    Database(#[from] store::Error),
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    #[error(transparent)]
    Log(#[from] server::telemetry::FilterError),
    #[error(transparent)]
    Traces(#[from] server::traces::TraceError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    MigrationCommand(#[from] CommandError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Checks(#[from] server::check::ChecksFailed),
    #[error("the master key is missing: pass its file with `--master-key-file`; `openssl rand -base64 32` generates a key")]
    NoMasterKey,
    #[error("cannot read the password: {0}")]
    Password(io::Error),
    #[error(transparent)]
    Permission(#[from] CatalogueError),
    #[error("cannot write the secret to {}: {source}", path.display())]
    SecretFile { path: PathBuf, source: io::Error },
    #[error("cannot read the answer: {0}")]
    Prompt(io::Error),
    #[error("no username was given: pass --username, because standard input is not a terminal")]
    NoUsername,
    #[error("no password was given on standard input: write it there, or pass --password-file")]
    NoPasswordOnInput,
    #[error("no password was given: set AUTH_SUPERUSER_PASSWORD or pass --password-file")]
    NoPassword,
    #[error(transparent)]
    MethodName(#[from] MethodNameError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Confirm(#[from] ConfirmError),
    #[error("there is no user {0}: name a user by username, e-mail address or id")]
    NoUser(String),
    #[error("there is no group {0}: name a group by name or id")]
    NoGroup(String),
    #[error("there is no client {0}")]
    NoClient(String),
    #[error("there is no key {0}")]
    NoKey(String),
    #[error(transparent)]
    Audit(#[from] audit::command::AuditCommandError),
    #[error("{user} has no session {session}")]
    NoSession { user: String, session: String },
    #[error(
        "no service has the permission {0}: `auth-service permissions list` lists those that exist; pass `--access-rules` or \
         `--permission` for those of another service"
    )]
    NoPermission(String),
    /// The values of the command line are not accepted.
    #[error("{0}")]
    Invalid(String),
    #[error("the change was not made, because another one was made at the same time: run the command again")]
    Conflict,
    #[error("the database cannot be used now")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    #[error(transparent)]
    Failed(Box<dyn StdError + Send + Sync>),
    #[error(transparent)]
    Refused(Error),
}

impl CliError {
    /// Returns the exit code of the process: 2 if the command line has to be changed, and 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Confirm(ConfirmError::NoTerminal(_)) => 2,
            _ => 1,
        }
    }

    /// Returns true if nobody reads the output any more, as in `auth-service users list | head`.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Restates the error of a call for the person who typed the command.
impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(_, violations) => Self::Invalid(violations.iter().map(sentence).collect::<Vec<_>>().join("; ")),
            Error::Conflict(_) => Self::Conflict,
            Error::Unavailable(source) => Self::Unavailable(source),
            Error::Internal(source) => Self::Failed(source),
            error => Self::Refused(error),
        }
    }
}

/// Returns a sentence such as "the username must be at most 150 characters long".
fn sentence(violation: &Violation) -> String {
    let field = violation.field.to_string();
    let name = field.rsplit('.').next().unwrap_or_default().replace('_', " ");
    format!("the {name} {}", violation.description)
}
