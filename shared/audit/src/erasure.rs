//! Erases personal data. The sealed columns contain only its salted digest, so that the seals stay valid.

use access::{Result, UserId};
use store::{Db, Executor, Tx};

use crate::seal::LOCK;

/// The largest number of entries that one call erases, so that its transaction stays short.
const LIMIT: i64 = 10_000;

macro_rules! erase_actor {
    ($table:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET actor_salt = NULL, actor_name = NULL, address = NULL, user_agent = NULL
             WHERE event_id IN (SELECT event_id FROM ",
            $table,
            " WHERE actor_salt IS NOT NULL
                 AND ((actor_id = $1 AND actor_type = 'user') OR (target_id = $1 AND target_type = 'user' AND actor_type = 'anonymous'))
                 LIMIT $2)"
        )
    };
}

macro_rules! erase_target {
    ($table:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET target_salt = NULL, target_name = NULL
             WHERE event_id IN (SELECT event_id FROM ",
            $table,
            " WHERE target_salt IS NOT NULL AND target_id = $1 AND target_type = 'user' LIMIT $2)"
        )
    };
}

/// Erases the personal data of a user from the entries of what the user did, of refused attempts to sign in as the user, and of what was done
/// to the user. Returns the number of changes; the caller repeats the call later until it is 0.
pub async fn erase(tx: &mut Tx, user_id: UserId) -> Result<u64> {
    // No entry may be copied from one table to the other meanwhile.
    tx.lock_shared(LOCK).await?;
    let user_id = user_id.to_string();
    let mut changes = 0;
    for statement in [
        erase_actor!("audit_new_event"),
        erase_actor!("audit_event"),
        erase_target!("audit_new_event"),
        erase_target!("audit_event"),
    ] {
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
