//! The refresh tokens of a Django project (simplejwt): each can be exchanged for a session once.
//!
//! A token of Django counts as generation -1 of the session, the one before its first refresh token. So the same rules apply when it is
//! presented again as for any spent refresh token: see [`sessions::judge`].

use access::{ClientInfo, Clock, Result, SessionId, UserId};
use audit::Actor;
use chrono::{DateTime, Utc};
use django::tokens::DjangoToken;
use store::{Executor, Tx};
use uuid::Uuid;

use crate::{
    events::OutboxTransaction,
    sessions::{self, Lifetime, Session},
    users::{self, User},
};

/// The outcome of an exchange.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a call has one of them, for a moment")]
pub enum Exchange {
    /// The token opened a new session.
    NewSession(User, Session),
    /// The token was exchanged before, for this session, which decides what happens to it.
    AlreadyExchanged(Session),
    /// The token opens no session: its user was not imported or may not sign in, or the token is blacklisted.
    Rejected,
}

/// The state of a token (`django_tokens.state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "TEXT", rename_all = "UPPERCASE")]
enum TokenState {
    /// It was imported and not used here.
    Outstanding,
    /// It was exchanged for a session.
    Redeemed,
    /// It opens no session.
    Blacklisted,
}

#[derive(sqlx::FromRow)]
struct StoredToken {
    state: TokenState,
    session_id: Option<SessionId>,
}

/// Exchanges a token with a valid signature for a session. If it is presented several times at once, one call opens the session.
pub async fn exchange(
    tx: &mut Tx,
    clock: &Clock,
    token: &DjangoToken,
    request_id: Option<Uuid>,
    kid: &str,
    (client, lifetime): (&ClientInfo, Lifetime),
) -> Result<Exchange> {
    // The lock on the user also covers the token, since a token has one user.
    let Some(user) = lock_user(tx, token).await? else { return Ok(Exchange::Rejected) };
    let stored = find(tx, token).await?;
    if let Some(session_id) = stored.as_ref().and_then(|stored| stored.session_id) {
        let session = sessions::lock(tx, session_id).await?;
        return Ok(session.map_or(Exchange::Rejected, Exchange::AlreadyExchanged));
    }
    let is_blacklisted = stored.is_some_and(|stored| stored.state == TokenState::Blacklisted);
    if is_blacklisted || !user.is_active || is_signed_out(tx, user.user_id).await? {
        return Ok(Exchange::Rejected);
    }
    let session = sessions::create_for_external(tx, clock, user.user_id, kid, client, lifetime, request_id).await?;
    sessions::purge_expired(tx, user.user_id, session.create_time).await?;
    write(tx, token, user.user_id, TokenState::Redeemed, Some(session.session_id)).await?;
    Ok(Exchange::NewSession(user, session))
}

/// Signs out with a token that has a valid signature: ends its session, or blacklists a token that was never exchanged.
pub async fn logout(change: &mut OutboxTransaction, token: &DjangoToken) -> Result<()> {
    let Some(user) = lock_user(change, token).await? else { return Ok(()) };
    change.set_actor(Actor::User { id: user.user_id.to_string(), name: Some(user.username.clone()) });
    match find(change, token).await?.and_then(|stored| stored.session_id) {
        Some(session_id) => sessions::end(change, session_id, sessions::EndReason::Logout).await,
        None => write(change, token, user.user_id, TokenState::Blacklisted, None).await,
    }
}

/// Records that a user was imported from the Django project `origin`.
pub async fn add_user(tx: &mut Tx, user_id: UserId, origin: &str, key: &str) -> Result<()> {
    let query = tx.query("INSERT INTO django_users (user_id, origin, origin_key, is_signed_out) VALUES ($1, $2, $3, FALSE)");
    query.bind(user_id).bind(origin).bind(key).execute().await?;
    Ok(())
}

/// Returns true if the user was imported.
pub async fn has_user(tx: &mut Tx, user_id: UserId) -> Result<bool> {
    let found = tx.query("SELECT user_id FROM django_users WHERE user_id = $1").bind(user_id).optional::<(UserId,)>().await?;
    Ok(found.is_some())
}

/// Stores a token that Django issued. A token that is stored already stays as it is.
pub async fn add_token(tx: &mut Tx, origin: &str, jti: &str, user_id: UserId, expires: DateTime<Utc>) -> Result<()> {
    let query = tx.query(
        "INSERT INTO django_tokens (origin, jti, user_id, state, expire_time) VALUES ($1, $2, $3, 'OUTSTANDING', $4)
         ON CONFLICT (origin, jti) DO NOTHING",
    );
    query.bind(origin).bind(jti).bind(user_id).bind(expires).execute().await?;
    Ok(())
}

/// Records that Django has blacklisted a stored token. Returns false if the token was exchanged before.
pub async fn blacklist(tx: &mut Tx, origin: &str, jti: &str) -> Result<bool> {
    let query = tx.query("UPDATE django_tokens SET state = 'BLACKLISTED' WHERE origin = $1 AND jti = $2 AND session_id IS NULL");
    Ok(query.bind(origin).bind(jti).execute().await? > 0)
}

/// Deletes the tokens that have expired, since those are rejected anyway.
pub async fn purge_expired(tx: &mut Tx, clock: &Clock) -> Result<()> {
    // Allows for a difference between the clocks of two machines.
    let past = tx.now(clock).await? - chrono::TimeDelta::minutes(5);
    tx.query("DELETE FROM django_tokens WHERE expire_time < $1").bind(past).execute().await?;
    Ok(())
}

async fn lock_user(tx: &mut Tx, token: &DjangoToken) -> Result<Option<User>> {
    let query = tx.query("SELECT user_id FROM django_users WHERE origin = $1 AND origin_key = $2");
    let found = query.bind(&token.project).bind(&token.user_key).optional::<(UserId,)>().await?;
    match found {
        Some((user_id,)) => users::lock(tx, user_id).await,
        None => Ok(None),
    }
}

async fn find(tx: &mut Tx, token: &DjangoToken) -> Result<Option<StoredToken>> {
    let query = tx.query("SELECT state, session_id FROM django_tokens WHERE origin = $1 AND jti = $2");
    Ok(query.bind(&token.project).bind(&token.jti).optional().await?)
}

async fn is_signed_out(tx: &mut Tx, user_id: UserId) -> Result<bool> {
    let query = tx.query("SELECT is_signed_out FROM django_users WHERE user_id = $1");
    Ok(query.bind(user_id).one::<(bool,)>().await?.0)
}

async fn write(tx: &mut Tx, token: &DjangoToken, user_id: UserId, state: TokenState, session: Option<SessionId>) -> Result<()> {
    let expires = DateTime::from_timestamp(token.expires(), 0).unwrap_or_default();
    let query = tx.query(
        "INSERT INTO django_tokens (origin, jti, user_id, state, session_id, expire_time) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (origin, jti) DO UPDATE SET state = excluded.state, session_id = excluded.session_id",
    );
    let query = query.bind(&token.project).bind(&token.jti).bind(user_id).bind(state).bind(session);
    query.bind(expires).execute().await?;
    Ok(())
}
