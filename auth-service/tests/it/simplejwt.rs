//! The four endpoints of simplejwt, with the bodies and statuses of djangorestframework-simplejwt 5.5.1.

use std::{collections::HashMap, path::Path, sync::LazyLock};

use auth_service::Settings;
use chrono::TimeDelta;
use serde_json::{Value, json};
use testing::http::{Answer, send};
use testing::{Engine, on_both_engines, simplejwt_answers};

use crate::app::{App, PASSWORD, claims};

/// The requests of the comparison, and the file that holds them.
const REQUESTS: &str = include_str!("simplejwt.json");
const REQUESTS_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/simplejwt.json");

/// The requests whose bodies differ: docs/reference/django.md gives the reasons.
const DIFFERENT_BODIES: &[&str] = &["malformed JSON"];

/// The responses of a real simplejwt.
static EXPECTED: LazyLock<Vec<Value>> = LazyLock::new(|| simplejwt_answers(Path::new(REQUESTS_FILE)));

/// Adds the claims of simplejwt to tokens.
struct WithClaims(App);

impl WithClaims {
    async fn start(engine: Engine) -> Self {
        Self(App::start_with(engine, Settings { django_claims: true, ..Settings::default() }).await)
    }
}

/// Replaces `{{NAME.FIELD}}` by the field of the response that was kept under this name.
fn fill(body: &str, kept: &HashMap<String, Value>) -> String {
    let Some((before, rest)) = body.split_once("{{") else { return body.to_owned() };
    let (place, after) = rest.split_once("}}").expect("a place");
    let (name, field) = place.split_once('.').expect("a name and a field");
    format!("{before}{}{}", text(&kept[name], field), fill(after, kept))
}

/// Replaces tokens, which differ each time.
fn without_tokens(mut body: Value) -> Value {
    for value in body.as_object_mut().into_iter().flat_map(|body| body.values_mut()) {
        if value.as_str().is_some_and(|text| text.starts_with("eyJ")) {
            *value = json!("a token");
        }
    }
    body
}

async fn post(app: &App, path: &str, body: &Value) -> Answer {
    send(app.server.address, &format!("POST {path}"), &[("content-type", "application/json")], body.to_string().as_bytes()).await
}

async fn assert_answer(app: &App, path: &str, body: Value, status: u16, expected: Value) {
    let answer = post(app, path, &body).await;
    assert_eq!((answer.status, answer.json()), (status, expected), "{path} {body}");
    let challenge = if status == 401 { "Bearer realm=\"api\"" } else { "" };
    assert_eq!(answer.header("www-authenticate"), challenge);
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn token_not_valid(detail: &str) -> Value {
    json!({ "detail": detail, "code": "token_not_valid" })
}

on_both_engines! {
    async fn tokens_are_obtained_refreshed_verified_and_blacklisted(app: App) {
        app.register("alice").await;
        let pair = post(&app, "/api/token/", &json!({ "username": "alice", "password": PASSWORD })).await;
        assert_eq!(pair.status, 200);
        let pair = pair.json();
        assert_eq!(pair.as_object().expect("an object").keys().collect::<Vec<_>>(), ["refresh", "access"]);

        let fresh = post(&app, "/api/token/refresh/", &json!({ "refresh": pair["refresh"] })).await;
        assert_eq!(fresh.status, 200);
        let fresh = fresh.json();
        assert_eq!(fresh.as_object().expect("an object").keys().collect::<Vec<_>>(), ["access", "refresh"]);

        for token in ["access", "refresh"] {
            assert_answer(&app, "/api/token/verify/", json!({ "token": fresh[token] }), 200, json!({})).await;
        }
        assert_answer(&app, "/api/token/blacklist/", json!({ "refresh": fresh["refresh"] }), 200, json!({})).await;
        assert_answer(&app, "/api/token/blacklist/", json!({ "refresh": fresh["refresh"] }), 401, token_not_valid("Token is blacklisted")).await;
        assert_answer(&app, "/api/token/refresh/", json!({ "refresh": fresh["refresh"] }), 401, token_not_valid("Token is blacklisted")).await;
        assert_answer(&app, "/api/token/verify/", json!({ "token": text(&fresh, "refresh") }), 400, json!({ "non_field_errors": ["Token is blacklisted"] })).await;
    }

    async fn responses_are_those_of_a_real_simplejwt(app: App) {
        let expected = tokio::task::spawn_blocking(|| &*EXPECTED).await.expect("the responses of simplejwt");
        app.register("alice").await;
        let old = app.login("alice").await;
        app.clock.advance(TimeDelta::days(15));
        let old = json!({ "refresh": old.refresh_token, "access": old.access_token });
        let mut kept = HashMap::from([("expired".to_owned(), old)]);
        let file: Value = serde_json::from_str(REQUESTS).expect("JSON");
        let requests = file["requests"].as_array().expect("requests");
        assert_eq!(requests.len(), expected.len());
        let mut differences = Vec::new();
        for (request, expected) in requests.iter().zip(expected) {
            let name = text(request, "name");
            let body = fill(request["body"].as_str().unwrap_or_default(), &kept);
            let target = format!("{} {}", request["method"].as_str().unwrap_or("POST"), text(request, "path"));
            let headers: Vec<_> = request["type"].as_str().map(|kind| ("content-type", kind)).into_iter().collect();
            let answer = send(app.server.address, &target, &headers, body.as_bytes()).await;
            let found = answer.json();
            if let Some(keep) = request["keep"].as_str() {
                kept.insert(keep.to_owned(), found.clone());
            }
            let mut found = json!({
                "status": answer.status,
                "type": answer.header("content-type"),
                "allow": answer.header("allow"),
                "challenge": answer.header("www-authenticate"),
                "body": without_tokens(found),
            });
            let mut expected = expected.clone();
            expected["body"] = without_tokens(expected["body"].take());
            if DIFFERENT_BODIES.contains(&name) {
                (found["body"], expected["body"]) = (Value::Null, Value::Null);
            }
            if found != expected {
                differences.push(format!("{name}: {found} instead of {expected}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    async fn a_password_may_begin_and_end_with_spaces(app: App) {
        let password = format!(" {PASSWORD} ");
        let request = auth_service::proto::RegisterRequest { password: password.clone(), ..crate::app::registration("alice") };
        app.users().register(request).await.expect("a user");
        assert_eq!(post(&app, "/api/token/", &json!({ "username": "alice", "password": password })).await.status, 200);
        assert_eq!(post(&app, "/api/token/", &json!({ "username": "alice", "password": PASSWORD })).await.status, 401);
    }

    async fn tokens_carry_the_claims_of_simplejwt_if_the_setting_is_on(app: WithClaims) {
        let app = app.0;
        let user = app.register("alice").await;
        let pair = post(&app, "/api/token/", &json!({ "username": "alice", "password": PASSWORD })).await.json();
        for token_type in ["access", "refresh"] {
            let claims = claims(text(&pair, token_type));
            assert_eq!((&claims["user_id"], &claims["token_type"]), (&json!(user.user_id), &json!(token_type)));
            assert_eq!(claims["sub"], json!(user.user_id));
            assert_answer(&app, "/api/token/verify/", json!({ "token": pair[token_type] }), 200, json!({})).await;
        }
        let fresh = post(&app, "/api/token/refresh/", &json!({ "refresh": pair["refresh"] })).await.json();
        assert_eq!(claims(text(&fresh, "refresh"))["token_type"], json!("refresh"));
        let without = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
        let other = send(without.address, "POST /api/token/", &[("content-type", "application/json")], body.as_bytes()).await.json();
        assert!(claims(text(&other, "access")).get("user_id").is_none());
    }

    async fn errors_have_the_bodies_of_django(app: App) {
        app.register("alice").await;
        let nobody = json!({ "detail": "No active account found with the given credentials" });
        let required = json!(["This field is required."]);
        for (path, body, status, expected) in [
            ("/api/token/", json!({ "username": "alice", "password": "not this one at all" }), 401, nobody.clone()),
            ("/api/token/", json!({ "username": "bob", "password": PASSWORD }), 401, nobody.clone()),
            ("/api/token/", json!({ "username": "x".repeat(300), "password": PASSWORD }), 401, nobody.clone()),
            ("/api/token/", json!({}), 400, json!({ "username": required, "password": required })),
            ("/api/token/", json!({ "username": " ", "password": null }), 400, json!({ "username": ["This field may not be blank."], "password": ["This field may not be null."] })),
            ("/api/token/", json!({ "username": [], "password": "\0" }), 400, json!({ "username": ["Not a valid string."], "password": ["Null characters are not allowed."] })),
            ("/api/token/", json!([]), 400, json!({ "non_field_errors": ["Invalid data. Expected a dictionary, but got list."] })),
            ("/api/token/refresh/", json!({}), 400, json!({ "refresh": required })),
            ("/api/token/refresh/", json!({ "refresh": "x" }), 401, token_not_valid("Token is invalid")),
            ("/api/token/verify/", json!({}), 400, json!({ "token": required })),
            ("/api/token/verify/", json!({ "token": "x.y.z" }), 401, token_not_valid("Token is invalid")),
            ("/api/token/blacklist/", json!({}), 400, json!({ "refresh": required })),
            ("/api/token/blacklist/", json!({ "refresh": "x" }), 401, token_not_valid("Token is invalid")),
        ] {
            assert_answer(&app, path, body, status, expected).await;
        }
        let broken = send(app.server.address, "POST /api/token/", &[("content-type", "application/json")], b"{").await;
        assert_eq!(broken.status, 400);
        assert!(text(&broken.json(), "detail").starts_with("JSON parse error - "));
        let as_text = send(app.server.address, "POST /api/token/", &[("content-type", "text/plain")], b"x").await;
        assert_eq!((as_text.status, as_text.json()), (415, json!({ "detail": "Unsupported media type \"text/plain\" in request." })));
        let read = send(app.server.address, "GET /api/token/", &[], b"").await;
        assert_eq!((read.status, read.json()), (405, json!({ "detail": "Method \"GET\" not allowed." })));
    }

    async fn a_form_is_accepted_instead_of_json(app: App) {
        app.register("alice").await;
        let body = format!("username=alice&password={}", PASSWORD.replace(' ', "+"));
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(send(app.server.address, "POST /api/token/", &form, body.as_bytes()).await.status, 200);
        let blank = send(app.server.address, "POST /api/token/", &form, b"username=&password=x").await;
        assert_eq!((blank.status, blank.json()), (400, json!({ "username": ["This field may not be blank."] })));
    }
}
