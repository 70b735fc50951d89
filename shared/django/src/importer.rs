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
    name: String,
    id: Option<Uuid>,
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

    /// Returns true if the source has the table that a section of the mapping names. A dump has no table without rows. If it does not,
    /// and a table with a similar name exists, the report says how to name it.
    pub async fn has_table(&mut self, section: &'static str, name: &str) -> Result<bool, ImportError> {
        if self.source.has(name).await? {
            return Ok(true);
        }
        for similar in self.source.similar_tables(name).await? {
            let hint = format!(
                "hint: table `{name}` does not exist, but `{similar}` does: pass `--map {section}.table={similar}` if its rows are to be \
                 imported"
            );
            self.report.add_hint(hint);
        }
        Ok(false)
    }

    /// Returns an error if the source does not have the table that a section of the mapping names.
    async fn require_table(&mut self, section: &'static str, name: &str) -> Result<(), ImportError> {
        if self.source.has(name).await? {
            return Ok(());
        }
        let similar = self.source.similar_tables(name).await?;
        Err(ImportError::NoTable { section, table: name.to_owned(), similar })
    }

    /// Returns the pairs of keys that a table joins. It returns none if there is no such table.
    pub async fn pairs(&mut self, join: Join<'_>) -> Result<Vec<(String, String)>, ImportError> {
        Ok(self.source.pairs(join).await?)
    }

    /// Calls `read` with the key and the columns of each row of the table of a section, and writes nothing.
    pub async fn read_table<F>(&mut self, section: &'static str, table: Table<'_>, mut read: F) -> Result<(), ImportError>
    where
        F: FnMut(String, &Row) -> Result<(), ImportError>,
    {
        self.require_table(section, table.name).await?;
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
        self.require_table(name, table.name).await?;
        self.batch.start_table(name, self.source.count(table.name).await?).await?;
        let mut rows = self.source.rows(table).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(table.key)?.unwrap_or_default();
            let tx = self.batch.next_row().await?;
            // The report lists the tables in the order of the import, each one before the parts of its rows.
            self.report.entry(name);
            let (project, clock, report) = (&*self.project, &self.clock, &mut self.report);
            let mut context = RowImport { key: &key, tx, name: String::new(), id: None, project, clock, report };
            let outcome = import(&row, &mut context).await?;
            let (row_name, id) = (context.name, context.id.filter(|_| !outcome.is_skipped()));
            if let Some(id) = id {
                self.report.add_id(name, &key, id);
            }
            self.report.entry(name).count(key, row_name, outcome);
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
            let (project, clock, report) = (&*self.project, &self.clock, &mut self.report);
            let mut context = RowImport { key: &key, tx, name: String::new(), id: None, project, clock, report };
            let outcome = import((&from, &to), &mut context).await?;
            let row_name = context.name;
            self.report.entry(name).count(key, row_name, outcome);
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
    /// Sets the name by which the report calls the row, for example its title.
    pub fn set_name(&mut self, name: impl Into<String>) {
        self.name = name.into();
    }

    /// Sets the id that the row has here, for `--ids`.
    pub fn set_id(&mut self, id: impl Into<Uuid>) {
        self.id = Some(id.into());
    }

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
        let row_name = self.name.clone();
        self.report.entry(name).count(key, row_name, outcome);
    }
}
