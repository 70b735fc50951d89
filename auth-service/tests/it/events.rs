//! The event log: each change is recorded once, in commit order.

use std::collections::BTreeMap;

use access::{Actor, UserId};
use auth_service::{
    Settings,
    events::{EventLog, EventPayload},
    keys::{KeyBits, KeyRing, MasterKey},
    proto::{
        ActivateClientRequest, ActivateUserRequest, ChangePasswordRequest, Client, CreateClientRequest, CreateKeyRequest,
        DeactivateClientRequest, DeactivateUserRequest, Event, EventKind, IssueServiceTokenRequest, LogoutRequest, Position,
        RefreshRequest, RetireKeyRequest, RevokeAllSessionsRequest, SetPasswordRequest, SnapshotUsersRequest, UpdateUserRequest,
        User, WatchEventsRequest, WatchEventsResponse, event::What, event_service_client::EventServiceClient,
        issue_service_token_request::Credential,
    },
};
use chrono::TimeDelta;
use store::Executor;
use testing::on_both_engines;
use testing::{Issuer, Metrics, assert_refused, rounds, with_token};
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming, service::interceptor::InterceptedService, transport::Channel};
use uuid::Uuid;

use crate::app::{App, Bearer, PASSWORD};

const ANOTHER_PASSWORD: &str = "eleven grey doors of zinc";

/// Returns the token of a service that may watch events.
async fn token(app: &App) -> String {
    let master_key = MasterKey::from_base64(&app.master_key).expect("a master key");
    let ring = KeyRing::open(app.database.open(), app.clock.clock(), master_key, KeyBits::default(), TimeDelta::zero());
    let key = ring.await.expect("the keys").keys().active().expect("a key").clone();
    let issuer = Issuer::new(&Settings::default().issuer, "auth-service", app.clock.clock());
    let mut claims = issuer.claims(UserId::new(&app.clock), "watcher");
    (claims.actor, claims.scope, claims.sid) = (Actor::Service, "auth.watch_event".to_owned(), None);
    key.sign("at+jwt", &claims).expect("a token")
}

async fn events_of(app: &App, channel: Channel) -> EventServiceClient<InterceptedService<Channel, Bearer>> {
    EventServiceClient::with_interceptor(channel, Bearer(token(app).await))
}

/// A client that watches events.
struct Watcher {
    stream: Streaming<WatchEventsResponse>,
    through: Position,
}

impl Watcher {
    async fn open(app: &App, channel: Channel, after: Option<&Position>, kinds: &[EventKind]) -> Result<Self, Status> {
        let request = WatchEventsRequest { kinds: kinds.iter().map(|kind| (*kind).into()).collect(), ..request(after) };
        let stream = events_of(app, channel).await.watch_events(request).await?.into_inner();
        Ok(Self { stream, through: after.cloned().unwrap_or_default() })
    }

    /// Returns the events up to the position.
    async fn until(&mut self, pos: i64) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        while self.through.pos < pos {
            let answer = self.stream.message().await.expect("an answer").expect("a stream without an end");
            assert!(answer.time.is_some() && answer.token_life.is_some_and(|life| life.seconds == 600));
            events.extend(answer.events);
            self.through = answer.through.expect("a position");
        }
        assert!(events.is_sorted_by(|one, next| one.pos < next.pos));
        events
    }
}

fn request(after: Option<&Position>) -> WatchEventsRequest {
    let after = after.cloned().unwrap_or_default();
    WatchEventsRequest { epoch: after.epoch, after: after.pos, after_event_id: after.event_id, kinds: Vec::new() }
}

async fn end(app: &App) -> i64 {
    app.database.open().query("SELECT last FROM feed").one::<(i64,)>().await.expect("the feed").0
}

/// Returns the kinds of the events, without the prefix of the enum.
fn kinds(events: &[Event]) -> Vec<&'static str> {
    let kind = |event: &Event| EventPayload::try_from(event.what.clone().expect("a kind")).expect("a payload").kind();
    events.iter().map(|event| kind(event).as_str_name().trim_start_matches("EVENT_KIND_")).collect()
}

on_both_engines! {
    async fn every_change_is_recorded_in_order(app: App) {
        let mut watcher = Watcher::open(&app, app.server.channel(), None, &[]).await.expect("a stream");
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let user_id = alice.user.user_id.clone();
        let user = User { user_id: user_id.clone(), username: "alicia".to_owned(), ..User::default() };
        alice.users().update_user(UpdateUserRequest { user: Some(user), update_mask: None }).await.expect("a new name");
        let user = User { user_id: user_id.clone(), first_name: "Alicia".to_owned(), ..User::default() };
        alice.users().update_user(UpdateUserRequest { user: Some(user), update_mask: None }).await.expect("a new first name");
        let change = ChangePasswordRequest { user_id: "me".to_owned(), old_password: PASSWORD.to_owned(), new_password: ANOTHER_PASSWORD.to_owned() };
        alice.users().change_password(change).await.expect("a new password");
        let set = SetPasswordRequest { user_id: user_id.clone(), new_password: PASSWORD.to_owned() };
        root.users().set_password(set).await.expect("another");
        for _ in 0..2 {
            root.users().deactivate_user(DeactivateUserRequest { user_id: user_id.clone() }).await.expect("an inactive user");
        }
        root.users().activate_user(ActivateUserRequest { user_id: user_id.clone() }).await.expect("an active user");
        root.keys().create_key(CreateKeyRequest::default()).await.expect("a key");

        let events = watcher.until(end(&app).await).await;
        let expected = [
            "KEY_CREATED", "KEY_ACTIVATED", "USER_CREATED", "USER_CREATED", "USER_RENAMED", "USER_UPDATED", "USER_UPDATED",
            "USER_UPDATED", "SESSIONS_ENDED", "USER_DEACTIVATED", "USER_ACTIVATED", "KEY_CREATED",
        ];
        assert_eq!(kinds(&events), expected);
        assert_eq!(events.iter().map(|event| event.pos).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
        let versions: Vec<_> = events.iter().filter(|event| event.user_id == user_id).map(|event| event.user_version).collect();
        assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7]);
        assert!(events.iter().any(|event| matches!(&event.what, Some(What::UserRenamed(name)) if name.username == "alicia")));
    }

    async fn every_end_of_a_session_is_recorded(app: App) {
        let alice = app.user("alice").await;
        let mut watcher = Watcher::open(&app, app.server.channel(), None, &[EventKind::SessionsEnded]).await.expect("a stream");
        let logout = |token: &str| LogoutRequest { refresh_token: token.to_owned() };
        let refresh = |token: &str| RefreshRequest { refresh_token: token.to_owned(), request_id: String::new() };
        for _ in 0..2 {
            app.tokens().logout(logout(&alice.login.refresh_token)).await.expect("a logout");
        }
        let (stolen, expired) = (app.again(&alice).await, app.again(&alice).await);
        app.tokens().refresh(refresh(&stolen.login.refresh_token)).await.expect("a successor");
        app.clock.advance(TimeDelta::seconds(11));
        app.tokens().refresh(refresh(&stolen.login.refresh_token)).await.expect_err("a reuse");
        app.clock.advance(TimeDelta::days(15));
        app.tokens().refresh(refresh(&expired.login.refresh_token)).await.expect_err("an expired session");
        let (one, _) = (app.again(&alice).await, app.again(&alice).await);
        let all = RevokeAllSessionsRequest { user_id: "me".to_owned(), keep_current: true };
        one.sessions().revoke_all_sessions(all).await.expect("an end");

        let events = watcher.until(end(&app).await).await;
        assert_eq!(kinds(&events), ["SESSIONS_ENDED"; 4]);
        let ended: Vec<_> = events.iter().flat_map(|event| match &event.what {
            Some(What::SessionsEnded(ended)) => ended.session_ids.clone(),
            _ => Vec::new(),
        }).collect();
        assert_eq!(ended.len(), 4, "{ended:?}");
    }

    async fn a_watcher_continues_from_its_position_or_gets_a_cursor_error(app: App) {
        for name in ["alice", "bob", "carol"] {
            app.register(name).await;
        }
        let mut first = Watcher::open(&app, app.server.channel(), None, &[EventKind::UserCreated]).await.expect("a stream");
        let events = first.until(end(&app).await).await;
        assert_eq!(kinds(&events), ["USER_CREATED"; 3]);
        let here = first.through.clone();
        let at = |event: &Event| Position { pos: event.pos, event_id: event.event_id.clone(), ..here.clone() };
        let mut again = Watcher::open(&app, app.server.channel(), Some(&at(&events[0])), &[]).await.expect("a stream");
        assert_eq!(again.until(here.pos).await, events[1..]);

        let gone = |violation| [("after", violation)];
        for wrong in [
            Position { epoch: Uuid::nil().to_string(), ..here.clone() },
            Position { pos: here.pos + 1, ..here.clone() },
            Position { event_id: events[0].event_id.clone(), ..here.clone() },
            Position { event_id: String::new(), ..here.clone() },
        ] {
            let refused = Watcher::open(&app, app.server.channel(), Some(&wrong), &[]).await.map(drop);
            assert_refused(refused, Code::FailedPrecondition, "POSITION_UNKNOWN", &gone("POSITION_KNOWN"));
        }

        // Events older than a week are deleted, except the last of them.
        app.clock.advance(TimeDelta::days(8));
        app.register("dave").await;
        let event_log = EventLog::new(app.database.open(), app.clock.clock());
        event_log.purge_expired(TimeDelta::days(7)).await.expect("less");
        let refused = Watcher::open(&app, app.server.channel(), Some(&at(&events[1])), &[]).await.map(drop);
        assert_refused(refused, Code::OutOfRange, "POSITION_GONE", &gone("POSITION_KEPT"));
        let mut kept = Watcher::open(&app, app.server.channel(), Some(&here), &[]).await.expect("a stream");
        assert_eq!(kinds(&kept.until(end(&app).await).await), ["USER_CREATED"]);
        // Without a position, the stream starts with the events that revoke tokens which may still be valid.
        let mut recent = Watcher::open(&app, app.server.channel(), None, &[]).await.expect("a stream");
        assert_eq!(kinds(&recent.until(end(&app).await).await), ["USER_CREATED"]);
    }

    async fn a_watcher_of_a_restored_database_gets_a_cursor_error(app: App) {
        app.register("alice").await;
        let mut watcher = Watcher::open(&app, app.server.channel(), None, &[]).await.expect("a stream");
        watcher.until(end(&app).await).await;
        // The same as a restore: the last event is missing, and another takes its position.
        let db = app.database.open();
        let mut tx = db.begin().await.expect("a transaction");
        tx.query("DELETE FROM outbox WHERE pos = (SELECT last FROM feed)").execute().await.expect("a delete");
        tx.query("UPDATE feed SET last = last - 1").execute().await.expect("an update");
        tx.commit().await.expect("a commit");
        app.register("bob").await;
        let status = loop {
            match watcher.stream.message().await {
                Ok(answer) => assert!(answer.expect("no end").events.is_empty()),
                Err(status) => break status,
            }
        };
        assert_refused(Err::<(), _>(status), Code::FailedPrecondition, "POSITION_UNKNOWN", &[("after", "POSITION_KNOWN")]);
    }

    async fn a_snapshot_is_all_users_at_a_position(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        root.users().deactivate_user(DeactivateUserRequest { user_id: alice.user.user_id.clone() }).await.expect("an inactive user");
        let mut events = events_of(&app, app.server.channel()).await;
        let mut pages = events.snapshot_users(SnapshotUsersRequest {}).await.expect("a snapshot").into_inner();
        let page = pages.message().await.expect("an answer").expect("a page");
        let users: BTreeMap<_, _> = page.users.iter().map(|user| (user.username.as_str(), (user.user_version, user.is_active))).collect();
        assert_eq!(users, BTreeMap::from([("alice", (2, false)), ("root", (1, true))]));
        assert!(pages.message().await.expect("an end").is_none());
        let position = page.position.expect("a position");
        assert_eq!(position.pos, end(&app).await);
        app.register("bob").await;
        let mut watcher = Watcher::open(&app, app.server.channel(), Some(&position), &[]).await.expect("a stream");
        assert_eq!(kinds(&watcher.until(end(&app).await).await), ["USER_CREATED"]);
    }

    async fn a_stream_is_for_services_and_ends_with_their_token(app: App) {
        let root = app.superuser("root").await;
        let mut client = EventServiceClient::new(app.server.channel());
        let refused = client.watch_events(with_token(&root.login.access_token, request(None))).await.map(drop);
        // A superuser has every permission, and no permission would help.
        assert_refused(refused, Code::PermissionDenied, "ACTOR_NOT_ALLOWED", &[]);
        let token = token(&app).await;
        // The test clock does not move, so the token has expired for a stream that begins now.
        app.clock.advance(TimeDelta::seconds(610));
        let mut stream = client.watch_events(with_token(&token, request(None))).await.expect("a stream").into_inner();
        while stream.message().await.expect("an answer, or the end").is_some() {}
    }

    async fn a_stream_ends_where_the_token_that_opened_it_may_be_revoked(app: App) {
        let root = app.superuser("root").await;
        let mut client = EventServiceClient::new(app.server.channel());
        let permissions = vec!["auth.watch_event".to_owned()];
        let made = Client { client_id: "billing".to_owned(), permissions, ..Client::default() };
        let made = root.clients().create_client(CreateClientRequest { client: Some(made) }).await.expect("a client").into_inner();
        let token = async || {
            let credential = Some(Credential::ClientSecret(made.client_secret.clone()));
            let request = IssueServiceTokenRequest { client_id: "billing".to_owned(), credential, scope: String::new() };
            app.tokens().issue_service_token(request).await.expect("a token").into_inner().access_token
        };
        let first = token().await;
        let mut ended = client.watch_events(with_token(&first, request(None))).await.expect("a stream").into_inner();
        let other = Watcher::open(&app, app.server.channel(), None, &[]);
        let mut other = other.await.expect("a stream");
        let client_id = || "billing".to_owned();
        root.clients().deactivate_client(DeactivateClientRequest { client_id: client_id() }).await.expect("a client");
        root.clients().activate_client(ActivateClientRequest { client_id: client_id() }).await.expect("a client");
        let status = loop {
            match ended.message().await {
                Ok(answer) => assert!(answer.is_some(), "a stream that just ends"),
                Err(status) => break status,
            }
        };
        assert_refused(Err::<(), _>(status), Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        Metrics::read(app.server.address).await.assert(&[
            ("grpc_server_duration_seconds_count{method=\"auth.v1.EventService/WatchEvents\",code=\"UNAUTHENTICATED\"}", 1.0),
            ("server_errors_total{reason=\"ACCESS_TOKEN_INVALID\"}", 1.0),
        ]);
        let refused = client.watch_events(with_token(&first, request(None))).await.map(drop);
        assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        // The stream of another client continues, and so does a new stream of the same client.
        app.register("alice").await;
        assert_eq!(kinds(&other.until(end(&app).await).await).last(), Some(&"USER_CREATED"));
        let mut again = client.watch_events(with_token(&token().await, request(None))).await.expect("a stream").into_inner();
        let mut seen = Vec::new();
        while kinds(&seen).last() != Some(&"USER_CREATED") {
            seen.extend(again.message().await.expect("an answer").expect("no end").events);
        }
        assert!(kinds(&seen).contains(&"CLIENT_RESTRICTED"));

        // A withdrawn key may have signed the token of any stream.
        let key = root.keys().create_key(CreateKeyRequest::default()).await.expect("a key").into_inner();
        let request = RetireKeyRequest { key_id: key.key_id, withdraw: true };
        root.keys().retire_key(request).await.expect("a key that is gone");
        while again.message().await.expect("an answer, or the end").is_some() {}
    }

    async fn a_snapshot_ends_when_its_client_is_deactivated(app: App) {
        let root = app.superuser("root").await;
        let permissions = vec!["auth.watch_event".to_owned()];
        let made = Client { client_id: "billing".to_owned(), permissions, ..Client::default() };
        let made = root.clients().create_client(CreateClientRequest { client: Some(made) }).await.expect("a client").into_inner();
        let credential = Some(Credential::ClientSecret(made.client_secret));
        let request = IssueServiceTokenRequest { client_id: "billing".to_owned(), credential, scope: String::new() };
        let token = app.tokens().issue_service_token(request).await.expect("a token").into_inner().access_token;
        // More pages than are buffered for a client that does not read.
        let mut tx = app.database.open().begin().await.expect("a transaction");
        let row = |index| format!("(${}, ${}, ${}, '', '', '!', TRUE, FALSE, ${t}, ${t}, 1)", 3 * index + 1, 3 * index + 2, 3 * index + 3, t = 301);
        let rows: Vec<_> = (0..100).map(row).collect();
        let sql = format!(
            "INSERT INTO users (user_id, username, username_key, first_name, last_name, password_hash, is_active, is_superuser,
                 create_time, update_time, version) VALUES {}",
            rows.join(", ")
        );
        let sql: &'static str = sql.leak();
        for first in (0..16_000_u32).step_by(100) {
            let mut query = tx.query(sql);
            for number in first..first + 100 {
                let username = format!("{number:0>1500}");
                query = query.bind(UserId::new(&app.clock)).bind(username).bind(number.to_string().into_bytes());
            }
            query.bind(app.clock.now()).execute().await.expect("users");
        }
        tx.commit().await.expect("a commit");

        let mut client = EventServiceClient::new(app.server.channel());
        let mut pages = client.snapshot_users(with_token(&token, SnapshotUsersRequest {})).await.expect("a snapshot").into_inner();
        pages.message().await.expect("an answer").expect("a page");
        root.clients().deactivate_client(DeactivateClientRequest { client_id: "billing".to_owned() }).await.expect("a client");
        let status = loop {
            match pages.message().await {
                Ok(answer) => assert!(answer.is_some(), "a complete snapshot"),
                Err(status) => break status,
            }
        };
        assert_refused(Err::<(), _>(status), Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }

    async fn a_watcher_that_reads_nothing_is_closed_and_delays_nobody(app: App) {
        let mut idle = Watcher::open(&app, app.server.channel(), None, &[]).await.expect("a stream");
        let mut quick = Watcher::open(&app, app.server.channel(), None, &[]).await.expect("a stream");
        let event_log = EventLog::new(app.database.open(), app.clock.clock());
        let sessions: Vec<_> = (0..500).map(|number| Uuid::from_u128(number).into()).collect();
        // 32 MiB in messages of 1 MiB: several times the amount that is buffered for a client that does not read.
        for _ in 0..40 {
            let mut change = event_log.begin().await.expect("a transaction");
            for _ in 0..40 {
                change.record_ended_sessions(&sessions);
            }
            change.commit().await.expect("a commit");
            // It reads all the time, also where the disk is slow.
            quick.until(end(&app).await).await;
        }
        // The client that reads continues. Seven checkpoints take longer than the send timeout of the other.
        for _ in 0..7 {
            quick.stream.message().await.expect("an answer").expect("no end");
        }
        let status = loop {
            match idle.stream.message().await {
                Ok(answer) => assert!(answer.is_some(), "a stream that just ends"),
                Err(status) => break status,
            }
        };
        assert_refused(Err::<(), _>(status), Code::ResourceExhausted, "OVERLOADED", &[]);
    }

    async fn writers_on_two_replicas_leave_no_gap_and_no_inversion(app: App) {
        let other = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        let mut watcher = Watcher::open(&app, other.channel(), None, &[]).await.expect("a stream");
        let mut writers = JoinSet::new();
        for writer in 0..16_u128 {
            let event_log = EventLog::new(app.database.open(), app.clock.clock());
            writers.spawn(async move {
                let (mut kept, mut seed) = (0, u32::try_from(writer).expect("a number") + 1);
                for version in 0..i64::try_from(rounds(20)).expect("a number") {
                    let mut change = event_log.begin().await.expect("a transaction");
                    change.query("SELECT 1").execute().await.expect("a query");
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    for _ in 0..seed >> 24 {
                        tokio::task::yield_now().await;
                    }
                    for _ in 0..=(seed >> 16) % 3 {
                        change.record(Uuid::from_u128(writer + 1).into(), version, EventPayload::UserUpdated);
                    }
                    if (seed >> 8).is_multiple_of(10) {
                        drop(change);
                    } else {
                        kept += 1 + i64::from((seed >> 16) % 3);
                        change.commit().await.expect("a commit");
                    }
                }
                kept
            });
        }
        let written: i64 = writers.join_all().await.into_iter().sum();
        let events = watcher.until(end(&app).await).await;
        let of_writers = events.iter().filter(|event| !event.user_id.is_empty()).count();
        assert_eq!(of_writers, usize::try_from(written).expect("a number"), "lost or doubled");
        assert!(events.iter().zip(1..).all(|(event, pos)| event.pos == pos), "a gap");
        let mut versions: BTreeMap<&str, i64> = BTreeMap::new();
        for event in &events {
            let before = versions.insert(&event.user_id, event.user_version);
            assert!(before.is_none_or(|before| before <= event.user_version), "an inversion");
        }
    }
}
