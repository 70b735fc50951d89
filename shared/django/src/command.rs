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

/// From where the rows come, and what is done with what they leave.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Django's database, `postgres://user@host/name` or `sqlite:path/to/db.sqlite3`, or the file that `dumpdata` wrote.
    #[arg(long, value_name = "SOURCE")]
    pub from: String,
    /// A file that holds the password of Django's PostgreSQL.
    #[arg(long, value_name = "FILE")]
    pub from_password_file: Option<PathBuf>,
    /// The name of the Django project: the ids of what comes from it follow from its name. The same for every service, and for
    /// the legacy key.
    #[arg(long, value_name = "NAME", default_value = "django", value_parser = project_name)]
    pub project: String,
    /// A TOML file that says where Django's tables and columns are, where they have other names than usual.
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// One entry of the mapping, such as `users.table=accounts_user`. May be given more than once.
    #[arg(long = "map", value_name = "TABLE.ENTRY=NAME")]
    pub map: Vec<String>,
    /// Does everything, and then nothing of it has happened.
    #[arg(long)]
    pub dry_run: bool,
    /// Fails where a row was skipped. What was not, has come over all the same.
    #[arg(long)]
    pub strict: bool,
    /// A file that every row that was skipped is written to: its table, its key and the reason.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Why an import stops. What was imported until then has come over, and the next run goes on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImportError {
    #[error(transparent)]
    Config(#[from] SecretFileError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the mapping can't be read: {0}")]
    Mapping(#[from] toml::de::Error),
    #[error("`{0}` is no entry of a mapping: it has to be like `users.table=accounts_user`")]
    Entry(String),
    #[error("{0}")]
    Key(#[from] RowError),
    #[error("{}", access::error::error_chain(.0))]
    Refused(#[from] Error),
    #[error("the database failed: {0}")]
    Database(#[from] store::Error),
    #[error("{0} row(s) were skipped: see above")]
    Skipped(u64),
}

impl ImportArgs {
    /// Opens where the rows come from.
    ///
    /// # Errors
    ///
    /// What can't be read.
    pub async fn source(&self) -> Result<Source, ImportError> {
        let password = self.from_password_file.as_deref().map(read_secret_file).transpose()?;
        Ok(Source::open(&self.from, password.as_deref()).await?)
    }

    /// The mapping: the usual one, changed by the file, changed by the flags.
    ///
    /// # Errors
    ///
    /// A file that can't be read, and an entry that there is not.
    pub fn mapping<T: DeserializeOwned>(&self) -> Result<T, ImportError> {
        let mut table = match &self.mapping {
            None => toml::Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path);
                text.map_err(|source| ImportError::File { path: path.clone(), source })?.parse()?
            }
        };
        for entry in &self.map {
            let bad = || ImportError::Entry(entry.clone());
            let (path, name) = entry.split_once('=').ok_or_else(bad)?;
            let (section, key) = path.split_once('.').ok_or_else(bad)?;
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            section.as_table_mut().ok_or_else(bad)?.insert(key.to_owned(), name.into());
        }
        Ok(table.try_into()?)
    }

    /// Shows what became of the rows, on the standard output.
    ///
    /// # Errors
    ///
    /// A report that can't be written; and, where that is asked for, that rows were skipped.
    #[expect(clippy::print_stdout, reason = "this is what the person who typed `import` reads")]
    pub fn finish(&self, report: &Report) -> Result<(), ImportError> {
        print!("{report}");
        match (self.dry_run, report.imported()) {
            (true, _) => println!("a dry run: nothing was changed"),
            (false, 0) => println!("nothing was changed"),
            (false, imported) => println!("{imported} row(s) came over"),
        }
        if let Some(path) = &self.report {
            report.write(path).map_err(|source| ImportError::File { path: path.clone(), source })?;
        }
        match report.left_out() {
            left_out if self.strict && left_out > 0 => Err(ImportError::Skipped(left_out)),
            _ => Ok(()),
        }
    }
}
