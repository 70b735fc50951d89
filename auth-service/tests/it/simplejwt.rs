//! The four endpoints of simplejwt, with the bodies and statuses of djangorestframework-simplejwt 5.5.1.

use serde_json::{Value, json};
use testing::http::{Answer, send};
use testing::on_both_engines;

use crate::app::{App, PASSWORD};

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

fn token_not_valid() -> Value {
    json!({ "detail": "Token is invalid or expired", "code": "token_not_valid" })
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
        assert_answer(&app, "/api/token/blacklist/", json!({ "refresh": fresh["refresh"] }), 401, token_not_valid()).await;
        assert_answer(&app, "/api/token/refresh/", json!({ "refresh": fresh["refresh"] }), 401, token_not_valid()).await;
        assert_answer(&app, "/api/token/verify/", json!({ "token": text(&fresh, "refresh") }), 401, token_not_valid()).await;
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
            ("/api/token/refresh/", json!({ "refresh": "x" }), 401, token_not_valid()),
            ("/api/token/verify/", json!({}), 400, json!({ "token": required })),
            ("/api/token/verify/", json!({ "token": "x.y.z" }), 401, token_not_valid()),
            ("/api/token/blacklist/", json!({}), 400, json!({ "refresh": required })),
            ("/api/token/blacklist/", json!({ "refresh": "x" }), 401, token_not_valid()),
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
