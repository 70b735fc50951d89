//! Access tokens that somebody other than the auth service has issued.

use std::fmt;

use chrono::{DateTime, Utc};

use super::{TokenError, TokenTimes};
use crate::UserId;

/// Another issuer whose access tokens a [`Verifier`](super::Verifier) accepts. Their users hold no permissions and no groups.
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// Verifies an access token of this source. Returns `None` if the token is not of this source.
    fn verify(&self, token: &str, now: DateTime<Utc>) -> Option<Result<ExternalToken, TokenError>>;
}

/// A verified access token of a [`TokenSource`].
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalToken {
    /// The user.
    pub user_id: UserId,
    /// The token's own id.
    pub jti: String,
    /// The name of the issuer, which takes the place of the client's id.
    pub client_id: String,
    /// When it was issued and when it expires.
    pub times: TokenTimes,
}
