//! Lists entries, the newest first.

use access::Result;
use chrono::{DateTime, Utc};
use store::Executor;
use uuid::Uuid;

use crate::event::{Event, EventId, columns};

/// The entries that a list contains. An empty text and `None` match every entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The id of the actor.
    pub actor_id: String,
    /// The id of the target.
    pub target_id: String,
    /// The method, or the end of its path, such as `DeleteUser`.
    pub method: String,
    /// The name of the gRPC code, such as `PERMISSION_DENIED`.
    pub outcome: String,
    /// The time from which entries are listed.
    pub from: Option<DateTime<Utc>>,
    /// The time before which entries are listed.
    pub before: Option<DateTime<Utc>>,
}

impl Filter {
    /// Returns the values that distinguish this filter from others, for the page tokens of a list.
    pub fn key(&self) -> (&str, &str, &str, &str, Option<i64>, Option<i64>) {
        let Self { actor_id, target_id, method, outcome, from, before } = self;
        let micros = |time: &Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
        (actor_id, target_id, method, outcome, micros(from), micros(before))
    }
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The newest entry is the first.
    NewestFirst,
    /// The oldest entry is the first.
    OldestFirst,
}

macro_rules! select {
    ($condition:literal, $order:literal) => {
        concat!(
            "SELECT * FROM (SELECT seal_id, ",
            select!("audit_event", $condition, $order),
            ") AS moved
             UNION ALL
             SELECT * FROM (SELECT CAST(NULL AS BIGINT) AS seal_id, ",
            select!("audit_new_event", $condition, $order),
            ") AS new
             ORDER BY event_id",
            $order,
            " LIMIT $10"
        )
    };
    ($table:literal, $condition:literal, $order:literal) => {
        concat!(
            columns!(),
            " FROM ",
            $table,
            " WHERE ",
            $condition,
            " AND ($3 = '' OR method = $3 OR method LIKE $4 ESCAPE '!') AND ($5 = '' OR outcome = $5)
              AND event_id > $6 AND event_id < $7 AND time >= $8 AND time < $9 ORDER BY event_id",
            $order,
            " LIMIT $10"
        )
    };
}

/// Returns entries that match the filter, the newest first, after the entry `after`.
pub async fn list(on: impl Executor<'_>, filter: &Filter, after: Option<EventId>, limit: i64) -> Result<Vec<Event>> {
    list_in_order(on, filter, Order::NewestFirst, after, limit).await
}

/// As [`list`], in any order.
pub async fn list_in_order(
    on: impl Executor<'_>,
    filter: &Filter,
    order: Order,
    after: Option<EventId>,
    limit: i64,
) -> Result<Vec<Event>> {
    let (first, last) = (DateTime::UNIX_EPOCH, DateTime::from_timestamp(253_402_300_799, 0).unwrap_or_default());
    let from = filter.from.unwrap_or(first).clamp(first, last);
    let before = filter.before.unwrap_or(last).clamp(first, last);
    let pattern = format!("%/{}", filter.method.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
    // An id begins with its millisecond.
    let bounds = (id_before(from), Uuid::max().into());
    let (lowest, highest) = match (after, order) {
        (Some(after), Order::NewestFirst) => (bounds.0, after),
        (Some(after), Order::OldestFirst) => (after, bounds.1),
        (None, _) => bounds,
    };
    // Separate statements, because SQLite uses an index only for a condition that is always there.
    let query = on.query(match (filter.actor_id.is_empty(), filter.target_id.is_empty(), order) {
        (true, true, Order::NewestFirst) => select!("$1 = '' AND $2 = ''", " DESC"),
        (true, true, Order::OldestFirst) => select!("$1 = '' AND $2 = ''", ""),
        (true, false, Order::NewestFirst) => select!("$1 = '' AND target_id = $2", " DESC"),
        (true, false, Order::OldestFirst) => select!("$1 = '' AND target_id = $2", ""),
        (false, _, Order::NewestFirst) => select!("actor_id = $1 AND ($2 = '' OR target_id = $2)", " DESC"),
        (false, _, Order::OldestFirst) => select!("actor_id = $1 AND ($2 = '' OR target_id = $2)", ""),
    });
    let query = query.bind(filter.actor_id.as_str()).bind(filter.target_id.as_str());
    let query = query.bind(filter.method.as_str()).bind(pattern).bind(filter.outcome.as_str());
    Ok(query.bind(lowest).bind(highest).bind(from).bind(before).bind(limit).all().await?)
}

/// Returns an id that is smaller than every id of the millisecond of a time.
fn id_before(time: DateTime<Utc>) -> EventId {
    let millis = u128::from(time.timestamp_millis().unsigned_abs());
    Uuid::from_u128(millis << 80).into()
}
