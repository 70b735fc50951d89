//! The HTTP endpoints of OAuth 2.0 with its metadata, and the four of djangorestframework-simplejwt.
//!
//! They call the gRPC methods in process and therefore pass the same guards: see [`InProcess`](gateway::InProcess).

mod description;
mod django;
mod form;
mod metadata;
mod oauth;
mod oauth_error;

use axum::Router;
use tonic::Status;
use tonic_types::StatusExt;

use crate::{introspection::Introspection, permissions::Catalogue};

/// The settings and services that the endpoints need.
pub(crate) struct Endpoints<'a> {
    /// The issuer: the URL of this service.
    pub(crate) issuer: &'a str,
    /// Whether `/oauth2/token` accepts the password grant.
    pub(crate) password_grant: bool,
    pub(crate) introspection: Introspection,
    /// The permissions that exist: the supported scopes.
    pub(crate) catalogue: &'a Catalogue,
}

/// Returns the routes of all endpoints.
pub(crate) fn routes(endpoints: Endpoints<'_>) -> Router {
    let Endpoints { issuer, password_grant, introspection, catalogue } = endpoints;
    metadata::routes(issuer, password_grant, catalogue).merge(oauth::routes(password_grant)).merge(django::routes(introspection))
}

pub(crate) use self::description::paths;

/// Returns the delay of `RetryInfo` in whole seconds, for `Retry-After`.
fn retry_after(status: &Status) -> u64 {
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}
