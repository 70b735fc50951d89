//! Service accounts: create, update and rotate them, and issue tokens for a secret or an assertion.

use access::token::{ClientCredentials, ServiceToken};
use auth_service::{
    Settings,
    login_throttle::Limits,
    proto::{
        ActivateClientRequest, Client, CreateClientRequest, DeactivateClientRequest, DeleteClientRequest, GetClientRequest,
        GrantRequest, IssueServiceTokenRequest, IssueServiceTokenResponse, Jwk, ListClientsRequest, ListKeysRequest,
        LoginRequest, RotateSecretRequest, UpdateClientRequest, WhoAmIRequest, grant_request,
        identity_service_client::IdentityServiceClient, issue_service_token_request::Credential,
        key_service_client::KeyServiceClient, permission_service_client::PermissionServiceClient,
    },
};
use chrono::TimeDelta;
use prost_types::FieldMask;
use serde_json::{Value, json};
use testing::on_both_engines;
use testing::{Engine, Issuer, assert_refused};
use tonic::{Code, Request, Status, service::Interceptor};

use crate::app::{Actor, App, Bearer, claims};

async fn create(actor: &Actor, client_id: &str, permissions: &[&str]) -> Result<Client, Status> {
    let permissions = permissions.iter().map(ToString::to_string).collect();
    let client = Some(Client { client_id: client_id.to_owned(), permissions, ..Client::default() });
    actor.clients().create_client(CreateClientRequest { client }).await.map(tonic::Response::into_inner)
}

async fn update(actor: &Actor, client: Client, paths: &[&str]) -> Result<Client, Status> {
    let update_mask = Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    let request = UpdateClientRequest { client: Some(client), update_mask };
    actor.clients().update_client(request).await.map(tonic::Response::into_inner)
}

async fn rotate(actor: &Actor, client_id: &str, withdraw: bool) -> Result<Client, Status> {
    let request = RotateSecretRequest { client_id: client_id.to_owned(), withdraw };
    actor.clients().rotate_secret(request).await.map(tonic::Response::into_inner)
}

async fn issue(app: &App, client_id: &str, credential: Credential) -> Result<IssueServiceTokenResponse, Status> {
    let request =
        IssueServiceTokenRequest { client_id: client_id.to_owned(), credential: Some(credential), scope: String::new() };
    app.tokens().issue_service_token(request).await.map(tonic::Response::into_inner)
}

async fn by_secret(app: &App, client_id: &str, secret: &str) -> Result<IssueServiceTokenResponse, Status> {
    issue(app, client_id, Credential::ClientSecret(secret.to_owned())).await
}

#[track_caller]
fn assert_no_token(outcome: Result<IssueServiceTokenResponse, Status>) {
    assert_refused(outcome, Code::Unauthenticated, "CLIENT_CREDENTIALS_INVALID", &[]);
}

struct Limited(App);

impl Limited {
    async fn start(engine: Engine) -> Self {
        let limits = Limits { per_account: 3, per_source: 5, ..Limits::default() };
        Self(App::start_with(engine, Settings { limits, ..Settings::default() }).await)
    }
}

on_both_engines! {
    async fn a_client_gets_a_token_for_its_secret(app: App) {
        let root = app.superuser("root").await;
        let client = create(&root, "billing", &["auth.view_key", "auth.view_client"]).await.expect("a client");
        assert!(client.is_active && client.secret_time.is_some());
        assert_eq!(client.etag, format!("\"{}\"", app.clock.now().timestamp_micros()));
        assert_eq!(client.client_secret.len(), 43);
        let issued = by_secret(&app, "billing", &client.client_secret).await.expect("a token");
        assert_eq!((issued.token_type.as_str(), issued.expires_in), ("Bearer", 600));
        let claims = claims(&issued.access_token);
        assert_eq!((&claims["sub"], &claims["client_id"], &claims["actor"]), (&json!("billing"), &json!("billing"), &json!("service")));
        assert_eq!((&claims["scope"], &claims["ver"]), (&json!("auth.view_client auth.view_key"), &json!(app.clock.now().timestamp_micros())));
        assert_eq!((claims.get("sid"), claims.get("preferred_username")), (None, None));

        let bearer = Bearer(issued.access_token);
        let mut keys = KeyServiceClient::with_interceptor(app.server.channel(), bearer.clone());
        keys.list_keys(ListKeysRequest::default()).await.expect("a permitted call");
        let denied = keys.create_key(auth_service::proto::CreateKeyRequest::default()).await;
        assert_refused(denied, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        let me = IdentityServiceClient::with_interceptor(app.server.channel(), bearer).who_am_i(WhoAmIRequest {}).await;
        assert_refused(me, Code::PermissionDenied, "ACTOR_NOT_ALLOWED", &[]);

        assert_no_token(by_secret(&app, "billing", "a guess").await);
        assert_no_token(by_secret(&app, "nobody", &client.client_secret).await);
        let without = app.tokens().issue_service_token(IssueServiceTokenRequest { client_id: "billing".to_owned(), ..IssueServiceTokenRequest::default() }).await;
        assert_refused(without, Code::InvalidArgument, "FIELD_INVALID", &[("credential", "REQUIRED")]);
    }

    async fn both_secrets_are_valid_during_a_rotation(app: App) {
        let root = app.superuser("root").await;
        let first = create(&root, "billing", &[]).await.expect("a client").client_secret;
        let second = rotate(&root, "billing", false).await.expect("a rotation");
        assert!(second.previous_secret_expire_time.is_some());
        for secret in [&first, &second.client_secret] {
            by_secret(&app, "billing", secret).await.expect("a token");
        }
        app.clock.advance(TimeDelta::days(1));
        assert_no_token(by_secret(&app, "billing", &first).await);
        by_secret(&app, "billing", &second.client_secret).await.expect("a token");

        let root = app.again(&root).await;
        let third = rotate(&root, "billing", false).await.expect("a rotation").client_secret;
        let fourth = rotate(&root, "billing", true).await.expect("a rotation");
        assert!(fourth.previous_secret_expire_time.is_none());
        for gone in [&first, &second.client_secret, &third] {
            assert_no_token(by_secret(&app, "billing", gone).await);
        }
        by_secret(&app, "billing", &fourth.client_secret).await.expect("a token");
        let shown = root.clients().get_client(GetClientRequest { client_id: "billing".to_owned() }).await.expect("a client");
        assert_eq!(shown.into_inner().client_secret, "");
    }

    async fn an_inactive_or_deleted_client_gets_no_token(app: App) {
        let root = app.superuser("root").await;
        let Client { client_secret: secret, etag: first, .. } = create(&root, "billing", &[]).await.expect("a client");
        let client_id = || "billing".to_owned();
        let mut etags = Vec::new();
        for _ in 0..2 {
            let client = root.clients().deactivate_client(DeactivateClientRequest { client_id: client_id() }).await.expect("a client").into_inner();
            assert!(!client.is_active);
            etags.push(client.etag);
        }
        assert!(etags[0] == etags[1] && etags[0] != first, "a call that changes nothing keeps the version");
        assert_no_token(by_secret(&app, "billing", &secret).await);
        let active = root.clients().activate_client(ActivateClientRequest { client_id: client_id() }).await.expect("a client").into_inner();
        by_secret(&app, "billing", &secret).await.expect("a token");
        let delete = |etag: &str| DeleteClientRequest { client_id: client_id(), etag: etag.to_owned() };
        let stale = root.clients().delete_client(delete(&first)).await;
        assert_refused(stale, Code::Aborted, "ETAG_STALE", &[("etag", "ETAG_CURRENT")]);
        root.clients().delete_client(delete(&active.etag)).await.expect("a deletion");
        assert_no_token(by_secret(&app, "billing", &secret).await);
        let gone = root.clients().delete_client(delete("")).await;
        assert_refused(gone, Code::NotFound, "NOT_FOUND", &[("client_id", "EXISTS")]);
    }

    async fn clients_are_read_listed_and_updated(app: App) {
        let root = app.superuser("root").await;
        for client_id in ["b2", "a-1", "b1"] {
            create(&root, client_id, &[]).await.expect("a client");
        }
        let (mut page_token, mut found) = (String::new(), Vec::new());
        loop {
            let page = root.clients().list_clients(ListClientsRequest { page_size: 2, page_token }).await.expect("a page").into_inner();
            found.extend(page.clients);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found.iter().map(|client| client.client_id.as_str()).collect::<Vec<_>>(), ["a-1", "b1", "b2"]);

        let change = Client {
            display_name: "Billing".to_owned(),
            permissions: vec!["auth.view_user".to_owned(), "auth.view_key".to_owned(), "auth.view_user".to_owned()],
            ..found[0].clone()
        };
        let changed = update(&root, change.clone(), &["*"]).await.expect("a change");
        assert_eq!(changed.display_name, "Billing");
        assert_ne!(changed.etag, found[0].etag);
        assert_eq!(changed.permissions, ["auth.view_key", "auth.view_user"]);
        assert_refused(update(&root, change, &["*"]).await, Code::Aborted, "ETAG_STALE", &[("client.etag", "ETAG_CURRENT")]);

        assert_refused(create(&root, "b1", &[]).await, Code::AlreadyExists, "ALREADY_EXISTS", &[("client.client_id", "CLIENT_ID_UNIQUE")]);
        for client_id in ["first-party", "B1", "018f0000-0000-7000-8000-000000000000", "a18f0000-0000-7000-8000-000000000000"] {
            let outcome = create(&root, client_id, &[]).await;
            assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("client.client_id", "CLIENT_ID")]);
        }
        let outcome = create(&root, "b3", &["auth.view_key", "auth.fly"]).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("client.permissions[1]", "PERMISSION_KNOWN")]);
        let short = Client { client_id: "b3".to_owned(), keys: vec![Jwk { kty: "RSA".to_owned(), ..Jwk::default() }], ..Client::default() };
        let outcome = root.clients().create_client(CreateClientRequest { client: Some(short) }).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("client.keys", "CLIENT_KEYS")]);
    }

    async fn a_client_that_loses_a_permission_or_credential_loses_its_tokens(app: App) {
        let root = app.superuser("root").await;
        let signer = Issuer::new("billing", "unused", app.clock.clock());
        let made = Client {
            client_id: "billing".to_owned(),
            permissions: vec!["auth.view_key".to_owned(), "auth.view_user".to_owned()],
            keys: signer.jwks(),
            ..Client::default()
        };
        root.clients().create_client(CreateClientRequest { client: Some(made.clone()) }).await.expect("a client");
        let mut secret = rotate(&root, "billing", false).await.expect("a secret").client_secret;
        let works = async |token: &str| {
            let mut keys = KeyServiceClient::with_interceptor(app.server.channel(), Bearer(token.to_owned()));
            keys.list_keys(ListKeysRequest::default()).await.map(drop)
        };
        let replica = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        let works_elsewhere = async |token: &str| {
            let mut keys = KeyServiceClient::with_interceptor(replica.channel(), Bearer(token.to_owned()));
            keys.list_keys(ListKeysRequest::default()).await.map(drop)
        };
        let client_with = |permissions: &[&str], keys: &[Jwk]| Client {
            client_id: "billing".to_owned(),
            permissions: permissions.iter().map(ToString::to_string).collect(),
            keys: keys.to_vec(),
            ..Client::default()
        };
        let mut token = by_secret(&app, "billing", &secret).await.expect("a token").access_token;
        for step in ["a permission more", "another secret", "a permission less", "no key", "a secret withdrawn", "inactive", "deleted"] {
            works(&token).await.expect(step);
            let loses = match step {
                "a permission more" => {
                    update(&root, client_with(&["auth.view_key", "auth.view_user", "auth.view_client"], &made.keys), &["*"]).await.expect(step);
                    false
                }
                "another secret" => {
                    secret = rotate(&root, "billing", false).await.expect(step).client_secret;
                    false
                }
                "a permission less" => {
                    update(&root, client_with(&["auth.view_key"], &made.keys), &["permissions"]).await.expect(step);
                    true
                }
                "no key" => {
                    update(&root, client_with(&[], &[]), &["keys"]).await.expect(step);
                    true
                }
                "a secret withdrawn" => {
                    secret = rotate(&root, "billing", true).await.expect(step).client_secret;
                    true
                }
                "inactive" => {
                    let client_id = "billing".to_owned();
                    root.clients().deactivate_client(DeactivateClientRequest { client_id: client_id.clone() }).await.expect(step);
                    root.clients().activate_client(ActivateClientRequest { client_id }).await.expect(step);
                    true
                }
                _ => {
                    let request = DeleteClientRequest { client_id: "billing".to_owned(), etag: String::new() };
                    root.clients().delete_client(request).await.expect(step);
                    // More microseconds than the deleted client had versions.
                    app.clock.advance(TimeDelta::microseconds(20));
                    secret = create(&root, "billing", &["auth.view_key"]).await.expect(step).client_secret;
                    true
                }
            };
            if loses {
                assert_refused(works(&token).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
                while works_elsewhere(&token).await.is_ok() {}
            } else {
                works(&token).await.expect(step);
            }
            // The token is issued within the same second as the revocation.
            token = by_secret(&app, "billing", &secret).await.expect("a token").access_token;
        }
        works(&token).await.expect("the token of the new client with the same id");
        works_elsewhere(&token).await.expect("the same token at the replica");
    }

    async fn a_caller_cannot_change_a_client_with_more_permissions(app: App) {
        let root = app.superuser("root").await;
        let permissions = ["auth.add_client", "auth.change_client", "auth.delete_client", "auth.view_client"];
        let clerk = app.clerk(&root, "clerk", &permissions).await;
        create(&root, "billing", &["auth.view_key"]).await.expect("a client");
        create(&clerk, "own", &["auth.view_client"]).await.expect("a client that may do no more than they");
        let own = |permission: &str| Client { client_id: "own".to_owned(), permissions: vec![permission.to_owned()], ..Client::default() };
        let billing = Client { client_id: "billing".to_owned(), keys: Issuer::new("x", "x", app.clock.clock()).jwks(), ..Client::default() };
        let client_id = || "billing".to_owned();
        for outcome in [
            create(&clerk, "other", &["auth.view_key"]).await.map(drop),
            update(&clerk, own("auth.view_key"), &["permissions"]).await.map(drop),
            update(&clerk, billing, &["keys"]).await.map(drop),
            rotate(&clerk, "billing", false).await.map(drop),
            clerk.clients().deactivate_client(DeactivateClientRequest { client_id: client_id() }).await.map(drop),
            clerk.clients().delete_client(DeleteClientRequest { client_id: client_id(), etag: String::new() }).await.map(drop),
        ] {
            assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        update(&clerk, own("auth.add_client"), &["permissions"]).await.expect("a change");
    }

    async fn a_service_can_grant_only_its_own_permissions(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let secret = create(&root, "roles", &["auth.change_permission", "auth.view_user"]).await.expect("a client").client_secret;
        let token = by_secret(&app, "roles", &secret).await.expect("a token").access_token;
        let grant = |permission: &str, actor: &Actor| {
            let holder = Some(grant_request::Holder::UserId(actor.user.user_id.clone()));
            let request = GrantRequest { permission: permission.to_owned(), holder };
            let mut permissions = PermissionServiceClient::with_interceptor(app.server.channel(), Bearer(token.clone()));
            async move { permissions.grant(request).await }
        };
        grant("auth.view_user", &alice).await.expect("a grant");
        for outcome in [grant("auth.view_key", &alice).await, grant("auth.view_user", &root).await] {
            assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        let client_id = "roles".to_owned();
        root.clients().deactivate_client(DeactivateClientRequest { client_id }).await.expect("a client");
        assert_refused(grant("auth.view_user", &alice).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }

    async fn an_assertion_is_accepted_once(app: App) {
        let root = app.superuser("root").await;
        let signer = Issuer::new("billing", "unused", app.clock.clock());
        let client = Client { client_id: "billing".to_owned(), keys: signer.jwks(), ..Client::default() };
        let client = root.clients().create_client(CreateClientRequest { client: Some(client) }).await.expect("a client").into_inner();
        assert_eq!((client.client_secret.as_str(), client.secret_time), ("", None));
        let now = app.clock.now().timestamp();
        let sign = |typ: &str, change: Value| {
            let mut claims = json!({
                "iss": "billing", "sub": "billing", "aud": "http://127.0.0.1:50051", "iat": now, "exp": now + 60, "jti": typ,
            });
            claims.as_object_mut().expect("an object").extend(change.as_object().cloned().expect("an object"));
            let header = json!({"alg": "RS256", "typ": typ, "kid": Issuer::KID});
            Credential::ClientAssertion(signer.sign(header.to_string().as_bytes(), claims.to_string().as_bytes()))
        };
        for typ in ["JWT", "client-authentication+jwt"] {
            let issued = issue(&app, "billing", sign(typ, json!({}))).await.expect("a token");
            assert_eq!(claims(&issued.access_token)["sub"], "billing");
            assert_no_token(issue(&app, "billing", sign(typ, json!({}))).await);
        }
        create(&root, "other", &[]).await.expect("a client");
        for (typ, change) in [
            ("at+jwt", json!({"jti": "1"})),
            ("JWT", json!({"jti": "2", "aud": "http://127.0.0.1:50052"})),
            ("JWT", json!({"jti": "3", "exp": now + 301})),
            ("JWT", json!({"jti": "4", "sub": "other"})),
            ("JWT", json!({"jti": ""})),
        ] {
            assert_no_token(issue(&app, "billing", sign(typ, change)).await);
        }
        assert_no_token(issue(&app, "other", sign("JWT", json!({"jti": "5", "iss": "other", "sub": "other"}))).await);
        // A rejected assertion does not count as used.
        issue(&app, "billing", sign("JWT", json!({"jti": "5"}))).await.expect("a token");
        issue(&app, "billing", Credential::ClientAssertion("x.y.z".to_owned())).await.expect_err("a refusal");
        // A client can have a secret in addition to its keys.
        let secret = rotate(&root, "billing", false).await.expect("a secret").client_secret;
        by_secret(&app, "billing", &secret).await.expect("a token");
    }

    async fn concurrent_uses_of_one_assertion_issue_one_token(app: App) {
        let root = app.superuser("root").await;
        let signer = Issuer::new("billing", "unused", app.clock.clock());
        let client = Client { client_id: "billing".to_owned(), keys: signer.jwks(), ..Client::default() };
        root.clients().create_client(CreateClientRequest { client: Some(client) }).await.expect("a client");
        let now = app.clock.now().timestamp();
        let claims = json!({"iss": "billing", "sub": "billing", "aud": "http://127.0.0.1:50051", "iat": now, "exp": now + 60, "jti": "1"});
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": Issuer::KID});
        let assertion = signer.sign(header.to_string().as_bytes(), claims.to_string().as_bytes());
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (mut tokens, credential) = (app.tokens(), Some(Credential::ClientAssertion(assertion.clone())));
            let request = IssueServiceTokenRequest { client_id: "billing".to_owned(), credential, scope: String::new() };
            calls.spawn(async move { tokens.issue_service_token(request).await.map(tonic::Response::into_inner) });
        }
        let (issued, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((issued.len(), refused.len()), (1, 7));
        for outcome in refused {
            assert_no_token(outcome);
        }
    }

    async fn a_right_secret_is_accepted_after_any_number_of_wrong_credentials(app: Limited) {
        let app = app.0;
        let root = app.superuser("root").await;
        let secret = create(&root, "billing", &[]).await.expect("a client").client_secret;
        for _ in 0..20 {
            assert_no_token(by_secret(&app, "billing", "a guess").await);
            assert_no_token(by_secret(&app, "nobody", "a guess").await);
        }
        // Wrong passwords from the same address exhaust the limit of Login only.
        let login = || LoginRequest { username: "root".to_owned(), password: "a wrong password".to_owned() };
        while app.tokens().login(login()).await.expect_err("a wrong password").code() != Code::ResourceExhausted {}
        by_secret(&app, "billing", &secret).await.expect("a token");
    }

    async fn a_service_token_is_cached_and_added_to_calls(app: App) {
        let root = app.superuser("root").await;
        let folder = tempfile::tempdir().expect("a folder");
        let secret_file = folder.path().join("secret");
        let token = ServiceToken::default();
        let mut keys = KeyServiceClient::with_interceptor(app.server.channel(), token.clone());
        let early = keys.list_keys(ListKeysRequest::default()).await;
        assert_refused(early, Code::Unavailable, "UNAVAILABLE", &[]);

        // The service asks before its account and its secret file exist, and gets its token once they do.
        let credentials = ClientCredentials { client_id: "billing".to_owned(), secret_file: secret_file.clone() };
        let (keeping, channel) = (token.clone(), app.server.channel());
        let keeping = tokio::spawn(async move { keeping.keep_fresh(channel, credentials).await });
        let secret = create(&root, "billing", &["auth.view_key"]).await.expect("a client").client_secret;
        std::fs::write(&secret_file, format!("{secret}\n")).expect("a write");
        token.ready().await;
        keys.list_keys(ListKeysRequest::default()).await.expect("an answer");

        let header = |token: &ServiceToken| token.clone().call(Request::new(())).expect("a token").metadata().get("authorization").cloned();
        let first = header(&token);
        assert!(!format!("{token:?}{first:?}").contains("Bearer"));
        let secret = rotate(&root, "billing", true).await.expect("a rotation").client_secret;
        std::fs::write(&secret_file, format!("{secret}\n")).expect("a write");
        token.renew().await;
        assert_ne!(header(&token), first);
        keys.list_keys(ListKeysRequest::default()).await.expect("an answer");
        keeping.abort();
    }
}
