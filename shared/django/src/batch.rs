//! Writes imported rows in batches. A process that is killed leaves only whole batches.
//!
//! The table `django_rows` of a service's schema records each imported row, in the transaction that writes the row. So an import that
//! was interrupted continues where it stopped, a second import changes nothing, and a row that was deleted since stays deleted.

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use access::Result;
use store::{Db, Executor, Tx};

/// The number of rows that one transaction writes.
const BATCH: usize = 500;

/// The destination of an import: a database, or a wrapper whose transactions do more than write rows.
pub trait ImportSink {
    /// A transaction.
    type Tx: Send;

    /// Begins a transaction.
    fn begin(&self) -> impl Future<Output = Result<Self::Tx>> + Send;

    /// Returns the database transaction inside `tx`.
    fn tx(tx: &mut Self::Tx) -> &mut Tx;

    /// Commits a transaction.
    fn commit(tx: Self::Tx) -> impl Future<Output = Result<()>> + Send;
}

impl ImportSink for Db {
    type Tx = Tx;

    async fn begin(&self) -> Result<Tx> {
        Ok(Db::begin(self).await?)
    }

    fn tx(tx: &mut Tx) -> &mut Tx {
        tx
    }

    async fn commit(tx: Tx) -> Result<()> {
        Ok(tx.commit().await?)
    }
}

/// Records a row as imported. Returns false if it was recorded before.
pub(crate) async fn mark_imported(tx: &mut Tx, row_id: Uuid) -> store::Result<bool> {
    let query = tx.query("INSERT INTO django_rows (row_id) VALUES ($1) ON CONFLICT (row_id) DO NOTHING");
    Ok(query.bind(row_id).execute().await? > 0)
}

/// Removes the record of a row, so that a later import reads the row again.
pub(crate) async fn unmark(tx: &mut Tx, row_id: Uuid) -> store::Result<()> {
    tx.query("DELETE FROM django_rows WHERE row_id = $1").bind(row_id).execute().await?;
    Ok(())
}

/// The open transaction of an import, and its progress bar.
pub(crate) struct BatchWriter<S: ImportSink> {
    sink: S,
    tx: Option<S::Tx>,
    rows: usize,
    dry_run: bool,
    progress: ProgressBar,
}

impl<S: ImportSink> BatchWriter<S> {
    /// Creates a writer. A dry run is one transaction that is never committed.
    pub(crate) fn new(sink: S, dry_run: bool) -> Self {
        Self { sink, tx: None, rows: 0, dry_run, progress: ProgressBar::hidden() }
    }

    /// Commits the rows of the previous table and starts the progress bar of the next one, which a terminal shows.
    pub(crate) async fn start_table(&mut self, name: &'static str, rows: u64) -> Result<()> {
        self.progress.finish_and_clear();
        let style = ProgressStyle::with_template("{msg:>24} {bar:40} {pos}/{len} {eta}").unwrap_or(ProgressStyle::default_bar());
        self.progress = ProgressBar::new(rows).with_style(style).with_message(name);
        self.commit().await
    }

    /// Returns the transaction for the next row.
    pub(crate) async fn next_row(&mut self) -> Result<&mut S::Tx> {
        if self.rows >= BATCH {
            self.commit().await?;
        }
        self.rows += 1;
        self.progress.inc(1);
        let tx = match self.tx.take() {
            Some(tx) => tx,
            None => self.sink.begin().await?,
        };
        Ok(self.tx.insert(tx))
    }

    async fn commit(&mut self) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        self.rows = 0;
        match self.tx.take() {
            Some(tx) => S::commit(tx).await,
            None => Ok(()),
        }
    }

    /// Commits the last batch, or rolls it back in a dry run.
    pub(crate) async fn finish(mut self) -> Result<()> {
        self.progress.finish_and_clear();
        self.commit().await
    }
}
