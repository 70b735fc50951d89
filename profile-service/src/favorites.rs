//! The favourite notes of users: their SQL. A favourite is a row of its own, which goes with its note.

use access::{Error, Result, UserId};
use store::{self, Executor, Tx};

use crate::{
    notes::NoteId,
    profiles::{Place, after_or_first, username_key},
};

/// Makes a note, which `field` names, the favourite of the user. False where it is already.
///
/// # Errors
///
/// `NOT_FOUND` where the note goes at this moment.
pub(crate) async fn set(tx: &mut Tx, user_id: UserId, field: &str, (note_user_id, note_id): (UserId, NoteId)) -> Result<bool> {
    let query = tx.query(
        "INSERT INTO favorites (user_id, note_user_id, note_id) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET note_user_id = excluded.note_user_id, note_id = excluded.note_id
         WHERE (favorites.note_user_id, favorites.note_id) <> (excluded.note_user_id, excluded.note_id)",
    );
    match query.bind(user_id).bind(note_user_id).bind(note_id).execute().await {
        Err(error) if error.is_foreign_key_violation() => Err(Error::not_found(field)),
        changed => Ok(changed? > 0),
    }
}

/// Leaves the user without a favourite. False where it has none.
pub(crate) async fn clear(tx: &mut Tx, user_id: UserId) -> store::Result<bool> {
    Ok(tx.query("DELETE FROM favorites WHERE user_id = $1").bind(user_id).execute().await? > 0)
}

/// Whose favourite the note is, by username: users whose profiles are active, at most `limit`.
pub(crate) async fn list(
    on: impl Executor<'_>,
    user_id: UserId,
    note_id: NoteId,
    after: Option<&Place>,
    limit: i64,
) -> store::Result<Vec<Place>> {
    #[derive(sqlx::FromRow)]
    struct Admirer {
        username: String,
        user_id: UserId,
    }
    let (key, after) = after_or_first(after);
    let query = on.query(
        "SELECT p.username, p.user_id FROM favorites f JOIN profiles p ON p.user_id = f.user_id
         WHERE f.note_user_id = $1 AND f.note_id = $2 AND p.is_active AND p.user_is_active AND (p.username_key, p.user_id) > ($3, $4)
         ORDER BY p.username_key, p.user_id LIMIT $5",
    );
    let admirers: Vec<Admirer> = query.bind(user_id).bind(note_id).bind(key).bind(after).bind(limit).all().await?;
    Ok(admirers.into_iter().map(|admirer| (username_key(&admirer.username), admirer.user_id)).collect())
}
