//! Files that hold a secret.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The reason why a secret file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file holds nothing but white space.
    #[error("{}: the file is empty", .0.display())]
    Empty(PathBuf),
}

/// Returns the secret that a file holds, without white space at its ends, such as the line end that editors add.
///
/// # Errors
///
/// Returns an error that names the file if it cannot be read or is empty.
pub fn read_secret_file(path: &Path) -> Result<String, SecretFileError> {
    let text = fs::read_to_string(path).map_err(|source| SecretFileError::Unreadable { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(SecretFileError::Empty(path.to_owned())),
        secret => Ok(secret.to_owned()),
    }
}
