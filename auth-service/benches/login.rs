//! Measures the cost of a login, and the effect of a login flood on other calls: `cargo bench -p auth-service --bench login`.
//!
//! The service is a separate process on SQLite. Everything is measured in one run; the ratios matter, not the absolute numbers.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "it prints its measurements")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use access::{Clock, UserId};
use auth_service::{
    MIGRATIONS, create_superuser,
    keys::{KeyBits, KeyRing, MasterKey},
    passwords::Policy,
    proto::{ListUsersRequest, LoginRequest, token_service_client::TokenServiceClient, user_service_client::UserServiceClient},
};
use chrono::TimeDelta;
use clap::Parser;
use store::Db;
use testing::{Issuer, with_token};
use tokio::{runtime::Runtime, task::JoinSet};
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

const PASSWORD: &str = "seven blue cafes of tin";
const WRONG: &str = "not the password of anybody";

#[derive(Debug, Parser)]
struct Options {
    /// How many logins each of an unknown user and of a wrong password are timed.
    #[arg(long, default_value_t = 400)]
    samples: usize,
    /// How long the flood lasts, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many logins of the flood are under way at once.
    #[arg(long, default_value_t = 200)]
    concurrent: usize,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The service, as a process.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(folder: &Path, url: &str, master_key: &str) -> Self {
        let log = folder.join("log");
        let process = Command::new(env!("CARGO_BIN_EXE_auth-service"))
            .args(["serve", "--listen", "127.0.0.1:0", "--database-url", url, "--trusted-proxy", "127.0.0.1"])
            .args(["--attempts-per-account", "1000", "--attempts-per-source", "0", "--log-format", "json"])
            .env("MASTER_KEY", master_key)
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("a process");
        let mut service = Self { process, address: String::new() };
        while service.address.is_empty() {
            let said = fs::read_to_string(&log).expect("the log");
            if let Some((line, _)) = said.rsplit_once('\n')
                && let Some(start) = line.find("127.0.0.1:")
            {
                line[start..].split('"').next().expect("an address").clone_into(&mut service.address);
            }
        }
        service
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("a URL")
    }

    async fn channel(&self) -> Channel {
        self.endpoint().connect().await.expect("a connection")
    }

    /// The resident memory, in MiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident set");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("auth.db").display());
    let (db, clock) = (Db::new(&url, None, 4).expect("a URL"), Clock::system());
    migrate::migrate(&db, &MIGRATIONS).await.expect("a migrated database");
    create_superuser(&db, &clock, "alice", "", PASSWORD, Policy::default()).await.expect("a user");
    let master_key = MasterKey::generate();
    let service = Service::start(folder.path(), &url, &master_key);

    unknown_and_wrong(&service, options.samples).await;

    let master_key = MasterKey::from_base64(&master_key).expect("a master key");
    let keys = KeyRing::open(db, clock.clone(), master_key, KeyBits::default(), TimeDelta::zero()).await.expect("the keys");
    let key = Arc::clone(keys.keys().active().expect("a key"));
    let issuer = Issuer::new("http://127.0.0.1:50051", "auth-service", clock.clone());
    let claims = issuer.claims(UserId::new(&clock), "nobody");
    let token = move || {
        let claims = access::token::Claims { jti: uuid::Uuid::now_v7().to_string(), ..claims.clone() };
        key.sign("at+jwt", &claims).expect("a token")
    };
    flood(&service, &options, &token).await;
}

/// How long a login takes that fails for want of a user, and one that fails for a wrong password.
async fn unknown_and_wrong(service: &Service, samples: usize) {
    let mut client = TokenServiceClient::new(service.channel().await);
    let mut login = async |username: &str| {
        let began = Instant::now();
        let request = LoginRequest { username: username.to_owned(), password: WRONG.to_owned() };
        let status = client.login(request).await.expect_err("a refusal");
        let took = began.elapsed();
        assert_eq!(status.code(), Code::Unauthenticated, "{}", status.message());
        (took, (status.message().to_owned(), status.details().to_vec()))
    };
    for _ in 0..10 {
        login("warm").await;
    }
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    for index in 0..samples {
        // Now the one first, now the other.
        let (first, second) = if index % 2 == 0 { ("nobody", "alice") } else { ("alice", "nobody") };
        let (one, other) = (login(first).await, login(second).await);
        assert_eq!(one.1, other.1, "the two answers are the same bytes");
        let (nobody, alice) = if index % 2 == 0 { (one.0, other.0) } else { (other.0, one.0) };
        unknown.push(nobody);
        wrong.push(alice);
    }
    let (unknown, wrong) = (percentile(&mut unknown, 50.0), percentile(&mut wrong, 50.0));
    println!("a login that fails, {samples} times each, in turn:");
    println!("  unknown user    median {:7.2} ms", milliseconds(unknown));
    println!("  wrong password  median {:7.2} ms", milliseconds(wrong));
    println!("  ratio           {:.3}", milliseconds(unknown) / milliseconds(wrong));
}

/// Measures the effect of a login flood on other calls and on the memory.
async fn flood(service: &Service, options: &Options, token: &impl Fn() -> String) {
    let channel = service.channel().await;
    let before = service.memory();
    let mut idle = verifications(&channel, Duration::from_secs(options.seconds.min(10)), token).await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut guessers = JoinSet::new();
    let elsewhere = elsewhere();
    for index in 0..options.concurrent {
        // As many connections as a few hundred clients have, and as many addresses.
        let (endpoint, stop) = (service.endpoint(), Arc::clone(&stop));
        let guess = async move { guess(endpoint.connect().await.expect("a connection"), index, &stop).await };
        guessers.spawn_on(guess, elsewhere.handle());
    }
    let began = Instant::now();
    let mut most = before;
    let mut flooded = Vec::new();
    while began.elapsed() < Duration::from_secs(options.seconds) {
        flooded.extend(verifications(&channel, Duration::from_secs(1), token).await);
        most = most.max(service.memory());
    }
    let took = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let (looked_at, turned_away) = guessers.join_all().await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));

    println!("{} wrong logins under way at once, for {took:.0} s, each again as soon as RetryInfo says:", options.concurrent);
    println!("  looked at       {looked_at} ({:.1} a second)", f64::from(looked_at) / took);
    println!("  turned away     {turned_away} with RESOURCE_EXHAUSTED and RetryInfo");
    println!("  memory          {before} MiB before, {most} MiB at most");
    println!("a call with a token that was never seen before:");
    for percent in [50.0, 99.0] {
        let (idle, flooded) = (milliseconds(percentile(&mut idle, percent)), milliseconds(percentile(&mut flooded, percent)));
        println!("  p{percent:.0}  idle {idle:7.3} ms, flooded {flooded:7.3} ms, ratio {:.2}", flooded / idle);
    }
    println!("  of {} and {} calls", idle.len(), flooded.len());
    elsewhere.shutdown_background();
}

/// Those who guess are on other machines: what they take of this one must not count.
fn elsewhere() -> Runtime {
    let yields = || {
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().on_thread_start(yields).build().expect("a runtime")
}

/// Calls, one after the other, what a valid token is needed for: how long each took.
async fn verifications(channel: &Channel, time: Duration, token: &impl Fn() -> String) -> Vec<Duration> {
    let mut users = UserServiceClient::new(channel.clone());
    let mut took = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let request = with_token(&token(), ListUsersRequest::default());
        let asked = Instant::now();
        let status = users.list_users(request).await.expect_err("this token has no permission");
        took.push(asked.elapsed());
        assert_eq!(status.code(), Code::PermissionDenied, "{}", status.message());
    }
    took
}

/// Guesses until it is to stop: how many guesses were looked at, and how many turned away.
async fn guess(channel: Channel, index: usize, stop: &AtomicBool) -> (u32, u32) {
    let mut client = TokenServiceClient::new(channel);
    let (mut looked_at, mut turned_away) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let username = format!("guess-{index}-{}", looked_at / 100);
        let mut request = Request::new(LoginRequest { username, password: WRONG.to_owned() });
        let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
        request.metadata_mut().insert("x-forwarded-for", address.parse().expect("a header"));
        let status = client.login(request).await.expect_err("a refusal");
        match status.code() {
            Code::Unauthenticated => looked_at += 1,
            Code::ResourceExhausted => {
                turned_away += 1;
                let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("RetryInfo");
                tokio::time::sleep(wait).await;
            }
            code => panic!("{code:?}: {}", status.message()),
        }
    }
    (looked_at, turned_away)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index of thousands")]
fn percentile(samples: &mut [Duration], percent: f64) -> Duration {
    samples.sort_unstable();
    samples[((samples.len() - 1) as f64 * percent / 100.0).round() as usize]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
