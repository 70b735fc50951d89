//! The authenticated caller of a method.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use contract::Actor;

use crate::{
    ClientInfo, Error, Result, SessionId, UserId,
    call_limit::CallPermit,
    token::{Claims, VerifiedToken},
};

/// The caller of a method, as its verified access token describes it.
#[derive(Debug, Clone)]
pub struct Caller {
    token: Arc<VerifiedToken>,
    revocations_are_fresh: bool,
    client_info: ClientInfo,
    /// Counts the call for as long as its handler has the caller.
    _permit: Option<Arc<CallPermit>>,
}

impl Caller {
    /// Creates a caller. `revocations_are_fresh` says whether the list of revocations was fresh when the token was verified.
    pub(crate) fn new(token: Arc<VerifiedToken>, revocations_are_fresh: bool, client_info: ClientInfo) -> Self {
        Self { token, revocations_are_fresh, client_info, _permit: None }
    }

    /// Holds the permit until the caller and its clones are dropped.
    pub(crate) fn with_permit(self, permit: CallPermit) -> Self {
        Self { _permit: Some(Arc::new(permit)), ..self }
    }

    /// Returns the `sub` claim: the id of the user or the client.
    pub fn subject(&self) -> &str {
        &self.token.claims.sub
    }

    /// Returns the id of the user.
    ///
    /// # Errors
    ///
    /// Returns PERMISSION_DENIED if the caller is not a user.
    pub fn user_id(&self) -> Result<UserId> {
        let subject = Some(self.subject()).filter(|_| self.actor() == Actor::User);
        subject.and_then(|subject| subject.parse::<uuid::Uuid>().ok()).map(UserId::from).ok_or(Error::PermissionMissing(None))
    }

    /// Returns the username at the time when the token was issued.
    pub fn username(&self) -> Option<&str> {
        self.token.claims.preferred_username.as_deref()
    }

    /// Returns the version of the user or the client from which the token was issued.
    pub fn version(&self) -> i64 {
        self.token.claims.ver
    }

    /// Returns the session that the token belongs to.
    pub fn session_id(&self) -> Option<SessionId> {
        self.token.claims.sid
    }

    /// Returns the kind of caller.
    pub fn actor(&self) -> Actor {
        self.token.claims.actor
    }

    /// Returns the claims of the token.
    pub fn claims(&self) -> &Claims {
        &self.token.claims
    }

    /// Returns the time when the token expires.
    pub fn expires(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.token.claims.exp, 0).unwrap_or_default()
    }

    /// Returns the names of the user's groups.
    pub fn groups(&self) -> &[String] {
        &self.token.claims.groups
    }

    /// Returns the permissions that the token holds, separated by spaces.
    pub fn scope(&self) -> &str {
        &self.token.claims.scope
    }

    /// Returns true if the token holds the permission. The guard checks the access rule; a handler rarely needs this.
    pub fn may(&self, permission: &str) -> bool {
        self.token.may(permission)
    }

    /// Returns true if the list of revocations was fresh when the token was verified. Otherwise the token may have been revoked.
    pub fn revocations_are_fresh(&self) -> bool {
        self.revocations_are_fresh
    }

    /// Returns the address and the user agent of the client.
    pub fn client_info(&self) -> &ClientInfo {
        &self.client_info
    }
}
