//! Lists of notes: filters, orders and pages.

use std::{fmt::Write, sync::LazyLock};

use access::{Result, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use store::{
    self, Db, Executor, OrderBy, Query,
    page::{PAGE_BYTES, TimeCursor, time_bound},
    search_key::{containing, search_key},
};
use uuid::Uuid;

use crate::notes::{Note, NoteId, Visibility, columns};

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

    fn conditions(&self) -> Conditions {
        let has_time = self.create_time_start.is_some() || self.create_time_end.is_some();
        Conditions {
            is_owner: self.reader == Some(self.user_id),
            is_filtered: !self.search.is_empty() || self.visibility.is_some() || has_time,
        }
    }

    /// Binds the parameters of the conditions after the owner.
    fn bind_conditions<'c>(&self, query: Query<'c>) -> Query<'c> {
        let Conditions { is_owner, is_filtered } = self.conditions();
        let query = if is_owner { query } else { query.bind(self.reader) };
        if !is_filtered {
            return query;
        }
        let query = query.bind(containing(&self.search)).bind(self.visibility);
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

/// The conditions of a query, which determine its text.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    /// True if the reader is the owner, who can see every note.
    is_owner: bool,
    /// True if there is a filter.
    is_filtered: bool,
}

impl Conditions {
    /// Every combination, at its [`index`](Self::index).
    const ALL: [Self; 4] = [
        Self { is_owner: false, is_filtered: false },
        Self { is_owner: true, is_filtered: false },
        Self { is_owner: false, is_filtered: true },
        Self { is_owner: true, is_filtered: true },
    ];

    fn index(self) -> usize {
        usize::from(self.is_owner) + 2 * usize::from(self.is_filtered)
    }

    /// Returns the condition for the owner `$1`. `$first` is the first parameter of [`NoteFilter::bind_conditions`].
    ///
    /// Without statistics PostgreSQL expects that a condition matches few rows, and then prefers to sort all notes of the owner to
    /// reading a page in the order of an index. So there is no condition without need, and the visibility is compared with one value.
    fn sql(self, first: usize) -> String {
        let (mut sql, mut next) = ("n.user_id = $1".to_owned(), first);
        if !self.is_owner {
            let _ = write!(
                sql,
                " AND n.visibility >= CASE WHEN EXISTS (SELECT 1 FROM friendships
                      WHERE friendships.user_id = $1 AND friendships.friend_id = ${next}) THEN 2 ELSE 3 END"
            );
            next += 1;
        }
        if self.is_filtered {
            let [search, visibility, start, end] = [next, next + 1, next + 2, next + 3];
            let _ = write!(
                sql,
                " AND n.title_key LIKE ${search} ESCAPE '!' AND (${visibility} IS NULL OR n.visibility = ${visibility})
                  AND (${start} IS NULL OR n.create_time >= ${start}) AND (${end} IS NULL OR n.create_time < ${end})"
            );
        }
        sql
    }
}

const FIELDS: [(NoteField, &str); 3] =
    [(NoteField::CreateTime, "create_time"), (NoteField::UpdateTime, "update_time"), (NoteField::Title, "title_key")];

/// Returns the query of one page: the owner `$1`, the position before it in `$2` and `$3`, the limit `$4`, and the conditions.
fn page_query(order: OrderBy<NoteField>, conditions: Conditions) -> &'static str {
    static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let directions = [("ASC", ">"), ("DESC", "<")];
        let orders = FIELDS.iter().flat_map(|(_, column)| directions.map(|direction| (column, direction)));
        let texts = orders.flat_map(|(column, (direction, comparison))| {
            Conditions::ALL.map(|conditions| {
                format!(
                    concat!(
                        "SELECT ",
                        columns!(),
                        ", title_key FROM notes n WHERE {condition} AND (n.{column}, n.note_id) {comparison} ($2, $3)
                         ORDER BY n.{column} {direction}, n.note_id {direction} LIMIT $4"
                    ),
                    condition = conditions.sql(5),
                    column = column,
                    comparison = comparison,
                    direction = direction,
                )
            })
        });
        texts.collect()
    });
    let field = FIELDS.iter().position(|(field, _)| *field == order.field).expect("every field is in FIELDS");
    &TEXTS[(field * 2 + usize::from(order.is_descending)) * Conditions::ALL.len() + conditions.index()]
}

/// Returns the notes after a position. It stops at `limit` notes, or once they exceed the size of a page.
pub(crate) async fn list(
    db: &Db,
    filter: &NoteFilter,
    order: OrderBy<NoteField>,
    after: Option<&NoteCursor>,
    limit: i64,
) -> store::Result<Vec<ListedNote>> {
    let (mut notes, mut counted, mut bytes) = (Vec::<ListedNote>::new(), 0, 0);
    let (mut after, mut wanted) = (after.cloned(), limit);
    loop {
        let size = wanted.min(CHUNK);
        let query = db.query(page_query(order, filter.conditions()));
        let chunk: Vec<ListedNote> = bind_page(query, filter, order, after.as_ref(), size).all().await?;
        wanted -= size;
        let is_last = chunk.len() < usize::try_from(size).unwrap_or_default();
        notes.extend(chunk);
        if is_last || wanted == 0 {
            return Ok(notes);
        }
        let chunk = &notes[counted..];
        bytes += chunk.iter().map(|listed| listed.note.text_size()).sum::<usize>();
        if bytes > PAGE_BYTES {
            return Ok(notes);
        }
        after = chunk.last().map(|note| note.cursor(order.field)).or(after);
        counted = notes.len();
    }
}

/// Binds the parameters of [`page_query`].
fn bind_page<'c>(
    query: Query<'c>,
    filter: &NoteFilter,
    order: OrderBy<NoteField>,
    after: Option<&NoteCursor>,
    limit: i64,
) -> Query<'c> {
    filter.bind_conditions(bind_cursor(query.bind(filter.user_id), order, after).bind(limit))
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

/// Returns the query of the number of notes: the owner `$1`, and the conditions.
fn count_query(conditions: Conditions) -> &'static str {
    static TEXTS: LazyLock<[String; 4]> =
        LazyLock::new(|| Conditions::ALL.map(|conditions| format!("SELECT COUNT(*) FROM notes n WHERE {}", conditions.sql(2))));
    &TEXTS[conditions.index()]
}

/// Returns the number of notes.
pub(crate) async fn count(db: &Db, filter: &NoteFilter) -> store::Result<i64> {
    let query = filter.bind_conditions(db.query(count_query(filter.conditions())).bind(filter.user_id));
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
