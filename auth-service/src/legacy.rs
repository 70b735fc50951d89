//! The refresh tokens of a Django project (simplejwt): each is traded once for a session.
//!
//! A token of Django's counts as what came before the session's first refresh token, as its generation -1. So what holds when it
//! comes a second time is what holds for any spent refresh token: see [`sessions::judge`].

use access::{ClientInfo, Clock, Result, SessionId, UserId};
use chrono::{DateTime, Utc};
use django::tokens::DjangoToken;
use store::{Executor, Tx};
use uuid::Uuid;

use crate::{
    events::OutboxTransaction,
    sessions::{self, Lifetime, Session},
    users::{self, User},
};

/// What a refresh token of Django's is traded for.
#[derive(Debug)]
pub enum Trade {
    /// A new session.
    Opened(User, Session),
    /// It was traded before, for this session, which decides what it is still worth.
    Spent(User, Session),
    /// Nothing: the user has not come over, or may not sign in, or the token is blacklisted.
    Nothing,
}

#[derive(sqlx::FromRow)]
struct Known {
    state: String,
    session_id: Option<SessionId>,
}

/// Trades a token whose signature fits. Of several that come at once, one opens the session.
///
/// # Errors
///
/// Those of the database.
pub async fn trade(
    tx: &mut Tx,
    clock: &Clock,
    token: &DjangoToken,
    request_id: Option<Uuid>,
    kid: &str,
    (origin, lifetime): (&ClientInfo, Lifetime),
) -> Result<Trade> {
    // The user's lock is the token's as well: a token has one user.
    let Some(user) = lock_user(tx, token).await? else { return Ok(Trade::Nothing) };
    let known = find(tx, token).await?;
    if let Some(session_id) = known.as_ref().and_then(|known| known.session_id) {
        let session = sessions::lock(tx, session_id).await?;
        return Ok(session.map_or(Trade::Nothing, |session| Trade::Spent(user, session)));
    }
    let is_blacklisted = known.is_some_and(|known| known.state == "BLACKLISTED");
    if is_blacklisted || !user.is_active || is_signed_out(tx, user.user_id).await? {
        return Ok(Trade::Nothing);
    }
    let session = sessions::create_for_foreign(tx, clock, user.user_id, kid, origin, lifetime, request_id).await?;
    sessions::forget(tx, user.user_id, session.create_time).await?;
    write(tx, token, user.user_id, "REDEEMED", Some(session.session_id)).await?;
    Ok(Trade::Opened(user, session))
}

/// Signs out with a token whose signature fits: the session that it was traded for ends, or it is traded for none.
///
/// # Errors
///
/// Those of the database.
pub async fn logout(change: &mut OutboxTransaction, token: &DjangoToken) -> Result<()> {
    let Some(user) = lock_user(change, token).await? else { return Ok(()) };
    match find(change, token).await?.and_then(|known| known.session_id) {
        Some(session_id) => sessions::end(change, session_id, sessions::Reason::Logout).await,
        None => write(change, token, user.user_id, "BLACKLISTED", None).await,
    }
}

/// Remembers a user who has come over from the Django project `origin`.
///
/// # Errors
///
/// Those of the database.
pub async fn add_user(tx: &mut Tx, user_id: UserId, origin: &str, key: &str) -> Result<()> {
    let query = tx.query("INSERT INTO django_users (user_id, origin, origin_key, is_signed_out) VALUES ($1, $2, $3, FALSE)");
    query.bind(user_id).bind(origin).bind(key).execute().await?;
    Ok(())
}

/// True where the user has come over.
///
/// # Errors
///
/// Those of the database.
pub async fn has_user(tx: &mut Tx, user_id: UserId) -> Result<bool> {
    let found = tx.query("SELECT user_id FROM django_users WHERE user_id = $1").bind(user_id).optional::<(UserId,)>().await?;
    Ok(found.is_some())
}

/// Remembers a token that Django has issued. One that is known stays as it is.
///
/// # Errors
///
/// Those of the database.
pub async fn add_token(tx: &mut Tx, origin: &str, jti: &str, user_id: UserId, expires: DateTime<Utc>) -> Result<()> {
    let query = tx.query(
        "INSERT INTO django_tokens (origin, jti, user_id, state, expire_time) VALUES ($1, $2, $3, 'OUTSTANDING', $4)
         ON CONFLICT (origin, jti) DO NOTHING",
    );
    query.bind(origin).bind(jti).bind(user_id).bind(expires).execute().await?;
    Ok(())
}

/// Remembers that Django has blacklisted a token that is known. False where it was traded before.
///
/// # Errors
///
/// Those of the database.
pub async fn blacklist(tx: &mut Tx, origin: &str, jti: &str) -> Result<bool> {
    let query = tx.query("UPDATE django_tokens SET state = 'BLACKLISTED' WHERE origin = $1 AND jti = $2 AND session_id IS NULL");
    Ok(query.bind(origin).bind(jti).execute().await? > 0)
}

/// Forgets the tokens that have expired: they are refused for that.
///
/// # Errors
///
/// Those of the database.
pub async fn forget(tx: &mut Tx, clock: &Clock) -> Result<()> {
    // The clocks of two machines may be apart.
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

async fn find(tx: &mut Tx, token: &DjangoToken) -> Result<Option<Known>> {
    let query = tx.query("SELECT state, session_id FROM django_tokens WHERE origin = $1 AND jti = $2");
    Ok(query.bind(&token.project).bind(&token.jti).optional().await?)
}

async fn is_signed_out(tx: &mut Tx, user_id: UserId) -> Result<bool> {
    let query = tx.query("SELECT is_signed_out FROM django_users WHERE user_id = $1");
    Ok(query.bind(user_id).one::<(bool,)>().await?.0)
}

async fn write(tx: &mut Tx, token: &DjangoToken, user_id: UserId, state: &str, session: Option<SessionId>) -> Result<()> {
    let expires = DateTime::from_timestamp(token.expires(), 0).unwrap_or_default();
    let query = tx.query(
        "INSERT INTO django_tokens (origin, jti, user_id, state, session_id, expire_time) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (origin, jti) DO UPDATE SET state = excluded.state, session_id = excluded.session_id",
    );
    let query = query.bind(&token.project).bind(&token.jti).bind(user_id).bind(state).bind(session);
    query.bind(expires).execute().await?;
    Ok(())
}
