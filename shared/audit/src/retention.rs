//! Deletes old entries. What remains can still be verified.

use access::{Clock, Result};
use chrono::{DateTime, Utc};
use store::{Executor, Tx};

use crate::{
    AuditKey, Seal,
    seal::{append, lock},
};

/// The largest number of batches that one call deletes, so that its transaction stays short.
const LIMIT: i64 = 20;

/// Deletes the oldest batches that were sealed before `before`, at most 20 of them, and adds a seal that says which batch is the first that is
/// kept. Returns that seal, or `None` if there was nothing to delete. The newest batch is always kept.
///
/// Nobody without the key can therefore remove the oldest batches unnoticed.
pub async fn prune(tx: &mut Tx, clock: &Clock, key: &AuditKey, before: DateTime<Utc>) -> Result<Option<Seal>> {
    let Some(last) = lock(tx).await? else { return Ok(None) };
    let query = tx.query(
        "SELECT MAX(seal_id) FROM (SELECT seal_id FROM audit_seal
             WHERE seal_id >= $1 AND seal_id < $2 AND time < $3 ORDER BY seal_id LIMIT $4) AS old",
    );
    let query = query.bind(last.first_kept).bind(last.seal_id).bind(before).bind(LIMIT);
    let (Some(through),) = query.one::<(Option<i64>,)>().await? else { return Ok(None) };
    tx.query("DELETE FROM audit_event WHERE seal_id <= $1").bind(through).execute().await?;
    // The last of these seals stays, because the seal after it names its MAC.
    tx.query("DELETE FROM audit_seal WHERE seal_id < $1").bind(through).execute().await?;
    append(tx, clock, key, Some(&last), Vec::new(), through + 1).await.map(Some)
}
