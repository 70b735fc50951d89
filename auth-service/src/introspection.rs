//! What a token is worth now (RFC 7662): not only whether it was signed here and has not expired, but also whether its session and
//! its user are still there.

use std::sync::Arc;

use access::{
    Clock, Result,
    token::{Claims, Verifier},
};
use chrono::{DateTime, Utc};
use store::Db;

use crate::{
    clients,
    sessions::{self, Presented, Session, Verdict},
    tokens::{RefreshClaims, RefreshToken, Tokens},
    users::{self, User},
};

/// Looks into tokens.
#[derive(Clone)]
pub struct Introspection {
    /// Where sessions and users are.
    pub db: Db,
    /// What tells the time.
    pub clock: Clock,
    /// What reads tokens.
    pub tokens: Tokens,
    /// What knows of revocations.
    pub verifier: Arc<Verifier>,
}

/// A token that is good now.
#[derive(Debug)]
pub enum Active {
    /// An access token.
    Access(Box<Claims>),
    /// The last refresh token of a session.
    Refresh {
        /// What it says.
        claims: Box<RefreshClaims>,
        /// Whom it keeps signed in.
        username: String,
    },
}

impl Introspection {
    /// What the token is, or nothing where it is not good, for whatever reason.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn look(&self, token: &str) -> Result<Option<Active>> {
        let now = self.clock.now();
        if let Some(claims) = self.tokens.read_access_token(token, now) {
            // The database knows of a session or a user before the verifier does, and of other permissions the verifier alone.
            let is_active = !self.verifier.revocations().contains(&claims)
                && match claims.sid {
                    Some(sid) => {
                        self.session_and_user(sid).await?.is_some_and(|(session, user)| session.is_active() && user.is_active)
                    }
                    None => clients::find(&self.db, &claims.client_id).await?.is_some_and(|client| client.is_active),
                };
            return Ok(is_active.then(|| Active::Access(Box::new(claims))));
        }
        // A token that a Django project has issued is that project's to vouch for.
        let Ok(RefreshToken::Ours(claims)) = self.tokens.read_refresh_token(token) else { return Ok(None) };
        let Some((session, user)) = self.session_and_user(claims.sid).await? else { return Ok(None) };
        let is_active = is_last(&session, &user, &claims, now);
        Ok(is_active.then(|| Active::Refresh { claims: Box::new(claims), username: user.username }))
    }

    async fn session_and_user(&self, session_id: access::SessionId) -> Result<Option<(Session, User)>> {
        let Some(session) = sessions::find(&self.db, session_id).await? else { return Ok(None) };
        let user = users::find(&self.db, session.user_id).await?;
        Ok(user.map(|user| (session, user)))
    }
}

/// True where a refresh with this token would be its session's next.
fn is_last(session: &Session, user: &User, claims: &RefreshClaims, now: DateTime<Utc>) -> bool {
    let presented = Presented::new(claims.generation, None);
    session.client_id == claims.client_id && sessions::judge(session, user.is_active, presented, now, false) == Verdict::Rotate
}
