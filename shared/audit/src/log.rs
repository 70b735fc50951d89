//! The audit log of one process: it records refused calls, and runs beside the server to seal, publish and delete entries.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use access::{AuditRecorder, AuditedCall, Clock, Error, IdSequence, Result, error, error::CODE_NAMES};
use chrono::TimeDelta;
use store::{Db, Executor, Tx};
use tokio::{sync::Notify, time::Instant};

use crate::{
    AuditKey, Entry, Event, PublishedSeal,
    entry::{INSERT, INSERT_MOVED},
    floods::Floods,
    moving::move_without_seal,
    newest_seal, prune, seal,
    seal::BATCH_SIZE,
};

/// The number of new entries that are sealed without waiting. It leaves room in the batch for entries that are committed meanwhile.
const FULL: usize = BATCH_SIZE * 9 / 10;
/// The longest time until an entry is sealed.
const SEAL_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest time between two runs by the clock of the log, which can stand still in a test. It is shorter than the interval, because the
/// clock may be corrected.
const SHORTEST_INTERVAL: TimeDelta = TimeDelta::seconds(1);
/// The delay after an error.
const ERROR_DELAY: Duration = Duration::from_secs(10);
/// How often the newest seal is written to the log.
const PUBLICATION_INTERVAL: Duration = Duration::from_mins(1);
/// How often old entries are deleted.
const RETENTION_INTERVAL: Duration = Duration::from_hours(1);

/// The audit log of a database, as one process writes it. Clones share their state.
#[derive(Clone)]
pub struct AuditLog(Arc<State>);

struct State {
    db: Db,
    clock: Clock,
    ids: IdSequence,
    floods: Mutex<Floods>,
    /// The number of entries since the last seal, also those whose transactions fail, and a signal for a full batch.
    unsealed: AtomicUsize,
    is_full: Notify,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").finish_non_exhaustive()
    }
}

impl AuditLog {
    /// Returns the audit log of a database.
    pub fn new(db: Db, clock: Clock) -> Self {
        let (ids, floods, unsealed, is_full) = Default::default();
        Self(Arc::new(State { db, clock, ids, floods, unsealed, is_full }))
    }

    /// Writes an entry in the transaction of the change that it describes. It is sent with the next query of the transaction, or before its
    /// COMMIT if none follows. It is one INSERT, and locks nothing that another transaction needs.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no randomness for a salt. An error of the database is one of that query or of the COMMIT.
    pub async fn record(&self, tx: &mut Tx, entry: Entry) -> Result<()> {
        let event = self.event(entry)?;
        Ok(tx.attach(INSERT, |query| event.bind(query)).await?)
    }

    /// Writes an entry in a transaction of its own. It is for a call that changes nothing else.
    ///
    /// # Errors
    ///
    /// Returns the error of the database. The call must then fail.
    pub async fn record_alone(&self, entry: Entry) -> Result<()> {
        self.event(entry)?.bind(self.0.db.write(INSERT)).execute().await?;
        Ok(())
    }

    /// As [`record_alone`](Self::record_alone), in a database without the table `audit_new_event`.
    pub(crate) async fn record_moved(&self, entry: Entry) -> Result<()> {
        self.event(entry)?.bind_moved(self.0.db.write(INSERT_MOVED)).execute().await?;
        Ok(())
    }

    /// Returns the new row, and counts it.
    fn event(&self, entry: Entry) -> Result<Event> {
        // The time of this process, because the time of the database would take another statement.
        let event = Event::new(self.0.ids.next(&self.0.clock), self.0.clock.now(), entry)?;
        if self.0.unsealed.fetch_add(1, Ordering::Relaxed) + 1 >= FULL {
            self.0.is_full.notify_one();
        }
        Ok(event)
    }

    /// Writes an entry about a refused call in a transaction of its own, or only counts it if there were many like it.
    pub async fn record_refused(&self, entry: Entry) -> Result<()> {
        let is_admitted = self.floods(|floods| floods.admit(self.0.clock.now(), &entry));
        if !is_admitted {
            return Ok(());
        }
        self.record_alone(entry).await
    }

    /// Writes the counting entries of floods that have not been written yet. The service calls it when it stops.
    pub async fn flush(&self) {
        if let Err(error) = self.write_counted(true).await {
            tracing::warn!(error = error::error_chain(&error), "cannot write the counts of refused calls to the audit log");
        }
    }

    /// Seals the entries, writes the newest seal to the log every minute, and deletes the entries that are older than `retention`. Without a
    /// key it only moves entries to where lists find them, and writes the counting entries of floods. It never returns. Every replica runs it.
    pub async fn keep(&self, key: Option<AuditKey>, retention: Option<TimeDelta>) -> Infallible {
        let mut keeper =
            Keeper { log: self, key, retention, published: None, publish_at: Instant::now(), prune_at: Instant::now() };
        let (mut delay, mut last_run) = (SEAL_INTERVAL, self.0.clock.now());
        loop {
            let is_full = tokio::select! {
                () = tokio::time::sleep(delay) => false,
                () = self.0.is_full.notified() => true,
            };
            let now = self.0.clock.now();
            if !is_full && (now - last_run).abs() < SHORTEST_INTERVAL {
                continue;
            }
            (delay, last_run) = (SEAL_INTERVAL, now);
            if let Err(error) = keeper.run().await {
                tracing::warn!(error = error::error_chain(&error), "cannot seal the audit log; the next run seals it");
                delay = ERROR_DELAY;
            }
        }
    }

    async fn write_counted(&self, all: bool) -> Result<()> {
        let entries = self.floods(|floods| floods.take(self.0.clock.now(), all));
        if entries.is_empty() {
            return Ok(());
        }
        let written = self.write(&entries).await;
        if written.is_err() {
            self.floods(|floods| floods.put_back(entries));
        }
        written
    }

    async fn write(&self, entries: &[Entry]) -> Result<()> {
        let mut tx = self.0.db.begin().await?;
        for entry in entries {
            self.record(&mut tx, entry.clone()).await?;
        }
        Ok(tx.commit().await?)
    }

    fn floods<T>(&self, work: impl FnOnce(&mut Floods) -> T) -> T {
        work(&mut self.0.floods.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AuditRecorder for AuditLog {
    fn record_refusal<'a>(&'a self, call: &'a AuditedCall, error: &'a Error) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let entry = Entry::of_call(call).refused(error);
            if let Err(error) = self.record_refused(entry).await {
                tracing::warn!(error = error::error_chain(&error), "cannot record a refused call in the audit log");
            }
        })
    }
}

impl Entry {
    /// Returns the entry with the outcome of this error.
    #[must_use]
    pub fn refused(self, error: &Error) -> Self {
        Self { outcome: CODE_NAMES[error.code() as usize].into(), reason: error.reason().name().into(), ..self }
    }
}

/// The work that [`AuditLog::keep`] repeats.
struct Keeper<'a> {
    log: &'a AuditLog,
    key: Option<AuditKey>,
    retention: Option<TimeDelta>,
    /// The seal that was written to the log last.
    published: Option<PublishedSeal>,
    publish_at: Instant,
    prune_at: Instant,
}

impl Keeper<'_> {
    async fn run(&mut self) -> Result<()> {
        self.log.write_counted(false).await?;
        let state = &*self.log.0;
        state.unsealed.store(0, Ordering::Relaxed);
        // A read, so that an idle service does not write.
        while self.has_work().await? {
            let mut tx = state.db.begin().await?;
            match &self.key {
                Some(key) => drop(seal(&mut tx, &state.clock, key).await?),
                None => move_without_seal(&mut tx).await?,
            }
            tx.commit().await?;
        }
        let Some(key) = &self.key else { return Ok(()) };
        if self.prune_at <= Instant::now() {
            self.prune(key).await?;
            self.prune_at = Instant::now() + RETENTION_INTERVAL;
        }
        if self.publish_at <= Instant::now() {
            self.publish().await?;
            self.publish_at = Instant::now() + PUBLICATION_INTERVAL;
        }
        Ok(())
    }

    /// Returns true if there are entries to move or to seal.
    async fn has_work(&self) -> Result<bool> {
        let statement = match self.key {
            Some(_) => {
                "SELECT 1 WHERE EXISTS (SELECT 1 FROM audit_new_event) OR EXISTS (SELECT 1 FROM audit_event WHERE seal_id IS NULL)"
            }
            None => "SELECT 1 WHERE EXISTS (SELECT 1 FROM audit_new_event)",
        };
        Ok(self.log.0.db.query(statement).optional::<(i32,)>().await?.is_some())
    }

    async fn prune(&self, key: &AuditKey) -> Result<()> {
        let Some(retention) = self.retention else { return Ok(()) };
        let state = &*self.log.0;
        loop {
            let mut tx = state.db.begin().await?;
            let pruned = prune(&mut tx, &state.clock, key, state.clock.now() - retention).await?;
            tx.commit().await?;
            let Some(seal) = pruned else { return Ok(()) };
            tracing::info!(first_kept = seal.first_kept, "deleted old entries of the audit log");
        }
    }

    /// Writes the newest seal to the log, if it is another than the last time.
    async fn publish(&mut self) -> Result<()> {
        let newest = newest_seal(&self.log.0.db).await?.map(|seal| seal.published());
        if let (Some(published), newest) = (&self.published, newest.as_ref().map_or(0, PublishedSeal::seal_id))
            && newest < published.seal_id()
        {
            tracing::error!(audit_seal = %published, "seals were removed from the audit log");
        }
        if let Some(seal) = newest.filter(|newest| self.published.as_ref() != Some(newest)) {
            tracing::info!(audit_seal = %seal, "the newest seal of the audit log");
            self.published = Some(seal);
        }
        Ok(())
    }
}
