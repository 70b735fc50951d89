//! Seals batches of entries.
//!
//! Entries become visible when their transactions commit, which is not the order of their ids. A batch is therefore the set of entries that
//! one transaction finds without a seal, and a late entry with a smaller id belongs to a later batch. No committed entry is missed.

use access::{Clock, Result};
use chrono::{DateTime, Utc};
use store::{Executor, Tx};

use crate::{
    AuditKey, Event, PublishedSeal,
    encoding::{Encoder, digest_of_list},
    event::columns,
    moving::{SealedColumns, move_entries},
};

/// The largest number of entries in one batch.
pub const BATCH_SIZE: usize = 1000;
/// The lock of the transaction that moves and seals entries.
pub(crate) const LOCK: &str = "audit seal";
/// The MAC before the first seal.
pub(crate) const FIRST: [u8; 32] = [0; 32];

/// A row of the table `audit_seal`: the seal of one batch.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Seal {
    /// The number of the batch. It begins at 1 and has no gaps.
    pub seal_id: i64,
    /// The time when the batch was sealed.
    pub time: DateTime<Utc>,
    /// The number of entries in the batch.
    pub entries: i64,
    pub(crate) digest: Vec<u8>,
    /// The first batch whose entries are kept.
    pub first_kept: i64,
    pub(crate) previous: Vec<u8>,
    /// The id of the key.
    pub key_id: String,
    pub(crate) mac: Vec<u8>,
}

macro_rules! seal_columns {
    () => {
        "seal_id, time, entries, digest, first_kept, previous, key_id, mac"
    };
}
pub(crate) use seal_columns;

impl Seal {
    /// Returns the part of the seal that is published: it determines every entry up to this seal.
    pub fn published(&self) -> PublishedSeal {
        PublishedSeal { seal_id: self.seal_id, mac: self.mac.clone() }
    }

    /// Returns the bytes that the MAC covers.
    fn message(&self) -> Vec<u8> {
        Encoder::default()
            .text("audit seal v1")
            .number(self.seal_id)
            .number(self.time.timestamp_micros())
            .number(self.entries)
            .bytes(&self.digest)
            .number(self.first_kept)
            .bytes(&self.previous)
            .text(&self.key_id)
            .finish()
    }

    pub(crate) fn is_signed_by(&self, key: &AuditKey) -> bool {
        key.verifies(&self.message(), &self.mac)
    }
}

/// Seals the entries that were committed since the last seal, at most [`BATCH_SIZE`]. Returns `None` if there are none. Several replicas may
/// call it at the same time.
pub async fn seal(tx: &mut Tx, clock: &Clock, key: &AuditKey) -> Result<Option<Seal>> {
    let last = lock(tx).await?;
    let seal_id = last.as_ref().map_or(0, |last| last.seal_id) + 1;
    let mut entries = move_entries(tx, seal_id).await?;
    if entries.is_empty() {
        entries = take_moved(tx, seal_id).await?;
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let first_kept = last.as_ref().map_or(1, |last| last.first_kept);
    append(tx, clock, key, last.as_ref(), entries, first_kept).await.map(Some)
}

/// Adds entries that were moved without a seal to a batch: there was no key, or an earlier version of the service wrote them.
async fn take_moved(tx: &mut Tx, seal_id: i64) -> Result<Vec<SealedColumns>> {
    let query = tx.query(concat!(
        "UPDATE audit_event SET seal_id = $1 WHERE event_id IN
             (SELECT event_id FROM audit_event WHERE seal_id IS NULL ORDER BY event_id LIMIT $2)
         RETURNING seal_id, ",
        columns!()
    ));
    let limit = i64::try_from(BATCH_SIZE).unwrap_or(i64::MAX);
    let entries: Vec<Event> = query.bind(seal_id).bind(limit).all().await?;
    Ok(entries.iter().map(Event::sealed_columns).collect())
}

/// Returns the newest seal.
pub async fn newest_seal(on: impl Executor<'_>) -> Result<Option<Seal>> {
    let query = on.query(concat!("SELECT ", seal_columns!(), " FROM audit_seal ORDER BY seal_id DESC LIMIT 1"));
    Ok(query.optional().await?)
}

/// Locks the seals until the transaction ends, and returns the newest one.
pub(crate) async fn lock(tx: &mut Tx) -> Result<Option<Seal>> {
    tx.lock_exclusive(LOCK).await?;
    newest_seal(tx).await
}

/// Adds the seal after `last`, which seals these entries.
pub(crate) async fn append(
    tx: &mut Tx,
    clock: &Clock,
    key: &AuditKey,
    last: Option<&Seal>,
    entries: Vec<SealedColumns>,
    first_kept: i64,
) -> Result<Seal> {
    let mut seal = Seal {
        seal_id: last.map_or(0, |last| last.seal_id) + 1,
        time: tx.now(clock).await?,
        entries: i64::try_from(entries.len()).unwrap_or(i64::MAX),
        digest: batch_digest(entries),
        first_kept,
        previous: last.map_or_else(|| FIRST.to_vec(), |last| last.mac.clone()),
        key_id: key.id().to_owned(),
        mac: Vec::new(),
    };
    seal.mac = key.sign(&seal.message());
    let query = tx.query(concat!("INSERT INTO audit_seal (", seal_columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"));
    let query = query.bind(seal.seal_id).bind(seal.time).bind(seal.entries).bind(&seal.digest).bind(seal.first_kept);
    query.bind(&seal.previous).bind(&seal.key_id).bind(&seal.mac).execute().await?;
    Ok(seal)
}

/// Returns the digest of the entries of a batch, in the order of their ids.
pub(crate) fn batch_digest(mut entries: Vec<SealedColumns>) -> Vec<u8> {
    entries.sort_unstable();
    digest_of_list(entries.into_iter().map(|(_, columns)| columns))
}
