//! A tower layer that enforces the access rules of any tonic service.

use std::sync::Arc;

use tower::Layer;

use crate::{AccessRules, Authentication, AuthenticationLayer, access_rules::AccessRulesError, token::Verifier};

/// Authenticates every call and enforces the access rule of its method, for services of any code generator.
///
/// ```
/// use std::sync::Arc;
///
/// use access::{AccessLayer, AccessRulesError, Clock, token::Verifier};
///
/// fn layer(descriptors: &[u8]) -> Result<AccessLayer, AccessRulesError> {
///     let verifier = Arc::new(Verifier::new("https://auth.example.com", "orders", Clock::system()));
///     AccessLayer::new(descriptors, verifier)
/// }
/// // tonic::transport::Server::builder().layer(layer(DESCRIPTORS)?).add_service(…)
/// # drop(layer);
/// ```
///
/// A call without a valid access token fails with UNAUTHENTICATED, and one that its rule does not allow with PERMISSION_DENIED.
///
/// It uses the guard's evaluator. Handlers find the [`Caller`](crate::Caller) in the request's extensions. It does not validate requests,
/// and a rule that names an owner needs the generated guard.
#[derive(Debug, Clone)]
pub struct AccessLayer(AuthenticationLayer);

impl AccessLayer {
    /// Creates a layer for every service in `descriptors`, an encoded `FileDescriptorSet` with its custom options. Calls of other
    /// services are UNIMPLEMENTED, except health and reflection, which are public.
    ///
    /// # Errors
    ///
    /// Returns an error if `descriptors` is not a valid `FileDescriptorSet`, and one that names the method if it has no access
    /// rule, a rule that contradicts itself, or a rule with an owner.
    pub fn new(descriptors: &[u8], verifier: Arc<Verifier>) -> Result<Self, AccessRulesError> {
        let rules = Arc::new(AccessRules::from_descriptors(descriptors)?);
        Ok(Self(AuthenticationLayer::new(rules, verifier).enforcing_rules()))
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Authentication<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}
