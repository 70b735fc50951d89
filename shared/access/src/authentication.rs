//! The layer that turns a bearer token (RFC 6750) into a [`Caller`], or rejects the call before its body is read.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use contract::AccessPolicy;
use http::{HeaderMap, Request, Response, header};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{
    AccessRules, CallLimit, Caller, ClientInfo, CurrentCall, Error, Result,
    error::{Reason, status},
    guard::authorize,
    token::Verifier,
};

/// A function that runs for every authenticated call, before its guard. The call fails if it does.
pub type OnAuthenticated = Arc<dyn Fn(Caller) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// Authenticates every call before its body is read. A request reaches the inner service with a [`Caller`] in its extensions, or
/// with a [`ClientInfo`] where the method is public.
#[derive(Clone)]
pub struct AuthenticationLayer {
    rules: Arc<AccessRules>,
    verifier: Arc<Verifier>,
    on_authenticated: Option<OnAuthenticated>,
    /// Whether the access rule is enforced here, because no guard follows.
    enforces_rules: bool,
    call_limit: Option<CallLimit>,
}

impl AuthenticationLayer {
    /// Creates a layer for the methods that `rules` names. Every other method is UNIMPLEMENTED.
    pub fn new(rules: Arc<AccessRules>, verifier: Arc<Verifier>) -> Self {
        Self { rules, verifier, on_authenticated: None, enforces_rules: false, call_limit: None }
    }

    /// Also enforces the access rules. A rule with an owner never allows the owner here.
    #[cfg(feature = "layer")]
    pub(crate) fn enforcing_rules(self) -> Self {
        Self { enforces_rules: true, ..self }
    }

    /// Runs `work` for every authenticated call, before its guard. The call fails if `work` does.
    #[must_use]
    pub fn on_authenticated(self, work: OnAuthenticated) -> Self {
        Self { on_authenticated: Some(work), ..self }
    }

    /// Limits the calls of each caller that are handled at the same time.
    #[must_use]
    pub fn limit_calls(self, limit: CallLimit) -> Self {
        Self { call_limit: Some(limit), ..self }
    }
}

impl fmt::Debug for AuthenticationLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationLayer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthenticationLayer {
    type Service = Authentication<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authentication { layer: Arc::new(self.clone()), inner }
    }
}

/// The service of [`AuthenticationLayer`].
#[derive(Debug, Clone)]
pub struct Authentication<S> {
    // One allocation, because the service is cloned for each call.
    layer: Arc<AuthenticationLayer>,
    inner: S,
}

impl<S> Service<Request<Body>> for Authentication<S>
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
        // The service that was polled ready has to be the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = Arc::clone(&self.layer);
        Box::pin(async move {
            match layer.authenticate(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl<S> Authentication<S> {
    /// Authenticates a request before its body is read, and returns the service that the request is for.
    ///
    /// # Errors
    ///
    /// Returns UNIMPLEMENTED for an unknown method and UNAUTHENTICATED without a valid access token.
    pub async fn authenticate<B>(self, request: &mut Request<B>) -> Result<S, Status> {
        self.layer.authenticate(request).await?;
        Ok(self.inner)
    }
}

impl AuthenticationLayer {
    async fn authenticate<B>(&self, request: &mut Request<B>) -> Result<(), Status> {
        let client_info = request.extensions_mut().remove::<ClientInfo>();
        let client_info = client_info.unwrap_or_else(|| ClientInfo::from_request(request, &[]));
        let Some(rule) = self.rules.get(request.uri().path()) else {
            return Err(status(Code::Unimplemented, Reason::MethodUnknown, "there is no such method"));
        };
        if rule.policy == AccessPolicy::Anyone {
            request.extensions_mut().insert(client_info);
            return Ok(());
        }
        let token = match bearer_token(request.headers()) {
            Some(token) => {
                self.verifier.authenticate(token).await.map_err(|reason| tracing::info!(%reason, "an access token is rejected"))
            }
            None => Err(()),
        };
        let token = token.map_err(|()| Error::access_token_invalid())?;
        let mut caller = Caller::new(token, self.verifier.revocations().are_fresh(), client_info);
        CurrentCall::record_caller(caller.subject(), caller.actor());
        if let Some(limit) = &self.call_limit {
            let permit = limit.acquire(caller.subject())?;
            caller = caller.with_permit(permit);
        }
        if let Some(on_authenticated) = &self.on_authenticated {
            on_authenticated(caller.clone()).await?;
        }
        if self.enforces_rules {
            authorize(rule, &caller, false)?;
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }
}

/// Returns the token of the `authorization` header (RFC 6750). A request with two such headers has no token.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}
