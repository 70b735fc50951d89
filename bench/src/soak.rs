//! A mixed load for a long time, on both engines. Memory, open files and latencies should not grow.

use std::{future::Future, pin::Pin, time::Duration};

use prost::Message;
use testing::Engine;
use tokio::task::JoinSet;

use crate::{
    SoakSettings,
    auth_calls::{self, issue_service_token},
    connection::{Failure, Target},
    fixture::{Fixture, PASSWORD, new_note},
    load::{Latencies, Load},
    plot::{self, Line},
    process::Programs,
    profile_calls::get_profile,
    proto::{
        auth::{IntrospectRequest, LoginRequest, WhoAmIRequest},
        profiles::{CreateNoteRequest, ListNotesRequest},
    },
    report::{self, Row, Section, median},
};

/// The number of samples of each engine.
const SAMPLES: u32 = 40;

/// The state at one time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The time since the beginning, in minutes.
    time: f64,
    /// The memory of both services, in megabytes.
    memory: f64,
    /// The open files of both services.
    files: f64,
    /// The median of the latency of `GetProfile`, in milliseconds.
    median: f64,
    /// The 99th percentile of the latency of `GetProfile`, in milliseconds.
    p99: f64,
}

/// Runs the soak on both engines at the same time, and writes its section.
pub(crate) async fn run(settings: &SoakSettings) -> Result<(), Failure> {
    let (mut memory, mut files, mut latency, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (postgres, sqlite) = tokio::try_join!(soak(Engine::Postgres, settings), soak(Engine::Sqlite, settings))?;
    for (samples, name) in [(postgres, "PostgreSQL"), (sqlite, "SQLite")] {
        let line = |label: &str, value: fn(&Sample) -> f64| -> Line {
            (label.to_owned(), samples.iter().map(|sample| (sample.time, value(sample))).collect())
        };
        memory.push(line(name, |sample| sample.memory));
        files.push(line(name, |sample| sample.files));
        latency.push(line(&format!("p50, {name}"), |sample| sample.median));
        latency.push(line(&format!("p99, {name}"), |sample| sample.p99));
        // The first quarter fills caches and pools.
        let quarter = samples.len() / 4;
        let change = |value: fn(&Sample) -> f64| {
            let of = |part: &[Sample]| median(part.iter().map(value));
            let (second, last) = (&samples[quarter..quarter * 2], &samples[samples.len() - quarter..]);
            format!("{} → {}", plot::rounded(of(second)), plot::rounded(of(last)))
        };
        rows.push(Row::new(format!("memory of both services on {name}, MB"), change(|sample| sample.memory), "flat"));
        rows.push(Row::new(format!("open files of both services on {name}"), change(|sample| sample.files), "flat"));
        rows.push(Row::new(format!("GetProfile on {name}, p50, ms"), change(|sample| sample.median), "flat"));
        rows.push(Row::new(format!("GetProfile on {name}, p99, ms"), change(|sample| sample.p99), "flat"));
    }
    for Row { measure, figure, .. } in &rows {
        println!("{measure}: {figure}");
    }
    let Some(folder) = &settings.output else { return Ok(()) };
    let text = format!(
        "`SOAK_SECONDS={} just soak` calls GetProfile, ListNotes, CreateNote, WhoAmI, Introspect, Refresh and Login at constant rates on\n\
         both engines at the same time. The table compares the medians of the second and of the last quarter of the time.",
        settings.seconds
    );
    let plots = vec![
        ("soak-memory", plot::lines("Memory of both services", "minutes", "MB", &memory)),
        ("soak-files", plot::lines("Open files of both services", "minutes", "files", &files)),
        ("soak-latency", plot::lines("Latency of GetProfile", "minutes", "ms", &latency)),
    ];
    report::write_soak(folder, &Section { title: "Soak", text, rows, plots })
}

async fn soak(engine: Engine, settings: &SoakSettings) -> Result<Vec<Sample>, Failure> {
    let fixture = Fixture::start(engine, &Programs(settings.programs.clone())).await?;
    let loads = loads(&fixture).await?;
    let interval = Duration::from_secs(settings.seconds) / SAMPLES;
    let mut samples = Vec::new();
    for number in 1..=SAMPLES {
        let mut running = JoinSet::new();
        for (index, (load, rate)) in loads.iter().enumerate() {
            let (load, rate) = (load.clone(), *rate);
            let call: Pin<Box<dyn Future<Output = _> + Send>> =
                Box::pin(async move { load.at_rate(rate, interval).await.map(|latencies| (index, latencies)) });
            running.spawn(call);
        }
        let mut of_profile: Option<Latencies> = None;
        while let Some(done) = running.join_next().await {
            let (index, latencies) = done??;
            if index == 0 {
                of_profile = Some(latencies);
            }
        }
        let latencies = of_profile.ok_or("GetProfile was not called")?;
        let services = [&fixture.auth, &fixture.profile];
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let (memory, files) = (
            services.iter().map(|service| service.memory()).sum::<u64>() as f64 / 1e6,
            services.iter().map(|service| service.open_files()).sum::<usize>() as f64,
        );
        let time = f64::from(number) * interval.as_secs_f64() / 60.0;
        samples.push(Sample { time, memory, files, median: latencies.quantile(0.5), p99: latencies.quantile(0.99) });
    }
    Ok(samples)
}

/// Returns the loads and their rates. The first one is `GetProfile`.
async fn loads(fixture: &Fixture) -> Result<Vec<(Load, f64)>, Failure> {
    let list = ListNotesRequest { user_id: "me".to_owned(), page_size: 20, ..ListNotesRequest::default() };
    let create = CreateNoteRequest { user_id: "me".to_owned(), note: Some(new_note()), ..CreateNoteRequest::default() };
    let introspect = IntrospectRequest { token: fixture.user.access_token.clone() };
    let introspect_target =
        Target { token: Some(issue_service_token(fixture).await?), ..fixture.auth_grpc("/auth.v1.TokenService/Introspect") };
    let login = LoginRequest { username: "alice".to_owned(), password: PASSWORD.to_owned() };
    let login_target = Target { token: None, ..fixture.auth_grpc("/auth.v1.TokenService/Login") };
    let who_am_i = fixture.auth_grpc("/auth.v1.IdentityService/WhoAmI");
    Ok(vec![
        (Load::fixed(fixture.profile_grpc("/profiles.v1.ProfileService/GetProfile"), get_profile(fixture), 8), 200.0),
        (Load::fixed(fixture.profile_grpc("/profiles.v1.NoteService/ListNotes"), list.encode_to_vec(), 8), 100.0),
        (Load::fixed(fixture.profile_grpc("/profiles.v1.NoteService/CreateNote"), create.encode_to_vec(), 8), 20.0),
        (Load::fixed(who_am_i, WhoAmIRequest {}.encode_to_vec(), 8), 100.0),
        (Load::fixed(introspect_target, introspect.encode_to_vec(), 8), 100.0),
        (auth_calls::refresh(fixture).await?, 20.0),
        (Load::fixed(login_target, login.encode_to_vec(), 4), 2.0),
    ])
}
