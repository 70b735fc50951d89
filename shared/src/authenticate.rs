//! Who is calling: the layer that turns a bearer token (RFC 6750) into a [`Caller`], or refuses before the body is read.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use chrono::{DateTime, Utc};
use http::{HeaderMap, Request, Response, header};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{
    Error, Origin, Result, SessionId, UserId,
    contract::{Actor, Contract, Who},
    error::{Reason, status},
    token::{Claims, Verified, Verifier},
};

/// Who calls, as a verified access token says.
#[derive(Debug, Clone)]
pub struct Caller {
    token: Arc<Verified>,
    /// Whether news of revocations were fresh when the token was verified.
    fresh: bool,
    origin: Origin,
}

impl Caller {
    /// The user's or the client's id, as it stands in the token.
    pub fn subject(&self) -> &str {
        &self.token.claims.sub
    }

    /// The user's id.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED where the caller is no user.
    pub fn user_id(&self) -> Result<UserId> {
        let subject = Some(self.subject()).filter(|_| self.actor() == Actor::User);
        subject.and_then(|subject| subject.parse::<uuid::Uuid>().ok()).map(UserId::from).ok_or(Error::PermissionMissing(None))
    }

    /// The username, at the time when the token was issued.
    pub fn username(&self) -> Option<&str> {
        self.token.claims.preferred_username.as_deref()
    }

    /// The version of the user or the client that the token was issued for.
    pub fn version(&self) -> i64 {
        self.token.claims.ver
    }

    /// The session that the token belongs to.
    pub fn session_id(&self) -> Option<SessionId> {
        self.token.claims.sid
    }

    /// What kind of caller it is.
    pub fn actor(&self) -> Actor {
        self.token.claims.actor
    }

    /// What the token says.
    pub fn claims(&self) -> &Claims {
        &self.token.claims
    }

    /// When the token expires.
    pub fn expires(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.token.claims.exp, 0).unwrap_or_default()
    }

    /// The groups of the user.
    pub fn groups(&self) -> &[String] {
        &self.token.claims.groups
    }

    /// The permissions that the token holds, separated by spaces.
    pub fn scope(&self) -> &str {
        &self.token.claims.scope
    }

    /// True where the token holds the permission. The access rules ask this; a handler rarely has to.
    pub fn may(&self, permission: &str) -> bool {
        self.token.may(permission)
    }

    /// True where it is known that the token was not revoked, and not only that it has not expired.
    pub fn is_known_to_be_valid(&self) -> bool {
        self.fresh
    }

    /// Where the call comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// What runs once for every authenticated call, before its guard.
pub(crate) type EachCaller = Arc<dyn Fn(Caller) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// Puts [`Authenticated`] before a service.
#[derive(Clone)]
pub(crate) struct Authenticate {
    pub(crate) contract: Arc<Contract>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) each_caller: Option<EachCaller>,
}

impl<S> Layer<S> for Authenticate {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated { authenticate: self.clone(), inner }
    }
}

/// A service that a request reaches with a [`Caller`], or, where anyone may call, with the [`Origin`] that it came with.
#[derive(Clone)]
pub(crate) struct Authenticated<S> {
    authenticate: Authenticate,
    inner: S,
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was polled ready is the one to call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let authenticate = self.authenticate.clone();
        Box::pin(async move {
            match authenticate.admit(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl<S> Authenticated<S> {
    /// Authenticates a request whose body is not there yet: the service that it is for.
    pub(crate) async fn admit<B>(self, request: &mut Request<B>) -> Result<S, Status> {
        self.authenticate.admit(request).await?;
        Ok(self.inner)
    }
}

impl Authenticate {
    async fn admit<B>(&self, request: &mut Request<B>) -> Result<(), Status> {
        let Some(rule) = self.contract.rule(request.uri().path()) else {
            return Err(status(Code::Unimplemented, Reason::MethodUnknown, "there is no such method"));
        };
        if rule.who == Who::Anyone {
            return Ok(());
        }
        let origin = request.extensions_mut().remove::<Origin>().unwrap_or_default();
        let token = match bearer(request.headers()) {
            Some(token) => {
                self.verifier.authenticate(token).await.map_err(|refusal| tracing::info!(%refusal, "an access token is refused"))
            }
            None => Err(()),
        };
        let token = token.map_err(|()| Error::Unauthenticated(Reason::AccessTokenInvalid))?;
        let caller = Caller { token, fresh: self.verifier.hears_of_revocations(), origin };
        tracing::Span::current().record("caller", caller.subject());
        if let Some(each_caller) = &self.each_caller {
            each_caller(caller.clone()).await?;
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

/// The token of the one `authorization` header. Two would be two opinions on who is calling.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}
