//! Scenarios with load and faults: Login during floods, Login at five times its capacity, and a replica that is frozen inside a
//! transaction. docs/reference/reliability.md describes them.
//!
//! They are short here. `RESILIENCE_SECONDS=60 just resilience` runs each load for a minute and prints what it measures. The asserted
//! bounds are far below the promised ones, because other programs may use the same processor.
#![allow(missing_docs, reason = "the test names document the tests")]
#![allow(clippy::print_stdout, reason = "the scenarios print their measurements")]

#[path = "it/app.rs"]
#[allow(dead_code, reason = "the harness is shared with the integration tests")]
mod app;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use auth_service::{
    Settings,
    login_throttle::Limits,
    proto::{
        ChangePasswordRequest, LoginRequest, WhoAmIRequest, token_service_client::TokenServiceClient,
        user_service_client::UserServiceClient,
    },
};
use server::ServerSettings;
use store::Executor as _;
use testing::Engine;
use tokio::{
    runtime::Runtime,
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::app::{App, PASSWORD, registration};

/// One scenario at a time, because each measures what the processor can do.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The time in which an honest client wants its response.
const PATIENCE: Duration = Duration::from_secs(2);
/// The number of concurrent calls of a flood, all on one connection.
const STREAMS: u32 = 95;

/// How long each load lasts.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn load_time() -> Duration {
    let seconds = std::env::var("RESILIENCE_SECONDS").map_or(4, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Starts a service whose limits on attempts do not stop a flood.
async fn start(engine: Engine) -> App {
    let limits = Limits { per_account: 1000, per_source: 0, registrations_per_source: 0 };
    let trusted_proxies = vec![access::parse_network("127.0.0.1").expect("an address")];
    let server = ServerSettings { trusted_proxies, ..ServerSettings::default() };
    App::start_with(engine, Settings { limits, server, ..Settings::default() }).await
}

fn from<T>(address: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-forwarded-for", address.parse().expect("a header"));
    request
}

/// Logs in with a deadline, and returns whether that succeeded in time.
async fn succeeds(channel: Channel, username: &str, address: &str, deadline: Duration) -> bool {
    matches!(timeout(deadline, login(channel, username, PASSWORD, address, deadline)).await, Ok(Ok(())))
}

async fn login(channel: Channel, username: &str, password: &str, address: &str, deadline: Duration) -> Result<(), Status> {
    let mut request = from(address, LoginRequest { username: username.to_owned(), password: password.to_owned() });
    request.set_timeout(deadline);
    TokenServiceClient::new(channel).login(request).await.map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    Register,
    WrongLogin,
    ChangePassword,
}

impl Flood {
    /// Makes one call from the address of the attacker.
    async fn call(self, channel: Channel, bearer: &str, number: u32) -> Result<(), Status> {
        let address = "203.0.113.66";
        let username = format!("flood-{number}");
        match self {
            Self::Register => UserServiceClient::new(channel).register(from(address, registration(&username))).await.map(drop),
            Self::WrongLogin => login(channel, &username, "not the password of anybody", address, PATIENCE).await,
            Self::ChangePassword => {
                let change = ChangePasswordRequest {
                    user_id: "me".to_owned(),
                    old_password: "not the password of anybody".to_owned(),
                    new_password: "nine red harbours of salt".to_owned(),
                };
                let mut request = from(address, change);
                request.metadata_mut().insert("authorization", bearer.parse().expect("a header"));
                UserServiceClient::new(channel).change_password(request).await.map(drop)
            }
        }
    }
}

/// Creates a runtime with the lowest priority for the attackers, so that their own use of the processor does not slow down the service.
fn attackers() -> Runtime {
    let lower_priority = || {
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().on_thread_start(lower_priority).build().expect("a runtime")
}

/// Calls as fast as the service answers until `stop`.
async fn flood(kind: Flood, channel: Channel, bearer: String, numbers: Arc<AtomicU32>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let outcome = kind.call(channel.clone(), &bearer, numbers.fetch_add(1, Ordering::Relaxed)).await;
        if let Err(status) = outcome
            && status.code() == Code::ResourceExhausted
        {
            assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "no RetryInfo: {status:?}");
            // The attacker does not wait as long as it is told to.
            sleep(Duration::from_millis(250)).await;
        }
    }
}

async fn honest_logins_during_floods(engine: Engine) {
    let _alone = ALONE.lock().await;
    let app = start(engine).await;
    app.register("honest").await;
    let attacker = app.user("attacker").await;
    let bearer = format!("Bearer {}", attacker.login.access_token);
    let numbers = Arc::new(AtomicU32::new(0));
    // A slow processor gets more time, so that the test finds unfairness and not slowness.
    let (idle, address) = (Instant::now(), "198.51.100.7");
    for _ in 0..3 {
        login(app.server.channel(), "honest", PASSWORD, address, PATIENCE * 10).await.expect("a login");
    }
    let deadline = PATIENCE.max(idle.elapsed() / 3 * 10);
    let attackers = attackers();
    let all = &[Flood::Register, Flood::WrongLogin, Flood::ChangePassword];
    for kinds in [&all[..1], &all[1..2], &all[2..], all] {
        let stop = Arc::new(AtomicBool::new(false));
        let mut floods = JoinSet::new();
        for kind in kinds {
            let channel = app.server.channel();
            for _ in 0..STREAMS {
                let flood = flood(*kind, channel.clone(), bearer.clone(), Arc::clone(&numbers), Arc::clone(&stop));
                floods.spawn_on(flood, attackers.handle());
            }
        }
        sleep(Duration::from_millis(500)).await;
        let (mut answered, mut in_time, mut sent) = (0, 0, 0);
        let (channel, began) = (app.server.channel(), Instant::now());
        while began.elapsed() < load_time() {
            let started = Instant::now();
            let is_success = succeeds(channel.clone(), "honest", address, deadline).await;
            sent += 1;
            answered += usize::from(is_success);
            in_time += usize::from(is_success && started.elapsed() <= PATIENCE);
            sleep(Duration::from_millis(100)).await;
        }
        stop.store(true, Ordering::Relaxed);
        floods.shutdown().await;
        println!(
            "{engine:?}: honest Logins during a flood of {kinds:?}: {in_time} of {sent} within 2 s, {answered} within {deadline:?}"
        );
        assert!(answered * 100 >= sent * 70, "{answered} of {sent}");
    }
    attackers.shutdown_background();
}

/// Logs in as fast as `rate` says, without waiting for responses. Returns the number of successes within two seconds.
async fn offer(app: &App, rate: f64, time: Duration) -> usize {
    let (mut logins, began) = (JoinSet::new(), Instant::now());
    let channels: Vec<_> = (0..8).map(|_| app.server.channel()).collect();
    let mut sent = 0_u32;
    while began.elapsed() < time {
        while f64::from(sent) < began.elapsed().as_secs_f64() * rate {
            let channel = channels[sent as usize % channels.len()].clone();
            let (username, address) = (format!("user-{}", sent % 20), format!("198.51.100.{}", sent % 50));
            logins.spawn(async move { succeeds(channel, &username, &address, PATIENCE).await });
            sent += 1;
        }
        sleep(Duration::from_millis(5)).await;
    }
    logins.join_all().await.into_iter().filter(|is_success| *is_success).count()
}

async fn logins_at_five_times_the_capacity(engine: Engine) {
    let _alone = ALONE.lock().await;
    let app = start(engine).await;
    for number in 0..20 {
        app.register(&format!("user-{number}")).await;
    }
    // The peak: as many concurrent clients as the queue has room for without refusing any.
    let (count, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let (channel, count, stop) = (app.server.channel(), Arc::clone(&count), Arc::clone(&stop));
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let address = format!("198.51.100.{number}");
                if login(channel.clone(), &format!("user-{number}"), PASSWORD, &address, PATIENCE * 10).await.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    sleep(load_time()).await;
    let peak = f64::from(count.load(Ordering::Relaxed)) / load_time().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    clients.join_all().await;

    let time = load_time().max(Duration::from_secs(6));
    let successes = offer(&app, peak * 5.0, time).await;
    let goodput = f64::from(u32::try_from(successes).expect("a count")) / time.as_secs_f64();
    println!(
        "{engine:?}: Logins at five times the capacity: {goodput:.1} a second, {:.2} of the peak of {peak:.1}",
        goodput / peak
    );
    assert!(goodput >= peak * 0.4, "{goodput:.1} a second of {peak:.1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_logins_are_answered_during_floods_on_sqlite() {
    honest_logins_during_floods(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_logins_are_answered_during_floods_on_postgresql() {
    honest_logins_during_floods(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_keep_their_rate_at_five_times_the_capacity_on_sqlite() {
    logins_at_five_times_the_capacity(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_keep_their_rate_at_five_times_the_capacity_on_postgresql() {
    logins_at_five_times_the_capacity(Engine::Postgres).await;
}

/// Holds the row that every transaction with an event locks, as a replica does that is stopped inside such a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn calls_succeed_again_after_a_replica_froze_inside_a_transaction() {
    let _alone = ALONE.lock().await;
    let app = start(Engine::Postgres).await;
    let user = app.user("reader").await;
    let frozen = app.database.open();
    let mut held = frozen.begin().await.expect("a transaction");
    held.query("SELECT last FROM feed FOR UPDATE").execute().await.expect("the row of the feed");
    let began = Instant::now();

    let refused = app.users().register(registration("during")).await;
    let refused_after = began.elapsed();
    assert!(refused.as_ref().is_err_and(|status| status.code() == Code::Unavailable), "{refused:?}");
    let read = Instant::now();
    user.identity().who_am_i(WhoAmIRequest {}).await.expect("a call that only reads");
    let read_after = read.elapsed();

    let recovered = timeout(Duration::from_mins(1), async {
        let mut number = 0;
        while app.users().register(registration(&format!("after-{number}"))).await.is_err() {
            number += 1;
        }
    });
    recovered.await.expect("PostgreSQL ends the idle transaction");
    println!(
        "a frozen replica: Register was UNAVAILABLE after {refused_after:?} and succeeded after {:?}, WhoAmI took {read_after:?}",
        began.elapsed()
    );
    held.commit().await.expect_err("PostgreSQL has ended the transaction");
}
