//! The amount of data that a user may store. Imports are exempt, but what they store counts.

use access::{Error, Result, UserId};
use server::config;
use store::{Executor, Tx};

use crate::{profiles, proto::Reason};

/// The quotas of each user.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Quotas {
    /// The maximum size of all notes of one user, in bytes of titles and bodies in UTF-8. 0 means no limit.
    #[arg(long = "note-bytes-per-user", env = "NOTE_BYTES_PER_USER", value_name = "BYTES", default_value = "67108864")]
    pub note_bytes: u64,
    /// The maximum number of notes of one user. 0 means no limit.
    #[arg(long = "notes-per-user", env = "NOTES_PER_USER", value_name = "N", default_value = "0", value_parser = config::count(0..=1_000_000_000))]
    pub notes: usize,
    /// The maximum number of friends whom one user may add. 0 means no limit.
    #[arg(long = "friends-per-user", env = "FRIENDS_PER_USER", value_name = "N", default_value = "0", value_parser = config::count(0..=1_000_000_000))]
    pub friends: usize,
}

impl Quotas {
    /// No limits, for imports.
    pub(crate) const UNLIMITED: Self = Self { note_bytes: 0, notes: 0, friends: 0 };
}

impl Default for Quotas {
    fn default() -> Self {
        config::defaults()
    }
}

/// Adds the bytes of a new note, or the difference that an update makes, to those of the user.
///
/// # Errors
///
/// Returns RESOURCE_EXHAUSTED if the notes of the user grow beyond the quota.
pub(crate) async fn add_note_bytes(tx: &mut Tx, user_id: UserId, bytes: i64, quotas: &Quotas) -> Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let query = tx.query(
        "INSERT INTO note_usage (user_id, bytes) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET bytes = note_usage.bytes + excluded.bytes RETURNING bytes",
    );
    let (total,): (i64,) = query.bind(user_id).bind(bytes).one().await?;
    let limit = quotas.note_bytes;
    // An update that makes a note shorter is allowed even if the quota has been lowered since.
    if limit == 0 || bytes < 0 || u64::try_from(total).unwrap_or_default() <= limit {
        return Ok(());
    }
    Err(exceeded(
        "note_bytes_per_user",
        format!("the notes of a user may have at most {limit} bytes; delete some or make them shorter"),
    ))
}

/// Checks the number of notes after one was inserted. [`add_note_bytes`] has locked the row of the user, so concurrent calls do not exceed
/// the quota together.
///
/// # Errors
///
/// Returns RESOURCE_EXHAUSTED if the user has more notes than the quota allows.
pub(crate) async fn check_notes(tx: &mut Tx, user_id: UserId, quotas: &Quotas) -> Result<()> {
    let limit = quotas.notes;
    if limit == 0 {
        return Ok(());
    }
    let query = tx.query("SELECT COUNT(*) FROM (SELECT 1 FROM notes WHERE user_id = $1 LIMIT $2) counted");
    let (found,): (i64,) = query.bind(user_id).bind(as_count(limit).saturating_add(1)).one().await?;
    if found <= as_count(limit) {
        return Ok(());
    }
    Err(exceeded("notes_per_user", format!("a user may have at most {limit} notes; delete some")))
}

/// Checks that the user may add one more friend. The profile is locked until the transaction ends, so that concurrent calls do not
/// exceed the quota together.
///
/// # Errors
///
/// Returns RESOURCE_EXHAUSTED if the user has as many friends as the quota allows.
pub(crate) async fn check_friends(tx: &mut Tx, user_id: UserId, quotas: &Quotas) -> Result<()> {
    let limit = quotas.friends;
    if limit == 0 {
        return Ok(());
    }
    profiles::lock_for_quota(tx, user_id).await?;
    let query = tx.query("SELECT COUNT(*) FROM (SELECT 1 FROM friendships WHERE user_id = $1 LIMIT $2) counted");
    let (found,): (i64,) = query.bind(user_id).bind(as_count(limit)).one().await?;
    if found < as_count(limit) {
        return Ok(());
    }
    Err(exceeded("friends_per_user", format!("a user may have at most {limit} friends; remove some")))
}

fn as_count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn exceeded(quota: &'static str, description: String) -> Error {
    Error::QuotaExceeded { reason: Reason::QuotaExceeded.into(), quota, description }
}
