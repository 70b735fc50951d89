//! What other people's clients expect of an auth service: OAuth 2.0 and its metadata, and the four calls of Django's simplejwt.
//!
//! Each is a form over the same handlers, which it reaches through the same guards: see [`InProcess`](gateway::InProcess).

mod django;
mod form;
mod metadata;
mod oauth;
mod oauth_error;

use axum::Router;
use tonic::Status;
use tonic_types::StatusExt;

use crate::introspection::Introspection;

/// What the endpoints stand on.
pub(crate) struct Endpoints<'a> {
    /// The URL by which this service is known.
    pub(crate) issuer: &'a str,
    /// Whether `/oauth2/token` takes passwords.
    pub(crate) password_grant: bool,
    pub(crate) introspection: Introspection,
}

/// The routes of all of them.
pub(crate) fn routes(endpoints: Endpoints<'_>) -> Router {
    let Endpoints { issuer, password_grant, introspection } = endpoints;
    metadata::routes(issuer, password_grant).merge(oauth::routes(password_grant)).merge(django::routes(introspection))
}

/// When somebody who asked too often may come back, in whole seconds.
fn retry_after(status: &Status) -> u64 {
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}
