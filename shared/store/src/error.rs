//! The errors of a query, classified by the way in which a caller can react to them.

use std::fmt;

use sqlx::error::DatabaseError;

/// An error of the driver. Its message is that of the database, without the line of PostgreSQL's source code that the driver adds.
#[derive(Debug)]
pub struct DriverError(sqlx::Error);

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            sqlx::Error::Database(error) => f.write_str(error.message()),
            error => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for DriverError {}

/// The reason why a query or a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, or is too busy. The same call may succeed later.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] DriverError),
    /// The engine ended the transaction because of a deadlock or a serialization failure. Nothing of it happened, and the same
    /// transaction may succeed at once.
    #[error("the transaction conflicts with another one: {0}")]
    Conflict(#[source] DriverError),
    /// The query violates a unique constraint. SQLite does not report which one.
    #[error("{0}")]
    UniqueViolation(#[source] DriverError),
    /// The query refers to a row of another table that does not exist.
    #[error("{0}")]
    ForeignKeyViolation(#[source] DriverError),
    /// Any other failure: a fault of the query, of the schema or of the engine.
    #[error("{0}")]
    Failed(#[source] DriverError),
}

/// The result of a query.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the driver's error.
    pub fn into_source(self) -> sqlx::Error {
        match self {
            Self::Unavailable(source)
            | Self::Conflict(source)
            | Self::UniqueViolation(source)
            | Self::ForeignKeyViolation(source)
            | Self::Failed(source) => source.0,
        }
    }

    /// Returns true if the query violates a unique constraint.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::UniqueViolation(_))
    }

    /// Returns true if the query refers to a row that does not exist.
    pub fn is_foreign_key_violation(&self) -> bool {
        matches!(self, Self::ForeignKeyViolation(_))
    }

    /// Returns true if the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Conflict(_))
    }

    /// Returns true if nothing happened and the same transaction may succeed at once.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let classify = match error.as_database_error() {
            None => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => Self::Unavailable,
                _ => Self::Failed,
            },
            Some(database) if is_conflict(database) => Self::Conflict,
            Some(database) if database.is_unique_violation() => Self::UniqueViolation,
            Some(database) if database.is_foreign_key_violation() => Self::ForeignKeyViolation,
            Some(database) if is_unavailable(database) => Self::Unavailable,
            Some(_) => Self::Failed,
        };
        classify(DriverError(error))
    }
}

impl From<Error> for access::Error {
    /// Constraint violations that a handler does not map to an error of its own are faults of the service.
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(source) => Self::Unavailable(source.into()),
            Error::Conflict(source) => Self::Conflict(source.into()),
            Error::UniqueViolation(source) | Error::ForeignKeyViolation(source) | Error::Failed(source) => {
                Self::Internal(source.into())
            }
        }
    }
}

/// Connection exceptions, insufficient resources, operator intervention (a shutdown, a statement timeout), a lock timeout, an idle
/// transaction that the server ended and a read-only server on PostgreSQL; `SQLITE_BUSY`, `LOCKED`, `NOMEM`, `IOERR`, `FULL` and
/// `CANTOPEN`.
fn is_unavailable(error: &dyn DatabaseError) -> bool {
    match sqlite_code(error) {
        Some(code) => matches!(code, 5 | 6 | 7 | 10 | 13 | 14),
        None => error.code().is_some_and(|code| {
            matches!(&code[..2.min(code.len())], "08" | "53" | "57") || matches!(code.as_ref(), "25006" | "25P03" | "55P03")
        }),
    }
}

/// Returns the primary result code of an error of SQLite, or `None` for an error of PostgreSQL.
pub(crate) fn sqlite_code(error: &dyn DatabaseError) -> Option<i32> {
    error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
    error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}

/// `serialization_failure` and `deadlock_detected`; `SQLITE_BUSY_RECOVERY` and `SQLITE_BUSY_SNAPSHOT`. A plain `SQLITE_BUSY` is not
/// a conflict, because that query has already waited for the busy timeout.
fn is_conflict(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| matches!(code.as_ref(), "40001" | "40P01" | "261" | "517"))
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error::Error as StdError};

    use super::*;

    /// An error of PostgreSQL, with its SQLSTATE code.
    #[derive(Debug, thiserror::Error)]
    #[error("the engine says {0}")]
    struct Engine(&'static str);

    impl DatabaseError for Engine {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            match self.0 {
                "23505" => sqlx::error::ErrorKind::UniqueViolation,
                "23503" => sqlx::error::ErrorKind::ForeignKeyViolation,
                _ => sqlx::error::ErrorKind::Other,
            }
        }
    }

    #[test]
    fn an_error_is_classified_by_its_code() {
        let classify = |code| Error::from(sqlx::Error::Database(Box::new(Engine(code))));
        for code in ["40001", "40P01"] {
            assert!(classify(code).is_retryable() && classify(code).is_transient(), "{code}");
        }
        for code in ["08006", "53300", "57P01", "57014", "55P03", "25006", "25P03"] {
            assert!(classify(code).is_transient() && !classify(code).is_retryable(), "{code}");
        }
        assert!(classify("23505").is_unique_violation());
        assert!(classify("23503").is_foreign_key_violation());
        assert!(matches!(classify("42P01"), Error::Failed(_)));
        assert!(Error::from(sqlx::Error::PoolTimedOut).is_transient());
    }
}
