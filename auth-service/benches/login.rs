//! Measures the cost of a login, and the effect of a login flood on other calls: `cargo bench -p auth-service --bench login`.
//!
//! The service is a separate process on SQLite. Everything is measured in one run; the ratios matter, not the absolute numbers.
#![allow(missing_docs, reason = "a benchmark program")]
#![allow(clippy::print_stdout, reason = "it prints its measurements")]
#![allow(clippy::disallowed_methods, reason = "the program measures real time")]

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
    /// The number of timed logins, each of an unknown user and with a wrong password.
    #[arg(long, default_value_t = 400)]
    samples: usize,
    /// The duration of the flood, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The number of concurrent logins in the flood.
    #[arg(long, default_value_t = 200)]
    concurrent: usize,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The process of the service.
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
            let output = fs::read_to_string(&log).expect("the log");
            if let Some((line, _)) = output.rsplit_once('\n')
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

    /// Returns the resident memory, in MiB.
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

    compare_failed_logins(&service, options.samples).await;

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

/// Compares the time of a login of an unknown user with that of a wrong password.
async fn compare_failed_logins(service: &Service, samples: usize) {
    let mut client = TokenServiceClient::new(service.channel().await);
    let mut login = async |username: &str| {
        let began = Instant::now();
        let request = LoginRequest { username: username.to_owned(), password: WRONG.to_owned() };
        let status = client.login(request).await.expect_err("a refusal");
        let duration = began.elapsed();
        assert_eq!(status.code(), Code::Unauthenticated, "{}", status.message());
        (duration, (status.message().to_owned(), status.details().to_vec()))
    };
    for _ in 0..10 {
        login("warm").await;
    }
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    for index in 0..samples {
        // The order alternates.
        let (first, second) = if index % 2 == 0 { ("nobody", "alice") } else { ("alice", "nobody") };
        let (one, other) = (login(first).await, login(second).await);
        assert_eq!(one.1, other.1, "the two responses differ");
        let (nobody, alice) = if index % 2 == 0 { (one.0, other.0) } else { (other.0, one.0) };
        unknown.push(nobody);
        wrong.push(alice);
    }
    let (unknown, wrong) = (percentile(&mut unknown, 50.0), percentile(&mut wrong, 50.0));
    println!("failed logins, {samples} of each kind, alternating:");
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
    let guesser_runtime = guesser_runtime();
    for index in 0..options.concurrent {
        // Each guesser has its own connection and address, like a separate client.
        let (endpoint, stop) = (service.endpoint(), Arc::clone(&stop));
        let guess = async move { guess(endpoint.connect().await.expect("a connection"), index, &stop).await };
        guessers.spawn_on(guess, guesser_runtime.handle());
    }
    let began = Instant::now();
    let mut peak = before;
    let mut flooded = Vec::new();
    while began.elapsed() < Duration::from_secs(options.seconds) {
        flooded.extend(verifications(&channel, Duration::from_secs(1), token).await);
        peak = peak.max(service.memory());
    }
    let elapsed = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let (verified, rejected) = guessers.join_all().await.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));

    println!("{} concurrent wrong logins for {elapsed:.0} s, each repeated after the delay in RetryInfo:", options.concurrent);
    println!("  verified        {verified} ({:.1} per second)", f64::from(verified) / elapsed);
    println!("  rejected        {rejected} with RESOURCE_EXHAUSTED and RetryInfo");
    println!("  memory          {before} MiB before, {peak} MiB at peak");
    println!("calls with a token that is not in the cache:");
    for percent in [50.0, 99.0] {
        let (idle, flooded) = (milliseconds(percentile(&mut idle, percent)), milliseconds(percentile(&mut flooded, percent)));
        println!("  p{percent:.0}  idle {idle:7.3} ms, flooded {flooded:7.3} ms, ratio {:.2}", flooded / idle);
    }
    println!("  of {} and {} calls", idle.len(), flooded.len());
    guesser_runtime.shutdown_background();
}

/// Creates a runtime with the lowest priority for the guessers, so that their own use of the processor does not affect the measurement.
fn guesser_runtime() -> Runtime {
    let lower_priority = || {
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().on_thread_start(lower_priority).build().expect("a runtime")
}

/// Calls a method that requires a valid token repeatedly, and returns the latencies.
async fn verifications(channel: &Channel, time: Duration, token: &impl Fn() -> String) -> Vec<Duration> {
    let mut users = UserServiceClient::new(channel.clone());
    let mut latencies = Vec::new();
    let began = Instant::now();
    while began.elapsed() < time {
        let request = with_token(&token(), ListUsersRequest::default());
        let started = Instant::now();
        let status = users.list_users(request).await.expect_err("this token has no permission");
        latencies.push(started.elapsed());
        assert_eq!(status.code(), Code::PermissionDenied, "{}", status.message());
    }
    latencies
}

/// Guesses passwords until `stop` is set, and returns the number of verified and of rejected guesses.
async fn guess(channel: Channel, index: usize, stop: &AtomicBool) -> (u32, u32) {
    let mut client = TokenServiceClient::new(channel);
    let (mut verified, mut rejected) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let username = format!("guess-{index}-{}", verified / 100);
        let mut request = Request::new(LoginRequest { username, password: WRONG.to_owned() });
        let address = format!("10.0.{}.{}", index / 250, index % 250 + 1);
        request.metadata_mut().insert("x-forwarded-for", address.parse().expect("a header"));
        let status = client.login(request).await.expect_err("a refusal");
        match status.code() {
            Code::Unauthenticated => verified += 1,
            Code::ResourceExhausted => {
                rejected += 1;
                let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("RetryInfo");
                tokio::time::sleep(wait).await;
            }
            code => panic!("{code:?}: {}", status.message()),
        }
    }
    (verified, rejected)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the index is below the number of samples"
)]
fn percentile(samples: &mut [Duration], percent: f64) -> Duration {
    samples.sort_unstable();
    samples[((samples.len() - 1) as f64 * percent / 100.0).round() as usize]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
