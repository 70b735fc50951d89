//! Measures the CPU time that metrics, the access log and traces add to a `GetProfile`:
//! `cargo bench -p profile-service --bench observability`.
//!
//! Each variant is a process of its own on SQLite, which writes its log to a file. One client with 16 calls in flight calls them in turn, in
//! many short rounds, so that a change of the machine's speed meets all of them. The CPU time is the one of the serving process, as
//! it reports it itself; each variant serves `/metrics`, also the one that counts no calls.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "what it measures is what it prints")]

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Read, stdin},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use access::{
    Clock, UserId,
    token::{KeySet, Verifier},
};
use clap::{Parser, ValueEnum};
use profile_service::{
    MIGRATIONS, Service,
    proto::{GetProfileRequest, profile_service_client::ProfileServiceClient},
};
use server::{
    ServerSettings,
    telemetry::{self, LogFormat},
    traces::TraceArgs,
};
use testing::{Collector, Engine, Issuer, Metrics, Running, TestDatabase, with_token};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

const ISSUER: &str = "http://issuer.test";
/// The calls in flight.
const CONCURRENCY: usize = 16;
/// The share of the traces that is recorded.
const RATIO: &str = "0.01";
/// The largest costs that are accepted, in percent of the CPU time of a call.
const METRICS_AND_LOG: f64 = 8.0;
const TRACES: f64 = 3.0;

#[derive(Debug, Parser)]
struct Options {
    /// The rounds in which the variants are called in turn. One more round warms everything up.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// The calls of each variant in a round.
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
    /// Serves one variant. The benchmark starts itself with this flag.
    #[arg(long, hide = true)]
    serve: Option<Variant>,
    /// The collector of the traces.
    #[arg(long, hide = true)]
    collector: Option<String>,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Variant {
    Bare,
    Observed,
    Traced,
}

const VARIANTS: [Variant; 3] = [Variant::Bare, Variant::Observed, Variant::Traced];

/// Serves until standard input ends. The first line of standard output has the address and an access token.
async fn serve(variant: Variant, collector: Option<String>) {
    let filter = if variant == Variant::Bare { "off" } else { "info" };
    let _log = telemetry::log(LogFormat::Text, filter).expect("a filter");
    let otlp_endpoint = collector.filter(|_| variant == Variant::Traced);
    let traces = TraceArgs { otlp_endpoint, trace_ratio: RATIO.parse().expect("a ratio"), ..TraceArgs::default() };
    let traces = traces.start(profile_service::NAME).expect("a collector");
    let database = TestDatabase::new(Engine::Sqlite).await;
    let db = database.open();
    migrate::migrate(&db, &MIGRATIONS).await.expect("a migrated database");
    let clock = Clock::system();
    let issuer = Issuer::new(ISSUER, profile_service::NAME, clock.clone());
    let verifier = Arc::new(Verifier::new(ISSUER, profile_service::NAME, clock.clone()));
    verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
    let token = issuer.token(&issuer.claims(UserId::new(&clock), "alice"));
    let server = ServerSettings { counts_calls: variant != Variant::Bare, ..ServerSettings::default() };
    let quotas = profile_service::Quotas::default();
    let service =
        Service { db, clock, verifier, events: None, server, page: None, quotas, audit_key: None, audit_retention: None };
    let running = Running::start(|listener, shutdown| async {
        let serving = profile_service::serve(service, listener, shutdown);
        Box::pin(traces.record(serving)).await.expect("a service that serves");
    })
    .await;
    println!("{} {token}", running.address);
    tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new())).await.expect("an end").expect("standard input");
    running.stop().await;
}

/// A process that serves a variant.
struct Server {
    variant: Variant,
    process: Child,
    address: SocketAddr,
    token: String,
    channel: Channel,
    /// The microseconds of CPU time of a call, in each round.
    costs: Vec<f64>,
}

impl Server {
    fn start(variant: Variant, collector: &str, folder: &Path) -> Self {
        let log = File::create(folder.join(format!("{variant:?}.log"))).expect("a file");
        let name = variant.to_possible_value().expect("a name").get_name().to_owned();
        let mut process = Command::new(env::current_exe().expect("this program"))
            .args(["--serve", &name, "--collector", collector])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("a process");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let (address, token) = line.trim_end().split_once(' ').expect("an address and a token");
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URL").connect_lazy();
        let address = address.parse().expect("an address");
        Self { variant, process, address, token: token.to_owned(), channel, costs: Vec::new() }
    }

    async fn cpu_seconds(&self) -> f64 {
        Metrics::read(self.address).await.value("process_cpu_seconds_total").expect("the CPU time of the process")
    }

    /// Returns the microseconds of CPU time of a call.
    async fn call(&self, calls: usize) -> f64 {
        let before = self.cpu_seconds().await;
        let mut callers = JoinSet::new();
        for _ in 0..CONCURRENCY {
            let (mut client, token) = (ProfileServiceClient::new(self.channel.clone()), self.token.clone());
            callers.spawn(async move {
                for _ in 0..calls / CONCURRENCY {
                    let request = GetProfileRequest { user_id: "me".to_owned() };
                    client.get_profile(with_token(&token, request)).await.expect("a profile");
                }
            });
        }
        callers.join_all().await;
        let made = u32::try_from(calls / CONCURRENCY * CONCURRENCY).expect("a number of calls");
        (self.cpu_seconds().await - before) * 1e6 / f64::from(made)
    }

    fn median(&self) -> f64 {
        let mut costs = self.costs.clone();
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    if let Some(variant) = options.serve {
        return serve(variant, options.collector).await;
    }
    let collector = Collector::default();
    let collecting = collector.serve().await;
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("http://{}", collecting.address);
    let mut servers = VARIANTS.map(|variant| Server::start(variant, &url, folder.path()));
    for round in 0..=options.rounds {
        for step in 0..servers.len() {
            // Each variant is the first, the second and the last one in turn.
            let server = &mut servers[(round + step) % VARIANTS.len()];
            let cost = server.call(options.calls).await;
            if round > 0 {
                server.costs.push(cost);
            }
        }
    }
    let [bare, observed, traced] = servers.each_ref().map(Server::median);
    println!("GetProfile, {} rounds of {} calls, µs of CPU time of the service per call:", options.rounds, options.calls);
    for server in &servers {
        let (least, most) =
            server.costs.iter().fold((f64::MAX, f64::MIN), |(least, most), cost| (least.min(*cost), most.max(*cost)));
        println!("  {:<9} median {:6.1}, from {least:.1} to {most:.1}", format!("{:?}", server.variant), server.median());
    }
    let percent = |with: f64, without: f64| (with - without) / without * 100.0;
    println!("metrics and access log: {:+.1} %, at most {METRICS_AND_LOG} % are accepted", percent(observed, bare));
    println!("traces at a ratio of {RATIO}: {:+.1} %, at most {TRACES} % are accepted", percent(traced, observed));
    drop(servers);
    println!("{} spans were exported", collector.spans().len());
}
