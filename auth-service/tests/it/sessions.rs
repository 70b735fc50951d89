//! Login, Refresh, Logout, `WhoAmI`, and the published keys that verify their tokens.

use std::collections::BTreeSet;

use access::token::{KeySet, Verifier};
use auth_service::permissions::Catalogue;
use auth_service::proto::{
    ChangePasswordRequest, GetJwksRequest, LoginRequest, LogoutRequest, RefreshRequest, RefreshResponse, WhoAmIRequest,
    token_service_client::TokenServiceClient,
};
use chrono::TimeDelta;
use store::Executor;
use testing::on_both_engines;
use testing::{assert_refused, rounds};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    app::{App, PASSWORD},
    session_factory::SessionFactory,
};

async fn refresh(app: &App, refresh_token: &str, request_id: Option<Uuid>) -> Result<RefreshResponse, Status> {
    let request_id = request_id.map(|id| id.to_string()).unwrap_or_default();
    let request = RefreshRequest { refresh_token: refresh_token.to_owned(), request_id };
    app.tokens().refresh(request).await.map(tonic::Response::into_inner)
}

fn assert_refresh_rejected(outcome: Result<RefreshResponse, Status>) {
    assert_refused(outcome, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
}

on_both_engines! {
    async fn login_and_who_am_i_return_the_user(app: App) {
        let alice = app.user("alice").await;
        assert_eq!(alice.login.token_type, "Bearer");
        assert_eq!((alice.login.expires_in, alice.login.refresh_expires_in), (600, 14 * 86_400));
        let me = alice.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        let (user, session) = (me.user.expect("a user"), me.session.expect("a session"));
        assert_eq!((user.user_id, user.username.as_str()), (alice.user.user_id, "alice"));
        assert!(user.last_login_time.is_some());
        assert_eq!(session.address, "127.0.0.1");
        assert!(session.user_agent.contains("tonic"), "{}", session.user_agent);
        assert!(me.permissions.is_empty());
    }

    async fn a_superuser_holds_every_permission(app: App) {
        let root = app.superuser("root").await;
        let me = root.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        let catalogue = Catalogue::new(&[crate::app::profile_rules()], &[]).expect("a catalogue");
        assert_eq!(me.permissions, catalogue.all());
        assert!(me.permissions.iter().any(|permission| permission == "profile.change_note"));
    }

    async fn an_access_token_has_all_claims_and_verifies_with_the_published_key(app: App) {
        let alice = app.user("Alice").await;
        let jwks = app.keys().get_jwks(GetJwksRequest {}).await.expect("keys").into_inner().keys;
        assert_eq!(jwks.len(), 1);
        let (keys, refused) = KeySet::from_jwks(&jwks);
        assert!(refused.is_empty());
        for service in ["auth-service", "profile-service"] {
            let verifier = Verifier::new("http://127.0.0.1:50051", service, app.clock.clock());
            verifier.set_keys(keys.clone());
            let claims = verifier.verify(&alice.login.access_token).expect("a valid token").claims.clone();
            assert_eq!(claims.sub, alice.user.user_id);
            assert_eq!(claims.preferred_username.as_deref(), Some("Alice"));
            assert_eq!(claims.exp - claims.iat, 600);
            assert_eq!((claims.client_id.as_str(), claims.ver), ("first-party", 1));
            assert!(claims.sid.is_some() && !claims.jti.is_empty());
        }
        let stranger = Verifier::new("http://127.0.0.1:50051", "another-service", app.clock.clock());
        stranger.set_keys(keys);
        assert!(stranger.verify(&alice.login.access_token).is_err());
        assert!(stranger.verify(&alice.login.refresh_token).is_err());
    }

    async fn all_wrong_credentials_get_the_same_response(app: App) {
        app.register("alice").await;
        let mut bytes = Vec::new();
        for (username, password) in [("alice", "wrong"), ("nobody", PASSWORD), ("", ""), ("alice\u{202e}", PASSWORD)] {
            let outcome = app.tokens().login(LoginRequest { username: username.to_owned(), password: password.to_owned() }).await;
            if username.is_empty() {
                assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("username", "STRING_MIN_LEN"), ("password", "STRING_MIN_LEN")]);
            } else {
                bytes.push(outcome.as_ref().expect_err("a refusal").details().to_vec());
                assert_refused(outcome, Code::Unauthenticated, "CREDENTIALS_INVALID", &[]);
            }
        }
        assert!(bytes.iter().all(|other| *other == bytes[0]));
    }

    async fn login_accepts_any_spelling_of_the_username_and_the_email_address(app: App) {
        let request = auth_service::proto::RegisterRequest {
            username: "Ångström".to_owned(),
            email: "anders@Example.com".to_owned(),
            password: PASSWORD.to_owned(),
            ..Default::default()
        };
        app.users().register(request).await.expect("a new user");
        for spelling in ["ÅNGSTRÖM", "a\u{30a}ngstro\u{308}m", "Anders@example.COM"] {
            assert_eq!(app.login(spelling).await.user.expect("a user").username, "Ångström", "{spelling}");
        }
    }

    async fn a_refresh_token_rotates(app: App) {
        let alice = app.user("alice").await;
        app.clock.advance(TimeDelta::minutes(5));
        let second = refresh(&app, &alice.login.refresh_token, None).await.expect("a successor");
        assert_ne!(second.refresh_token, alice.login.refresh_token);
        assert_eq!(second.refresh_expires_in, 14 * 86_400);
        let third = refresh(&app, &second.refresh_token, None).await.expect("a successor");
        assert_ne!(third.refresh_token, second.refresh_token);
    }

    async fn a_repeated_refresh_returns_the_same_token(app: App) {
        let alice = app.user("alice").await;
        let first = refresh(&app, &alice.login.refresh_token, None).await.expect("a successor");
        app.clock.advance(TimeDelta::seconds(10));
        let again = refresh(&app, &alice.login.refresh_token, None).await.expect("the same successor");
        assert_eq!(again.refresh_token, first.refresh_token);
        assert_ne!(again.access_token, first.access_token);
        refresh(&app, &first.refresh_token, None).await.expect("the successor is still good");
    }

    async fn a_retry_with_the_same_request_id_succeeds_after_the_grace_period(app: App) {
        let alice = app.user("alice").await;
        let id = Uuid::from_u128(7);
        let first = refresh(&app, &alice.login.refresh_token, Some(id)).await.expect("a successor");
        app.clock.advance(TimeDelta::hours(1));
        let again = refresh(&app, &alice.login.refresh_token, Some(id)).await.expect("the same successor");
        assert_eq!(again.refresh_token, first.refresh_token);
        let second = refresh(&app, &first.refresh_token, None).await.expect("a successor");
        assert_refresh_rejected(refresh(&app, &alice.login.refresh_token, Some(id)).await);
        refresh(&app, &second.refresh_token, None).await.expect("a late duplicate ends nothing");
    }

    async fn reuse_of_a_refresh_token_ends_its_session_only(app: App) {
        let alice = app.user("alice").await;
        let elsewhere = app.login("alice").await;
        let second = refresh(&app, &alice.login.refresh_token, None).await.expect("a successor");
        app.clock.advance(TimeDelta::seconds(11));
        assert_refresh_rejected(refresh(&app, &alice.login.refresh_token, None).await);
        assert_refresh_rejected(refresh(&app, &second.refresh_token, None).await);
        refresh(&app, &elsewhere.refresh_token, None).await.expect("the other session goes on");
    }

    async fn a_forged_token_ends_no_session(app: App) {
        let alice = app.user("alice").await;
        let good = &alice.login.refresh_token;
        let (message, signature) = good.rsplit_once('.').expect("a signature");
        let flipped = signature.strip_prefix('A').map_or(format!("A{}", &signature[1..]), |rest| format!("B{rest}"));
        for forged in [format!("{message}.{flipped}"), alice.login.access_token.clone(), "x".to_owned(), format!("{message}.")] {
            assert_refresh_rejected(refresh(&app, &forged, None).await);
        }
        refresh(&app, good, None).await.expect("a successor");
    }

    async fn an_idle_session_expires(app: App) {
        let alice = app.user("alice").await;
        app.clock.advance(TimeDelta::days(14));
        assert_refresh_rejected(refresh(&app, &alice.login.refresh_token, None).await);
    }

    async fn ended_sessions_are_purged(app: App) {
        let alice = app.user("alice").await;
        app.clock.advance(TimeDelta::days(13));
        let kept = app.login("alice").await;
        for (days, sessions) in [(13, 3), (45, 1)] {
            app.clock.advance(TimeDelta::days(days));
            app.login("alice").await;
            let (count,): (i64,) = app.database.open().query("SELECT COUNT(*) FROM sessions").one().await.expect("a count");
            assert_eq!(count, sessions, "after {days} days more");
        }
        for token in [&alice.login.refresh_token, &kept.refresh_token] {
            assert_refresh_rejected(refresh(&app, token, None).await);
        }
    }

    async fn logout_is_idempotent_and_ends_the_session(app: App) {
        let alice = app.user("alice").await;
        for _ in 0..2 {
            let request = LogoutRequest { refresh_token: alice.login.refresh_token.clone() };
            app.tokens().logout(request).await.expect("a logout");
        }
        assert_refresh_rejected(refresh(&app, &alice.login.refresh_token, None).await);
        let outcome = app.tokens().logout(LogoutRequest { refresh_token: "x".to_owned() }).await;
        assert_refused(outcome, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
    }

    async fn change_password_ends_the_other_sessions(app: App) {
        let alice = app.user("alice").await;
        let elsewhere = app.login("alice").await;
        let change = |old: &str, new: &str| ChangePasswordRequest {
            user_id: "me".to_owned(),
            old_password: old.to_owned(),
            new_password: new.to_owned(),
        };
        let wrong = alice.users().change_password(change("wrong", "nine red harbours of salt")).await;
        assert_refused(wrong, Code::InvalidArgument, "FIELD_INVALID", &[("old_password", "PASSWORD_CURRENT")]);
        let short = alice.users().change_password(change(PASSWORD, "short")).await;
        assert_refused(short, Code::InvalidArgument, "FIELD_INVALID", &[("new_password", "PASSWORD_MIN_LEN")]);
        alice.users().change_password(change(PASSWORD, "nine red harbours of salt")).await.expect("a change");
        refresh(&app, &alice.login.refresh_token, None).await.expect("this session goes on");
        assert_refresh_rejected(refresh(&app, &elsewhere.refresh_token, None).await);
        let old = app.tokens().login(LoginRequest { username: "alice".to_owned(), password: PASSWORD.to_owned() }).await;
        assert_refused(old, Code::Unauthenticated, "CREDENTIALS_INVALID", &[]);
    }

    async fn concurrent_refreshes_of_one_token_have_one_successor(app: App) {
        let alice = app.user("alice").await;
        let factory = SessionFactory::new(&app, &alice).await;
        let replica = App::replica(&app.database, &app.clock, &app.master_key, auth_service::Settings::default()).await;
        let replicas = [app.server.channel(), replica.channel()];
        for _ in 0..rounds(5) {
            let (_, first) = factory.create().await;
            let mut calls = JoinSet::new();
            for channel in replicas.iter().cycle().take(100).cloned() {
                let request = RefreshRequest { refresh_token: first.clone(), request_id: String::new() };
                calls.spawn(async move {
                    TokenServiceClient::new(channel).refresh(request).await.expect("an answer").into_inner().refresh_token
                });
            }
            let successors: BTreeSet<_> = calls.join_all().await.into_iter().collect();
            assert_eq!(successors.len(), 1);
            let successor = successors.first().expect("a successor");
            refresh(&app, successor, None).await.expect("the successor is good");
        }
    }
}
