//! Failed login attempts are limited per hour, and existing sessions stay valid.

use auth_service::{
    Settings,
    login_throttle::{self, Limits},
    passwords::Policy,
    proto::{
        ChangePasswordRequest, ListSessionsRequest, LoginRequest, LoginResponse, RefreshRequest, RegisterRequest,
        token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
    },
};
use chrono::TimeDelta;
use server::ServerSettings;
use store::Executor;
use testing::on_both_engines;
use testing::{Engine, assert_refused};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::app::{Actor, App, PASSWORD, registration};

const WRONG: &str = "not the password of anybody";
const HOUR: TimeDelta = TimeDelta::seconds(3601);

fn settings(per_account: usize, per_source: usize) -> Settings {
    with_limits(Limits { per_account, per_source, ..Limits::default() })
}

/// Returns settings with these limits. A test names the address of a client with `X-Forwarded-For`.
fn with_limits(limits: Limits) -> Settings {
    let trusted_proxies = vec![access::parse_network("127.0.0.1").expect("an address")];
    Settings { limits, server: ServerSettings { trusted_proxies, ..ServerSettings::default() }, ..Settings::default() }
}

/// Allows six failed attempts per account.
struct ByAccount(App);

impl ByAccount {
    async fn start(engine: Engine) -> Self {
        Self(App::start_with(engine, settings(6, 0)).await)
    }
}

/// Allows three failed attempts per client address.
struct BySource(App);

impl BySource {
    async fn start(engine: Engine) -> Self {
        Self(App::start_with(engine, settings(100, 3)).await)
    }
}

async fn login(channel: Channel, username: &str, password: &str, from: &str) -> Result<LoginResponse, Status> {
    let mut request = Request::new(LoginRequest { username: username.to_owned(), password: password.to_owned() });
    if !from.is_empty() {
        request.metadata_mut().insert("x-forwarded-for", from.parse().expect("a header"));
    }
    TokenServiceClient::new(channel).login(request).await.map(tonic::Response::into_inner)
}

fn assert_credentials_invalid(outcome: Result<LoginResponse, Status>) -> Vec<u8> {
    let details = outcome.as_ref().expect_err("a refusal").details().to_vec();
    assert_refused(outcome, Code::Unauthenticated, "CREDENTIALS_INVALID", &[]);
    details
}

/// Asserts that the limit is reached, and returns the retry delay in seconds.
fn assert_too_many_attempts(outcome: Result<LoginResponse, Status>) -> u64 {
    let retry = outcome.as_ref().expect_err("a refusal").get_details_retry_info().and_then(|info| info.retry_delay);
    assert_refused(outcome, Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", &[]);
    retry.expect("RetryInfo").as_secs()
}

async fn change_password(actor: &Actor, old: &str, new: &str) -> Result<(), Status> {
    let (old_password, new_password) = (old.to_owned(), new.to_owned());
    let request = ChangePasswordRequest { user_id: "me".to_owned(), old_password, new_password };
    actor.users().change_password(request).await.map(tonic::Response::into_inner)
}

on_both_engines! {
    async fn failed_attempts_per_account_are_limited_per_hour(app: ByAccount) {
        let app = app.0;
        let request = RegisterRequest {
            username: "alice".to_owned(),
            email: "alice@example.com".to_owned(),
            password: PASSWORD.to_owned(),
            ..RegisterRequest::default()
        };
        app.users().register(request).await.expect("a new user");
        let session = app.login("alice").await;
        // Each attempt comes from another address.
        let mut address = 0;
        let mut login = async |username, password| {
            address += 1;
            login(app.server.channel(), username, password, &format!("203.0.113.{address}")).await
        };
        for username in ["alice", "ALICE", "ａlice"] {
            assert_credentials_invalid(login(username, WRONG).await);
            app.clock.advance(TimeDelta::minutes(1));
        }
        // At the limit, the service does not verify the correct password either.
        assert_eq!(assert_too_many_attempts(login("alice", PASSWORD).await), 3601 - 180);
        for _ in 0..3 {
            assert_credentials_invalid(login("Alice@example.com", WRONG).await);
        }
        assert_too_many_attempts(login("alice@example.com", PASSWORD).await);

        // Existing sessions stay valid.
        let request = RefreshRequest { refresh_token: session.refresh_token, request_id: String::new() };
        app.tokens().refresh(request).await.expect("a successor");

        app.clock.advance(HOUR - TimeDelta::minutes(3));
        login("alice", PASSWORD).await.expect("a login, when the first attempt counts no more");
        assert_credentials_invalid(login("alice", WRONG).await);
        assert_too_many_attempts(login("alice", PASSWORD).await);
        app.clock.advance(HOUR);
        login("alice@example.com", PASSWORD).await.expect("a login, an hour later");
    }

    async fn unknown_and_known_usernames_get_the_same_responses(app: ByAccount) {
        let app = app.0;
        app.register("alice").await;
        let mut answers = [Vec::new(), Vec::new()];
        for _ in 0..7 {
            for (username, answers) in ["alice", "nobody"].into_iter().zip(&mut answers) {
                let status = login(app.server.channel(), username, WRONG, "").await.expect_err("a refusal");
                answers.push((status.code(), status.message().to_owned(), status.details().to_vec()));
            }
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!((answers[0][5].0, answers[0][6].0), (Code::Unauthenticated, Code::ResourceExhausted));
    }

    async fn successful_logins_do_not_count(app: ByAccount) {
        let app = app.0;
        app.register("alice").await;
        let counted = async || {
            let db = app.database.open();
            let (count,): (i64,) = db.query("SELECT COUNT(*) FROM attempts WHERE LENGTH(times) > 0").one().await.expect("a count");
            count
        };
        let before = counted().await;
        for _ in 0..8 {
            app.login("alice").await;
        }
        assert_eq!(counted().await, before);
    }

    async fn concurrent_attempts_do_not_exceed_the_limit(app: App) {
        app.register("alice").await;
        let replica = App::replica(&app.database, &app.clock, &app.master_key, settings(24, 0)).await;
        let other = App::replica(&app.database, &app.clock, &app.master_key, settings(24, 0)).await;
        let mut logins = JoinSet::new();
        for index in 0..60 {
            let channel = if index % 2 == 0 { replica.channel() } else { other.channel() };
            logins.spawn(async move { login(channel, "alice", WRONG, "").await });
        }
        let (mut verified, mut limited) = (0, 0);
        for outcome in logins.join_all().await {
            match outcome.as_ref().expect_err("a refusal").code() {
                Code::Unauthenticated => verified += 1,
                _ => limited += usize::from(assert_too_many_attempts(outcome) > 0),
            }
        }
        assert_eq!((verified, limited), (24, 36));
    }

    async fn strangers_do_not_lock_users_out_of_networks_that_they_have_used(app: ByAccount) {
        let app = app.0;
        app.register("alice").await;
        let login = async |password, from: &str| login(app.server.channel(), "alice", password, from).await;
        let exhaust = async |network: &str| {
            for host in 1..=6 {
                assert_credentials_invalid(login(WRONG, &format!("{network}{host}")).await);
            }
            assert_too_many_attempts(login(PASSWORD, &format!("{network}7")).await);
        };
        let at_home = login(PASSWORD, "2001:db8:1:1::1").await.expect("a session");
        login(PASSWORD, "198.51.100.7").await.expect("a session");
        exhaust("203.0.113.").await;
        login(PASSWORD, "198.51.100.7").await.expect("a login from a known address");
        login(PASSWORD, "2001:db8:1:1::2").await.expect("a login from a known network");
        assert_too_many_attempts(login(PASSWORD, "198.51.100.8").await);
        assert_too_many_attempts(login(PASSWORD, "2001:db8:1:2::1").await);
        // A known network has the same limit of its own.
        exhaust("2001:db8:1:1::").await;
        login(PASSWORD, "198.51.100.7").await.expect("a login from another known address");

        // Refresh keeps the network known, and without a session it is forgotten after 90 days.
        app.clock.advance(TimeDelta::days(10));
        let mut refresh = Request::new(RefreshRequest { refresh_token: at_home.refresh_token, request_id: String::new() });
        refresh.metadata_mut().insert("x-forwarded-for", "2001:db8:1:1::3".parse().expect("a header"));
        app.tokens().refresh(refresh).await.expect("a successor");
        app.clock.advance(TimeDelta::days(85));
        exhaust("203.0.113.").await;
        assert_too_many_attempts(login(PASSWORD, "198.51.100.7").await);
        login(PASSWORD, "2001:db8:1:1::1").await.expect("a login from a known network");
    }

    async fn registrations_per_client_address_are_limited_per_hour(app: App) {
        let limits = Limits { registrations_per_source: 2, ..Limits::default() };
        let replica = App::replica(&app.database, &app.clock, &app.master_key, with_limits(limits)).await;
        let register = async |username: &str, password: &str, from: &str| {
            let mut request = Request::new(RegisterRequest { password: password.to_owned(), ..registration(username) });
            request.metadata_mut().insert("x-forwarded-for", from.parse().expect("a header"));
            UserServiceClient::new(replica.channel()).register(request).await
        };
        let invalid = register("alice", "too short", "203.0.113.5").await;
        assert_refused(invalid, Code::InvalidArgument, "FIELD_INVALID", &[("password", "PASSWORD_MIN_LEN")]);
        register("alice", PASSWORD, "203.0.113.5").await.expect("a user");
        let taken = register("alice", PASSWORD, "203.0.113.5").await;
        assert_refused(taken, Code::AlreadyExists, "USERNAME_TAKEN", &[("username", "USERNAME_UNIQUE")]);
        let limited = register("bob", PASSWORD, "203.0.113.5").await;
        let retry = limited.as_ref().expect_err("a refusal").get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(retry.map(|delay| delay.as_secs()), Some(3601));
        assert_refused(limited, Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", &[]);
        register("bob", PASSWORD, "203.0.113.6").await.expect("a user from another address");
        app.clock.advance(HOUR);
        register("carol", PASSWORD, "203.0.113.5").await.expect("a user, an hour later");
    }

    async fn failed_attempts_per_client_address_are_limited_per_hour(app: BySource) {
        let app = app.0;
        app.register("alice").await;
        let login = async |username, password, from| login(app.server.channel(), username, password, from).await;
        for (username, from) in [("a", "203.0.113.5"), ("b", "127.0.0.1, 203.0.113.5"), ("alice", "::ffff:203.0.113.5")] {
            assert_credentials_invalid(login(username, WRONG, from).await);
        }
        assert_eq!(assert_too_many_attempts(login("alice", PASSWORD, "203.0.113.5").await), 3601);
        login("alice", PASSWORD, "203.0.113.6").await.expect("a login from elsewhere");
        login("alice", PASSWORD, "").await.expect("a login from the proxy itself");
        for address in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"] {
            assert_credentials_invalid(login("alice", WRONG, address).await);
        }
        assert_too_many_attempts(login("alice", PASSWORD, "2001:db8::3").await);
        login("alice", PASSWORD, "2001:db8:0:1::1").await.expect("a login from another network");
    }

    async fn x_forwarded_for_is_used_only_from_a_trusted_proxy(app: App) {
        app.register("alice").await;
        let trusting = App::replica(&app.database, &app.clock, &app.master_key, settings(100, 100)).await;
        for (channel, expected) in [(app.server.channel(), "127.0.0.1"), (trusting.channel(), "203.0.113.5")] {
            let login = login(channel, "alice", PASSWORD, "203.0.113.5").await.expect("a login");
            let alice = app.actor(login);
            let request = ListSessionsRequest { user_id: "me".to_owned(), ..ListSessionsRequest::default() };
            let sessions = alice.sessions().list_sessions(request).await.expect("a page").into_inner().sessions;
            let current = sessions.into_iter().find(|session| session.is_current).expect("a session");
            assert_eq!(current.address, expected);
        }
    }

    async fn failed_password_changes_are_limited_per_hour(app: ByAccount) {
        let app = app.0;
        let alice = app.user("alice").await;
        for _ in 0..3 {
            assert_credentials_invalid(login(app.server.channel(), "alice", WRONG, "").await);
        }
        for _ in 0..6 {
            let outcome = change_password(&alice, WRONG, "nine red harbours of salt").await;
            assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("old_password", "PASSWORD_CURRENT")]);
        }
        let outcome = change_password(&alice, PASSWORD, "nine red harbours of salt").await;
        assert_refused(outcome, Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", &[]);
        app.clock.advance(HOUR);
        let alice = app.again(&alice).await;
        change_password(&alice, PASSWORD, "nine red harbours of salt").await.expect("a change");
    }

    async fn expired_attempts_are_purged(app: App) {
        assert_credentials_invalid(login(app.server.channel(), "nobody", WRONG, "").await);
        let count = async || {
            let mut tx = app.database.open().begin().await.expect("a transaction");
            login_throttle::purge_expired(&mut tx, &app.clock).await.expect("a statement");
            let (count,): (i64,) = tx.query("SELECT COUNT(*) FROM attempts").one().await.expect("a count");
            tx.commit().await.expect("a commit");
            count
        };
        app.clock.advance(HOUR);
        assert_eq!(count().await, 2);
        app.clock.advance(TimeDelta::microseconds(1));
        assert_eq!(count().await, 0);
    }

    async fn login_replaces_a_hash_below_the_current_cost(app: App) {
        let user = app.register("alice").await;
        let hash = async || {
            let query = app.database.open();
            let (hash,): (String,) = query.query("SELECT password_hash FROM users").one().await.expect("a hash");
            hash
        };
        let costlier = Settings { passwords: Policy { memory: 20_000, passes: 3, ..Policy::default() }, ..Settings::default() };
        let replica = App::replica(&app.database, &app.clock, &app.master_key, costlier).await;
        assert_credentials_invalid(login(replica.channel(), "alice", WRONG, "").await);
        let old = hash().await;
        assert!(old.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{old}");
        login(replica.channel(), "alice", PASSWORD, "").await.expect("a login");
        let new = hash().await;
        assert!(new.starts_with("$argon2id$v=19$m=20000,t=3,p=1$"), "{new}");
        let login = login(app.server.channel(), "alice", PASSWORD, "").await.expect("a login at the replica with the lower cost");
        assert_eq!(hash().await, new);
        assert_eq!(login.user.expect("a user").etag, user.etag);
    }
}
