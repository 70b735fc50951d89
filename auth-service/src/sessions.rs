//! Sessions: a chain of refresh tokens of which the last one counts (RFC 9700 section 4.14.2).
//!
//! [`judge`] decides what a presented refresh token is worth. It is a pure function; the row is locked around it.

use access::{ClientInfo, Clock, Result, SessionId, UserId};
use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use store::{
    Executor, Tx,
    page::{TimeCursor, before},
};
use uuid::Uuid;

use crate::events::OutboxTransaction;

/// How long the predecessor of a refresh token is answered again.
const GRACE: TimeDelta = TimeDelta::seconds(10);
/// How often at most.
const REPLAYS: i64 = 200;
/// How many generations are remembered with the request that rotated them.
const REMEMBERED: i64 = 16;

/// How long a session that is over can still be looked at.
const KEPT: TimeDelta = TimeDelta::days(30);

/// The generation of a token that is no session's own, and that is traded for the first refresh token of one.
pub const FOREIGN: i64 = -1;

/// The client of every session that begins with a password.
pub const FIRST_PARTY: &str = "first-party";

/// A session's row.
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
    pub status: String,
    pub idle_expires_at: DateTime<Utc>,
    pub absolute_expires_at: DateTime<Utc>,
    pub user_agent: String,
    pub address: String,
    pub create_time: DateTime<Utc>,
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// Without a refresh.
    pub idle: TimeDelta,
    /// With any number of them.
    pub absolute: TimeDelta,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its user signed out.
    Logout,
    /// Nobody refreshed it in time.
    Expired,
    /// A spent refresh token came back: one of the two who have it is a thief.
    Reuse,
    /// Its user, or an administrator, ended it from elsewhere.
    Revoked,
    /// The password was changed from another session.
    PasswordChanged,
    /// The user is not active any more.
    UserInactive,
    /// The key that signed its refresh token was withdrawn.
    KeyWithdrawn,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Logout => "LOGOUT",
            Self::Expired => "EXPIRED",
            Self::Reuse => "REUSE",
            Self::Revoked => "REVOKED",
            Self::PasswordChanged => "PASSWORD_CHANGED",
            Self::UserInactive => "USER_INACTIVE",
            Self::KeyWithdrawn => "KEY_WITHDRAWN",
        }
    }
}

/// A refresh token whose signature fits, and the request that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented {
    /// The token's generation.
    pub generation: i64,
    /// The hash of the request's id, where it has one.
    pub request: Option<[u8; 32]>,
}

impl Presented {
    /// A token of this generation in a request with this id.
    pub fn new(generation: i64, request_id: Option<Uuid>) -> Self {
        let hash = |id: Uuid| {
            let mut hash = [0; 32];
            hash.copy_from_slice(digest::digest(&digest::SHA256, id.as_bytes()).as_ref());
            hash
        };
        Self { generation, request: request_id.map(hash) }
    }
}

/// What a presented refresh token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the last one: it gets a successor.
    Rotate,
    /// It is the one before, and its client did not get the answer: the same successor again.
    Replay,
    /// The same, too often.
    TooManyReplays,
    /// A copy of an old request that the network delivered late.
    LateDuplicate,
    /// It is spent.
    Reuse,
    /// The session has ended already.
    Ended,
    /// The session has expired, or its user is not active, and is to end for it.
    Ends(Reason),
    /// It is newer than the session: the database was restored from a backup.
    Restored,
}

/// Judges a refresh token. `strict` knows no grace and no request ids: every spent token is reuse.
pub fn judge(session: &Session, user_is_active: bool, presented: Presented, now: DateTime<Utc>, strict: bool) -> Verdict {
    if !session.is_active() {
        return Verdict::Ended;
    }
    if !user_is_active {
        return Verdict::Ends(Reason::UserInactive);
    }
    if session.idle_expires_at <= now || session.absolute_expires_at <= now {
        return Verdict::Ends(Reason::Expired);
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
    /// False once it has ended.
    pub fn is_active(&self) -> bool {
        self.status == "ACTIVE"
    }

    /// Where it stands in a list.
    pub fn place(&self) -> TimeCursor<access::Session> {
        (self.create_time.timestamp_micros(), self.session_id)
    }

    /// The session with its next generation, which `presented` has asked for and whose refresh token the key `kid` signs.
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

    /// True where `request` is what rotated `generation`.
    fn remembers(&self, generation: i64, request: [u8; 32]) -> bool {
        self.generation - generation <= REMEMBERED && self.request_hashes.get(slot(generation)) == Some(&request)
    }
}

/// The hashes of requests, with that of the one that presents a generation.
fn remember(mut request_hashes: Vec<u8>, presented: Presented) -> Vec<u8> {
    request_hashes.resize(usize::try_from(REMEMBERED).unwrap_or_default() * 32, 0);
    // Nothing hashes to zeros, so they stand for a request without an id.
    request_hashes[slot(presented.generation)].copy_from_slice(&presented.request.unwrap_or_default());
    request_hashes
}

/// Where the hash of the request that rotated a generation is kept.
fn slot(generation: i64) -> std::ops::Range<usize> {
    let index = usize::try_from(generation.rem_euclid(REMEMBERED)).unwrap_or_default();
    index * 32..(index + 1) * 32
}

macro_rules! columns {
    () => {
        "session_id, user_id, client_id, gen, kid, rotated_at, replays, request_hashes, status, idle_expires_at, \
         absolute_expires_at, user_agent, address, create_time"
    };
}

/// Opens a session, whose first refresh token the key `kid` signs.
///
/// # Errors
///
/// Those of the database.
pub async fn create(
    tx: &mut Tx,
    clock: &Clock,
    user_id: UserId,
    kid: &str,
    origin: &ClientInfo,
    lifetime: Lifetime,
) -> Result<Session> {
    open(tx, clock, user_id, kid, origin, lifetime, Vec::new()).await
}

/// Opens a session for a token of [`FOREIGN`] generation, in a request with this id.
///
/// # Errors
///
/// Those of the database.
pub async fn create_for_foreign(
    tx: &mut Tx,
    clock: &Clock,
    user_id: UserId,
    kid: &str,
    origin: &ClientInfo,
    lifetime: Lifetime,
    request_id: Option<Uuid>,
) -> Result<Session> {
    let request_hashes = remember(Vec::new(), Presented::new(FOREIGN, request_id));
    open(tx, clock, user_id, kid, origin, lifetime, request_hashes).await
}

async fn open(
    tx: &mut Tx,
    clock: &Clock,
    user_id: UserId,
    kid: &str,
    origin: &ClientInfo,
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
    let address = origin.address().map(|address| address.to_string()).unwrap_or_default();
    let session = query
        .bind(SessionId::new(clock))
        .bind(user_id)
        .bind(FIRST_PARTY)
        .bind(kid)
        .bind(now)
        .bind(request_hashes)
        .bind(now + lifetime.idle.min(lifetime.absolute))
        .bind(now + lifetime.absolute)
        .bind(origin.user_agent())
        .bind(address)
        .one()
        .await?;
    Ok(session)
}

/// Forgets the sessions of a user that have been over for a month.
///
/// # Errors
///
/// Those of the database.
pub async fn forget(tx: &mut Tx, user_id: UserId, now: DateTime<Utc>) -> Result<()> {
    let query =
        tx.query("DELETE FROM sessions WHERE user_id = $1 AND rotated_at < $2 AND (status = 'ENDED' OR idle_expires_at < $2)");
    query.bind(user_id).bind(now - KEPT).execute().await?;
    Ok(())
}

/// The session with this id.
///
/// # Errors
///
/// Those of the database.
pub async fn find(on: impl Executor<'_>, session_id: SessionId) -> Result<Option<Session>> {
    let query = on.query(concat!("SELECT ", columns!(), " FROM sessions WHERE session_id = $1"));
    Ok(query.bind(session_id).optional().await?)
}

/// The sessions of one user that have neither ended nor expired by `now`, the newest first, after the given one.
///
/// # Errors
///
/// Those of the database.
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

/// The session with this id, which nobody else changes until the transaction ends.
///
/// # Errors
///
/// Those of the database.
pub async fn lock(tx: &mut Tx, session_id: SessionId) -> Result<Option<Session>> {
    let query = tx.query(concat!("SELECT ", columns!(), " FROM sessions WHERE session_id = $1"));
    Ok(query.bind(session_id).for_update().optional().await?)
}

/// Gives the locked session its next generation, whose refresh token the key `kid` signs.
///
/// # Errors
///
/// Those of the database.
pub async fn rotate(
    tx: &mut Tx,
    old: &Session,
    presented: Presented,
    kid: &str,
    now: DateTime<Utc>,
    lifetime: Lifetime,
) -> Result<Session> {
    let new = old.rotated(presented, kid, now, lifetime);
    let query = tx.query(concat!(
        "UPDATE sessions SET gen = $2, kid = $3, rotated_at = $4, replays = $5, request_hashes = $6, idle_expires_at = $7
         WHERE session_id = $1 RETURNING ",
        columns!()
    ));
    let query = query.bind(new.session_id).bind(new.generation).bind(new.kid).bind(new.rotated_at).bind(new.replays);
    Ok(query.bind(new.request_hashes).bind(new.idle_expires_at).one().await?)
}

/// Counts a replay of the locked session.
///
/// # Errors
///
/// Those of the database.
pub async fn count_replay(tx: &mut Tx, session_id: SessionId) -> Result<()> {
    tx.query("UPDATE sessions SET replays = replays + 1 WHERE session_id = $1").bind(session_id).execute().await?;
    Ok(())
}

/// Ends a session, and tells. One that has ended keeps its reason.
///
/// # Errors
///
/// Those of the database.
pub async fn end(change: &mut OutboxTransaction, session_id: SessionId, reason: Reason) -> Result<()> {
    let query = change.query(
        "UPDATE sessions SET status = 'ENDED', reason = $2 WHERE session_id = $1 AND status = 'ACTIVE' RETURNING session_id",
    );
    let ended = query.bind(session_id).bind(reason.name()).all().await?;
    record_ended(change, ended);
    Ok(())
}

/// Ends every session of a user except `kept`, and records the events.
///
/// # Errors
///
/// Those of the database.
pub async fn end_others(change: &mut OutboxTransaction, user_id: UserId, kept: Option<SessionId>, reason: Reason) -> Result<()> {
    // From now on no refresh token that Django issued to this user opens a session.
    let query = change.query("UPDATE django_users SET is_signed_out = TRUE WHERE user_id = $1");
    query.bind(user_id).execute().await?;
    let query = change.query(
        "UPDATE sessions SET status = 'ENDED', reason = $3
         WHERE user_id = $1 AND session_id <> $2 AND status = 'ACTIVE' RETURNING session_id",
    );
    let ended = query.bind(user_id).bind(kept.unwrap_or(Uuid::nil().into())).bind(reason.name()).all().await?;
    record_ended(change, ended);
    Ok(())
}

/// Ends every session whose refresh token the key `kid` has signed, and tells.
///
/// # Errors
///
/// Those of the database.
pub async fn end_signed_by(change: &mut OutboxTransaction, kid: &str) -> Result<()> {
    let query = change
        .query("UPDATE sessions SET status = 'ENDED', reason = $2 WHERE kid = $1 AND status = 'ACTIVE' RETURNING session_id");
    let ended = query.bind(kid).bind(Reason::KeyWithdrawn.name()).all().await?;
    record_ended(change, ended);
    Ok(())
}

fn record_ended(change: &mut OutboxTransaction, ended: Vec<(SessionId,)>) {
    let session_ids: Vec<_> = ended.into_iter().map(|(session_id,)| session_id).collect();
    change.record_ended_sessions(&session_ids);
}

#[cfg(test)]
mod tests;
