//! The OAuth 2.0 endpoints.

use std::net::SocketAddr;

use auth_service::{
    Settings,
    proto::{Client, CreateClientRequest, client_service_client::ClientServiceClient},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use serde_json::{Value, json};
use testing::on_both_engines;
use testing::{
    Engine,
    http::{Answer, send},
    with_token,
};

use crate::app::{Actor, App, PASSWORD, claims};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn post(address: SocketAddr, path: &str, authorization: Option<&str>, form: &[(&str, &str)]) -> Answer {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut headers = vec![FORM];
    headers.extend(authorization.map(|value| ("authorization", value)));
    send(address, &format!("POST {path}"), &headers, body.as_bytes()).await
}

async fn token(app: &App, form: &[(&str, &str)]) -> Answer {
    post(app.server.address, "/oauth2/token", None, form).await
}

/// Asserts an error response as in RFC 6749 section 5.2.
fn assert_error(answer: &Answer, status: u16, error: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["error"]), (status, &json!(error)), "{body}");
    assert!(body["error_description"].is_string());
    assert_eq!(answer.header("cache-control"), "no-store");
}

fn assert_tokens(answer: &Answer) -> Value {
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(600)));
    body
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

async fn client(app: &App, root: &Actor, permissions: &[&str]) -> (String, String) {
    let permissions = permissions.iter().map(|permission| (*permission).to_owned()).collect();
    let client = Client { client_id: "reporter".to_owned(), permissions, ..Client::default() };
    let request = with_token(&root.login.access_token, CreateClientRequest { client: Some(client) });
    let made = ClientServiceClient::new(app.server.channel()).create_client(request).await.expect("a client").into_inner();
    (made.client_id, made.client_secret)
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

on_both_engines! {
    async fn the_refresh_token_grant_rotates_the_token(app: App) {
        let alice = app.user("alice").await;
        let form = [("grant_type", "refresh_token"), ("refresh_token", alice.login.refresh_token.as_str())];
        let first = assert_tokens(&token(&app, &form).await);
        assert_ne!(text(&first, "refresh_token"), alice.login.refresh_token);
        let form = [("grant_type", "refresh_token"), ("refresh_token", text(&first, "refresh_token")), ("client_id", "first-party")];
        assert_tokens(&token(&app, &form).await);
        // The use of a token that is two generations old counts as reuse.
        let form = [("grant_type", "refresh_token"), ("refresh_token", alice.login.refresh_token.as_str())];
        assert_error(&token(&app, &form).await, 400, "invalid_grant");
    }

    async fn invalid_requests_get_the_error_codes_of_the_standard(app: App) {
        let alice = app.user("alice").await;
        let refresh = ("refresh_token", alice.login.refresh_token.as_str());
        for (form, status, error) in [
            (vec![], 400, "invalid_request"),
            (vec![("grant_type", "")], 400, "invalid_request"),
            (vec![("grant_type", "authorization_code")], 400, "unsupported_grant_type"),
            (vec![("grant_type", "refresh_token")], 400, "invalid_request"),
            (vec![("grant_type", "refresh_token"), ("refresh_token", "x")], 400, "invalid_grant"),
            (vec![("grant_type", "refresh_token"), ("grant_type", "refresh_token"), refresh], 400, "invalid_request"),
            (vec![("grant_type", "refresh_token"), refresh, ("client_id", "another")], 400, "unauthorized_client"),
            (vec![("grant_type", "refresh_token"), refresh, ("client_id", "x"), ("client_secret", "y")], 401, "invalid_client"),
            // The password grant is off by default.
            (vec![("grant_type", "password"), ("username", "alice"), ("password", PASSWORD)], 400, "unsupported_grant_type"),
            (vec![("grant_type", "client_credentials")], 401, "invalid_client"),
            (vec![("grant_type", "client_credentials"), ("client_id", "nobody"), ("client_secret", "x")], 401, "invalid_client"),
        ] {
            assert_error(&token(&app, &form).await, status, error);
        }
        let as_json = send(app.server.address, "POST /oauth2/token", &[("content-type", "application/json")], b"{}").await;
        assert_error(&as_json, 400, "invalid_request");
        assert_eq!(send(app.server.address, "GET /oauth2/token", &[], b"").await.status, 405);
        // None of these requests has ended the session.
        assert_tokens(&token(&app, &[("grant_type", "refresh_token"), refresh]).await);
    }

    async fn a_scope_narrows_the_token_of_a_client(app: App) {
        let root = app.superuser("root").await;
        let (id, secret) = client(&app, &root, &["auth.introspect_token", "auth.view_user"]).await;
        let credentials = basic(&id, &secret);
        let grant = async |scope: &str| {
            let form = [("grant_type", "client_credentials"), ("scope", scope)];
            post(app.server.address, "/oauth2/token", Some(&credentials), &form).await
        };
        for (scope, granted) in [
            ("", "auth.introspect_token auth.view_user"),
            ("auth.view_user", "auth.view_user"),
            ("auth.view_user  auth.introspect_token", "auth.introspect_token auth.view_user"),
        ] {
            let issued = grant(scope).await.json();
            assert_eq!(text(&issued, "scope"), granted, "{scope:?}");
            let claims = claims(text(&issued, "access_token"));
            assert_eq!(claims["scope"], granted, "{scope:?}");
        }
        let long = "x".repeat(9000);
        for scope in ["auth.add_user", "auth.view_user auth.add_user", "nonsense", "\0", &long] {
            assert_error(&grant(scope).await, 400, "invalid_scope");
        }
    }

    async fn a_text_that_cannot_be_a_token_is_not_active(app: App) {
        let root = app.superuser("root").await;
        let (id, secret) = client(&app, &root, &["auth.introspect_token"]).await;
        for token in ["x\0y", "\u{1F600}", &"x".repeat(10_000)] {
            let found = post(app.server.address, "/oauth2/introspect", Some(&basic(&id, &secret)), &[("token", token)]).await;
            assert_eq!((found.status, found.json()), (200, json!({ "active": false })), "{token:.20}");
            let revoked = post(app.server.address, "/oauth2/revoke", None, &[("token", token)]).await;
            assert_eq!(revoked.status, 200, "{token:.20}");
        }
    }

    async fn revocation_checks_the_credential_of_a_client_that_sends_one(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let (id, secret) = client(&app, &root, &[]).await;
        let form = [("token", alice.login.refresh_token.as_str())];
        for authorization in [&basic(&id, "wrong"), &basic("nobody", &secret), "Basic !", "Bearer x"] {
            let refused = post(app.server.address, "/oauth2/revoke", Some(authorization), &form).await;
            assert_error(&refused, 401, "invalid_client");
        }
        let posted = [form[0], ("client_id", id.as_str()), ("client_secret", "wrong")];
        assert_error(&post(app.server.address, "/oauth2/revoke", None, &posted).await, 401, "invalid_client");
        assert_tokens(&token(&app, &[("grant_type", "refresh_token"), ("refresh_token", &alice.login.refresh_token)]).await);
    }

    async fn a_body_that_is_too_long_has_the_same_status_on_every_endpoint(app: App) {
        let body = format!("token={}", "x".repeat(3 << 20));
        for path in ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke", "/api/token/", "/api/token/verify/"] {
            let answer = send(app.server.address, &format!("POST {path}"), &[FORM], body.as_bytes()).await;
            assert_eq!(answer.status, 413, "{path}");
        }
    }

    async fn the_client_credentials_grant_issues_a_token_that_can_introspect(app: App) {
        let root = app.superuser("root").await;
        let alice = app.user("alice").await;
        let (id, secret) = client(&app, &root, &["auth.introspect_token"]).await;
        let credentials = basic(&id, &secret);
        let grant = [("grant_type", "client_credentials")];
        let issued = assert_tokens(&post(app.server.address, "/oauth2/token", Some(&credentials), &grant).await);
        assert_eq!(issued["scope"], "auth.introspect_token");
        assert!(issued.get("refresh_token").is_none());
        let posted = [grant[0], ("client_id", id.as_str()), ("client_secret", secret.as_str())];
        assert_tokens(&token(&app, &posted).await);
        let wrong = post(app.server.address, "/oauth2/token", Some(&basic(&id, "wrong")), &grant).await;
        assert_error(&wrong, 401, "invalid_client");
        assert!(wrong.header("www-authenticate").starts_with("Basic "));
        let both = post(app.server.address, "/oauth2/token", Some(&credentials), &posted).await;
        assert_error(&both, 400, "invalid_request");

        let bearer = format!("Bearer {}", text(&issued, "access_token"));
        for authorization in [credentials.as_str(), bearer.as_str()] {
            let form = [("token", alice.login.access_token.as_str()), ("token_type_hint", "access_token")];
            let found = post(app.server.address, "/oauth2/introspect", Some(authorization), &form).await;
            assert_eq!((found.status, found.header("cache-control")), (200, "no-store"));
            let found = found.json();
            assert_eq!((&found["active"], &found["username"], &found["token_type"]), (&json!(true), &json!("alice"), &json!("Bearer")));
            assert_eq!(found["exp"].as_i64().expect("seconds") - found["iat"].as_i64().expect("seconds"), 600);
            assert_eq!(found["sub"], alice.user.user_id);
        }
        let own = post(app.server.address, "/oauth2/introspect", Some(&credentials), &[("token", text(&issued, "access_token"))]).await;
        assert_eq!((&own.json()["active"], &own.json()["client_id"]), (&json!(true), &json!("reporter")));
    }

    async fn introspection_requires_the_permission(app: App) {
        let alice = app.user("alice").await;
        let form = [("token", alice.login.access_token.as_str())];
        assert_error(&post(app.server.address, "/oauth2/introspect", None, &form).await, 401, "invalid_client");
        let unknown = post(app.server.address, "/oauth2/introspect", Some("Bearer x"), &form).await;
        assert_error(&unknown, 401, "invalid_token");
        let own = format!("Bearer {}", alice.login.access_token);
        let refused = post(app.server.address, "/oauth2/introspect", Some(&own), &form).await;
        assert_error(&refused, 403, "insufficient_scope");
        assert!(refused.header("www-authenticate").contains("insufficient_scope"));
    }

    async fn introspection_reports_expired_and_revoked_tokens_as_inactive(app: App) {
        let root = app.superuser("root").await;
        let as_root = format!("Bearer {}", root.login.access_token);
        let introspect = async |token: &str| {
            let found = post(app.server.address, "/oauth2/introspect", Some(&as_root), &[("token", token)]).await;
            assert_eq!(found.status, 200, "{}", found.text());
            found.json()
        };
        let inactive = json!({ "active": false });
        let alice = app.user("alice").await;
        let refresh = introspect(&alice.login.refresh_token).await;
        assert_eq!((&refresh["active"], &refresh["token_type"]), (&json!(true), &json!("refresh_token")));
        let spent = alice.login.refresh_token.clone();
        let next = token(&app, &[("grant_type", "refresh_token"), ("refresh_token", &spent)]).await.json();
        assert_eq!(introspect(&spent).await, inactive);
        // Introspection does not use the token.
        assert_eq!(introspect(text(&next, "refresh_token")).await["active"], true);
        for nonsense in ["x", "a.b.c", &format!("{}x", alice.login.access_token)] {
            assert_eq!(introspect(nonsense).await, inactive);
        }
        let revoked = post(app.server.address, "/oauth2/revoke", None, &[("token", text(&next, "refresh_token"))]).await;
        assert_eq!((revoked.status, revoked.text()), (200, ""));
        for token in ["access_token", "refresh_token"] {
            assert_eq!(introspect(text(&next, token)).await, inactive, "{token} of a session that has ended");
        }
        let other = app.again(&alice).await;
        assert_eq!(introspect(&other.login.access_token).await["active"], true);
        // The token is revoked because the permissions of its user have changed.
        root.grant("auth.view_user", &alice.user.user_id).await.expect("a grant");
        assert_eq!(introspect(&other.login.access_token).await, inactive);
        let other = app.again(&alice).await;
        assert_eq!(introspect(&other.login.access_token).await["active"], true);
        app.clock.advance(TimeDelta::seconds(601));
        let root = app.again(&root).await;
        let as_root = format!("Bearer {}", root.login.access_token);
        let found = post(app.server.address, "/oauth2/introspect", Some(&as_root), &[("token", &other.login.access_token)]).await;
        assert_eq!(found.json(), inactive);
    }

    async fn revoking_an_access_token_ends_its_session(app: App) {
        let alice = app.user("alice").await;
        let elsewhere = app.again(&alice).await;
        for form in [vec![("token", alice.login.access_token.as_str())], vec![("token", "nonsense")]] {
            assert_eq!(post(app.server.address, "/oauth2/revoke", None, &form).await.status, 200);
        }
        assert_error(&post(app.server.address, "/oauth2/revoke", None, &[]).await, 400, "invalid_request");
        let refresh = |actor: &Actor| actor.login.refresh_token.clone();
        let ended = token(&app, &[("grant_type", "refresh_token"), ("refresh_token", &refresh(&alice))]).await;
        assert_error(&ended, 400, "invalid_grant");
        assert_tokens(&token(&app, &[("grant_type", "refresh_token"), ("refresh_token", &refresh(&elsewhere))]).await);
    }

    async fn the_metadata_lists_the_supported_endpoints_and_grants(app: App) {
        for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
            let metadata = send(app.server.address, &format!("GET {path}"), &[], b"").await.json();
            assert_eq!(metadata["issuer"], "http://127.0.0.1:50051");
            assert_eq!(metadata["grant_types_supported"], json!(["refresh_token", "client_credentials"]));
            assert_eq!(metadata["response_types_supported"], json!([]));
            assert!(metadata.get("authorization_endpoint").is_none());
            for (name, method) in [("jwks_uri", "GET"), ("token_endpoint", "POST"), ("introspection_endpoint", "POST"), ("revocation_endpoint", "POST")] {
                let path = text(&metadata, name).strip_prefix("http://127.0.0.1:50051").expect("an endpoint of the issuer");
                let answer = send(app.server.address, &format!("{method} {path}"), &[FORM], b"").await;
                assert!([200, 400, 401].contains(&answer.status), "{name}: {}", answer.status);
            }
        }
        let jwks = send(app.server.address, "GET /.well-known/jwks.json", &[], b"").await;
        assert_eq!(jwks.json()["keys"][0]["kty"], "RSA");
        assert!(jwks.header("cache-control").contains("max-age=300"));
    }
}

#[tokio::test]
async fn the_password_grant_can_be_enabled() {
    let app = App::start_with(Engine::Sqlite, Settings { password_grant: true, ..Settings::default() }).await;
    app.register("alice").await;
    let good = [("grant_type", "password"), ("username", "alice"), ("password", PASSWORD)];
    let issued = assert_tokens(&token(&app, &good).await);
    assert_eq!((text(&issued, "scope"), &issued["refresh_expires_in"]), ("", &json!(14 * 86_400)));
    let wrong = [("grant_type", "password"), ("username", "alice"), ("password", "not this one at all")];
    assert_error(&token(&app, &wrong).await, 400, "invalid_grant");
    assert_error(&token(&app, &wrong[..2]).await, 400, "invalid_request");
    let metadata = send(app.server.address, "GET /.well-known/oauth-authorization-server", &[], b"").await.json();
    assert!(metadata["grant_types_supported"].as_array().expect("a list").contains(&json!("password")));
}
