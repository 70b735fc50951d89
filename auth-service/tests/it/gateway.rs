//! The HTTP API: the same responses as over gRPC, cacheable keys, and CORS.

use auth_service::{DESCRIPTORS, Settings, create_superuser, passwords::Policy};
use serde_json::{Value, json};
use server::{ServerSettings, config::HttpArgs};
use store::Executor;
use testing::on_both_engines;
use testing::{
    Engine, Parity,
    http::{Answer, send},
};
use tonic::Code::{
    self, Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Ok, PermissionDenied, Unauthenticated,
};

use crate::app::{App, PASSWORD};

const KEYS: &str = "/.well-known/jwks.json";

/// Two services with the same initial state: one is called over gRPC, the other over HTTP.
struct ParityTest {
    services: [App; 2],
    parity: Parity,
}

impl ParityTest {
    async fn start(engine: Engine) -> Self {
        let services = [App::start(engine).await, App::start(engine).await];
        for service in &services {
            // Only one session: the order of two sessions with the same time is not defined.
            let db = service.database.open();
            create_superuser(&db, &service.clock, "root", "", PASSWORD, Policy::default()).await.expect("a superuser");
        }
        let parity = Parity::new(DESCRIPTORS, services[0].server.channel(), services[1].server.address);
        Self { services, parity }
    }

    async fn call(&mut self, name: &str, token: &str, method: &str, request: Value, expected: Code) {
        self.parity.call(name, token, &format!("auth.v1.{method}"), request, expected).await;
    }
}

/// A service that pages of one origin may call.
struct Paged(App);

impl Paged {
    async fn start(engine: Engine) -> Self {
        let cors_origins = vec!["https://app.example.test".parse().expect("an origin")];
        let server = ServerSettings { http: HttpArgs { cors_origins, no_page: false }, ..ServerSettings::default() };
        Self(App::start_with(engine, Settings { server, ..Settings::default() }).await)
    }
}

async fn get(app: &App, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(app.server.address, &format!("GET {path}"), headers, b"").await
}

on_both_engines! {
    async fn grpc_and_http_return_the_same_responses(pair: ParityTest) {
        let mut pair = pair;
        let credentials = |username: &str, password: &str| json!({ "username": username, "password": password });
        for (username, password, expected) in [
            ("alice", PASSWORD, Ok),
            ("bob", PASSWORD, Ok),
            ("alice", PASSWORD, AlreadyExists),
            ("ALICE", PASSWORD, AlreadyExists),
            ("", PASSWORD, InvalidArgument),
            ("carol", "short", InvalidArgument),
            ("carol", "", InvalidArgument),
        ] {
            pair.call("new", "", "UserService/Register", credentials(username, password), expected).await;
        }
        for (name, username, password, expected) in [
            ("alice", "alice", PASSWORD, Ok),
            ("bob", "Bob", PASSWORD, Ok),
            ("root", "root", PASSWORD, Ok),
            ("nobody", "alice", "not the password of alice", Unauthenticated),
            ("nobody", "nobody", PASSWORD, Unauthenticated),
            ("nobody", "", PASSWORD, InvalidArgument),
        ] {
            pair.call(name, "", "TokenService/Login", credentials(username, password), expected).await;
        }
        for (token, expected) in [("alice", Ok), ("bob", Ok), ("root", Ok), ("", Unauthenticated)] {
            let token = if token.is_empty() { String::new() } else { format!("{token}.accessToken") };
            pair.call("me", &token, "IdentityService/WhoAmI", json!({}), expected).await;
            pair.call("list", &token, "SessionService/ListSessions", json!({ "userId": "me" }), expected).await;
            pair.call("user", &token, "UserService/GetUser", json!({ "userId": "me" }), expected).await;
        }
        let (alice, bob, root) = ("alice.accessToken", "bob.accessToken", "root.accessToken");
        pair.call("x", bob, "UserService/GetUser", json!({ "userId": "$alice.user.userId" }), PermissionDenied).await;
        pair.call("x", root, "UserService/GetUser", json!({ "userId": "$alice.user.userId" }), Ok).await;
        pair.call("x", bob, "UserService/ListUsers", json!({}), PermissionDenied).await;
        for (request, expected) in [
            (json!({}), Ok),
            (json!({ "pageSize": 2 }), Ok),
            (json!({ "usernamePrefix": "al", "showInactive": true }), Ok),
            (json!({ "pageSize": -1 }), InvalidArgument),
            (json!({ "pageToken": "x" }), InvalidArgument),
        ] {
            pair.call("page", root, "UserService/ListUsers", request, expected).await;
        }
        for (user, mask, expected) in [
            (json!({ "firstName": "Ünï" }), "firstName", Ok),
            (json!({ "email": "alice@example.test" }), "email", Ok),
            (json!({ "email": "alice" }), "email", InvalidArgument),
            (json!({ "username": "bob" }), "username", AlreadyExists),
            (json!({ "isSuperuser": true }), "isSuperuser", Ok),
            (json!({ "firstName": "x", "etag": "\"99\"" }), "firstName", Aborted),
        ] {
            let mut user = user;
            user["userId"] = json!("me");
            pair.call("x", alice, "UserService/UpdateUser", json!({ "user": user, "updateMask": mask }), expected).await;
        }
        for (request, expected) in [
            (json!({ "refreshToken": "$alice.refreshToken" }), Ok),
            (json!({ "refreshToken": "nonsense" }), Unauthenticated),
            (json!({ "refreshToken": "" }), InvalidArgument),
            (json!({ "refreshToken": "x", "requestId": "x" }), InvalidArgument),
        ] {
            pair.call("fresh", "", "TokenService/Refresh", request, expected).await;
        }
        let another = "seven green cafes of tin";
        for (token, old, new, expected) in [
            (alice, PASSWORD, another, Ok),
            (alice, "not the password of alice", another, InvalidArgument),
            (alice, another, "short", InvalidArgument),
        ] {
            let request = json!({ "userId": "me", "oldPassword": old, "newPassword": new });
            pair.call("x", token, "UserService/ChangePassword", request, expected).await;
        }
        pair.call("jwks", "", "KeyService/GetJwks", json!({}), Ok).await;
        pair.call("keys", root, "KeyService/ListKeys", json!({}), Ok).await;
        let permissions = json!({ "userId": "me", "permissions": ["auth.view_user", "auth.fly"] });
        pair.call("x", bob, "IdentityService/CheckPermissions", permissions, Ok).await;
        for (token, method, expected) in [(bob, "GetUser", Ok), (root, "ListUsers", Ok), (bob, "Nothing", NotFound), ("", "GetUser", Unauthenticated)] {
            pair.call("x", token, "IdentityService/ExplainAccess", json!({ "method": method, "userId": "me" }), expected).await;
        }
        for (token, method, expected) in [
            (bob, "GrantSuperuser", PermissionDenied),
            (root, "GrantSuperuser", Ok),
            (root, "RevokeSuperuser", FailedPrecondition),
        ] {
            pair.call("x", token, &format!("UserService/{method}"), json!({ "userId": "$root.user.userId" }), expected).await;
        }
        pair.call("keys", bob, "KeyService/ListKeys", json!({}), PermissionDenied).await;
        pair.call("made", root, "KeyService/CreateKey", json!({ "size": "KEY_SIZE_RSA_2048" }), Ok).await;
        pair.call("x", root, "KeyService/ActivateKey", json!({ "keyId": "$made.keyId" }), FailedPrecondition).await;
        pair.call("x", root, "KeyService/RetireKey", json!({ "keyId": "$keys.keys.keyId" }), FailedPrecondition).await;
        for (method, token, expected) in [("DeactivateUser", root, Ok), ("DeactivateUser", alice, PermissionDenied), ("ActivateUser", root, Ok)] {
            pair.call("x", token, &format!("UserService/{method}"), json!({ "userId": "$bob.user.userId" }), expected).await;
        }
        pair.call("x", root, "UserService/SetPassword", json!({ "userId": "$bob.user.userId", "newPassword": another }), Ok).await;
        pair.call("x", alice, "SessionService/RevokeAllSessions", json!({ "userId": "me" }), Ok).await;
        pair.call("x", "", "TokenService/Logout", json!({ "refreshToken": "$root.refreshToken" }), Ok).await;
        assert!(pair.parity.calls() > 50, "{} calls", pair.parity.calls());
        drop(pair.services);
    }

    async fn the_jwks_cache_lifetime_equals_that_of_verifiers(app: App) {
        let first = get(&app, KEYS, &[]).await;
        assert_eq!((first.status, first.header("cache-control")), (200, "public, max-age=300"));
        let etag = first.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.len() > 20, "{etag}");
        let again = get(&app, KEYS, &[("if-none-match", &etag)]).await;
        assert_eq!((again.status, again.header("etag"), again.header("cache-control")), (304, etag.as_str(), "public, max-age=300"));
        assert!(again.body.is_empty());

        let root = app.superuser("root").await;
        let authorization = format!("Bearer {}", root.login.access_token);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        assert_eq!(send(app.server.address, "POST /v1/keys", &headers, b"{}").await.status, 200);
        let other = get(&app, KEYS, &[("if-none-match", &etag)]).await;
        assert_eq!((other.status, other.json()["keys"].as_array().map(Vec::len)), (200, Some(2)));
    }

    async fn cors_allows_configured_origins(app: Paged) {
        let Paged(app) = app;
        let ours = ("origin", "https://app.example.test");
        let answer = get(&app, KEYS, &[ours]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://app.example.test"));
        assert!(answer.header("access-control-expose-headers").contains("etag"));
        let refused = get(&app, "/v1/me", &[ours]).await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, "https://app.example.test"));

        let asks = [("access-control-request-method", "POST"), ("access-control-request-headers", "authorization, content-type")];
        let asked = send(app.server.address, "OPTIONS /v1/tokens:login", &[&[ours], &asks[..]].concat(), b"").await;
        assert_eq!((asked.status, asked.header("access-control-allow-headers")), (200, "authorization, content-type"));
        assert!(asked.header("access-control-allow-methods").contains("POST"));
        let web = [ours, ("content-type", "application/grpc-web+proto")];
        let answer = send(app.server.address, "POST /auth.v1.KeyService/GetJwks", &web, &[0; 5]).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://app.example.test"));
        assert!(answer.body.windows(13).any(|window| window == b"grpc-status:0"), "{:?}", String::from_utf8_lossy(&answer.body));

        let theirs = ("origin", "https://evil.test");
        assert_eq!(get(&app, KEYS, &[theirs]).await.header("access-control-allow-origin"), "");
        let asked = send(app.server.address, "OPTIONS /v1/tokens:login", &[&[theirs], &asks[..]].concat(), b"").await;
        assert_eq!(asked.header("access-control-allow-origin"), "");
    }

    async fn a_patch_without_a_mask_writes_the_fields_that_the_body_names(app: App) {
        let alice = app.user("alice").await;
        let patch = async |body: &str| {
            let authorization = format!("Bearer {}", alice.login.access_token);
            let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
            let answer = send(app.server.address, "PATCH /v1/users/me", &headers, body.as_bytes()).await;
            assert_eq!(answer.status, 200, "{body}: {}", answer.text());
            answer.json()
        };
        let full = patch(r#"{"firstName": "Alice", "last_name": "Liddell", "email": "alice@example.test"}"#).await;
        let cleared = patch(r#"{"first_name": "", "email": null}"#).await;
        assert_eq!((&full["firstName"], &cleared["firstName"]), (&json!("Alice"), &json!("")));
        assert_eq!((&cleared["email"], &cleared["lastName"]), (&json!(""), &json!("Liddell")));
    }

    async fn an_update_that_changes_nothing_writes_nothing(app: App) {
        let root = app.superuser("root").await;
        let authorization = format!("Bearer {}", root.login.access_token);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let call = async |line: &str, body: &str| {
            let answer = send(app.server.address, line, &headers, body.as_bytes()).await;
            assert_eq!(answer.status, 200, "{line}: {}", answer.text());
            answer.json()
        };
        let user = call("POST /v1/users", r#"{"user": {"username": "alice", "email": "a@example.test", "firstName": "Alice"}}"#).await;
        let group = call("POST /v1/groups", r#"{"name": "Editors"}"#).await;
        let mut client = call("POST /v1/clients", r#"{"clientId": "billing", "permissions": ["auth.view_user", "auth.view_key"]}"#).await;
        client["clientSecret"] = json!("");
        let db = app.database.open();
        let events = async || db.query("SELECT last FROM feed").one::<(i64,)>().await.expect("the end of the feed").0;
        let before = events().await;
        app.clock.advance(chrono::TimeDelta::seconds(5));
        for (resource, kind, id) in [(&user, "users", "userId"), (&group, "groups", "groupId"), (&client, "clients", "clientId")] {
            let path = format!("/v1/{kind}/{}", resource[id].as_str().expect("an id"));
            // The whole resource as it was read, each field on its own, and fields that no update writes.
            for body in [resource.clone(), json!({ "etag": resource["etag"] }), json!({ "createTime": null, "updateTime": null })] {
                assert_eq!(&call(&format!("PATCH {path}"), &body.to_string()).await, resource, "{body}");
            }
            assert_eq!(&call(&format!("GET {path}"), "").await, resource);
        }
        let path = format!("/v1/users/{}", user["userId"].as_str().expect("an id"));
        assert_eq!(call(&format!("PATCH {path}"), r#"{"isActive": false, "isSuperuser": true}"#).await, user);
        assert_eq!(call(&format!("POST {path}:activate"), "{}").await, user);
        assert_eq!(events().await, before);
    }

    async fn all_violations_are_reported_at_once(app: App) {
        let json = [("content-type", "application/json")];
        let body = br#"{"username": "two words", "email": "nowhere", "password": "short"}"#;
        let answer = send(app.server.address, "POST /v1/users:register", &json, body).await;
        let violations = answer.json()["details"][1]["fieldViolations"].clone();
        let found: Vec<_> = violations.as_array().into_iter().flatten().map(|violation| violation["reason"].clone()).collect();
        assert_eq!((answer.status, found), (400, vec![json!("STRING_EMAIL"), json!("USERNAME_RFC8265"), json!("PASSWORD_MIN_LEN")]));

        let root = app.superuser("root").await;
        let authorization = format!("Bearer {}", root.login.access_token);
        let signed = [json[0], ("authorization", authorization.as_str())];
        let me = format!("PATCH /v1/users/{}", root.user.user_id);
        for (line, body, expected) in [
            // A password that is long enough and easily guessed.
            (
                "POST /v1/users:register",
                r#"{"username": "two words", "password": "passwordpassword1"}"#,
                &["USERNAME_RFC8265", "PASSWORD_NOT_COMMON"][..],
            ),
            (
                "POST /v1/users",
                r#"{"user": {"username": "other@example.test", "email": "own@example.test"}, "password": "passwordpassword1"}"#,
                &["USERNAME_OWN_EMAIL", "PASSWORD_NOT_COMMON"],
            ),
            // Both fields are given, so that no stored value decides.
            (
                me.as_str(),
                r#"{"username": "other@example.test", "email": "own@example.test", "first_name": "a\u0000"}"#,
                &["STRING_NO_NUL", "USERNAME_OWN_EMAIL"],
            ),
        ] {
            let answer = send(app.server.address, line, &signed, body.as_bytes()).await;
            let violations = answer.json()["details"][1]["fieldViolations"].clone();
            let found: Vec<_> = violations.as_array().into_iter().flatten().map(|violation| violation["reason"].clone()).collect();
            assert_eq!((answer.status, found), (400, expected.iter().map(|rule| json!(rule)).collect()), "{line} {}", answer.text());
        }
    }

    async fn two_members_of_a_oneof_are_refused_in_a_query(app: App) {
        let root = app.superuser("root").await;
        let authorization = format!("Bearer {}", root.login.access_token);
        let path = format!("/v1/permissions?userId={0}&groupId={0}", root.user.user_id);
        let answer = get(&app, &path, &[("authorization", &authorization)]).await;
        let violation = answer.json()["details"][1]["fieldViolations"][0].clone();
        assert_eq!((answer.status, &violation["field"], &violation["reason"]), (400, &json!("group_id"), &json!("FIELD_ONEOF")));
    }
}
