//! Keeps the profiles true to the users of the auth service: what an event makes of them, and where the events are.
//!
//! A batch of events and the cursor behind it are one transaction, so that an event that is delivered twice is applied once, and
//! of several replicas one applies it.

use access::{
    Clock, Error, Result, UserId,
    events::{Batch, Consumer, Event, EventKind, Position, Source, Start, UserState, WatchError, What},
};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Db, Executor, Tx};

use crate::profiles;

/// How long another replica that takes in a snapshot may be silent before it is taken for dead.
const PATIENCE: TimeDelta = TimeDelta::seconds(10);
/// How long a profile may be there without an event that tells of its user, while the events are all applied.
const UNCONFIRMED: TimeDelta = TimeDelta::minutes(1);

/// How far the events are applied.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Cursor {
    pub(crate) epoch: String,
    pub(crate) pos: i64,
    pub(crate) event_id: String,
    pub(crate) generation: i64,
    pub(crate) update_time: DateTime<Utc>,
}

/// The cursor, where events have ever been followed.
pub(crate) async fn cursor(on: impl Executor<'_>) -> store::Result<Option<Cursor>> {
    on.query("SELECT epoch, pos, event_id, generation, update_time FROM feed_cursor").optional().await
}

/// Applies events to the database.
pub(crate) struct Sync {
    db: Db,
    clock: Clock,
    /// Where this replica believes the cursor to be.
    cursor: Cursor,
    /// When this replica last began to take in a snapshot.
    began: DateTime<Utc>,
    /// When unconfirmed profiles were last looked for.
    looked: Option<DateTime<Utc>>,
}

impl Sync {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        let update_time = clock.now();
        let cursor = Cursor { epoch: String::new(), pos: -1, event_id: String::new(), generation: 0, update_time };
        Self { db, clock, cursor, began: update_time, looked: None }
    }

    /// Reads the cursor.
    async fn read(&mut self) -> Result<()> {
        if let Some(cursor) = cursor(&self.db).await? {
            self.cursor = cursor;
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let query = tx.query(
            "INSERT INTO feed_cursor (cursor_id, epoch, pos, event_id, generation, update_time) VALUES (1, '', -1, '', 0, $1)
             ON CONFLICT (cursor_id) DO NOTHING",
        );
        query.bind(self.clock.now()).execute().await?;
        tx.commit().await?;
        self.cursor = cursor(&self.db).await?.ok_or_else(|| Error::internal("the cursor that was just made is gone"))?;
        Ok(())
    }

    /// Moves the cursor from where it is believed to be, and locks it. None where it is not there.
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

    async fn apply_batch(&mut self, events: &[Event], through: Position) -> Result<bool> {
        let Some(mut tx) = self.advance(&through).await? else { return Ok(false) };
        for event in events {
            apply(&mut tx, event, self.cursor.generation, self.clock.now()).await?;
        }
        tx.commit().await?;
        let Position { epoch, pos, event_id } = through;
        self.cursor = Cursor { epoch, pos, event_id, ..self.cursor.clone() };
        Ok(true)
    }

    /// True where only an access token has told of the user of a profile, and no event although every event is applied: a
    /// snapshot says whether the user is gone with what an older copy of the auth service's database does not have.
    async fn finds_unconfirmed(&mut self) -> Result<bool> {
        let now = self.clock.now();
        if self.looked.is_some_and(|looked| now - looked < UNCONFIRMED) {
            return Ok(false);
        }
        self.looked = Some(now);
        let query = self.db.query("SELECT user_id FROM profiles WHERE generation = 0 AND create_time < $1 LIMIT 1");
        let found: Option<(UserId,)> = query.bind(now - UNCONFIRMED).optional().await?;
        if let Some((user_id,)) = found {
            tracing::warn!(%user_id, "no event tells of a user who has a profile: a snapshot is taken in");
        }
        Ok(found.is_some())
    }

    /// Begins to take in a snapshot. False where somebody else has.
    async fn claim(&mut self) -> Result<bool> {
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
        self.began = now;
        self.cursor = Cursor { epoch: String::new(), pos: -1, event_id: String::new(), generation, update_time: now };
        Ok(true)
    }

    /// Takes in one page of the snapshot.
    async fn take_in(&self, users: &[UserState]) -> Result<bool> {
        let nowhere = Position { epoch: String::new(), pos: -1, event_id: String::new() };
        let Some(mut tx) = self.advance(&nowhere).await? else { return Ok(false) };
        for user in users {
            let user_id = UserId::parse("user_id", &user.user_id)?;
            let known = profiles::Known {
                user_id,
                username: &user.username,
                version: user.user_version,
                is_active: user.is_active,
                generation: self.cursor.generation,
            };
            profiles::set_known(&mut tx, &known, self.clock.now()).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Removes whoever was not in the snapshot, and goes on from its position.
    async fn sweep(&mut self, position: Position) -> Result<bool> {
        let Some(mut tx) = self.advance(&position).await? else { return Ok(false) };
        let swept = profiles::sweep(&mut tx, self.cursor.generation, self.began - UNCONFIRMED, self.clock.now()).await?;
        tx.commit().await?;
        tracing::info!(pos = position.pos, generation = self.cursor.generation, swept, "a snapshot of the users is taken in");
        Ok(true)
    }
}

impl Consumer for Sync {
    const KINDS: &'static [EventKind] = &[
        EventKind::UserCreated,
        EventKind::UserRenamed,
        EventKind::UserUpdated,
        EventKind::UserActivated,
        EventKind::UserDeactivated,
        EventKind::UserDeleted,
        EventKind::PermissionsChanged,
    ];

    async fn position(&mut self) -> Result<Start, WatchError> {
        let before = self.cursor.clone();
        self.read().await?;
        let Cursor { epoch, pos, event_id, generation, update_time } = self.cursor.clone();
        if pos >= 0 {
            return Ok(Start::After(Position { epoch, pos, event_id }));
        }
        let is_mine = before.generation == generation;
        if generation > 0 && !is_mine && self.clock.now() - update_time < PATIENCE {
            return Err(Error::Unavailable("another replica takes in a snapshot".into()).into());
        }
        Ok(Start::Over)
    }

    async fn apply(&mut self, batch: Batch, through: Position) -> Result<bool, WatchError> {
        let stands = through.pos == self.cursor.pos && through.event_id == self.cursor.event_id;
        if !(batch.events.is_empty() && stands) {
            return Ok(self.apply_batch(&batch.events, through).await?);
        }
        if batch.at_end && self.finds_unconfirmed().await? {
            self.claim().await?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn start_over(&mut self, source: &Source) -> Result<(), WatchError> {
        // Whoever was a user before it was asked for and is not in it is gone.
        if !self.claim().await? {
            return Ok(());
        }
        let mut pages = source.snapshot().await?;
        let mut position = None;
        while let Some(page) = pages.message().await.map_err(Box::new)? {
            if !self.take_in(&page.users).await? {
                return Ok(());
            }
            position = page.position;
        }
        self.sweep(position.ok_or(WatchError::Malformed)?).await?;
        Ok(())
    }
}

/// What an event makes of the profile of its user. One that is not newer than what is known changes nothing.
async fn apply(tx: &mut Tx, event: &Event, generation: i64, now: DateTime<Utc>) -> Result<()> {
    let Some(what) = &event.what else { return Ok(()) };
    let user_id = UserId::parse("user_id", &event.user_id)?;
    let version = event.user_version;
    if let What::UserDeleted(_) = what {
        return Ok(profiles::bury(tx, user_id, now).await?);
    }
    if let What::UserCreated(name) = what {
        let known = profiles::Known { user_id, username: &name.username, version, is_active: true, generation };
        return Ok(profiles::create_known(tx, &known, now).await?);
    }
    match what {
        What::UserRenamed(name) => profiles::rename(tx, user_id, &name.username, version).await?,
        What::UserActivated(_) => profiles::set_user_active(tx, user_id, true, version).await?,
        What::UserDeactivated(_) => profiles::set_user_active(tx, user_id, false, version).await?,
        _ => profiles::set_user_version(tx, user_id, version).await?,
    }
    Ok(())
}
