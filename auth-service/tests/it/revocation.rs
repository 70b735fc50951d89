//! Where a user is signed in, and ending that from elsewhere: `SessionService`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use auth_service::{
    Settings,
    proto::{
        ActivateKeyRequest, ChangePasswordRequest, CreateKeyRequest, DeactivateUserRequest, DeleteUserRequest,
        ListSessionsRequest, LoginRequest, RefreshRequest, RefreshResponse, RetireKeyRequest, RevokeAllSessionsRequest,
        RevokeSessionRequest, Session, WhoAmIRequest, token_service_client::TokenServiceClient,
    },
    sessions::{self, Presented},
};
use chrono::TimeDelta;
use testing::on_both_engines;
use testing::{Engine, assert_refused, rounds};
use tokio::sync::oneshot;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    app::{Actor, App, PASSWORD},
    session_factory::SessionFactory,
};

/// A UUID that names nothing.
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

async fn refresh(channel: Channel, refresh_token: &str) -> Result<RefreshResponse, Status> {
    let request = RefreshRequest { refresh_token: refresh_token.to_owned(), request_id: String::new() };
    TokenServiceClient::new(channel).refresh(request).await.map(tonic::Response::into_inner)
}

/// Asserts that the session goes on, or that it has ended.
async fn assert_goes_on(app: &App, actor: &Actor, goes_on: bool) {
    let outcome = refresh(app.server.channel(), &actor.login.refresh_token).await;
    if goes_on {
        outcome.expect("a session that goes on");
    } else {
        assert_refused(outcome, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
    }
}

fn list(user_id: &str, page_size: i32, page_token: &str) -> ListSessionsRequest {
    ListSessionsRequest { user_id: user_id.to_owned(), page_size, page_token: page_token.to_owned() }
}

fn revoke(user_id: &str, session_id: &str) -> RevokeSessionRequest {
    RevokeSessionRequest { user_id: user_id.to_owned(), session_id: session_id.to_owned() }
}

fn revoke_all(user_id: &str, keep_current: bool) -> RevokeAllSessionsRequest {
    RevokeAllSessionsRequest { user_id: user_id.to_owned(), keep_current }
}

async fn own_sessions(actor: &Actor) -> Vec<Session> {
    let page = actor.sessions().list_sessions(list("me", 0, "")).await.expect("a page").into_inner();
    assert!(page.next_page_token.is_empty());
    page.sessions
}

async fn own_session(actor: &Actor) -> String {
    let me = actor.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
    me.session.expect("a session").session_id
}

/// A client that refreshes as fast as it can, each token at two replicas at once, until it is refused.
struct Restless {
    replicas: [Channel; 2],
    revoked: Arc<AtomicBool>,
    /// Told after this many refreshes.
    told: (usize, oneshot::Sender<()>),
}

impl Restless {
    /// Answers the refresh tokens that it was given, the last one last.
    async fn run(self, first: String) -> Vec<String> {
        let [one, other] = self.replicas;
        let (told_after, tell) = self.told;
        let (mut tokens, mut tell) = (vec![first], Some(tell));
        loop {
            let token = tokens.last().expect("a token").clone();
            if tokens.len() > told_after
                && let Some(tell) = tell.take()
            {
                tell.send(()).expect("somebody who is told");
            }
            let too_late = self.revoked.load(Ordering::SeqCst);
            let outcomes: [_; 2] = tokio::join!(refresh(one.clone(), &token), refresh(other.clone(), &token)).into();
            let mut successors = Vec::new();
            for outcome in outcomes {
                match outcome {
                    Ok(answer) => successors.push(answer.refresh_token),
                    refused => assert_refused(refused, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]),
                }
            }
            assert!(!too_late || successors.is_empty(), "a refresh that began after Revoke had returned succeeded");
            successors.dedup();
            assert!(successors.len() <= 1, "a refresh token has two successors");
            match successors.pop() {
                Some(successor) => tokens.push(successor),
                None => return tokens,
            }
        }
    }
}

/// Allows two sessions per user.
struct TwoSessions(App);

impl TwoSessions {
    async fn start(engine: Engine) -> Self {
        Self(App::start_with(engine, Settings { sessions_per_user: 2, ..Settings::default() }).await)
    }
}

on_both_engines! {
    async fn a_sign_in_beyond_the_limit_ends_the_least_recently_used_session(app: TwoSessions) {
        let app = app.0;
        let first = app.user("alice").await;
        app.clock.advance(TimeDelta::minutes(1));
        let second = app.again(&first).await;
        app.clock.advance(TimeDelta::minutes(1));
        let refreshed = refresh(app.server.channel(), &first.login.refresh_token).await.expect("a successor");
        app.clock.advance(TimeDelta::minutes(1));
        let third = app.again(&first).await;

        assert_goes_on(&app, &second, false).await;
        assert_goes_on(&app, &third, true).await;
        refresh(app.server.channel(), &refreshed.refresh_token).await.expect("a session that goes on");
        let refused = second.identity().who_am_i(WhoAmIRequest {}).await.map(drop);
        assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        // Sessions of other users do not count.
        let bob = app.user("bob").await;
        assert_goes_on(&app, &bob, true).await;
        assert_eq!(own_sessions(&third).await.len(), 2);
    }

    async fn a_user_sees_where_they_are_signed_in(app: App) {
        let laptop = app.user("alice").await;
        app.user("bob").await;
        app.clock.advance(TimeDelta::minutes(1));
        let endpoint = Endpoint::from_shared(format!("http://{}", app.server.address)).expect("a URL");
        let phone = TokenServiceClient::new(endpoint.user_agent("a phone").expect("a user agent").connect_lazy());
        let login = LoginRequest { username: "alice".to_owned(), password: PASSWORD.to_owned() };
        phone.clone().login(login).await.expect("a login");
        app.clock.advance(TimeDelta::minutes(1));
        refresh(app.server.channel(), &laptop.login.refresh_token).await.expect("a successor");

        let sessions = own_sessions(&laptop).await;
        let [on_phone, on_laptop] = sessions.as_slice() else { panic!("two sessions: {sessions:?}") };
        assert!(on_phone.user_agent.starts_with("a phone"), "{}", on_phone.user_agent);
        assert!(on_laptop.user_agent.starts_with("tonic"), "{}", on_laptop.user_agent);
        assert_eq!((on_phone.is_current, on_laptop.is_current), (false, true));
        assert_eq!(on_laptop.session_id, own_session(&laptop).await);
        assert_eq!((on_phone.address.as_str(), on_laptop.address.as_str()), ("127.0.0.1", "127.0.0.1"));
        let since = |time: Option<prost_types::Timestamp>| time.expect("a time").seconds - 1_800_000_000;
        assert_eq!((since(on_laptop.create_time), since(on_laptop.last_use_time)), (0, 120));
        assert_eq!((since(on_phone.create_time), since(on_phone.last_use_time)), (60, 60));
        assert_eq!(since(on_laptop.expire_time), 120 + 14 * 86_400);
        let me = laptop.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        assert!(me.session.expect("a session").is_current);
    }

    async fn sessions_come_page_by_page_the_newest_first(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let factory = SessionFactory::new(&app, &alice).await;
        let mut opened = vec![own_session(&alice).await];
        for step in 0..6 {
            // Two at a time, so that a page ends between two of one instant.
            app.clock.advance(TimeDelta::seconds(step % 2));
            opened.push(factory.create().await.0.to_string());
        }
        let (mut seen, mut token, mut first_token) = (Vec::new(), String::new(), String::new());
        loop {
            let page = alice.sessions().list_sessions(list("me", 2, &token)).await.expect("a page").into_inner();
            assert!(page.sessions.len() <= 2);
            seen.extend(page.sessions);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            if first_token.is_empty() {
                first_token.clone_from(&token);
            }
        }
        assert!(seen.is_sorted_by_key(|session| std::cmp::Reverse(session.create_time.expect("a time").seconds)));
        let mut ids: Vec<_> = seen.into_iter().map(|session| session.session_id).collect();
        ids.sort();
        opened.sort();
        assert_eq!(ids, opened);

        root.sessions().list_sessions(list(&alice.user.user_id, 2, &first_token)).await.expect("the next page of the same list");
        let outcome = root.sessions().list_sessions(list("me", 2, &first_token)).await;
        assert_refused(outcome, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);
        let outcome = alice.sessions().list_sessions(list("me", -1, "")).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("page_size", "INT32_GTE")]);
    }

    async fn a_session_that_has_ended_or_expired_is_not_listed(app: App) {
        let old = app.user("alice").await;
        app.clock.advance(TimeDelta::days(13));
        let (new, ended) = (app.again(&old).await, app.again(&old).await);
        let request = revoke("me", &own_session(&ended).await);
        ended.sessions().revoke_session(request).await.expect("an end");
        assert_eq!(own_sessions(&new).await.len(), 2);
        app.clock.advance(TimeDelta::days(1));
        let new = app.again(&new).await;
        let sessions = own_sessions(&new).await;
        assert_eq!(sessions.iter().map(|session| session.is_current).collect::<Vec<_>>(), [true, false]);
    }

    async fn one_session_is_revoked_and_no_other(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let (elsewhere, lost) = (app.again(&alice).await, app.again(&alice).await);
        let lost_id = own_session(&lost).await;
        for _ in 0..2 {
            alice.sessions().revoke_session(revoke("me", &lost_id)).await.expect("an end, and an end that has been");
        }
        for session_id in [own_session(&bob).await.as_str(), NOBODY] {
            let outcome = alice.sessions().revoke_session(revoke("me", session_id)).await;
            assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("session_id", "EXISTS")]);
        }
        let outcome = alice.sessions().revoke_session(revoke("me", "me")).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("session_id", "STRING_UUID")]);
        for (actor, goes_on) in [(&alice, true), (&elsewhere, true), (&lost, false), (&bob, true)] {
            assert_goes_on(&app, actor, goes_on).await;
        }
    }

    async fn all_sessions_are_revoked_or_all_but_the_current_one(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let elsewhere = app.again(&alice).await;
        alice.sessions().revoke_all_sessions(revoke_all("me", true)).await.expect("an end");
        assert_goes_on(&app, &elsewhere, false).await;
        assert_eq!(own_sessions(&alice).await.len(), 1);
        assert_goes_on(&app, &alice, true).await;
        alice.sessions().revoke_all_sessions(revoke_all("me", false)).await.expect("an end");
        // The access token has ended with its session.
        let again = alice.sessions().revoke_all_sessions(revoke_all("me", false)).await;
        assert_refused(again, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        assert_goes_on(&app, &alice, false).await;
        assert_goes_on(&app, &bob, true).await;
        let again = app.again(&alice).await;
        assert_goes_on(&app, &again, true).await;
    }

    async fn the_sessions_of_another_user_are_for_those_with_the_permission(app: App) {
        let (alice, bob, root) = (app.user("alice").await, app.user("bob").await, app.superuser("root").await);
        let (alices, alice_id) = (own_session(&alice).await, alice.user.user_id.as_str());
        // Whether the user or the session exists makes no difference.
        for (user_id, session_id) in [(alice_id, alices.as_str()), (alice_id, NOBODY), (NOBODY, NOBODY), (alice_id, "x")] {
            let listed = bob.sessions().list_sessions(list(user_id, 0, "")).await.map(drop);
            let one = bob.sessions().revoke_session(revoke(user_id, session_id)).await.map(drop);
            let all = bob.sessions().revoke_all_sessions(revoke_all(user_id, true)).await.map(drop);
            for outcome in [listed, one, all] {
                assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
            }
        }
        let sessions = root.sessions().list_sessions(list(alice_id, 0, "")).await.expect("a page").into_inner().sessions;
        assert_eq!(sessions.iter().map(|session| (&session.session_id, session.is_current)).collect::<Vec<_>>(), [(&alices, false)]);
        assert_goes_on(&app, &alice, true).await;
        root.sessions().revoke_all_sessions(revoke_all(alice_id, true)).await.expect("an end");
        assert_goes_on(&app, &alice, false).await;
        assert_goes_on(&app, &root, true).await;

        let listed = root.sessions().list_sessions(list(NOBODY, 0, "")).await.map(drop);
        let all = root.sessions().revoke_all_sessions(revoke_all(NOBODY, true)).await.map(drop);
        for outcome in [listed, all] {
            assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        }
    }

    async fn no_refresh_succeeds_after_revoke_has_returned(app: App) {
        let alice = app.user("alice").await;
        let factory = SessionFactory::new(&app, &alice).await;
        let replica = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        let replicas = [app.server.channel(), replica.channel()];
        for round in 0..rounds(200) {
            let (session_id, first) = factory.create().await;
            let revoked = Arc::new(AtomicBool::new(false));
            let (tell, told) = oneshot::channel();
            let client = Restless { replicas: replicas.clone(), revoked: Arc::clone(&revoked), told: (round % 4, tell) };
            let refreshing = tokio::spawn(client.run(first));

            told.await.expect("a client that refreshes");
            if round % 2 == 0 {
                alice.sessions().revoke_session(revoke("me", &session_id.to_string())).await.expect("an end");
            } else {
                alice.sessions().revoke_all_sessions(revoke_all("me", true)).await.expect("an end");
            }
            revoked.store(true, Ordering::SeqCst);
            let then = sessions::find(&factory.db, session_id).await.expect("a query").expect("a session");
            assert_eq!(then.status, sessions::SessionStatus::Ended);

            let tokens = refreshing.await.expect("a client that is answered every time");
            for (token, channel) in tokens.iter().rev().take(2).zip(replicas.iter().cycle()) {
                assert_refused(refresh(channel.clone(), token).await, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
            }
            let last = sessions::find(&factory.db, session_id).await.expect("a query").expect("a session");
            assert_eq!(last, then, "the session moved after Revoke had returned");
        }
        assert_goes_on(&app, &alice, true).await;
    }
    async fn a_session_that_changes_after_it_was_read_is_not_rotated(app: App) {
        let root = app.superuser("root").await;
        for change in ["rotation", "revocation", "password", "deactivation", "deletion", "withdrawal"] {
            let actor = app.user(change).await;
            let user_id = actor.user.user_id.clone();
            let factory = SessionFactory::new(&app, &actor).await;
            let (session_id, token) = factory.create().await;
            let find = || async { sessions::find(&factory.db, session_id).await.expect("a query") };
            let read = find().await.expect("a session");
            match change {
                "rotation" => drop(refresh(app.server.channel(), &token).await.expect("a rotation")),
                "revocation" => drop(root.sessions().revoke_session(revoke(&user_id, &session_id.to_string())).await.expect("an end")),
                "password" => {
                    let new_password = format!("{PASSWORD} again");
                    let request = ChangePasswordRequest { user_id: "me".to_owned(), old_password: PASSWORD.to_owned(), new_password };
                    actor.users().change_password(request).await.expect("a change");
                }
                "deactivation" => drop(root.users().deactivate_user(DeactivateUserRequest { user_id }).await.expect("a change")),
                "deletion" => {
                    let request = DeleteUserRequest { user_id, etag: String::new() };
                    root.users().delete_user(request).await.expect("a deletion");
                }
                _ => {
                    let made = root.keys().create_key(CreateKeyRequest::default()).await.expect("a key").into_inner();
                    let request = ActivateKeyRequest { key_id: made.key_id, force: true };
                    root.keys().activate_key(request).await.expect("an active key");
                    let request = RetireKeyRequest { key_id: read.kid.clone(), withdraw: true };
                    root.keys().retire_key(request).await.expect("a key that is gone");
                }
            }
            let changed = find().await;
            let lifetime = Settings::default().session_lifetime;
            let rotated = read.rotated(Presented::new(read.generation, None), &read.kid, app.clock.now(), lifetime);
            let is_stored = sessions::store_rotated(|sql| factory.db.write(sql), &rotated).await.expect("a query");
            assert!(!is_stored && find().await == changed, "{change}");
        }
    }
}
