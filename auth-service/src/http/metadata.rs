//! `/.well-known/oauth-authorization-server` (RFC 8414) and `/.well-known/openid-configuration`.

use axum::{Router, response::IntoResponse, routing::get};
use http::header;
use serde_json::{Value, json};

use crate::permissions::Catalogue;

pub(super) fn routes(issuer: &str, password_grant: bool, catalogue: &Catalogue) -> Router {
    let server = metadata(issuer, password_grant, catalogue);
    // The OpenID document exists because many verifiers look for the keys there. This service issues no ID tokens.
    let mut openid = server.clone();
    openid["subject_types_supported"] = json!(["public"]);
    openid["claims_supported"] = json!(["sub", "preferred_username", "groups", "scope"]);
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(async move || answer(&server)))
        .route("/.well-known/openid-configuration", get(async move || answer(&openid)))
}

fn metadata(issuer: &str, password_grant: bool, catalogue: &Catalogue) -> Value {
    let base = issuer.trim_end_matches('/');
    let mut grants = vec!["refresh_token", "client_credentials"];
    if password_grant {
        grants.insert(0, "password");
    }
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "token_endpoint": format!("{base}/oauth2/token"),
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256"],
        "grant_types_supported": grants,
        // There is no authorization endpoint.
        "response_types_supported": [],
        "scopes_supported": catalogue.all(),
        "introspection_endpoint": format!("{base}/oauth2/introspect"),
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "introspection_endpoint_auth_signing_alg_values_supported": ["RS256"],
        "revocation_endpoint": format!("{base}/oauth2/revoke"),
        "revocation_endpoint_auth_methods_supported": ["none"],
        "service_documentation": format!("{base}/openapi.json"),
    })
}

fn answer(metadata: &Value) -> impl IntoResponse + use<> {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, metadata.to_string())
}
