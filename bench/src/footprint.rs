//! Time to start, memory and size.

use std::{fs, net::TcpListener, time::Duration};

use testing::Engine;

use crate::{
    Settings,
    auth_calls::issue_service_token,
    connection::{Connection, Failure, Kind, Target},
    fixture::{Fixture, serve_auth, start_auth},
    process::Process,
    report::{Row, Section, median},
};

/// The time after which a service is idle.
const SETTLED: Duration = Duration::from_secs(3);
/// The time within which a service must answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// The time between two attempts to connect.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Measures what a service needs before it does anything.
pub(crate) async fn measure(settings: &Settings) -> Result<Section, Failure> {
    let programs = settings.programs()?;
    let mut rows = Vec::new();
    let fixture = Fixture::start(Engine::Postgres, &programs).await?;
    issue_service_token(&fixture).await?;
    let mut starts = Vec::new();
    for _ in 0..settings.runs.max(3) {
        let address = free_address()?;
        let mut command = serve_auth(&programs, fixture.auth_database_url(), &address);
        let auth = Process::start_at(&mut command, &fixture.folder.path().join("auth.log"), address)?;
        starts.push(first_answer(&auth).await?);
    }
    rows.push(Row::new(
        "auth service on PostgreSQL: start to first answer",
        format!("{:.0} ms", median(starts)),
        "at most 100 ms",
    ));
    let mut both = Vec::new();
    for _ in 0..settings.runs.max(3) {
        let folder = tempfile::tempdir()?;
        let mut memory = String::new();
        for is_first in [true, false] {
            let mut command = programs.command("quickstart");
            let address = free_address()?;
            command.current_dir(folder.path()).args(["--log-filter", "info", "--auth-listen", "127.0.0.1:0"]);
            // It is the second service to serve.
            command.args(["--profile-listen", &address]);
            let process = Process::start_at(&mut command, &folder.path().join("log"), address)?;
            let duration = first_answer(&process).await?;
            tokio::time::sleep(SETTLED).await;
            // The first start creates the databases, the keys and the superuser, whose password is hashed.
            if !is_first {
                both.push(duration);
                memory = describe_memory(&process);
            }
        }
        if both.len() == 1 {
            rows.push(Row::new("both services in one process on SQLite: idle memory", memory, "at most 40 MB"));
        }
    }
    rows.push(Row::new(
        "both services in one process on SQLite: start to first answer",
        format!("{:.0} ms", median(both)),
        "at most 100 ms",
    ));
    let auth = start_auth(&programs, fixture.auth_database_url(), fixture.folder.path())?;
    tokio::time::sleep(SETTLED).await;
    rows.push(Row::new("auth service: idle memory", describe_memory(&auth), "at most 20 MB"));
    rows.push(Row::new("profile service: idle memory", describe_memory(&fixture.profile), "at most 20 MB"));
    for name in ["auth-service", "profile-service", "quickstart"] {
        let goal = if name == "auth-service" { "at most 18 MB" } else { "" };
        rows.push(Row::new(format!("size of the program {name}"), megabytes(fs::metadata(programs.path(name))?.len()), goal));
    }
    let text = "The first answer is that of `/livez`. Memory is the resident set (VmRSS) three seconds after the start. The part\n\
                that is not allocated is the program itself and its libraries.";
    Ok(Section { title: "Start, memory and size", text: text.to_owned(), rows, plots: Vec::new() })
}

/// Returns an address on which nothing listens.
fn free_address() -> Result<String, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Waits for the first answer, and returns the time since the start in milliseconds.
async fn first_answer(process: &Process) -> Result<f64, Failure> {
    let target =
        Target { address: process.address.clone(), kind: Kind::Http(http::Method::GET, "/livez".to_owned()), token: None };
    loop {
        let answer = async { Connection::open(&target).await?.call(bytes::Bytes::new()).await };
        match answer.await {
            Ok(_) => return Ok(process.age().as_secs_f64() * 1e3),
            Err(error) if process.age() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

fn describe_memory(process: &Process) -> String {
    format!("{}, of which {} are allocated", megabytes(process.memory()), megabytes(process.allocated_memory()))
}

fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}
