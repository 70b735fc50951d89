//! The life cycle of signing keys through `KeyService`: a regular rotation rejects no valid token.

use auth_service::{
    Settings,
    proto::{
        ActivateKeyRequest, CreateKeyRequest, GetJwksRequest, Key, KeySize, KeyState, ListKeysRequest, RefreshRequest,
        RefreshResponse, RetireKeyRequest, WhoAmIRequest,
    },
    sessions::Lifetime,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use prost_types::Timestamp;
use testing::assert_refused;
use testing::on_both_engines;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::app::{Actor, App};

/// The time from the creation of a key until it can be activated: verifiers cache keys for five minutes, replicas for five seconds.
const LEAD: TimeDelta = TimeDelta::seconds(305);
/// The time for which a retired key stays published after its last token expires.
const NOTICE: TimeDelta = TimeDelta::minutes(2);
const IDLE: TimeDelta = TimeDelta::days(14);

async fn create(root: &Actor, size: KeySize) -> Result<Key, Status> {
    root.keys().create_key(CreateKeyRequest { size: size.into() }).await.map(tonic::Response::into_inner)
}

async fn activate(root: &Actor, key_id: &str, force: bool) -> Result<Key, Status> {
    let request = ActivateKeyRequest { key_id: key_id.to_owned(), force };
    root.keys().activate_key(request).await.map(tonic::Response::into_inner)
}

async fn retire(root: &Actor, key_id: &str, withdraw: bool) -> Result<Key, Status> {
    let request = RetireKeyRequest { key_id: key_id.to_owned(), withdraw };
    root.keys().retire_key(request).await.map(tonic::Response::into_inner)
}

async fn list(root: &Actor) -> Vec<(String, KeyState)> {
    let page = root.keys().list_keys(ListKeysRequest::default()).await.expect("a page").into_inner();
    page.keys.into_iter().map(|key| (key.key_id.clone(), key.state())).collect()
}

async fn published(app: &App) -> Vec<String> {
    let jwks = app.keys().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner();
    jwks.keys.into_iter().map(|jwk| jwk.kid).collect()
}

async fn refresh(app: &App, refresh_token: &str, request_id: Option<Uuid>) -> Result<RefreshResponse, Status> {
    let request_id = request_id.map(|id| id.to_string()).unwrap_or_default();
    let request = RefreshRequest { refresh_token: refresh_token.to_owned(), request_id };
    app.tokens().refresh(request).await.map(tonic::Response::into_inner)
}

/// Returns the key id in the header of a token.
fn kid(token: &str) -> String {
    let header = token.split('.').next().and_then(|header| BASE64_URL_SAFE_NO_PAD.decode(header).ok()).expect("a header");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a key id").to_owned()
}

/// Returns the seconds since the start of the test.
fn since(time: Option<Timestamp>) -> i64 {
    time.expect("a time").seconds - 1_800_000_000
}

on_both_engines! {
    async fn a_new_key_is_published_at_once_and_signs_after_activation(app: App) {
        let (root, alice) = (app.superuser("root").await, app.user("alice").await);
        let first = kid(&alice.login.access_token);
        app.clock.advance(TimeDelta::seconds(1));
        let made = create(&root, KeySize::Unspecified).await.expect("a key");
        assert_eq!((made.state(), made.size()), (KeyState::Pending, KeySize::Rsa2048));
        assert_eq!((since(made.create_time), since(made.activatable_time)), (1, 1 + LEAD.num_seconds()));
        assert_eq!(published(&app).await, [first.clone(), made.key_id.clone()]);
        assert_eq!(kid(&app.login("alice").await.access_token), first);

        app.clock.advance(LEAD - TimeDelta::microseconds(1));
        let outcome = activate(&root, &made.key_id, false).await;
        assert_refused(outcome, Code::FailedPrecondition, "KEY_TOO_YOUNG", &[("key_id", "KEY_PUBLISHED_LONG_ENOUGH")]);
        assert_eq!(kid(&app.login("alice").await.access_token), first);

        app.clock.advance(TimeDelta::microseconds(1));
        let active = activate(&root, &made.key_id, false).await.expect("an active key");
        assert_eq!((active.state(), since(active.activate_time)), (KeyState::Active, 1 + LEAD.num_seconds()));
        let login = app.login("alice").await;
        assert_eq!([kid(&login.access_token), kid(&login.refresh_token)], [made.key_id.clone(), made.key_id.clone()]);
        assert_eq!(list(&root).await, [(made.key_id.clone(), KeyState::Active), (first.clone(), KeyState::Retired)]);

        // Tokens of the first key stay valid.
        alice.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer");
        let successor = refresh(&app, &alice.login.refresh_token, None).await.expect("a successor");
        assert_eq!(kid(&successor.refresh_token), made.key_id);
    }

    async fn a_repeated_refresh_returns_the_same_token_after_a_key_rotation(app: App) {
        let (root, alice) = (app.superuser("root").await, app.user("alice").await);
        let id = Some(Uuid::from_u128(7));
        let lost = refresh(&app, &alice.login.refresh_token, id).await.expect("a successor");
        let made = create(&root, KeySize::Unspecified).await.expect("a key");
        app.clock.advance(LEAD);
        activate(&root, &made.key_id, false).await.expect("an active key");
        let again = refresh(&app, &alice.login.refresh_token, id).await.expect("the same successor");
        assert_eq!(again.refresh_token, lost.refresh_token);
        assert_eq!(kid(&again.access_token), made.key_id);
    }

    async fn a_retired_key_is_published_until_its_last_token_expires(app: App) {
        let root = app.superuser("root").await;
        app.clock.advance(TimeDelta::seconds(1));
        let made = create(&root, KeySize::Unspecified).await.expect("a key");
        app.clock.advance(LEAD);
        // A replica that notices the rotation later still signs with the first key.
        let alice = app.user("alice").await;
        let first = kid(&alice.login.refresh_token);
        activate(&root, &made.key_id, false).await.expect("an active key");
        let root = app.again(&root).await;
        let retired = root.keys().list_keys(ListKeysRequest::default()).await.expect("a page").into_inner().keys.pop().expect("a key");
        assert_eq!((retired.key_id.clone(), retired.state()), (first.clone(), KeyState::Retired));
        assert_eq!(since(retired.retire_time), 1 + LEAD.num_seconds());
        assert_eq!(since(retired.expire_time), 1 + (LEAD + IDLE + NOTICE).num_seconds());

        app.clock.advance(IDLE - TimeDelta::seconds(1));
        refresh(&app, &alice.login.refresh_token, None).await.expect("a successor, at the last moment");
        app.clock.advance(NOTICE);
        let root = app.again(&root).await;
        create(&root, KeySize::Unspecified).await.expect("a key");
        assert!(published(&app).await.contains(&first), "a second before its time");
        app.clock.advance(TimeDelta::seconds(1));
        retire(&root, &made.key_id, false).await.expect_err("the active key is not retired");
        create(&root, KeySize::Unspecified).await.expect("a key");
        assert!(!published(&app).await.contains(&first), "its last token has expired");
        assert!(!list(&root).await.iter().any(|(kid, _)| *kid == first));
    }

    async fn retirement_waits_for_the_longest_token_lifetime_of_any_replica(app: App) {
        let root = app.superuser("root").await;
        let session_lifetime = Lifetime { idle: TimeDelta::days(60), absolute: TimeDelta::days(30) };
        let longer = Settings { session_lifetime, ..Settings::default() };
        let replica = App::replica(&app.database, &app.clock, &app.master_key, longer).await;
        // The lifetime is recorded when the replica starts.
        auth_service::proto::key_service_client::KeyServiceClient::new(replica.channel()).get_jwks(GetJwksRequest {}).await.expect("keys");
        app.clock.advance(TimeDelta::seconds(1));
        let made = create(&root, KeySize::Unspecified).await.expect("a key");
        activate(&root, &made.key_id, true).await.expect("an active key");
        let retired = root.keys().list_keys(ListKeysRequest::default()).await.expect("a page").into_inner().keys.pop().expect("a key");
        assert_eq!(since(retired.expire_time), 1 + (TimeDelta::days(30) + NOTICE).num_seconds());
    }

    async fn withdrawing_a_key_invalidates_its_tokens(app: App) {
        let (root, alice) = (app.superuser("root").await, app.user("alice").await);
        let first = kid(&alice.login.refresh_token);
        let made = create(&root, KeySize::Unspecified).await.expect("a key");
        activate(&root, &made.key_id, true).await.expect("an active key");
        let elsewhere = app.again(&alice).await;
        // From here on the token of `root` may be rejected too, because the withdrawn key signed it.
        let root = app.again(&root).await;
        let gone = retire(&root, &first, true).await.expect("a key that is gone");
        assert_eq!(gone.expire_time, gone.retire_time);
        assert_eq!(published(&app).await, [made.key_id]);
        let outcome = refresh(&app, &alice.login.refresh_token, None).await;
        assert_refused(outcome, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
        refresh(&app, &elsewhere.login.refresh_token, None).await.expect("what the other key has signed is good");
        let outcome = retire(&root, &first, true).await;
        assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("key_id", "EXISTS")]);
    }

    async fn key_states_change_in_order_only(app: App) {
        let root = app.superuser("root").await;
        let first = kid(&root.login.access_token);
        let state = |outcome: Result<Key, Status>| assert_refused(outcome, Code::FailedPrecondition, "KEY_STATE", &[("key_id", "KEY_STATE")]);
        state(retire(&root, &first, false).await);
        state(retire(&root, &first, true).await);
        assert_eq!(activate(&root, &first, false).await.expect("an active key stays so").state(), KeyState::Active);

        let second = create(&root, KeySize::Unspecified).await.expect("a key").key_id;
        assert_eq!(activate(&root, &second, true).await.expect("an active key").state(), KeyState::Active);
        state(activate(&root, &first, true).await);
        assert_eq!(retire(&root, &first, false).await.expect("a retired key stays so").state(), KeyState::Retired);

        let third = create(&root, KeySize::Unspecified).await.expect("a key").key_id;
        let retired = retire(&root, &third, false).await.expect("a key that never signs");
        assert_eq!((retired.state(), since(retired.expire_time)), (KeyState::Retired, NOTICE.num_seconds()));
        state(activate(&root, &third, true).await);
        for outcome in [activate(&root, "x", true).await, retire(&root, "x", false).await] {
            assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("key_id", "EXISTS")]);
        }
    }

    async fn the_number_of_pending_keys_is_limited(app: App) {
        let root = app.superuser("root").await;
        for _ in 0..4 {
            create(&root, KeySize::Unspecified).await.expect("a key");
        }
        let outcome = create(&root, KeySize::Unspecified).await;
        assert_refused(outcome, Code::FailedPrecondition, "KEY_STATE", &[("size", "KEY_PENDING_LIMIT")]);
        let mut seen = Vec::new();
        let mut request = ListKeysRequest { page_size: 2, ..ListKeysRequest::default() };
        loop {
            let page = root.keys().list_keys(request.clone()).await.expect("a page").into_inner();
            seen.extend(page.keys.into_iter().map(|key| (key.key_id.clone(), key.state())));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, list(&root).await);
        assert_eq!(seen.len(), 5);
    }

    async fn keys_of_every_size_sign(app: App) {
        let root = app.superuser("root").await;
        for (size, bytes) in [(KeySize::Rsa3072, 384), (KeySize::Rsa4096, 512)] {
            let made = create(&root, size).await.expect("a key");
            assert_eq!(made.size(), size);
            activate(&root, &made.key_id, true).await.expect("an active key");
            let login = app.login("root").await;
            let signature = login.access_token.rsplit('.').next().and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
            assert_eq!((kid(&login.access_token), signature.map(|bytes| bytes.len())), (made.key_id, Some(bytes)));
            refresh(&app, &login.refresh_token, None).await.expect("a successor");
        }
    }

    async fn another_replica_reloads_the_keys_periodically(app: App) {
        let root = app.superuser("root").await;
        let replica = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        let made = create(&root, KeySize::Unspecified).await.expect("a key");
        app.clock.advance(LEAD);
        activate(&root, &made.key_id, false).await.expect("an active key");
        let mut tokens = auth_service::proto::token_service_client::TokenServiceClient::new(replica.channel());
        let mut refresh_token = root.login.refresh_token.clone();
        // A published key is no proof of a reload: the replica may have loaded it before the activation.
        while kid(&refresh_token) != made.key_id {
            let request = RefreshRequest { refresh_token, request_id: String::new() };
            refresh_token = tokens.refresh(request).await.expect("a successor").into_inner().refresh_token;
        }
    }
}
