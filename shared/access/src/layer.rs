//! A tower layer that enforces the access rules of any tonic service.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    AccessRules, Caller, access_rules::AccessRulesError, authentication::AuthenticationLayer, guard::authorize, token::Verifier,
};

/// Authenticates every call and enforces the access rule of its method, for services that anybody has generated:
/// `Server::builder().layer(AccessLayer::new(descriptors, verifier)?).add_service(…)`.
///
/// It uses the guard's evaluator. Handlers find the [`Caller`] in the request's extensions. It does not validate requests, and a rule
/// that names an owner needs the generated guard.
#[derive(Debug, Clone)]
pub struct AccessLayer {
    rules: Arc<AccessRules>,
    authentication: AuthenticationLayer,
}

impl AccessLayer {
    /// Creates a layer for every service in `descriptors`, an encoded `FileDescriptorSet` with its custom options. Calls of other
    /// services are UNIMPLEMENTED, except health and reflection, which are public.
    ///
    /// # Errors
    ///
    /// Returns an error that names the method if one has no access rule, a rule that contradicts itself, or a rule with an owner.
    pub fn new(descriptors: &[u8], verifier: Arc<Verifier>) -> Result<Self, AccessRulesError> {
        let rules = Arc::new(AccessRules::from_descriptors(descriptors)?);
        Ok(Self { authentication: AuthenticationLayer::new(Arc::clone(&rules), verifier), rules })
    }

    async fn admit(&self, request: &mut Request<Body>) -> Result<(), Status> {
        self.authentication.authenticate(request).await?;
        let rule = self.rules.get(request.uri().path());
        if let (Some(caller), Some(rule)) = (request.extensions().get::<Caller>(), rule) {
            authorize(rule, caller, false)?;
        }
        Ok(())
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = AccessService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessService { layer: self.clone(), inner }
    }
}

/// The service of [`AccessLayer`].
#[derive(Debug, Clone)]
pub struct AccessService<S> {
    layer: AccessLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for AccessService<S>
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
        let layer = self.layer.clone();
        Box::pin(async move {
            match layer.admit(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
