//! The errors of the commands.

use crate::{ServeError, access_explanation::MethodNameError, keys::KeyError, permissions::CatalogueError};
use access::{Error, SecretFileError};
use django::ImportError;
use migrate::{CommandError, SchemaError};
use server::health::HealthError;
use std::{
    io::{self},
    net::SocketAddr,
    path::PathBuf,
};

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
    #[error("there is no user {0:?}: name a user by username, e-mail address or id")]
    NoUser(String),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Refused(#[from] Error),
}
