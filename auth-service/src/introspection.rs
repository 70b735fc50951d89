//! Token introspection (RFC 7662): besides the signature and the times, it checks that the session and the user are still active.

use std::sync::Arc;

use access::{
    Clock, Result,
    token::{Claims, Verifier},
};
use chrono::{DateTime, Utc};
use store::Db;

use crate::{
    clients,
    sessions::{self, Presented, SessionOfUser, Verdict},
    tokens::{RefreshClaims, RefreshToken, Tokens},
};

/// Introspects tokens.
#[derive(Clone)]
pub struct Introspection {
    /// The database with sessions, users and clients.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// Reads the tokens.
    pub tokens: Tokens,
    /// Knows the revocations.
    pub verifier: Arc<Verifier>,
}

/// An active token.
#[derive(Debug)]
pub enum ActiveToken {
    /// An access token.
    Access(Arc<Claims>),
    /// The last refresh token of a session.
    Refresh {
        /// Its claims.
        claims: Box<RefreshClaims>,
        /// The username of its user.
        username: String,
    },
}

/// The state of a text that may be a token.
#[derive(Debug)]
pub enum TokenState {
    /// The token is active.
    Active(ActiveToken),
    /// The token was valid, but its session, user or client is no longer active, or it was exchanged for another token.
    Ended,
    /// The token has expired.
    Expired,
    /// This service has not issued the token.
    Invalid,
}

impl Introspection {
    /// Returns the token if it is active.
    pub async fn introspect(&self, token: &str) -> Result<Option<ActiveToken>> {
        match self.state(token).await? {
            TokenState::Active(token) => Ok(Some(token)),
            TokenState::Ended | TokenState::Expired | TokenState::Invalid => Ok(None),
        }
    }

    /// Returns the state of a token.
    pub async fn state(&self, token: &str) -> Result<TokenState> {
        let now = self.clock.now();
        if let Some(claims) = self.tokens.read_access_token(token, now) {
            if claims.exp <= now.timestamp() {
                return Ok(TokenState::Expired);
            }
            // The database shows an ended session or an inactive user before the verifier does. Only the verifier knows that
            // permissions have changed.
            let is_active = !self.verifier.revocations().contains(&claims)
                && match claims.sid {
                    Some(sid) => sessions::has_active_user(&self.db, sid).await?,
                    None => clients::find(&self.db, &claims.client_id).await?.is_some_and(|client| client.is_active),
                };
            return Ok(if is_active { TokenState::Active(ActiveToken::Access(claims)) } else { TokenState::Ended });
        }
        // Only the Django project itself can say whether a token that it issued is active.
        let Ok(RefreshToken::Ours(claims)) = self.tokens.read_refresh_token(token) else { return Ok(TokenState::Invalid) };
        if claims.exp <= now.timestamp() {
            return Ok(TokenState::Expired);
        }
        match sessions::find_with_user(&self.db, claims.sid).await? {
            Some(found) if is_current(&found, &claims, now) => {
                Ok(TokenState::Active(ActiveToken::Refresh { claims: Box::new(claims), username: found.username }))
            }
            _ => Ok(TokenState::Ended),
        }
    }
}

/// Returns true if a refresh with this token would rotate its session.
fn is_current(found: &SessionOfUser, claims: &RefreshClaims, now: DateTime<Utc>) -> bool {
    let presented = Presented::new(claims.generation, None);
    found.session.client_id == claims.client_id
        && sessions::judge(&found.session, found.user_is_active, presented, now, false) == Verdict::Rotate
}
