//! Sessions: a chain of refresh tokens of which only the last one is valid (RFC 9700 section 4.14.2).
//!
//! [`judge`] decides what happens to a presented refresh token. It is a pure function. A caller acts on a verdict other than `Rotate` only if
//! it locked the row before it read the session.

use access::{ClientInfo, Clock, Error, Result, SessionId, UserId};
use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use server::config;
use store::{
    Executor, Query, Tx,
    page::{TimeCursor, before},
};
use uuid::Uuid;

use crate::events::OutboxTransaction;

/// The time after a rotation during which the spent refresh token returns the same successor again.
const GRACE: TimeDelta = TimeDelta::seconds(10);
/// The most replays of one rotation.
const REPLAYS: i64 = 200;
/// The number of generations whose request is stored.
const REMEMBERED: i64 = 16;

/// The time that a session is kept after it has ended or expired.
const RETENTION: TimeDelta = TimeDelta::days(30);

/// The generation of a refresh token of another issuer, which is exchanged for the first refresh token of a session.
pub const EXTERNAL_GENERATION: i64 = -1;

/// The `client_id` of every session that a password opened.
pub const FIRST_PARTY: &str = "first-party";

/// The row of a session.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, as the migration documents them")]
pub struct Session {
    pub session_id: SessionId,
    pub user_id: UserId,
    pub client_id: String,
    #[sqlx(rename = "gen")]
    pub generation: i64,
    pub kid: String,
    pub rotated_at: DateTime<Utc>,
    pub replays: i64,
    pub request_hashes: Vec<u8>,
    pub status: SessionStatus,
    pub idle_expires_at: DateTime<Utc>,
    pub absolute_expires_at: DateTime<Utc>,
    pub user_agent: String,
    pub address: String,
    #[sqlx(rename = "session_create_time")]
    pub create_time: DateTime<Utc>,
}

/// A session, and what decides about it in the row of its user.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SessionOfUser {
    /// The session.
    #[sqlx(flatten)]
    pub session: Session,
    /// Whether the user is active.
    pub user_is_active: bool,
    /// The name of the user.
    pub username: String,
}

/// The state of a session. A session that has expired stays `Active` until somebody presents its refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "TEXT", rename_all = "UPPERCASE")]
pub enum SessionStatus {
    /// Its last refresh token is valid until it expires.
    Active,
    /// It has ended; the row holds the reason.
    Ended,
}

/// The lifetime of a session.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Lifetime {
    /// The lifetime of a session that is not refreshed, in seconds.
    #[arg(long = "session-idle-lifetime", env = "SESSION_IDLE_LIFETIME", value_name = "SECONDS", default_value = "1209600", value_parser = config::seconds(60..=31_536_000))]
    pub idle: TimeDelta,
    /// The maximum lifetime of a session, in seconds.
    #[arg(long = "session-lifetime", env = "SESSION_LIFETIME", value_name = "SECONDS", default_value = "7776000", value_parser = config::seconds(60..=315_360_000))]
    pub absolute: TimeDelta,
}

/// The reason why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "TEXT", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EndReason {
    /// The user signed out.
    Logout,
    /// The refresh token was presented after it had expired.
    Expired,
    /// A spent refresh token was presented, so somebody has stolen one (RFC 9700 section 4.14.2).
    Reuse,
    /// The user or an administrator ended it from another session.
    Revoked,
    /// The password was changed from another session.
    PasswordChanged,
    /// The user is not active.
    UserInactive,
    /// The key that signed its refresh token was withdrawn.
    KeyWithdrawn,
    /// The user signed in again, and had the maximum number of sessions.
    TooManySessions,
}

/// A refresh token with a valid signature, and the request that presents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    /// The generation of the token.
    pub generation: i64,
    /// The hash of the request id, if the request has one.
    pub request: Option<[u8; 32]>,
}

impl Presented {
    /// Creates the presentation of a token of this generation in a request with this id.
    pub fn new(generation: i64, request_id: Option<Uuid>) -> Self {
        let hash = |id: Uuid| {
            let mut hash = [0; 32];
            hash.copy_from_slice(digest::digest(&digest::SHA256, id.as_bytes()).as_ref());
            hash
        };
        Self { generation, request: request_id.map(hash) }
    }
}

/// The outcome for a presented refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the last token of its session and gets a successor.
    Rotate,
    /// It is the token before the last, and its client did not receive the response: it gets the same successor again.
    Replay,
    /// As `Replay`, but the limit of replays is reached.
    TooManyReplays,
    /// The request is a copy of an earlier one that the network delivered late.
    LateDuplicate,
    /// The token is spent.
    Reuse,
    /// The session has ended already.
    Ended,
    /// The session must end now, for this reason: it has expired, or its user is not active.
    Ends(EndReason),
    /// The token is newer than the session, because the database was restored from a backup.
    Restored,
}

/// Decides the outcome for a refresh token. With `strict` there is neither a grace period nor a retry by request id: every spent token
/// is reuse.
pub fn judge(session: &Session, user_is_active: bool, presented: Presented, now: DateTime<Utc>, strict: bool) -> Verdict {
    if !session.is_active() {
        return Verdict::Ended;
    }
    if !user_is_active {
        return Verdict::Ends(EndReason::UserInactive);
    }
    if session.idle_expires_at <= now || session.absolute_expires_at <= now {
        return Verdict::Ends(EndReason::Expired);
    }
    let behind = session.generation - presented.generation;
    let same_request = !strict && presented.request.is_some_and(|request| session.remembers(presented.generation, request));
    let in_grace = !strict && now - session.rotated_at <= GRACE;
    match behind {
        ..0 => Verdict::Restored,
        0 => Verdict::Rotate,
        1 if in_grace || same_request => {
            if session.replays < REPLAYS {
                Verdict::Replay
            } else {
                Verdict::TooManyReplays
            }
        }
        1.. if same_request => Verdict::LateDuplicate,
        1.. => Verdict::Reuse,
    }
}

impl Session {
    /// Returns true until the session has ended. A session that has expired can still be active.
    pub fn is_active(&self) -> bool {
        self.status == SessionStatus::Active
    }

    /// Returns the position of the session in a list.
    pub fn cursor(&self) -> TimeCursor<access::Session> {
        (self.create_time.timestamp_micros(), self.session_id)
    }

    /// Returns the session in its next generation, whose refresh token the key `kid` signs. `presented` is the token before.
    #[must_use]
    pub fn rotated(&self, presented: Presented, kid: &str, now: DateTime<Utc>, lifetime: Lifetime) -> Self {
        let request_hashes = remember(self.request_hashes.clone(), Presented { generation: self.generation, ..presented });
        Self {
            generation: self.generation + 1,
            kid: kid.to_owned(),
            rotated_at: now,
            replays: 0,
            request_hashes,
            idle_expires_at: (now + lifetime.idle).min(self.absolute_expires_at),
            ..self.clone()
        }
    }

    /// Returns true if `request` rotated `generation`.
    fn remembers(&self, generation: i64, request: [u8; 32]) -> bool {
        self.generation - generation <= REMEMBERED && self.request_hashes.get(slot(generation)) == Some(&request)
    }
}

/// Stores the hash of the request that presents a generation.
fn remember(mut request_hashes: Vec<u8>, presented: Presented) -> Vec<u8> {
    request_hashes.resize(usize::try_from(REMEMBERED).unwrap_or_default() * 32, 0);
    // No id has the hash zero, so zeros mean a request without an id.
    request_hashes[slot(presented.generation)].copy_from_slice(&presented.request.unwrap_or_default());
    request_hashes
}

/// Returns the place of the hash of the request that rotated a generation.
fn slot(generation: i64) -> std::ops::Range<usize> {
    let index = usize::try_from(generation.rem_euclid(REMEMBERED)).unwrap_or_default();
    index * 32..(index + 1) * 32
}

/// The columns of [`Session`] without `user_id`. None of them has the name of a column of `users`.
macro_rules! own_columns {
    () => {
        "session_id, client_id, gen, kid, rotated_at, replays, request_hashes, status, idle_expires_at, absolute_expires_at, \
         user_agent, address, create_time AS session_create_time"
    };
}
pub(crate) use own_columns;

macro_rules! columns {
    () => {
        concat!("user_id, ", own_columns!())
    };
}

/// Opens a session. The key `kid` signs its first refresh token.
pub async fn create(
    tx: &mut Tx,
    clock: &Clock,
    user_id: UserId,
    kid: &str,
    client: &ClientInfo,
    lifetime: Lifetime,
) -> Result<Session> {
    open(tx, clock, user_id, kid, client, lifetime, Vec::new()).await
}

/// Opens a session in exchange for a refresh token of another issuer. `request_id` is the id of the request that presents it.
pub async fn create_for_external(
    tx: &mut Tx,
    clock: &Clock,
    user_id: UserId,
    kid: &str,
    client: &ClientInfo,
    lifetime: Lifetime,
    request_id: Option<Uuid>,
) -> Result<Session> {
    let request_hashes = remember(Vec::new(), Presented::new(EXTERNAL_GENERATION, request_id));
    open(tx, clock, user_id, kid, client, lifetime, request_hashes).await
}

async fn open(
    tx: &mut Tx,
    clock: &Clock,
    user_id: UserId,
    kid: &str,
    client: &ClientInfo,
    lifetime: Lifetime,
    request_hashes: Vec<u8>,
) -> Result<Session> {
    let now = tx.now(clock).await?;
    let query = tx.query(concat!(
        "INSERT INTO sessions (session_id, user_id, client_id, gen, kid, rotated_at, replays, request_hashes, status,
             idle_expires_at, absolute_expires_at, user_agent, address, create_time)
         VALUES ($1, $2, $3, 0, $4, $5, 0, $6, 'ACTIVE', $7, $8, $9, $10, $5) RETURNING ",
        columns!()
    ));
    let address = client.address().map(|address| address.to_string()).unwrap_or_default();
    let session = query
        .bind(SessionId::new(clock))
        .bind(user_id)
        .bind(FIRST_PARTY)
        .bind(kid)
        .bind(now)
        .bind(request_hashes)
        .bind(now + lifetime.idle.min(lifetime.absolute))
        .bind(now + lifetime.absolute)
        .bind(client.user_agent())
        .bind(address)
        .one()
        .await?;
    Ok(session)
}

/// Deletes the sessions of a user that ended or expired more than 30 days ago.
pub async fn purge_expired(tx: &mut Tx, user_id: UserId, now: DateTime<Utc>) -> Result<()> {
    let query =
        tx.query("DELETE FROM sessions WHERE user_id = $1 AND rotated_at < $2 AND (status = 'ENDED' OR idle_expires_at < $2)");
    query.bind(user_id).bind(now - RETENTION).execute().await?;
    Ok(())
}

/// Returns the session with this id.
pub async fn find(on: impl Executor<'_>, session_id: SessionId) -> Result<Option<Session>> {
    let query = on.query(concat!("SELECT ", columns!(), " FROM sessions WHERE session_id = $1"));
    Ok(query.bind(session_id).optional().await?)
}

/// Returns the session with this id, and its user.
pub async fn find_with_user(on: impl Executor<'_>, session_id: SessionId) -> Result<Option<SessionOfUser>> {
    let query = on.query(concat!(
        "SELECT ",
        columns!(),
        ", user_is_active, username FROM sessions
         JOIN (SELECT user_id AS owner_id, is_active AS user_is_active, username FROM users) AS owners ON owner_id = user_id
         WHERE session_id = $1"
    ));
    Ok(query.bind(session_id).optional().await?)
}

/// Returns true if the session with this id and its user are active.
pub async fn has_active_user(on: impl Executor<'_>, session_id: SessionId) -> Result<bool> {
    let query = on.query(
        "SELECT sessions.session_id FROM sessions JOIN users ON users.user_id = sessions.user_id
         WHERE sessions.session_id = $1 AND sessions.status = 'ACTIVE' AND users.is_active",
    );
    Ok(query.bind(session_id).optional::<(SessionId,)>().await?.is_some())
}

/// Returns the sessions of a user that have neither ended nor expired by `now`, newest first, after the given one.
pub async fn list(
    on: impl Executor<'_>,
    user_id: UserId,
    now: DateTime<Utc>,
    after: Option<TimeCursor<access::Session>>,
    limit: i64,
) -> Result<Vec<Session>> {
    let (time, session_id) = before(after);
    let query = on.query(concat!(
        "SELECT ",
        columns!(),
        " FROM sessions WHERE user_id = $1 AND status = 'ACTIVE' AND idle_expires_at > $2 AND absolute_expires_at > $2
             AND (create_time, session_id) < ($3, $4) ORDER BY create_time DESC, session_id DESC LIMIT $5"
    ));
    Ok(query.bind(user_id).bind(now).bind(time).bind(session_id).bind(limit).all().await?)
}

/// Returns the session with this id and locks it until the transaction ends.
pub async fn lock(tx: &mut Tx, session_id: SessionId) -> Result<Option<Session>> {
    let query = tx.query(concat!("SELECT ", columns!(), " FROM sessions WHERE session_id = $1"));
    Ok(query.bind(session_id).for_update().optional().await?)
}

/// Stores the next generation of a session, unless the session was rotated or ended since it was read. Returns false then.
pub async fn store_rotated<'c>(query: impl FnOnce(&'static str) -> Query<'c>, rotated: &Session) -> Result<bool> {
    let query = query(
        "UPDATE sessions SET gen = $2, kid = $3, rotated_at = $4, replays = $5, request_hashes = $6, idle_expires_at = $7
         WHERE session_id = $1 AND gen = $2 - 1 AND status = 'ACTIVE'",
    );
    let query = query.bind(rotated.session_id).bind(rotated.generation).bind(&rotated.kid).bind(rotated.rotated_at);
    let query = query.bind(rotated.replays).bind(&rotated.request_hashes).bind(rotated.idle_expires_at);
    Ok(query.execute().await? == 1)
}

/// Counts a replay of the locked session.
pub async fn count_replay(tx: &mut Tx, session_id: SessionId) -> Result<()> {
    tx.query("UPDATE sessions SET replays = replays + 1 WHERE session_id = $1").bind(session_id).execute().await?;
    Ok(())
}

/// Ends a session and records the event. A session that has ended already keeps its reason.
pub async fn end(change: &mut OutboxTransaction, session_id: SessionId, reason: EndReason) -> Result<()> {
    let query = change.query(
        "UPDATE sessions SET status = 'ENDED', reason = $2 WHERE session_id = $1 AND status = 'ACTIVE' RETURNING session_id",
    );
    let ended = query.bind(session_id).bind(reason).all().await?;
    record_ended(change, ended);
    Ok(())
}

/// Ends a session of a user because somebody revokes it, and records the event.
///
/// # Errors
///
/// Returns NOT_FOUND if the user has no such session.
pub async fn revoke(change: &mut OutboxTransaction, user_id: UserId, session_id: SessionId) -> Result<()> {
    let found = find(&mut **change, session_id).await?.filter(|session| session.user_id == user_id);
    found.ok_or_else(|| Error::not_found("session_id"))?;
    change.add_field(format!("sessions.{session_id}"));
    end(change, session_id, EndReason::Revoked).await
}

/// Ends every session of a user except `kept`, and records the events.
pub async fn end_others(
    change: &mut OutboxTransaction,
    user_id: UserId,
    kept: Option<SessionId>,
    reason: EndReason,
) -> Result<()> {
    // A refresh token that Django issued to this user must not open a session any more.
    let query = change.query("UPDATE django_users SET is_signed_out = TRUE WHERE user_id = $1");
    query.bind(user_id).execute().await?;
    let query = change.query(
        "UPDATE sessions SET status = 'ENDED', reason = $3
         WHERE user_id = $1 AND session_id <> $2 AND status = 'ACTIVE' RETURNING session_id",
    );
    let ended = query.bind(user_id).bind(kept.unwrap_or(Uuid::nil().into())).bind(reason).all().await?;
    record_ended(change, ended);
    Ok(())
}

/// Ends the least recently refreshed sessions of a locked user until at most `limit` are left, and records the events. `kept` does not
/// end. 0 means no limit.
pub async fn end_least_recently_used(
    change: &mut OutboxTransaction,
    user_id: UserId,
    kept: SessionId,
    limit: usize,
    now: DateTime<Utc>,
) -> Result<()> {
    if limit == 0 {
        return Ok(());
    }
    let query = change.query(
        "SELECT COUNT(*) FROM sessions
         WHERE user_id = $1 AND status = 'ACTIVE' AND idle_expires_at > $2 AND absolute_expires_at > $2",
    );
    let (count,): (i64,) = query.bind(user_id).bind(now).one().await?;
    let excess = count - i64::try_from(limit).unwrap_or(i64::MAX);
    if excess <= 0 {
        return Ok(());
    }
    let query = change.query(
        "UPDATE sessions SET status = 'ENDED', reason = $3 WHERE status = 'ACTIVE' AND session_id IN
             (SELECT session_id FROM sessions
              WHERE user_id = $1 AND status = 'ACTIVE' AND idle_expires_at > $4 AND absolute_expires_at > $4 AND session_id <> $2
              ORDER BY rotated_at, session_id LIMIT $5)
         RETURNING session_id",
    );
    let ended = query.bind(user_id).bind(kept).bind(EndReason::TooManySessions).bind(now).bind(excess).all().await?;
    record_ended(change, ended);
    Ok(())
}

/// Ends every session whose refresh token the key `kid` signed, and records the events.
pub async fn end_signed_by(change: &mut OutboxTransaction, kid: &str) -> Result<()> {
    let query = change
        .query("UPDATE sessions SET status = 'ENDED', reason = $2 WHERE kid = $1 AND status = 'ACTIVE' RETURNING session_id");
    let ended = query.bind(kid).bind(EndReason::KeyWithdrawn).all().await?;
    record_ended(change, ended);
    Ok(())
}

fn record_ended(change: &mut OutboxTransaction, ended: Vec<(SessionId,)>) {
    let session_ids: Vec<_> = ended.into_iter().map(|(session_id,)| session_id).collect();
    change.record_ended_sessions(&session_ids);
}

#[cfg(test)]
mod tests;
