//! The command-line flags that name a database.

use std::{path::PathBuf, time::Duration};

use access::{SecretFileError, read_secret_file};
use clap::Args;

use crate::{Db, DbOptions, Timeouts, UrlError};

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
    /// PgBouncer or another pooler in transaction mode is in front of PostgreSQL. The services then keep no state in a connection
    /// beyond a transaction.
    #[arg(long, env = "DATABASE_TRANSACTION_POOLING")]
    pub database_transaction_pooling: bool,
}

/// The time limits of a service's work on PostgreSQL. SQLite ignores them.
#[derive(Debug, Clone, Copy, Args)]
pub struct TimeoutArgs {
    /// The longest time of one statement on PostgreSQL, in seconds. 0 is no limit.
    #[arg(long, env = "DATABASE_STATEMENT_TIMEOUT", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub database_statement_timeout: u32,
    /// The longest time that a statement waits for a lock on PostgreSQL, in seconds. 0 is no limit.
    #[arg(long, env = "DATABASE_LOCK_TIMEOUT", value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub database_lock_timeout: u32,
    /// The time after which PostgreSQL ends an idle transaction, in seconds, so that a frozen process holds no lock. 0 is no limit.
    #[arg(long, env = "DATABASE_IDLE_TRANSACTION_TIMEOUT", value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub database_idle_transaction_timeout: u32,
}

impl From<TimeoutArgs> for Timeouts {
    fn from(arguments: TimeoutArgs) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Self {
            statement: seconds(arguments.database_statement_timeout),
            lock: seconds(arguments.database_lock_timeout),
            idle_transaction: seconds(arguments.database_idle_transaction_timeout),
        }
    }
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
    /// Prepares the connections of a command, whose work has no time limits. It opens none.
    ///
    /// # Errors
    ///
    /// Returns an error if the password file or the URL cannot be used.
    pub fn open(&self) -> Result<Db, OpenError> {
        self.open_with(Timeouts::NONE)
    }

    /// Prepares the connections of a service, with time limits for its work. It opens none.
    ///
    /// # Errors
    ///
    /// Returns an error if the password file or the URL cannot be used.
    pub fn open_with(&self, timeouts: impl Into<Timeouts>) -> Result<Db, OpenError> {
        let password = self.database_password_file.as_deref().map(read_secret_file).transpose()?;
        let options = DbOptions {
            connections: self.database_connections,
            timeouts: timeouts.into(),
            is_transaction_pooled: self.database_transaction_pooling,
        };
        Ok(Db::with_options(&self.database_url, password.as_deref(), options)?)
    }
}
