//! Moves new entries to the table where lists find them.
//!
//! A change writes its entry to a table without indexes. The indexes of the other table are then written for many entries at once.

use access::Result;
use store::{Executor, Tx};
use uuid::Uuid;

use crate::{
    event::columns,
    seal::{BATCH_SIZE, LOCK},
};

/// The columns of an entry that are sealed, as bytes, and its id, which orders the entries of a batch.
pub(crate) type SealedColumns = (Uuid, Vec<u8>);

/// The batch of entries that are moved without a seal, until the end of the transaction. It is no number of a seal.
const NO_SEAL: i64 = 0;

/// Moves new entries into the batch `seal_id`, at most [`BATCH_SIZE`], and returns what is sealed. The transaction must have locked the
/// seals, so that no other one moves the same entries.
pub(crate) async fn move_entries(tx: &mut Tx, seal_id: i64) -> Result<Vec<SealedColumns>> {
    let query = tx.query(concat!(
        "INSERT INTO audit_event (seal_id, ",
        columns!(),
        ") SELECT $1, ",
        columns!(),
        " FROM audit_new_event LIMIT $2"
    ));
    let moved = query.bind(seal_id).bind(i64::try_from(BATCH_SIZE).unwrap_or(i64::MAX)).execute().await?;
    if moved == 0 {
        return Ok(Vec::new());
    }
    // On SQLite no other transaction can have added entries since, and a DELETE without a condition frees whole pages.
    if tx.is_sqlite() && moved < BATCH_SIZE as u64 {
        let entries = tx.query("SELECT event_id, sealed_columns FROM audit_new_event").all().await?;
        tx.query("DELETE FROM audit_new_event").execute().await?;
        return Ok(entries);
    }
    let query = tx.query(
        "DELETE FROM audit_new_event WHERE event_id IN (SELECT event_id FROM audit_event WHERE seal_id = $1)
         RETURNING event_id, sealed_columns",
    );
    Ok(query.bind(seal_id).all().await?)
}

/// Moves new entries, at most [`BATCH_SIZE`], without a seal.
pub(crate) async fn move_without_seal(tx: &mut Tx) -> Result<()> {
    tx.lock_exclusive(LOCK).await?;
    move_entries(tx, NO_SEAL).await?;
    tx.query("UPDATE audit_event SET seal_id = NULL WHERE seal_id = $1").bind(NO_SEAL).execute().await?;
    Ok(())
}
