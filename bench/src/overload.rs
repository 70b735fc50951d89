//! Five times as many calls as the profile service handles at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use testing::Engine;
use tokio::task::JoinSet;

use crate::{
    Settings,
    connection::{Connection, Failure, Target},
    fixture::{Fixture, User, new_note, register},
    plot,
    process::Process,
    profile_calls::{CREATE_NOTE, GET_PROFILE},
    proto::profiles::{CreateNoteRequest, GetProfileRequest},
    report::{Row, Section, median},
};

/// The default limit of calls in flight of one caller.
const CALLS_OF_CALLER: usize = 64;
/// The callers that have as many calls in flight as the service handles at the same time.
const CALLERS: usize = 8;
/// The calls in flight on one connection, fewer than the service accepts.
const CALLS_ON_CONNECTION: usize = 64;
/// How many times the usual calls the overload has.
const TIMES: usize = 5;

/// The outcome of a load.
#[derive(Debug, Default)]
struct Outcome {
    successes_per_second: f64,
    refused: usize,
    /// The processor time of the service for each successful call, in microseconds.
    cpu: f64,
    /// The latencies of successful calls, in milliseconds, sorted.
    latencies: Vec<f64>,
}

/// Compares the rate of successful calls at five times the limits with the rate at the limits.
pub(crate) async fn measure(settings: &Settings) -> Result<Section, Failure> {
    let mut rows = Vec::new();
    for (engine, name) in [(Engine::Sqlite, "SQLite"), (Engine::Postgres, "PostgreSQL")] {
        let fixture = Fixture::start(engine, &settings.programs()?).await?;
        let mut users = Vec::new();
        for number in 0..CALLERS * TIMES {
            users.push(register(&fixture.auth, &format!("caller{number}")).await?);
        }
        fixture.wait_for(&users[CALLERS * TIMES - 1]).await?;
        let read = GetProfileRequest { user_id: "me".to_owned() }.encode_to_vec();
        let write = CreateNoteRequest { user_id: "me".to_owned(), note: Some(new_note()), ..CreateNoteRequest::default() };
        for (work, path, body) in [("reads", GET_PROFILE, read), ("writes", CREATE_NOTE, write.encode_to_vec())] {
            let load = |users: &[User], connections: usize| {
                let targets = users.iter().map(|user| fixture.profile_grpc_of(path, user)).collect();
                call(targets, connections, body.clone().into(), settings.duration(), &fixture.profile)
            };
            let loads = [("many callers", &users[..CALLERS], &users[..], 1), ("one caller", &users[..1], &users[..1], TIMES)];
            for (callers, usual, all, connections) in loads {
                let (mut shares, mut costs, mut overloads) = (Vec::new(), Vec::new(), Vec::new());
                for _ in 0..settings.runs {
                    let peak = load(usual, 1).await?;
                    let overload = load(all, connections).await?;
                    shares.push(overload.successes_per_second / peak.successes_per_second);
                    costs.push(overload.cpu / peak.cpu);
                    overloads.push(overload);
                }
                let of = |figure: fn(&Outcome) -> f64| median(overloads.iter().map(figure));
                let refused = overloads.iter().map(|overload| overload.refused).max().unwrap_or_default();
                let figure = format!(
                    "{:.2} of the peak: {:.0} a second, p99 {} ms, {:.2} of the CPU a call at the peak, at most {refused} refused",
                    median(shares),
                    of(|overload| overload.successes_per_second),
                    plot::rounded(of(Outcome::p99)),
                    median(costs),
                );
                rows.push(Row::new(format!("{work} of {callers}, {name}"), figure, "at least 0.80"));
            }
        }
    }
    let text = format!(
        "{TIMES} times as many calls in flight as the service handles at the same time: {} of {} callers, and {} of one caller, whose limit\n\
         is {CALLS_OF_CALLER}. A refused call is repeated at once. The load generator uses the same processors, so the rate also falls when the\n\
         generator needs more of them. The processor time of the service for a successful call shows what the service itself needs.",
        CALLERS * TIMES * CALLS_OF_CALLER,
        CALLERS * TIMES,
        TIMES * CALLS_OF_CALLER,
    );
    Ok(Section { title: "Overload", text, rows, plots: Vec::new() })
}

impl Outcome {
    fn p99(&self) -> f64 {
        self.latencies.get(self.latencies.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// Keeps calls in flight on `connections` connections to each target, for `duration`.
async fn call(
    targets: Vec<Target>,
    connections: usize,
    body: Bytes,
    duration: Duration,
    service: &Process,
) -> Result<Outcome, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for target in targets {
        for _ in 0..connections {
            let first = Connection::open(&target).await?;
            for _ in 0..CALLS_ON_CONNECTION {
                let (mut connection, stop, body) = (first.share(&target).await?, Arc::clone(&stop), body.clone());
                workers.spawn(async move {
                    let (mut latencies, mut refused) = (Vec::new(), 0);
                    while !stop.load(Relaxed) {
                        let began = Instant::now();
                        match connection.call(body.clone()).await {
                            Ok(_) => latencies.push(began.elapsed().as_secs_f64() * 1e3),
                            Err(_) => refused += 1,
                        }
                    }
                    (latencies, refused)
                });
            }
        }
    }
    let cpu = service.cpu();
    tokio::time::sleep(duration).await;
    stop.store(true, Relaxed);
    let cpu = service.cpu().saturating_sub(cpu);
    let mut outcome = Outcome::default();
    for (latencies, refused) in workers.join_all().await {
        outcome.latencies.extend(latencies);
        outcome.refused += refused;
    }
    outcome.latencies.sort_by(f64::total_cmp);
    let successes = u32::try_from(outcome.latencies.len())?;
    outcome.successes_per_second = f64::from(successes) / duration.as_secs_f64();
    outcome.cpu = cpu.as_secs_f64() * 1e6 / f64::from(successes);
    Ok(outcome)
}
