//! What the auth service tells of users, as their profiles have it. An older version of a user never takes the place of a newer one.

use access::UserId;
use chrono::{DateTime, Utc};
use store::{Executor, Tx};

use super::username_key;

/// What is known of a user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) user_id: UserId,
    pub(crate) username: &'a str,
    pub(crate) version: i64,
    pub(crate) is_active: bool,
    /// The generation of the feed that tells it. 0: an access token does.
    pub(crate) generation: i64,
}

macro_rules! insert {
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

async fn write(tx: &mut Tx, sql: &'static str, known: &Known<'_>, now: DateTime<Utc>) -> store::Result<()> {
    let query = tx.query(sql).bind(known.user_id).bind(known.username).bind(username_key(known.username).into_bytes());
    query.bind(known.version).bind(known.is_active).bind(known.generation).bind(now).execute().await?;
    Ok(())
}

/// Makes the profile of a user whom an access token tells of; one that no event has told of yet gets a newer username. False
/// where the user was deleted: then nothing may be committed.
pub(crate) async fn welcome(tx: &mut Tx, known: &Known<'_>, now: DateTime<Utc>) -> store::Result<bool> {
    let newer = insert!("WHERE profiles.generation = 0 AND profiles.user_version < excluded.user_version");
    write(tx, newer, known, now).await?;
    // Asked only now: whoever deletes the user at this moment waits for the row, or was waited for.
    let query = tx.query("SELECT user_id FROM tombstones WHERE user_id = $1").bind(known.user_id);
    Ok(query.optional::<(UserId,)>().await?.is_none())
}

/// True where the user has a profile, which stays until the transaction ends.
pub(crate) async fn hold(tx: &mut Tx, user_id: UserId) -> store::Result<bool> {
    let query = tx.query("SELECT user_id FROM profiles WHERE user_id = $1").bind(user_id).for_key_share();
    Ok(query.optional::<(UserId,)>().await?.is_some())
}

/// Makes the profile of a new user. One that an access token has told of before is theirs.
pub(crate) async fn create_known(tx: &mut Tx, known: &Known<'_>, now: DateTime<Utc>) -> store::Result<()> {
    // An id belongs to one user for ever. A tombstone is there if another history of the events had one.
    tx.query("DELETE FROM tombstones WHERE user_id = $1").bind(known.user_id).execute().await?;
    write(tx, insert!("WHERE profiles.user_version < excluded.user_version"), known, now).await?;
    let query = tx.query("UPDATE profiles SET generation = $2 WHERE user_id = $1 AND generation < $2");
    query.bind(known.user_id).bind(known.generation).execute().await?;
    Ok(())
}

/// Makes the profile of a user what a snapshot says, whatever it was.
pub(crate) async fn set_known(tx: &mut Tx, known: &Known<'_>, now: DateTime<Utc>) -> store::Result<()> {
    tx.query("DELETE FROM tombstones WHERE user_id = $1").bind(known.user_id).execute().await?;
    write(tx, insert!(""), known, now).await
}

/// Gives the profile another username.
pub(crate) async fn rename(tx: &mut Tx, user_id: UserId, username: &str, version: i64) -> store::Result<()> {
    let query = tx.query(
        "UPDATE profiles SET username = $2, username_key = $3, user_version = $4 WHERE user_id = $1 AND user_version < $4",
    );
    query.bind(user_id).bind(username).bind(username_key(username).into_bytes()).bind(version).execute().await?;
    Ok(())
}

/// The user may sign in, or not.
pub(crate) async fn set_user_active(tx: &mut Tx, user_id: UserId, is_active: bool, version: i64) -> store::Result<()> {
    let query = tx.query("UPDATE profiles SET user_is_active = $2, user_version = $3 WHERE user_id = $1 AND user_version < $3");
    query.bind(user_id).bind(is_active).bind(version).execute().await?;
    Ok(())
}

/// Something else of the user has changed.
pub(crate) async fn set_user_version(tx: &mut Tx, user_id: UserId, version: i64) -> store::Result<()> {
    let query = tx.query("UPDATE profiles SET user_version = $2 WHERE user_id = $1 AND user_version < $2");
    query.bind(user_id).bind(version).execute().await?;
    Ok(())
}

/// Removes whatever there is of a user, and leaves a tombstone.
pub(crate) async fn bury(tx: &mut Tx, user_id: UserId, now: DateTime<Utc>) -> store::Result<()> {
    let query = tx.query("INSERT INTO tombstones (user_id, time) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING");
    query.bind(user_id).bind(now).execute().await?;
    // A profile that somebody makes at this moment can't be seen. Making it too waits for it.
    let nobody = Known { user_id, username: "", version: i64::MAX, is_active: false, generation: 0 };
    write(tx, insert!(""), &nobody, now).await?;
    tx.query("DELETE FROM profiles WHERE user_id = $1").bind(user_id).execute().await?;
    Ok(())
}

/// Buries the users whom the generation has not told of: those whom an earlier one had, and those whom an access token had
/// before `then`. Answers how many they were.
pub(crate) async fn sweep(tx: &mut Tx, generation: i64, then: DateTime<Utc>, now: DateTime<Utc>) -> store::Result<u64> {
    let query = tx.query(
        "INSERT INTO tombstones (user_id, time)
         SELECT user_id, $3 FROM profiles WHERE generation < $1 AND (generation > 0 OR create_time < $2)
         ON CONFLICT (user_id) DO NOTHING",
    );
    query.bind(generation).bind(then).bind(now).execute().await?;
    let query = tx.query("DELETE FROM profiles WHERE generation < $1 AND (generation > 0 OR create_time < $2)");
    query.bind(generation).bind(then).execute().await
}
