//! The favorite notes of users: their SQL. A favorite is a row of its own, so that it is deleted with its note.

use access::{Error, Result, UserId};
use store::{self, Executor, Tx};

use crate::{
    notes::NoteId,
    profiles::{NameCursor, cursor_columns, username_key},
};

/// Sets the favorite note of the user. Returns false if it was set already.
///
/// # Errors
///
/// Returns NOT_FOUND, with the name of the request's field, if the note was deleted meanwhile.
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

/// Removes the favorite note of the user. Returns false if there was none.
pub(crate) async fn clear(tx: &mut Tx, user_id: UserId) -> store::Result<bool> {
    Ok(tx.query("DELETE FROM favorites WHERE user_id = $1").bind(user_id).execute().await? > 0)
}

/// Returns at most `limit` users with active profiles whose favorite this note is, sorted by username.
pub(crate) async fn list(
    on: impl Executor<'_>,
    user_id: UserId,
    note_id: NoteId,
    after: Option<&NameCursor>,
    limit: i64,
) -> store::Result<Vec<NameCursor>> {
    #[derive(sqlx::FromRow)]
    struct Owner {
        username: String,
        user_id: UserId,
    }
    let (key, after) = cursor_columns(after);
    let query = on.query(
        "SELECT p.username, p.user_id FROM favorites f JOIN profiles p ON p.user_id = f.user_id
         WHERE f.note_user_id = $1 AND f.note_id = $2 AND p.is_active AND p.user_is_active AND (p.username_key, p.user_id) > ($3, $4)
         ORDER BY p.username_key, p.user_id LIMIT $5",
    );
    let owners: Vec<Owner> = query.bind(user_id).bind(note_id).bind(key).bind(after).bind(limit).all().await?;
    Ok(owners.into_iter().map(|owner| (username_key(&owner.username), owner.user_id)).collect())
}
