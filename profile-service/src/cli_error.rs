//! The reasons why a command fails.

use crate::ServeError;
use access::SecretFileError;
use django::ImportError;
use migrate::{CommandError, SchemaError};
use server::{health::HealthError, telemetry::FilterError, traces::TraceError};
use std::{error::Error as StdError, io, net::SocketAddr, path::PathBuf};

/// The error of a command. Its message is a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CliError {
    #[error(transparent)]
    Database(#[from] store::OpenError),
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    #[error(transparent)]
    Log(#[from] FilterError),
    #[error(transparent)]
    Traces(#[from] TraceError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    MigrationCommand(#[from] CommandError),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Checks(#[from] server::check::ChecksFailed),
    #[error("the database failed: {0}")]
    Store(#[from] store::Error),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("there is no profile of {0}: name a user by username or id")]
    NoProfile(String),
    #[error("several users have the username {0} at the moment: name the user by id")]
    SeveralProfiles(String),
    #[error("events of the auth service were never followed: start the service with --client-id first")]
    NeverFollowed,
    #[error(transparent)]
    Audit(#[from] audit::command::AuditCommandError),
    #[error("--audit-key-file is missing: only the key that sealed the audit log can verify it")]
    NoAuditKey,
    #[error("cannot write {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Failed(Box<dyn StdError + Send + Sync>),
}

impl CliError {
    /// Returns true if nobody reads the output any more, as in `profile-service profiles export alice | head`.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
