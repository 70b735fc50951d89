//! The report of an import: the outcome of every row.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    path::Path,
};

/// The number of skipped keys that are printed for one reason.
const SHOWN: usize = 10;

/// The outcome of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// This import has written the row.
    Imported,
    /// An earlier import has written the row. Changes made since are kept.
    AlreadyImported,
    /// The row was left out, for this reason.
    Skipped(String),
}

impl RowOutcome {
    /// Creates the outcome of a row that was left out.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }

    /// Returns true if the row was left out.
    pub fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped(_))
    }

    /// Returns the outcome of a part of this row: `part` if this import has written the row, and `reason` if the row was left out.
    #[must_use]
    pub fn of_part(&self, part: Self, reason: &str) -> Self {
        match self {
            Self::Imported => part,
            Self::AlreadyImported => Self::AlreadyImported,
            Self::Skipped(_) => Self::skipped(reason),
        }
    }
}

/// The outcomes of the rows of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableReport {
    /// The number of rows that were read.
    pub read: u64,
    /// The number of rows that this import has written.
    pub imported: u64,
    /// The number of rows that an earlier import has written.
    pub already_imported: u64,
    /// The keys of the rows that were left out, by the reason.
    pub skipped: BTreeMap<String, Vec<String>>,
}

impl TableReport {
    /// Counts the row with this key.
    pub fn count(&mut self, key: impl Into<String>, outcome: RowOutcome) {
        self.read += 1;
        match outcome {
            RowOutcome::Imported => self.imported += 1,
            RowOutcome::AlreadyImported => self.already_imported += 1,
            RowOutcome::Skipped(reason) => self.skipped.entry(reason).or_default().push(key.into()),
        }
    }

    /// Returns the number of rows that were left out.
    pub fn skipped_rows(&self) -> u64 {
        self.skipped.values().map(|keys| keys.len() as u64).sum()
    }
}

/// The report of one import: its tables, in the order of the import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(Vec<(&'static str, TableReport)>);

impl Report {
    /// Returns the entry of a table, or of a column whose values are left out one by one. It is created if it does not exist.
    pub fn entry(&mut self, name: &'static str) -> &mut TableReport {
        let index = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.0.push((name, TableReport::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    /// Returns the number of rows and parts of rows that were left out.
    pub fn skipped_rows(&self) -> u64 {
        self.0.iter().map(|(_, table)| table.skipped_rows()).sum()
    }

    /// Returns the number of rows and parts of rows that this import has written.
    pub fn imported_rows(&self) -> u64 {
        self.0.iter().map(|(_, table)| table.imported).sum()
    }

    /// Writes a file with a line for each row that was left out: its table, its key and the reason, separated by tabs.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for (name, table) in &self.0 {
            for (reason, keys) in &table.skipped {
                for key in keys {
                    writeln!(file, "{name}\t{}\t{reason}", key.escape_debug())?;
                }
            }
        }
        file.flush()
    }

    /// Reads the keys of a table's rows that were left out from a file that [`write`](Self::write) has written.
    pub fn skipped_in(path: &Path, table: &str) -> io::Result<Vec<String>> {
        let text = std::fs::read_to_string(path)?;
        let keys = text.lines().filter_map(|line| {
            let (name, rest) = line.split_once('\t')?;
            let (key, _) = rest.split_once('\t')?;
            (name == table).then(|| key.to_owned())
        });
        Ok(keys.collect())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24}  {:>9}  {:>9}  {:>9}  {:>9}", "table", "read", "imported", "unchanged", "skipped")?;
        for (name, table) in &self.0 {
            let TableReport { read, imported, already_imported, .. } = table;
            writeln!(f, "{name:<24}  {read:>9}  {imported:>9}  {already_imported:>9}  {:>9}", table.skipped_rows())?;
        }
        for (name, table) in &self.0 {
            for (reason, keys) in &table.skipped {
                let shown: Vec<_> = keys.iter().take(SHOWN).map(|key| key.escape_debug().to_string()).collect();
                let more = if keys.len() > SHOWN { ", …" } else { "" };
                writeln!(f, "skipped {name}: {reason}: {} ({}{more})", keys.len(), shown.join(", "))?;
            }
        }
        Ok(())
    }
}
