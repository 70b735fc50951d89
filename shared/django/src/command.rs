//! The flags of `import django`, the same for every service.

use std::{io, path::PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;

use access::{Error, SecretFileError, read_secret_file};

use crate::{
    project::project_name,
    report::Report,
    row::RowError,
    source::{Source, SourceError},
};

/// The source of an import, and the treatment of skipped rows.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The source: Django's database (`postgres://user@host/name` or `sqlite:path/to/db.sqlite3`), or a file that `dumpdata` wrote.
    #[arg(long, value_name = "SOURCE")]
    pub from: String,
    /// A file with the password of Django's PostgreSQL database.
    #[arg(long, value_name = "FILE")]
    pub from_password_file: Option<PathBuf>,
    /// The name of the Django project. The ids of imported rows are computed from it, so it must be the same in the import of every
    /// service and in `--legacy-key`.
    #[arg(long, value_name = "NAME", default_value = "django", value_parser = project_name)]
    pub project: String,
    /// A TOML file with the names of Django's tables and columns that differ from the defaults.
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// One entry of the mapping, for example `users.table=accounts_user`. May be given more than once.
    #[arg(long = "map", value_name = "TABLE.ENTRY=NAME")]
    pub map: Vec<String>,
    /// Runs the whole import and prints its report, then rolls everything back.
    #[arg(long)]
    pub dry_run: bool,
    /// Succeeds although rows were skipped whose data is lost. Without it the command fails then, after it has imported the other rows.
    #[arg(long)]
    pub allow_skips: bool,
    /// Writes the skipped rows to this file, one a line: table, key, reason and name, separated by tabs.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Writes the new id of every row to this file, one a line: table, key in Django and id, separated by tabs.
    #[arg(long, value_name = "FILE")]
    pub ids: Option<PathBuf>,
}

/// The reason why an import stops. The batches written so far stay, and the next import continues after them.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImportError {
    /// The file of the password cannot be read.
    #[error(transparent)]
    Config(#[from] SecretFileError),
    /// The rows of Django cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file that a flag names cannot be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The file of the mapping is not valid.
    #[error("cannot read the mapping: {0}")]
    Mapping(#[from] toml::de::Error),
    /// An entry of `--map` is not of the form TABLE.ENTRY=NAME.
    #[error("invalid mapping entry `{0}`: expected TABLE.ENTRY=NAME, for example users.table=accounts_user")]
    Entry(String),
    /// A column has a value of the wrong type.
    #[error("{0}")]
    Key(#[from] RowError),
    /// The service does not accept a row.
    #[error("{}", access::error::error_chain(.0))]
    Refused(#[from] Error),
    /// The database of the service failed.
    #[error("the database failed: {0}")]
    Database(#[from] store::Error),
    /// The source has no table of this name.
    #[error("table `{table}` does not exist: pass `--map {section}.table={}`", if similar.is_empty() { "NAME".to_owned() } else { similar.join("` or `") })]
    NoTable { section: &'static str, table: String, similar: Vec<String> },
    /// The data of this many rows and parts of rows is lost, and `--allow-skips` is not set.
    #[error("skipped {0} row(s) or parts of rows, which are lost: see the report above, and pass --allow-skips to accept it")]
    Skipped(u64),
}

impl ImportArgs {
    /// Opens the source.
    pub async fn source(&self) -> Result<Source, ImportError> {
        let password = self.from_password_file.as_deref().map(read_secret_file).transpose()?;
        Ok(Source::open(&self.from, password.as_deref()).await?)
    }

    /// Reads the mapping: the defaults, overridden by the file, overridden by the flags.
    pub fn mapping<T: DeserializeOwned>(&self) -> Result<T, ImportError> {
        let mut table = match &self.mapping {
            None => toml::Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path);
                text.map_err(|source| ImportError::File { path: path.clone(), source })?.parse()?
            }
        };
        for entry in &self.map {
            let invalid = || ImportError::Entry(entry.clone());
            let (path, name) = entry.split_once('=').ok_or_else(invalid)?;
            let (section, key) = path.split_once('.').ok_or_else(invalid)?;
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            section.as_table_mut().ok_or_else(invalid)?.insert(key.to_owned(), name.into());
        }
        Ok(table.try_into()?)
    }

    /// Prints the report, and writes the files of `--report` and `--ids`.
    ///
    /// # Errors
    ///
    /// Returns [`ImportError::Skipped`] if the data of rows is lost, and `--allow-skips` is not set.
    #[expect(clippy::print_stdout, reason = "this is the output of the command")]
    pub fn finish(&self, report: &Report) -> Result<(), ImportError> {
        print!("{report}");
        match (self.dry_run, report.imported_rows()) {
            (true, _) => println!("Dry run: no changes were made."),
            (false, 0) => println!("No rows to import."),
            (false, imported) => println!("Imported {imported} row(s)."),
        }
        if let Some(path) = &self.report {
            report.write(path).map_err(|source| ImportError::File { path: path.clone(), source })?;
        }
        if let Some(path) = &self.ids {
            report.write_ids(path).map_err(|source| ImportError::File { path: path.clone(), source })?;
        }
        match report.lost_rows() {
            lost if lost > 0 && !self.allow_skips => Err(ImportError::Skipped(lost)),
            _ => Ok(()),
        }
    }
}
