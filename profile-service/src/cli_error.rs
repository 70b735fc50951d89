//! The reasons why a command fails.

use crate::ServeError;
use access::SecretFileError;
use django::ImportError;
use migrate::{CommandError, SchemaError};
use server::{health::HealthError, telemetry::FilterError};
use std::{io, net::SocketAddr};

/// Why a command failed, as a sentence.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CliError {
    #[error(transparent)]
    Database(#[from] store::OpenError),
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    #[error(transparent)]
    Log(#[from] FilterError),
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
}
