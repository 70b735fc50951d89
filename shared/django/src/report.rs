//! The report of an import: the outcome of every row.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    path::Path,
};

use uuid::Uuid;

/// The number of rows that are printed for one reason.
const SHOWN: usize = 10;

/// The outcome of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// This import has written the row.
    Imported,
    /// An earlier import has written the row. Changes made since are kept.
    AlreadyImported,
    /// The row was left out, for this reason, and its data is lost.
    Skipped(String),
    /// The row was left out, for this reason, and nothing is lost.
    NotNeeded(String),
}

impl RowOutcome {
    /// Creates the outcome of a row that was left out, and whose data is lost.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self::Skipped(reason.into())
    }

    /// Creates the outcome of a row that was left out without a loss, for example an expired token.
    pub fn not_needed(reason: impl Into<String>) -> Self {
        Self::NotNeeded(reason.into())
    }

    /// Returns true if the row was left out.
    pub fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped(_) | Self::NotNeeded(_))
    }

    /// Returns the outcome of a part of this row: `part` if this import has written the row, and `reason` if the row was left out.
    #[must_use]
    pub fn of_part(&self, part: Self, reason: &str) -> Self {
        match self {
            Self::Imported => part,
            Self::AlreadyImported => Self::AlreadyImported,
            Self::Skipped(_) => Self::skipped(reason),
            Self::NotNeeded(_) => Self::not_needed(reason),
        }
    }
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The key of the row in Django.
    pub key: String,
    /// The name by which a person knows the row, for example a username or a title. It can be empty.
    pub name: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, name } = self;
        write!(f, "{}", key.escape_debug())?;
        if name.is_empty() { Ok(()) } else { write!(f, " `{}`", name.escape_debug()) }
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
    /// The rows whose data is lost, by the reason.
    pub skipped: BTreeMap<String, Vec<LeftOut>>,
    /// The rows that were left out without a loss, by the reason.
    pub not_needed: BTreeMap<String, Vec<LeftOut>>,
}

impl TableReport {
    /// Counts the row with this key and this name.
    pub fn count(&mut self, key: impl Into<String>, name: impl Into<String>, outcome: RowOutcome) {
        self.read += 1;
        let (left_out, reason) = match outcome {
            RowOutcome::Imported => return self.imported += 1,
            RowOutcome::AlreadyImported => return self.already_imported += 1,
            RowOutcome::Skipped(reason) => (&mut self.skipped, reason),
            RowOutcome::NotNeeded(reason) => (&mut self.not_needed, reason),
        };
        left_out.entry(reason).or_default().push(LeftOut { key: key.into(), name: name.into() });
    }

    /// Returns the number of rows whose data is lost.
    pub fn lost_rows(&self) -> u64 {
        self.skipped.values().map(|rows| rows.len() as u64).sum()
    }

    /// Returns the number of rows that were left out, with and without a loss.
    pub fn skipped_rows(&self) -> u64 {
        self.lost_rows() + self.not_needed.values().map(|rows| rows.len() as u64).sum::<u64>()
    }
}

/// The report of one import: its tables, in the order of the import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    tables: Vec<(&'static str, TableReport)>,
    /// The table, the key in Django and the id here of every row that is here now.
    ids: Vec<(&'static str, String, Uuid)>,
    /// Advice about tables that were not found.
    hints: Vec<String>,
}

impl Report {
    /// Returns the entry of a table, or of a column whose values are left out one by one. It is created if it does not exist.
    pub fn entry(&mut self, name: &'static str) -> &mut TableReport {
        let index = self.tables.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.tables.push((name, TableReport::default()));
            self.tables.len() - 1
        });
        &mut self.tables[index].1
    }

    /// Adds the id of a row.
    pub(crate) fn add_id(&mut self, table: &'static str, key: &str, id: Uuid) {
        self.ids.push((table, key.to_owned(), id));
    }

    /// Adds advice, once.
    pub(crate) fn add_hint(&mut self, hint: String) {
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    /// Returns the number of rows and parts of rows whose data is lost.
    pub fn lost_rows(&self) -> u64 {
        self.tables.iter().map(|(_, table)| table.lost_rows()).sum()
    }

    /// Returns the number of rows and parts of rows that this import has written.
    pub fn imported_rows(&self) -> u64 {
        self.tables.iter().map(|(_, table)| table.imported).sum()
    }

    /// Writes a file with a line for each row that was left out: its table, its key, the reason and its name, separated by tabs.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for (table, report) in &self.tables {
            for (reason, rows) in report.skipped.iter().chain(&report.not_needed) {
                for LeftOut { key, name } in rows {
                    writeln!(file, "{table}\t{}\t{reason}\t{}", key.escape_debug(), name.escape_debug())?;
                }
            }
        }
        file.flush()
    }

    /// Writes a file with a line for each row that is here now: its table, its key in Django and its id, separated by tabs.
    pub fn write_ids(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for (table, key, id) in &self.ids {
            writeln!(file, "{table}\t{}\t{id}", key.escape_debug())?;
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
        for (name, table) in &self.tables {
            let TableReport { read, imported, already_imported, .. } = table;
            writeln!(f, "{name:<24}  {read:>9}  {imported:>9}  {already_imported:>9}  {:>9}", table.skipped_rows())?;
        }
        for (name, table) in &self.tables {
            for (verb, left_out) in [("skipped", &table.skipped), ("not needed", &table.not_needed)] {
                for (reason, rows) in left_out {
                    let shown: Vec<_> = rows.iter().take(SHOWN).map(ToString::to_string).collect();
                    let more = if rows.len() > SHOWN { ", …" } else { "" };
                    writeln!(f, "{verb} {name}: {reason}: {} ({}{more})", rows.len(), shown.join(", "))?;
                }
            }
        }
        for hint in &self.hints {
            writeln!(f, "{hint}")?;
        }
        Ok(())
    }
}
