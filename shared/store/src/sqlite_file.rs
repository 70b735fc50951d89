//! The file of an SQLite database.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};

use crate::UrlError;

/// The free space on a disk that was full, in bytes, with which it is not full any more.
const FREE_SPACE: u64 = 1 << 20;
/// How long a write on SQLite waits for another process that has locked the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The file of an SQLite database cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the database file {}: {source}", path.display())]
pub struct CreateFileError {
    path: PathBuf,
    source: std::io::Error,
}

/// Returns true if the disk of the file has at least [`FREE_SPACE`], or if this is not known.
pub(crate) fn has_space(file: &Path) -> bool {
    rustix::fs::statvfs(file).map_or(true, |disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= FREE_SPACE)
}

/// Creates an empty file, for its owner only, if there is none. SQLite gives the files next to it the same mode.
pub(crate) fn create_file(path: &Path) -> Result<(), CreateFileError> {
    let created = match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // The umask may have removed permissions of the owner.
        Ok(file) => file.set_permissions(fs::Permissions::from_mode(0o600)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    created.map_err(|source| CreateFileError { path: path.to_owned(), source })
}

/// Returns options with which an acknowledged write survives a power cut (`synchronous=FULL`).
pub(crate) fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, UrlError> {
    let options = SqliteConnectOptions::from_str(url).map_err(UrlError::Malformed)?;
    if url.contains(":memory:") || url.contains("mode=memory") || options.get_filename() == Path::new("") {
        return Err(UrlError::InMemory);
    }
    if options.get_filename().to_string_lossy().starts_with("file:") {
        return Err(UrlError::FileUri);
    }
    Ok(options.create_if_missing(false).synchronous(SqliteSynchronous::Full).foreign_keys(true).busy_timeout(BUSY_TIMEOUT))
}
