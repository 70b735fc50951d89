//! Lists of notes: filters, orders and pages.

use access::{Result, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::{
    self, Db, Executor, OrderBy, Query,
    page::{PAGE_BYTES, TimeCursor, time_bound},
    search_key::{containing, search_key},
};
use uuid::Uuid;

use crate::notes::{Note, NoteId, Visibility, columns, is_visible};

/// The number of notes that one query reads: 2.6 MB if each has the largest size.
const CHUNK: i64 = 64;
/// The number of title keys that one transaction computes.
const FILL_CHUNK: i64 = 200;

/// A field by which notes can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum NoteField {
    CreateTime,
    UpdateTime,
    Title,
}

/// The newest note comes first.
pub(crate) const NEWEST_FIRST: OrderBy<NoteField> = OrderBy { field: NoteField::CreateTime, is_descending: true };

/// Parses `order_by` of `ListNotes`.
///
/// # Errors
///
/// Returns INVALID_ARGUMENT that names `order_by`.
pub(crate) fn order(order_by: &str) -> Result<OrderBy<NoteField>> {
    let fields = [("create_time", NoteField::CreateTime), ("update_time", NoteField::UpdateTime), ("title", NoteField::Title)];
    OrderBy::parse(order_by, &fields, NEWEST_FIRST)
}

/// The notes of one user that a reader can see and that match every filter.
#[derive(Debug, Clone)]
pub(crate) struct NoteFilter {
    pub(crate) reader: Option<UserId>,
    pub(crate) user_id: UserId,
    /// A part of the title, compared without regard to case.
    pub(crate) search: String,
    pub(crate) visibility: Option<Visibility>,
    /// The notes were created at this time or later.
    pub(crate) create_time_start: Option<DateTime<Utc>>,
    /// The notes were created before this time.
    pub(crate) create_time_end: Option<DateTime<Utc>>,
}

impl NoteFilter {
    /// Returns the filter that matches every note that the reader can see.
    pub(crate) fn all(reader: Option<UserId>, user_id: UserId) -> Self {
        let (search, visibility) = (String::new(), None);
        Self { reader, user_id, search, visibility, create_time_start: None, create_time_end: None }
    }

    /// Binds the six parameters of the condition.
    fn bind<'c>(&self, query: Query<'c>) -> Query<'c> {
        let query = query.bind(self.reader).bind(self.user_id).bind(containing(&self.search)).bind(self.visibility);
        query.bind(self.create_time_start).bind(self.create_time_end)
    }
}

/// The position of a note in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum NoteCursor {
    Time(i64, NoteId),
    Title(String, NoteId),
}

/// A note, and its place in the order by title.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct ListedNote {
    #[sqlx(flatten)]
    pub(crate) note: Note,
    title_key: Vec<u8>,
}

impl ListedNote {
    pub(crate) fn cursor(&self, field: NoteField) -> NoteCursor {
        let id = self.note.note_id;
        match field {
            NoteField::CreateTime => NoteCursor::Time(self.note.create_time.timestamp_micros(), id),
            NoteField::UpdateTime => NoteCursor::Time(self.note.update_time.timestamp_micros(), id),
            NoteField::Title => NoteCursor::Title(String::from_utf8_lossy(&self.title_key).into_owned(), id),
        }
    }
}

macro_rules! condition {
    () => {
        concat!(
            is_visible!(),
            " AND n.user_id = $2 AND n.title_key LIKE $3 ESCAPE '!' AND ($4 IS NULL OR n.visibility = $4)
              AND ($5 IS NULL OR n.create_time >= $5) AND ($6 IS NULL OR n.create_time < $6)"
        )
    };
}

macro_rules! page {
    ($column:literal, $comparison:literal, $direction:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            ", title_key FROM notes n WHERE ",
            condition!(),
            concat!(" AND (n.", $column, ", n.note_id) ", $comparison, " ($7, $8)"),
            concat!(" ORDER BY n.", $column, " ", $direction, ", n.note_id ", $direction, " LIMIT $9")
        )
    };
}

/// Returns the query of one page. Each order has a text of its own, because a parameter cannot name a column.
fn page_query(order: OrderBy<NoteField>) -> &'static str {
    match (order.field, order.is_descending) {
        (NoteField::CreateTime, false) => page!("create_time", ">", "ASC"),
        (NoteField::CreateTime, true) => page!("create_time", "<", "DESC"),
        (NoteField::UpdateTime, false) => page!("update_time", ">", "ASC"),
        (NoteField::UpdateTime, true) => page!("update_time", "<", "DESC"),
        (NoteField::Title, false) => page!("title_key", ">", "ASC"),
        (NoteField::Title, true) => page!("title_key", "<", "DESC"),
    }
}

/// Returns the notes after a position. It stops at `limit` notes, or once they exceed the size of a page.
pub(crate) async fn list(
    db: &Db,
    filter: &NoteFilter,
    order: OrderBy<NoteField>,
    after: Option<&NoteCursor>,
    limit: i64,
) -> store::Result<Vec<ListedNote>> {
    let (mut notes, mut bytes, mut after, mut wanted) = (Vec::<ListedNote>::new(), 0, after.cloned(), limit);
    loop {
        let size = wanted.min(CHUNK);
        let query = bind_cursor(filter.bind(db.query(page_query(order))), order, after.as_ref());
        let chunk: Vec<ListedNote> = query.bind(size).all().await?;
        wanted -= size;
        bytes += chunk.iter().map(|listed| listed.note.text_size()).sum::<usize>();
        let is_last = chunk.len() < usize::try_from(size).unwrap_or_default();
        after = chunk.last().map(|note| note.cursor(order.field)).or(after);
        notes.extend(chunk);
        if is_last || wanted == 0 || bytes > PAGE_BYTES {
            return Ok(notes);
        }
    }
}

/// Binds the position of the last note before the page. Without one, and for a position of another order, which only a forged page
/// token can contain, the page is the first one.
fn bind_cursor<'c>(query: Query<'c>, order: OrderBy<NoteField>, after: Option<&NoteCursor>) -> Query<'c> {
    if order.field == NoteField::Title {
        let (key, note_id) = match after {
            Some(NoteCursor::Title(key, note_id)) => (key.as_bytes().to_vec(), *note_id),
            // No key contains the byte 0xFF.
            _ if order.is_descending => (vec![0xFF], Uuid::max().into()),
            _ => (Vec::new(), Uuid::nil().into()),
        };
        return query.bind(key).bind(note_id);
    }
    let after: Option<TimeCursor<Note>> = match after {
        Some(NoteCursor::Time(micros, note_id)) => Some((*micros, *note_id)),
        _ => None,
    };
    let (time, note_id) = time_bound(after, order.is_descending);
    query.bind(time).bind(note_id)
}

/// The query of the number of notes.
const COUNT: &str = concat!("SELECT COUNT(*) FROM notes n WHERE ", condition!());

/// Returns the number of notes.
pub(crate) async fn count(db: &Db, filter: &NoteFilter) -> store::Result<i64> {
    let query = filter.bind(db.query(COUNT));
    query.one::<(i64,)>().await.map(|(count,)| count)
}

/// Computes the title keys of some notes that have none, and returns their number. Notes from before the column have none.
pub(crate) async fn fill_title_keys(db: Db) -> store::Result<usize> {
    // The key of an empty title, which an import may bring, is empty too.
    let query = db.query(
        "SELECT user_id, note_id, title FROM notes WHERE title_key = '' AND title <> '' ORDER BY user_id, note_id LIMIT $1",
    );
    let notes: Vec<(UserId, NoteId, String)> = query.bind(FILL_CHUNK).all().await?;
    if notes.is_empty() {
        return Ok(0);
    }
    let mut tx = db.begin().await?;
    for (user_id, note_id, title) in &notes {
        // A note that was changed in the meantime has its key.
        let query = tx.query("UPDATE notes SET title_key = $4 WHERE user_id = $1 AND note_id = $2 AND title = $3");
        query.bind(*user_id).bind(*note_id).bind(title).bind(search_key(title).into_bytes()).execute().await?;
    }
    tx.commit().await?;
    Ok(notes.len())
}

#[cfg(test)]
mod tests;
