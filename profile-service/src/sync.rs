//! Keeps the profiles in step with the users of the auth service: applies events, and stores the position up to which they are
//! applied.
//!
//! A batch of events and the cursor move in one transaction. So an event that is delivered twice is applied once, and only one of
//! several replicas applies it. `docs/architecture/sync.md` shows the states of the cursor.

use access::{
    Clock, Error, Result, UserId,
    events::{Batch, Event, EventConsumer, EventKind, EventPayload, EventSource, Position, StartFrom, UserState, WatchError},
};
use audit::{AuditLog, Entry};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Db, Executor, Tx};

use crate::profiles::{self, UserSnapshot};

/// The time without progress after which a snapshot that another replica has begun is given up.
const SNAPSHOT_TIMEOUT: TimeDelta = TimeDelta::seconds(10);
/// The age at which a profile without any event about its user is suspicious, although all events are applied.
const UNCONFIRMED_LIMIT: TimeDelta = TimeDelta::minutes(1);

/// The position up to which events are applied.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Cursor {
    /// Empty while a snapshot is being applied.
    pub(crate) epoch: String,
    /// -1 while a snapshot is being applied.
    pub(crate) pos: i64,
    pub(crate) event_id: String,
    /// The number of snapshots that were begun.
    pub(crate) generation: i64,
    pub(crate) update_time: DateTime<Utc>,
}

/// Returns the cursor. None if events were never followed.
pub(crate) async fn cursor(on: impl Executor<'_>) -> store::Result<Option<Cursor>> {
    on.query("SELECT epoch, pos, event_id, generation, update_time FROM feed_cursor").optional().await
}

/// Resets the cursor, so that the service that follows the events reads a snapshot of all users. Returns false if events were never
/// followed. `entry` is written to the audit log.
pub(crate) async fn request_snapshot(db: &Db, clock: &Clock, entry: Entry) -> Result<bool> {
    let mut tx = db.begin().await?;
    let query =
        tx.query("UPDATE feed_cursor SET epoch = '', pos = -1, event_id = '', generation = generation + 1, update_time = $1");
    // No service has begun the snapshot, so none has to be waited for.
    let count = query.bind(clock.now() - SNAPSHOT_TIMEOUT).execute().await?;
    if count == 0 {
        return Ok(false);
    }
    AuditLog::new(db.clone(), clock.clone()).record(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(true)
}

/// Applies events to the database.
pub(crate) struct UserSync {
    db: Db,
    clock: Clock,
    /// The cursor as this replica last saw it.
    cursor: Cursor,
    /// The time at which this replica requested its last snapshot.
    snapshot_requested: DateTime<Utc>,
    /// The time of the last check for a requested snapshot and for unconfirmed profiles.
    last_check: Option<DateTime<Utc>>,
}

impl UserSync {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        let now = clock.now();
        let cursor = Cursor { epoch: String::new(), pos: -1, event_id: String::new(), generation: 0, update_time: now };
        Self { db, clock, cursor, snapshot_requested: now, last_check: None }
    }

    async fn read_cursor(&mut self) -> Result<()> {
        if let Some(cursor) = cursor(&self.db).await? {
            self.cursor = cursor;
            return Ok(());
        }
        let query = self.db.write(
            "INSERT INTO feed_cursor (cursor_id, epoch, pos, event_id, generation, update_time) VALUES (1, '', -1, '', 0, $1)
             ON CONFLICT (cursor_id) DO NOTHING",
        );
        query.bind(self.clock.now()).execute().await?;
        self.cursor = cursor(&self.db).await?.ok_or_else(|| Error::internal("the row of feed_cursor is missing"))?;
        Ok(())
    }

    /// Moves the cursor and locks it. Returns none if another replica has moved it.
    async fn advance(&self, to: &Position) -> Result<Option<Tx>> {
        let mut tx = self.db.begin().await?;
        let query = tx.query(
            "UPDATE feed_cursor SET epoch = $1, pos = $2, event_id = $3, update_time = $4
             WHERE pos = $5 AND event_id = $6 AND generation = $7",
        );
        let query = query.bind(&to.epoch).bind(to.pos).bind(&to.event_id).bind(self.clock.now());
        let query = query.bind(self.cursor.pos).bind(&self.cursor.event_id).bind(self.cursor.generation);
        Ok((query.execute().await? == 1).then_some(tx))
    }

    async fn apply_batch(&mut self, batch: Batch) -> Result<bool> {
        let Some(mut tx) = self.advance(&batch.through).await? else { return Ok(false) };
        for received in &batch.events {
            apply(&mut tx, &received.event, self.cursor.generation, self.clock.now()).await?;
        }
        tx.commit().await?;
        let Position { epoch, pos, event_id } = batch.through;
        self.cursor = Cursor { epoch, pos, event_id, ..self.cursor.clone() };
        Ok(true)
    }

    /// Returns true if the last check for a requested snapshot and for unconfirmed profiles is a minute ago.
    fn is_check_due(&mut self) -> bool {
        let now = self.clock.now();
        let is_due = self.last_check.is_none_or(|last_check| now - last_check >= UNCONFIRMED_LIMIT);
        if is_due {
            self.last_check = Some(now);
        }
        is_due
    }

    /// Returns true if somebody has reset the cursor with `sync resync`, or another replica has begun a snapshot.
    async fn is_snapshot_requested(&self) -> Result<bool> {
        Ok(cursor(&self.db).await?.is_none_or(|cursor| cursor.generation != self.cursor.generation))
    }

    /// Returns true if there is a profile that only an access token has created, and no event about its user has arrived although all
    /// events are applied. This happens after the auth service was restored from a backup. A snapshot then shows whether the user
    /// still exists.
    async fn has_unconfirmed_profile(&self) -> Result<bool> {
        let now = self.clock.now();
        let query = self.db.query("SELECT user_id FROM profiles WHERE generation = 0 AND create_time < $1 LIMIT 1");
        let found: Option<(UserId,)> = query.bind(now - UNCONFIRMED_LIMIT).optional().await?;
        if let Some((user_id,)) = found {
            tracing::warn!(%user_id, "a profile exists, but no event about its user; reading a snapshot of the users");
        }
        Ok(found.is_some())
    }

    /// Begins a new generation, which a snapshot fills. Returns false if another replica has moved the cursor.
    async fn begin_snapshot(&mut self) -> Result<bool> {
        let (now, generation) = (self.clock.now(), self.cursor.generation + 1);
        let mut tx = self.db.begin().await?;
        let query = tx.query(
            "UPDATE feed_cursor SET epoch = '', pos = -1, event_id = '', generation = $1, update_time = $2
             WHERE pos = $3 AND event_id = $4 AND generation = $5",
        );
        let query = query.bind(generation).bind(now).bind(self.cursor.pos).bind(&self.cursor.event_id);
        if query.bind(self.cursor.generation).execute().await? == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        self.cursor = Cursor { epoch: String::new(), pos: -1, event_id: String::new(), generation, update_time: now };
        Ok(true)
    }

    /// Returns false if another replica has begun a snapshot of its own.
    async fn apply_snapshot_page(&self, users: &[UserState]) -> Result<bool> {
        let unknown = Position { epoch: String::new(), pos: -1, event_id: String::new() };
        let Some(mut tx) = self.advance(&unknown).await? else { return Ok(false) };
        for user in users {
            let user = UserSnapshot {
                user_id: UserId::parse("user_id", &user.user_id)?,
                username: &user.username,
                version: user.user_version,
                is_active: user.is_active,
                generation: self.cursor.generation,
            };
            profiles::replace(&mut tx, &user, self.clock.now()).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Deletes the users that are missing in the snapshot, and moves the cursor to its position.
    async fn finish_snapshot(&mut self, position: Position) -> Result<()> {
        let Some(mut tx) = self.advance(&position).await? else { return Ok(()) };
        let unconfirmed_before = self.snapshot_requested - UNCONFIRMED_LIMIT;
        let deleted = profiles::delete_missing(&mut tx, self.cursor.generation, unconfirmed_before, self.clock.now()).await?;
        for user_id in &deleted {
            audit::erase(&mut tx, *user_id).await?;
        }
        let deleted = deleted.len();
        tx.commit().await?;
        tracing::info!(pos = position.pos, generation = self.cursor.generation, deleted, "applied a snapshot of the users");
        Ok(())
    }
}

impl EventConsumer for UserSync {
    const KINDS: &'static [EventKind] = &[
        EventKind::UserCreated,
        EventKind::UserRenamed,
        EventKind::UserUpdated,
        EventKind::UserActivated,
        EventKind::UserDeactivated,
        EventKind::UserDeleted,
        EventKind::PermissionsChanged,
    ];

    async fn position(&mut self) -> Result<StartFrom, WatchError> {
        let last_generation = self.cursor.generation;
        self.read_cursor().await?;
        let Cursor { epoch, pos, event_id, generation, update_time } = self.cursor.clone();
        if pos >= 0 {
            return Ok(StartFrom::Position(Position { epoch, pos, event_id }));
        }
        let is_own = generation == last_generation;
        if generation > 0 && !is_own && self.clock.now() - update_time < SNAPSHOT_TIMEOUT {
            return Err(WatchError::Paused("a snapshot of the users was begun less than 10 seconds ago and is not complete"));
        }
        Ok(StartFrom::Snapshot)
    }

    async fn apply(&mut self, batch: Batch) -> Result<bool, WatchError> {
        let is_moved = batch.through.pos != self.cursor.pos || batch.through.event_id != self.cursor.event_id;
        if is_moved || !batch.events.is_empty() {
            return Ok(self.apply_batch(batch).await?);
        }
        if batch.is_at_end && self.is_check_due() {
            if self.is_snapshot_requested().await? {
                return Ok(false);
            }
            if self.has_unconfirmed_profile().await? {
                self.begin_snapshot().await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn resync(&mut self, source: &EventSource) -> Result<(), WatchError> {
        // The first page is read before the cursor is reset, so that an unreachable auth service leaves no unfinished snapshot behind.
        let requested = self.clock.now();
        let mut pages = source.snapshot().await?;
        let mut page = pages.message().await.map_err(Box::new)?.ok_or(WatchError::Malformed)?;
        if !self.begin_snapshot().await? {
            return Ok(());
        }
        self.snapshot_requested = requested;
        loop {
            if !self.apply_snapshot_page(&page.users).await? {
                return Ok(());
            }
            let position = page.position;
            match pages.message().await.map_err(Box::new)? {
                Some(next) => page = next,
                None => return Ok(self.finish_snapshot(position.ok_or(WatchError::Malformed)?).await?),
            }
        }
    }
}

/// Returns the position up to which events are applied and the time of the last one, or `None` before the first snapshot is complete.
pub(crate) async fn applied(db: &Db) -> store::Result<Option<(i64, DateTime<Utc>)>> {
    db.query("SELECT pos, update_time FROM feed_cursor WHERE pos >= 0").optional().await
}

/// Applies an event to the profile of its user. An event whose version is not newer than the stored one changes nothing.
async fn apply(tx: &mut Tx, event: &Event, generation: i64, now: DateTime<Utc>) -> Result<()> {
    let Some((user_id, version)) = event.user else { return Ok(()) };
    match &event.payload {
        EventPayload::UserDeleted => {
            profiles::insert_tombstone(tx, user_id, now).await?;
            audit::erase(tx, user_id).await?;
        }
        EventPayload::UserCreated { username } => {
            let user = UserSnapshot { user_id, username, version, is_active: true, generation };
            profiles::create_or_confirm(tx, &user, now).await?;
        }
        EventPayload::UserRenamed { username } => profiles::rename(tx, user_id, username, version).await?,
        EventPayload::UserActivated => profiles::set_user_active(tx, user_id, true, version).await?,
        EventPayload::UserDeactivated => profiles::set_user_active(tx, user_id, false, version).await?,
        _ => profiles::set_user_version(tx, user_id, version).await?,
    }
    Ok(())
}
