//! The columns of a profile that the auth service determines. An older version of a user never replaces a newer one.

use access::UserId;
use chrono::{DateTime, Utc};
use store::{Executor, Tx};

use super::username_key;

/// One version of a user, with the columns of the profile that follow from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserSnapshot<'a> {
    pub(crate) user_id: UserId,
    pub(crate) username: &'a str,
    pub(crate) version: i64,
    pub(crate) is_active: bool,
    /// The generation of the sync that wrote the user. 0 if only an access token has named the user.
    pub(crate) generation: i64,
}

macro_rules! upsert {
    ($conflict:literal) => {
        concat!(
            "INSERT INTO profiles (user_id, username, username_key, user_version, user_is_active, generation, bio, website,
                 is_active, create_time, update_time, version)
             VALUES ($1, $2, $3, $4, $5, $6, '', '', TRUE, $7, $7, 1)
             ON CONFLICT (user_id) DO UPDATE
                 SET username = excluded.username, username_key = excluded.username_key, user_version = excluded.user_version,
                     user_is_active = excluded.user_is_active, generation = excluded.generation ",
            $conflict
        )
    };
}

async fn write(tx: &mut Tx, sql: &'static str, user: &UserSnapshot<'_>, now: DateTime<Utc>) -> store::Result<()> {
    let query = tx.query(sql).bind(user.user_id).bind(user.username).bind(username_key(user.username).into_bytes());
    query.bind(user.version).bind(user.is_active).bind(user.generation).bind(now).execute().await?;
    Ok(())
}

/// Creates the profile of a user from an access token, or updates the username of a profile that no event has confirmed yet. Returns
/// false if the user was deleted; then the transaction must not be committed.
pub(crate) async fn ensure_profile(tx: &mut Tx, user: &UserSnapshot<'_>, now: DateTime<Utc>) -> store::Result<bool> {
    let newer = upsert!("WHERE profiles.generation = 0 AND profiles.user_version < excluded.user_version");
    write(tx, newer, user, now).await?;
    // The tombstone is read after the write, so that a concurrent deletion cannot be missed: either the deletion waits for the row
    // that is written here, or this transaction has waited for the deletion.
    let query = tx.query("SELECT user_id FROM tombstones WHERE user_id = $1").bind(user.user_id);
    Ok(query.optional::<(UserId,)>().await?.is_none())
}

/// Returns true if the caller has a profile, and keeps the caller and the owner from being deleted until the transaction ends.
pub(crate) async fn lock_shared(tx: &mut Tx, caller: UserId, owner: UserId) -> store::Result<bool> {
    // All transactions take the locks in the same order, so that they do not wait for each other.
    for user_id in [caller.min(owner), caller.max(owner)] {
        tx.lock_shared(&lock_name(user_id)).await?;
    }
    let query = tx.query("SELECT user_id FROM profiles WHERE user_id = $1").bind(caller);
    Ok(query.optional::<(UserId,)>().await?.is_some())
}

/// The name of the lock that a deletion of the user takes.
fn lock_name(user_id: UserId) -> String {
    format!("user {user_id}")
}

/// Creates the profile of a new user, or confirms the profile that an access token has created.
pub(crate) async fn create_or_confirm(tx: &mut Tx, user: &UserSnapshot<'_>, now: DateTime<Utc>) -> store::Result<()> {
    // Ids are never reused, so a tombstone can only come from a history of events that a restore of the auth service has discarded.
    tx.query("DELETE FROM tombstones WHERE user_id = $1").bind(user.user_id).execute().await?;
    write(tx, upsert!("WHERE profiles.user_version < excluded.user_version"), user, now).await?;
    let query = tx.query("UPDATE profiles SET generation = $2 WHERE user_id = $1 AND generation < $2");
    query.bind(user.user_id).bind(user.generation).execute().await?;
    Ok(())
}

/// Replaces the user's columns with those of a snapshot, even if the stored version is newer.
pub(crate) async fn replace(tx: &mut Tx, user: &UserSnapshot<'_>, now: DateTime<Utc>) -> store::Result<()> {
    tx.query("DELETE FROM tombstones WHERE user_id = $1").bind(user.user_id).execute().await?;
    write(tx, upsert!(""), user, now).await
}

/// Changes the username.
pub(crate) async fn rename(tx: &mut Tx, user_id: UserId, username: &str, version: i64) -> store::Result<()> {
    let query = tx.query(
        "UPDATE profiles SET username = $2, username_key = $3, user_version = $4 WHERE user_id = $1 AND user_version < $4",
    );
    query.bind(user_id).bind(username).bind(username_key(username).into_bytes()).bind(version).execute().await?;
    Ok(())
}

/// Stores whether the user may sign in.
pub(crate) async fn set_user_active(tx: &mut Tx, user_id: UserId, is_active: bool, version: i64) -> store::Result<()> {
    let query = tx.query("UPDATE profiles SET user_is_active = $2, user_version = $3 WHERE user_id = $1 AND user_version < $3");
    query.bind(user_id).bind(is_active).bind(version).execute().await?;
    Ok(())
}

/// Stores the version after a change that does not concern profiles.
pub(crate) async fn set_user_version(tx: &mut Tx, user_id: UserId, version: i64) -> store::Result<()> {
    let query = tx.query("UPDATE profiles SET user_version = $2 WHERE user_id = $1 AND user_version < $2");
    query.bind(user_id).bind(version).execute().await?;
    Ok(())
}

/// Deletes the user's profile and everything that belongs to it, and inserts a tombstone.
pub(crate) async fn insert_tombstone(tx: &mut Tx, user_id: UserId, now: DateTime<Utc>) -> store::Result<()> {
    tx.lock_exclusive(&lock_name(user_id)).await?;
    let query = tx.query("INSERT INTO tombstones (user_id, time) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING");
    query.bind(user_id).bind(now).execute().await?;
    // A profile that another transaction is creating is not visible yet. Writing the same row waits for that transaction.
    let placeholder = UserSnapshot { user_id, username: "", version: i64::MAX, is_active: false, generation: 0 };
    write(tx, upsert!(""), &placeholder, now).await?;
    tx.query("DELETE FROM profiles WHERE user_id = $1").bind(user_id).execute().await?;
    Ok(())
}

/// Deletes the users that are missing in the snapshot of `generation`, and inserts tombstones for them. A profile that only an access
/// token has created is deleted if it was created before `unconfirmed_before`. Returns the deleted users.
pub(crate) async fn delete_missing(
    tx: &mut Tx,
    generation: i64,
    unconfirmed_before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> store::Result<Vec<UserId>> {
    let query =
        tx.query("SELECT user_id FROM profiles WHERE generation < $1 AND (generation > 0 OR create_time < $2) ORDER BY user_id");
    for (user_id,) in query.bind(generation).bind(unconfirmed_before).all::<(UserId,)>().await? {
        tx.lock_exclusive(&lock_name(user_id)).await?;
    }
    let query = tx.query(
        "INSERT INTO tombstones (user_id, time)
         SELECT user_id, $3 FROM profiles WHERE generation < $1 AND (generation > 0 OR create_time < $2)
         ON CONFLICT (user_id) DO NOTHING",
    );
    query.bind(generation).bind(unconfirmed_before).bind(now).execute().await?;
    let query = tx.query("DELETE FROM profiles WHERE generation < $1 AND (generation > 0 OR create_time < $2) RETURNING user_id");
    let deleted = query.bind(generation).bind(unconfirmed_before).all::<(UserId,)>().await?;
    Ok(deleted.into_iter().map(|(user_id,)| user_id).collect())
}

/// Returns the users who were deleted since a time.
pub(crate) async fn deleted_since(on: impl Executor<'_>, time: DateTime<Utc>) -> store::Result<Vec<UserId>> {
    let deleted = on.query("SELECT user_id FROM tombstones WHERE time >= $1").bind(time).all::<(UserId,)>().await?;
    Ok(deleted.into_iter().map(|(user_id,)| user_id).collect())
}
