//! The loop of an import: reads the rows of a table, writes each row once, and counts the outcomes.

use chrono::{DateTime, Utc};
use tokio_stream::StreamExt;
use uuid::Uuid;

use access::{Clock, UserId};
use store::Db;

use crate::{
    ImportArgs, ImportError, ImportSink, Join, Report, Row, RowOutcome, Source, Table,
    batch::{BatchWriter, mark_imported, unmark},
    ids,
};

/// An import from one source into one sink.
pub struct Importer<S: ImportSink = Db> {
    source: Source,
    project: String,
    clock: Clock,
    batch: BatchWriter<S>,
    report: Report,
}

/// A row during its import: its key, and the transaction that writes it.
pub struct RowImport<'a, S: ImportSink = Db> {
    /// The key of the row in Django.
    pub key: &'a str,
    /// The transaction that writes the row and records it as imported.
    pub tx: &'a mut S::Tx,
    project: &'a str,
    clock: &'a Clock,
    report: &'a mut Report,
}

impl<S: ImportSink> Importer<S> {
    /// Opens the source that the flags name.
    pub async fn open(args: &ImportArgs, sink: S, clock: Clock) -> Result<Self, ImportError> {
        Ok(Self {
            source: args.source().await?,
            project: args.project.clone(),
            clock,
            batch: BatchWriter::new(sink, args.dry_run),
            report: Report::default(),
        })
    }

    /// Returns true if the source has the table. A dump has no table without rows.
    pub async fn has_table(&mut self, name: &str) -> Result<bool, ImportError> {
        Ok(self.source.has(name).await?)
    }

    /// Returns the pairs of keys that a table joins. It returns none if there is no such table.
    pub async fn pairs(&mut self, join: Join<'_>) -> Result<Vec<(String, String)>, ImportError> {
        Ok(self.source.pairs(join).await?)
    }

    /// Calls `read` with the key and the columns of each row of a table, and writes nothing.
    pub async fn read_table<F>(&mut self, table: Table<'_>, mut read: F) -> Result<(), ImportError>
    where
        F: FnMut(String, &Row) -> Result<(), ImportError>,
    {
        let mut rows = self.source.rows(table).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            read(row.key(table.key)?.unwrap_or_default(), &row)?;
        }
        Ok(())
    }

    /// Calls `import` with each row of a table, and counts the outcome in the table `name` of the report.
    pub async fn import_table<F>(&mut self, name: &'static str, table: Table<'_>, mut import: F) -> Result<(), ImportError>
    where
        F: AsyncFnMut(&Row, &mut RowImport<'_, S>) -> Result<RowOutcome, ImportError>,
    {
        self.batch.start_table(name, self.source.count(table.name).await?).await?;
        let mut rows = self.source.rows(table).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(table.key)?.unwrap_or_default();
            let tx = self.batch.next_row().await?;
            // The report lists the tables in the order of the import, each one before the parts of its rows.
            self.report.entry(name);
            let mut context = RowImport { key: &key, tx, project: &self.project, clock: &self.clock, report: &mut self.report };
            let outcome = import(&row, &mut context).await?;
            self.report.entry(name).count(key, outcome);
        }
        Ok(())
    }

    /// Calls `import` with each pair of keys, and counts the outcome in the table `name` of the report under the key that `key_of`
    /// returns.
    pub async fn import_pairs<F>(
        &mut self,
        name: &'static str,
        pairs: Vec<(String, String)>,
        key_of: fn(&str, &str) -> String,
        mut import: F,
    ) -> Result<(), ImportError>
    where
        F: AsyncFnMut((&str, &str), &mut RowImport<'_, S>) -> Result<RowOutcome, ImportError>,
    {
        self.batch.start_table(name, pairs.len() as u64).await?;
        for (from, to) in pairs {
            let key = key_of(&from, &to);
            let tx = self.batch.next_row().await?;
            let mut context = RowImport { key: &key, tx, project: &self.project, clock: &self.clock, report: &mut self.report };
            let outcome = import((&from, &to), &mut context).await?;
            self.report.entry(name).count(key, outcome);
        }
        Ok(())
    }

    /// Returns the report, to count rows that no table of the source leads to.
    pub fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// Commits the last batch, or rolls a dry run back, and returns the report.
    pub async fn finish(self) -> Result<Report, ImportError> {
        self.batch.finish().await?;
        Ok(self.report)
    }
}

impl<S: ImportSink> RowImport<'_, S> {
    /// Returns the id here of a row of the same Django project.
    pub fn row_id(&self, kind: &str, key: &str) -> Uuid {
        ids::row_id(self.project, kind, key)
    }

    /// Returns the id here of a user of the same Django project.
    pub fn user_id(&self, key: &str) -> UserId {
        ids::user_id(self.project, key)
    }

    /// Returns the name of the Django project.
    pub fn project(&self) -> &str {
        self.project
    }

    /// Returns the current time of the destination.
    pub async fn now(&mut self) -> Result<DateTime<Utc>, ImportError> {
        Ok(S::tx(self.tx).now(self.clock).await?)
    }

    /// Calls `write` unless an earlier import has written the row `row_id`. A row that `write` skips is read again by the next import.
    pub async fn import_once<F>(&mut self, row_id: Uuid, write: F) -> Result<RowOutcome, ImportError>
    where
        F: AsyncFnOnce(&mut S::Tx) -> Result<RowOutcome, ImportError>,
    {
        if !mark_imported(S::tx(self.tx), row_id).await? {
            return Ok(RowOutcome::AlreadyImported);
        }
        let outcome = write(self.tx).await?;
        if outcome.is_skipped() {
            unmark(S::tx(self.tx), row_id).await?;
        }
        Ok(outcome)
    }

    /// Counts the outcome of a part of the row, or of a row that is imported with it.
    pub fn count(&mut self, name: &'static str, key: impl Into<String>, outcome: RowOutcome) {
        self.report.entry(name).count(key, outcome);
    }
}
