//! What became of every row.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    path::Path,
};

/// How many keys of those that were skipped for one reason are shown.
const SHOWN: usize = 10;

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// It came over.
    Imported,
    /// An earlier run has brought it over. Whatever became of it since, stays.
    AlreadyImported,
    /// It was left out, for this reason.
    Skipped(String),
}

/// The rows of one table: each was imported, was there already, or was skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableReport {
    /// How many were read.
    pub read: u64,
    /// How many came over.
    pub imported: u64,
    /// How many an earlier run has brought over.
    pub there: u64,
    /// The keys of the others, by the reason.
    pub skipped: BTreeMap<String, Vec<String>>,
}

impl TableReport {
    /// Writes down what became of the row with this key.
    pub fn count(&mut self, key: impl Into<String>, outcome: RowOutcome) {
        self.read += 1;
        match outcome {
            RowOutcome::Imported => self.imported += 1,
            RowOutcome::AlreadyImported => self.there += 1,
            RowOutcome::Skipped(reason) => self.skipped.entry(reason).or_default().push(key.into()),
        }
    }

    /// How many were skipped.
    pub fn left_out(&self) -> u64 {
        self.skipped.values().map(|keys| keys.len() as u64).sum()
    }
}

/// The tallies of one import, in the order in which they began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(Vec<(&'static str, TableReport)>);

impl Report {
    /// The tally of a table, or of a column whose values are judged for themselves.
    pub fn entry(&mut self, name: &'static str) -> &mut TableReport {
        let index = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.0.push((name, TableReport::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    /// How many rows were skipped.
    pub fn left_out(&self) -> u64 {
        self.0.iter().map(|(_, tally)| tally.left_out()).sum()
    }

    /// How many rows came over.
    pub fn imported(&self) -> u64 {
        self.0.iter().map(|(_, tally)| tally.imported).sum()
    }

    /// Writes every row that was skipped into a file: its table, its key and the reason, with tabs between.
    ///
    /// # Errors
    ///
    /// A file that can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        for (name, tally) in &self.0 {
            for (reason, keys) in &tally.skipped {
                for key in keys {
                    writeln!(file, "{name}\t{}\t{reason}", key.escape_debug())?;
                }
            }
        }
        file.flush()
    }

    /// The keys of a table's rows that were skipped, from a file that [`write`](Self::write) has written.
    ///
    /// # Errors
    ///
    /// A file that can't be read.
    pub fn skipped_in(path: &Path, table: &str) -> io::Result<Vec<String>> {
        let text = std::fs::read_to_string(path)?;
        let mut lines = text.lines().map(|line| line.split('\t'));
        let key = |mut parts: std::str::Split<'_, char>| (parts.next() == Some(table)).then(|| parts.next())?.map(str::to_owned);
        Ok(std::iter::from_fn(|| lines.next()).filter_map(key).collect())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24}  {:>9}  {:>9}  {:>9}  {:>9}", "", "read", "imported", "there", "skipped")?;
        for (name, tally) in &self.0 {
            let TableReport { read, imported, there, .. } = tally;
            writeln!(f, "{name:<24}  {read:>9}  {imported:>9}  {there:>9}  {:>9}", tally.left_out())?;
        }
        for (name, tally) in &self.0 {
            for (reason, keys) in &tally.skipped {
                let shown: Vec<_> = keys.iter().take(SHOWN).map(|key| key.escape_debug().to_string()).collect();
                let more = if keys.len() > SHOWN { ", …" } else { "" };
                writeln!(f, "skipped {name}: {reason}: {} ({}{more})", keys.len(), shown.join(", "))?;
            }
        }
        Ok(())
    }
}
