//! The command-line flags that name a database.

use std::path::PathBuf;

use access::{SecretFileError, read_secret_file};
use clap::Args;

use crate::{Db, UrlError};

/// The flags of every command that uses the database.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// The database: `sqlite:path/to/file.db` or `postgres://user@host/name`.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,
    /// A file that holds the database's password.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// The maximum number of open connections to the database.
    #[arg(long, env = "DATABASE_CONNECTIONS", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
}

/// The reason why the flags do not lead to a database.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The password file cannot be read.
    #[error(transparent)]
    Password(#[from] SecretFileError),
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl DatabaseArgs {
    /// Prepares the connections. It opens none.
    ///
    /// # Errors
    ///
    /// Returns an error if the password file or the URL cannot be used.
    pub fn open(&self) -> Result<Db, OpenError> {
        let password = self.database_password_file.as_deref().map(read_secret_file).transpose()?;
        Ok(Db::new(&self.database_url, password.as_deref(), self.database_connections)?)
    }
}
