//! Notes: the row, its rules, its SQL.

use std::sync::LazyLock;

use access::{Error, Id, Result, UserId, error::Violation, text_size::of_text};
use chrono::{DateTime, Utc};
use store::{self, Db, Executor, Tx, batch, search_key::search_key};

use crate::{
    proto::Reason,
    quotas::{self, Quotas},
};

/// The id of a note, unique among the notes of its owner.
pub(crate) type NoteId = Id<Note>;

/// A note.
#[expect(clippy::struct_field_names, reason = "the names of the columns")]
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Note {
    pub(crate) user_id: UserId,
    pub(crate) note_id: NoteId,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) visibility: Visibility,
    pub(crate) create_time: DateTime<Utc>,
    pub(crate) update_time: DateTime<Utc>,
    /// Incremented with every update.
    pub(crate) version: i64,
}

/// The readers of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[repr(i16)]
pub(crate) enum Visibility {
    /// Only its owner.
    Private = 1,
    /// Its owner, and the users whom its owner has added as friends.
    Friends = 2,
    /// Everybody with a valid token.
    Public = 3,
}

impl Note {
    /// Returns the size of the texts in JSON or XML, in bytes.
    pub(crate) fn text_size(&self) -> usize {
        of_text(&self.title) + of_text(&self.body)
    }

    /// Returns the size that counts for the quota.
    fn bytes(&self) -> i64 {
        i64::try_from(self.title.len() + self.body.len()).unwrap_or(i64::MAX)
    }

    fn has_content_of(&self, other: &Self) -> bool {
        (&self.title, &self.body, self.visibility) == (&other.title, &other.body, other.visibility)
    }
}

/// Checks that a title is not blank and has one line.
pub(crate) fn title(field: &str, title: &str) -> Option<Violation> {
    if title.contains(char::is_control) {
        Some(Violation::new(field, "title.one_line", "must not contain line ends or other control characters"))
    } else if title.trim().is_empty() {
        Some(Violation::new(field, "title.not_blank", "must not be blank"))
    } else {
        None
    }
}

macro_rules! columns {
    () => {
        "user_id, note_id, title, body, visibility, create_time, update_time, version"
    };
}
pub(crate) use columns;

/// The SQL condition that the reader `$1` can see the note `n`. A reader NULL can see public notes.
macro_rules! is_visible {
    () => {
        "(n.user_id = $1 OR n.visibility = 3 OR n.visibility = 2 AND EXISTS
             (SELECT 1 FROM friendships WHERE friendships.user_id = n.user_id AND friendships.friend_id = $1))"
    };
}
pub(crate) use is_visible;

macro_rules! select_visible {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM notes n WHERE ", is_visible!(), $rest)
    };
}

/// Returns the note if it exists and the reader can see it.
pub(crate) async fn find(
    on: impl Executor<'_>,
    reader: Option<UserId>,
    user_id: UserId,
    note_id: NoteId,
) -> store::Result<Option<Note>> {
    let query = on.query(select_visible!(" AND n.user_id = $2 AND n.note_id = $3"));
    query.bind(reader).bind(user_id).bind(note_id).optional().await
}

/// Returns the notes of one user that exist and that the reader can see, in any order.
pub(crate) async fn find_many(db: &Db, reader: Option<UserId>, user_id: UserId, note_ids: &[NoteId]) -> store::Result<Vec<Note>> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!(select_visible!(" AND n.user_id = $2 AND n.note_id IN ({})"), batch::parameters(3)));
    let mut notes = Vec::new();
    for chunk in note_ids.chunks(batch::SIZE) {
        let query = db.query(&SQL).bind(reader).bind(user_id);
        notes.extend(batch::bind(query, chunk).all::<Note>().await?);
    }
    Ok(notes)
}

/// The outcome of [`insert`].
pub(crate) enum Inserted {
    /// The note is new. [`count`] must follow.
    New(Note),
    /// A note with the same id and the same content existed.
    Existing(Note),
}

/// Inserts a note, unless a note with the same id and the same content exists, so that a call can be retried.
///
/// # Errors
///
/// Returns ALREADY_EXISTS if a note with this id has other content, and NOT_FOUND if the owner has no profile.
pub(crate) async fn insert(tx: &mut Tx, note: &Note) -> Result<Inserted> {
    // It waits for a transaction that is creating the same note.
    let query = tx.query(concat!(
        "INSERT INTO notes (",
        columns!(),
        ", title_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (user_id, note_id) DO NOTHING RETURNING ",
        columns!()
    ));
    let query = query.bind(note.user_id).bind(note.note_id).bind(&note.title).bind(&note.body).bind(note.visibility);
    let query = query.bind(note.create_time).bind(note.update_time).bind(note.version);
    let inserted = query.bind(search_key(&note.title).into_bytes()).optional::<Note>().await;
    let inserted =
        inserted.map_err(|error| if error.is_foreign_key_violation() { Error::not_found("user_id") } else { error.into() })?;
    if let Some(inserted) = inserted {
        return Ok(Inserted::New(inserted));
    }
    // If another transaction has deleted the note since, the caller may choose to try again.
    let stored = lock(tx, note.user_id, note.note_id).await?;
    if let Some(stored) = stored.filter(|stored| stored.has_content_of(note)) {
        return Ok(Inserted::Existing(stored));
    }
    let description = "a note with this id exists with another title, body or visibility; choose another id";
    Err(Error::already_exists(Reason::AlreadyExists, Violation::new("note_id", "note_id.same_content", description)))
}

/// Counts a new note for the quotas of its owner.
///
/// # Errors
///
/// Returns RESOURCE_EXHAUSTED if the note exceeds a quota.
pub(crate) async fn count(tx: &mut Tx, note: &Note, quotas: &Quotas) -> Result<()> {
    quotas::add_note_bytes(tx, note.user_id, note.bytes(), quotas).await?;
    quotas::check_notes(tx, note.user_id, quotas).await
}

/// Returns the note, if it exists, and locks it until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, user_id: UserId, note_id: NoteId) -> store::Result<Option<Note>> {
    let query = tx.query(concat!("SELECT ", columns!(), " FROM notes WHERE user_id = $1 AND note_id = $2"));
    query.bind(user_id).bind(note_id).for_update().optional().await
}

/// Writes a changed note. The row must be locked. `before` is the stored note.
///
/// # Errors
///
/// Returns RESOURCE_EXHAUSTED if the notes of the user grow beyond a quota.
pub(crate) async fn update(tx: &mut Tx, before: &Note, note: &mut Note, now: DateTime<Utc>, quotas: &Quotas) -> Result<()> {
    note.version += 1;
    note.update_time = now;
    let query = tx.query(
        "UPDATE notes SET title = $3, body = $4, visibility = $5, update_time = $6, version = $7, title_key = $8
         WHERE user_id = $1 AND note_id = $2",
    );
    let query = query.bind(note.user_id).bind(note.note_id).bind(&note.title).bind(&note.body).bind(note.visibility);
    query.bind(note.update_time).bind(note.version).bind(search_key(&note.title).into_bytes()).execute().await?;
    quotas::add_note_bytes(tx, note.user_id, note.bytes() - before.bytes(), quotas).await
}

/// Deletes the locked note. Rows of `favorites` that refer to it are deleted with it.
pub(crate) async fn delete(tx: &mut Tx, note: &Note) -> Result<()> {
    let query = tx.query("DELETE FROM notes WHERE user_id = $1 AND note_id = $2");
    query.bind(note.user_id).bind(note.note_id).execute().await?;
    quotas::add_note_bytes(tx, note.user_id, -note.bytes(), &Quotas::UNLIMITED).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_something_to_read_on_one_line() {
        for good in ["a", " a ", "Über uns: \u{1F600}"] {
            assert_eq!(title("note.title", good), None, "{good:?}");
        }
        for (bad, rule) in [
            ("", "title.not_blank"),
            (" \u{2003}\u{a0}", "title.not_blank"),
            ("a\nb", "title.one_line"),
            ("a\0", "title.one_line"),
        ] {
            assert_eq!(title("note.title", bad).expect("a violation").rule, rule, "{bad:?}");
        }
    }
}
