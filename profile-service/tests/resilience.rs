//! Scenarios with load and faults: calls at five times the capacity, and a database network that loses every packet while callers wait.
//! docs/reference/reliability.md describes them.
//!
//! They are short here. `RESILIENCE_SECONDS=60 just resilience` runs each load for a minute and prints what it measures. The asserted
//! bounds are far below the promised ones, because the callers, and other programs, use the same processor as the service.
#![allow(missing_docs, reason = "the test names document the tests")]
#![allow(clippy::print_stdout, reason = "the scenarios print their measurements")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unreachable_pub, reason = "the harness is shared with the integration tests")]

#[path = "it/app.rs"]
#[allow(dead_code, reason = "the harness is shared with the integration tests")]
mod app;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use profile_service::{
    MIGRATIONS, Quotas,
    proto::{GetProfileRequest, Visibility},
};
use server::ServerLimits;
use store::{Db, Executor as _};
use testing::{Engine, FaultProxy, TestDatabase};
use tokio::{
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::app::{App, User, create_note, note};

/// One scenario at a time, because each measures what the processor can do.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(2);
/// The number of concurrent callers without overload, and of calls that the service handles at the same time.
const CALLERS: usize = 48;
/// A wide margin for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long each load lasts.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn load_time() -> Duration {
    let seconds = std::env::var("RESILIENCE_SECONDS").map_or(4, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Read,
    Write,
}

impl Work {
    /// Makes one call with a deadline of [`DEADLINE`].
    async fn call(self, user: &User) -> Result<(), Status> {
        let outcome = match self {
            Self::Read => {
                let mut request = Request::new(GetProfileRequest { user_id: "me".to_owned() });
                request.set_timeout(DEADLINE);
                user.profiles().get_profile(request).await.map(drop)
            }
            Self::Write => {
                let mut request = Request::new(create_note("me", "", note("a title", "a body", Visibility::Private)));
                request.set_timeout(DEADLINE);
                user.notes().create_note(request).await.map(drop)
            }
        };
        if let Err(status) = &outcome
            && is_refusal(status)
        {
            assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "no RetryInfo: {status:?}");
        }
        outcome
    }
}

/// Returns true if the service has refused the call. The client itself reports errors of its connection with the same code.
fn is_refusal(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted && std::error::Error::source(status).is_none()
}

/// The outcomes of the calls of a load.
#[derive(Debug, Default)]
struct Outcomes {
    /// The times after which successful calls were answered.
    successes: Vec<Duration>,
    refused: usize,
    failed: usize,
}

impl Outcomes {
    fn add(&mut self, outcome: &Result<(), Status>, elapsed: Duration) {
        match outcome {
            Ok(()) => self.successes.push(elapsed),
            Err(status) if is_refusal(status) => self.refused += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn p99(&mut self) -> Duration {
        self.successes.sort_unstable();
        self.successes.get(self.successes.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// Returns the successful calls per second.
    fn goodput(&self, time: Duration) -> f64 {
        f64::from(u32::try_from(self.successes.len()).unwrap()) / time.as_secs_f64()
    }
}

async fn users(app: &App, count: usize) -> Arc<Vec<User>> {
    let mut users = Vec::new();
    for number in 0..count {
        users.push(app.user(&format!("user-{number}")).await.on_own_connection(app));
    }
    Arc::new(users)
}

/// Makes calls with all users at the same time. A user whose call was refused waits for `pause` before the next call.
async fn call(work: Work, users: &Arc<Vec<User>>, time: Duration, pause: Duration) -> Outcomes {
    let (began, mut callers) = (Instant::now(), JoinSet::new());
    for number in 0..users.len() {
        let users = Arc::clone(users);
        callers.spawn(async move {
            let mut outcomes = Outcomes::default();
            while began.elapsed() < time {
                let sent = Instant::now();
                let outcome = work.call(&users[number]).await;
                outcomes.add(&outcome, sent.elapsed());
                if outcome.is_err() {
                    sleep(pause).await;
                }
            }
            outcomes
        });
    }
    let mut all = Outcomes::default();
    for mut outcomes in callers.join_all().await {
        all.successes.append(&mut outcomes.successes);
        all.refused += outcomes.refused;
        all.failed += outcomes.failed;
    }
    all
}

async fn calls_at_five_times_the_capacity(engine: Engine) {
    let _alone = ALONE.lock().await;
    let database = TestDatabase::new(engine).await;
    let db = database.open();
    migrate::migrate(&db, &MIGRATIONS).await.unwrap();
    // All callers have the same address.
    let max_connections_per_address = 1024;
    let limits = ServerLimits { max_concurrent_calls: CALLERS, max_connections_per_address, ..ServerLimits::default() };
    let app = App::with(database, db, Quotas::default(), limits).await;
    let (usual_users, all_users) = (users(&app, CALLERS).await, users(&app, CALLERS * 5).await);
    for work in [Work::Read, Work::Write] {
        let mut usual = call(work, &usual_users, load_time(), Duration::ZERO).await;
        let peak = usual.goodput(load_time());
        // A caller whose call was refused makes the next one after the time that a call takes.
        let pause = Duration::from_secs_f64(f64::from(u32::try_from(CALLERS).unwrap()) / peak.max(1.0));
        let mut overload = call(work, &all_users, load_time(), pause).await;
        let goodput = overload.goodput(load_time());
        println!(
            "{engine:?}: {work:?} at five times the capacity: {goodput:.0} a second, {:.2} of the peak of {peak:.0}; p99 {:?} (peak: \
             {:?}); {} refused, {} failed",
            goodput / peak,
            overload.p99(),
            usual.p99(),
            overload.refused,
            overload.failed
        );
        assert!(goodput >= peak * 0.3, "{goodput:.0} a second of {peak:.0}, {} refused", overload.refused);
        let after = call(work, &usual_users, Duration::from_millis(500), Duration::ZERO).await;
        assert!(!after.successes.is_empty() && after.failed == 0, "the overload is over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_keep_their_rate_at_five_times_the_capacity_on_sqlite() {
    calls_at_five_times_the_capacity(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_keep_their_rate_at_five_times_the_capacity_on_postgresql() {
    calls_at_five_times_the_capacity(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_succeed_again_after_a_network_that_lost_every_packet_under_load() {
    let _alone = ALONE.lock().await;
    let database = TestDatabase::new(Engine::Postgres).await;
    migrate::migrate(&database.open(), &MIGRATIONS).await.unwrap();
    let proxy = FaultProxy::to(database.url()).await;
    let app = App::on(database, Db::new(&proxy.url, None, 16).unwrap()).await;
    let users = users(&app, CALLERS).await;

    let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for number in 0..CALLERS {
        let (users, stop) = (Arc::clone(&users), Arc::clone(&stop));
        callers.spawn(async move {
            let (mut acknowledged, mut longest) = (0, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let work = if number % 2 == 0 { Work::Read } else { Work::Write };
                let sent = Instant::now();
                let outcome = work.call(&users[number]).await;
                longest = longest.max(sent.elapsed());
                acknowledged += usize::from(outcome.is_ok() && work == Work::Write);
                match outcome.map_err(|status| status.code()) {
                    Ok(()) => {}
                    // A client whose deadline has passed cancels the call.
                    Err(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted) => {
                        sleep(Duration::from_millis(100)).await;
                    }
                    Err(code) => panic!("{code:?}"),
                }
            }
            (acknowledged, longest)
        });
    }
    sleep(Duration::from_millis(500)).await;
    proxy.silence();
    sleep(load_time().min(Duration::from_secs(10))).await;
    proxy.heal();
    let healed = Instant::now();
    for work in [Work::Read, Work::Write] {
        let recovered = timeout(PATIENCE, async { while work.call(&users[0]).await.is_err() {} });
        recovered.await.expect("a service that recovers");
        println!("{work:?}: the first success {:?} after the network was back", healed.elapsed());
    }
    sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let callers = callers.join_all().await;
    let longest = callers.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
    let acknowledged: usize = callers.iter().map(|(acknowledged, _)| acknowledged).sum();
    println!("the longest call took {longest:?}, with a deadline of {DEADLINE:?}");

    // All connections are used at once, so none of them was lost.
    let after = call(Work::Read, &users, Duration::from_millis(500), Duration::ZERO).await;
    assert_eq!((after.refused, after.failed), (0, 0));
    let (stored,): (i64,) = (&app.database.open()).query("SELECT COUNT(*) FROM notes").one().await.unwrap();
    assert!(stored >= i64::try_from(acknowledged).unwrap(), "{stored} of {acknowledged} acknowledged notes are stored");
}
