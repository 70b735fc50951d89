//! Erases personal data. The sealed columns contain only its salted digest, so that the seals stay valid.

use access::{Result, UserId};
use store::{Db, Executor, Tx};

use crate::seal::LOCK;

/// The largest number of entries that one call erases, so that its transaction stays short.
const LIMIT: i64 = 10_000;

/// The statements that change the entries of both tables.
macro_rules! erase {
    ($change:literal, $condition:literal) => {
        [erase!("audit_new_event", $change, $condition), erase!("audit_event", $change, $condition)]
    };
    ($table:literal, $change:literal, $condition:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET ",
            $change,
            " WHERE event_id IN (SELECT event_id FROM ",
            $table,
            " WHERE ",
            $condition,
            " LIMIT $2)"
        )
    };
}

/// The statements for the personal data of the actor.
const ERASE_ACTOR: [&str; 2] = erase!(
    "actor_salt = NULL, actor_name = NULL, address = NULL, user_agent = NULL",
    "actor_salt IS NOT NULL
     AND ((actor_id = $1 AND actor_type = 'user') OR (target_id = $1 AND target_type = 'user' AND actor_type = 'anonymous'))"
);

/// The statements for the personal data of the target.
const ERASE_TARGET: [&str; 2] =
    erase!("target_salt = NULL, target_name = NULL", "target_salt IS NOT NULL AND target_id = $1 AND target_type = 'user'");

/// Erases the personal data of a user from the entries of what the user did, of refused attempts to sign in as the user, and of what was done
/// to the user. Returns the number of changes; the caller repeats the call later until it is 0.
pub async fn erase(tx: &mut Tx, user_id: UserId) -> Result<u64> {
    // No entry may be copied from one table to the other meanwhile.
    tx.lock_shared(LOCK).await?;
    let user_id = user_id.to_string();
    let mut changes = 0;
    for statement in ERASE_ACTOR.into_iter().chain(ERASE_TARGET) {
        changes += tx.query(statement).bind(user_id.as_str()).bind(LIMIT).execute().await?;
    }
    Ok(changes)
}

/// Erases the personal data of users as [`erase`] does, each in a transaction of its own.
pub async fn erase_users(db: &Db, user_ids: Vec<UserId>) -> Result<()> {
    for user_id in user_ids {
        let mut tx = db.begin().await?;
        erase(&mut tx, user_id).await?;
        tx.commit().await?;
    }
    Ok(())
}
