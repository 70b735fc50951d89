//! Brings rows over: each once, and in batches, of which a process that is killed leaves whole ones only.
//!
//! The table `django_rows` of a service's own schema remembers each row that has come over, in the transaction that it came with.
//! So a run that was interrupted goes on where it was, a second one changes nothing, and what was deleted here since stays so.

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use access::Result;
use store::{Db, Executor, Tx};

/// How many rows are written in one transaction.
const BATCH: usize = 500;

/// What rows come over to: a database, or one whose service tells others what changes.
pub trait ImportSink {
    /// Its transactions.
    type Tx: Send;

    /// Begins one.
    fn begin(&self) -> impl Future<Output = Result<Self::Tx>> + Send;

    /// Makes what was written durable.
    fn commit(tx: Self::Tx) -> impl Future<Output = Result<()>> + Send;
}

impl ImportSink for Db {
    type Tx = Tx;

    async fn begin(&self) -> Result<Tx> {
        Ok(Db::begin(self).await?)
    }

    async fn commit(tx: Tx) -> Result<()> {
        Ok(tx.commit().await?)
    }
}

/// Remembers that a row comes over with this transaction. False where it has come over before.
///
/// # Errors
///
/// Those of the database.
pub async fn mark_imported(tx: &mut Tx, row_id: Uuid) -> Result<bool> {
    let query = tx.query("INSERT INTO django_rows (row_id) VALUES ($1) ON CONFLICT (row_id) DO NOTHING");
    Ok(query.bind(row_id).execute().await? > 0)
}

/// The row does not come over with this transaction after all.
///
/// # Errors
///
/// Those of the database.
pub async fn unmark(tx: &mut Tx, row_id: Uuid) -> Result<()> {
    tx.query("DELETE FROM django_rows WHERE row_id = $1").bind(row_id).execute().await?;
    Ok(())
}

/// An import that is under way.
pub struct BatchWriter<D: ImportSink = Db> {
    sink: D,
    tx: Option<D::Tx>,
    rows: usize,
    dry_run: bool,
    progress: ProgressBar,
}

impl<D: ImportSink> BatchWriter<D> {
    /// Begins. A dry run is one transaction that never happened in the end.
    pub fn begin(sink: D, dry_run: bool) -> Self {
        Self { sink, tx: None, rows: 0, dry_run, progress: ProgressBar::hidden() }
    }

    /// The rows of another table are coming, so many of them. On a terminal a bar says so.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn start_table(&mut self, what: &'static str, rows: u64) -> Result<()> {
        self.progress.finish_and_clear();
        let style = ProgressStyle::with_template("{msg:>16} {bar:40} {pos}/{len} {eta}").unwrap_or(ProgressStyle::default_bar());
        self.progress = ProgressBar::new(rows).with_style(style).with_message(what);
        self.commit().await
    }

    /// The transaction that the next row comes with.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn tx(&mut self) -> Result<&mut D::Tx> {
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
            Some(tx) => D::commit(tx).await,
            None => Ok(()),
        }
    }

    /// Ends: what was written is durable, or, in a dry run, was never written.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn end(mut self) -> Result<()> {
        self.progress.finish_and_clear();
        self.commit().await
    }
}
