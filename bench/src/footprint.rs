//! Time to start, memory and size.

use std::{fs, time::Duration};

use testing::Engine;

use crate::{
    Settings,
    auth_calls::issue_service_token,
    connection::{Connection, Failure, Kind, Target},
    fixture::{Fixture, start_auth},
    process::Process,
    report::{Row, Section, median},
};

/// The time after which a service is idle.
const SETTLED: Duration = Duration::from_secs(3);

/// Measures what a service needs before it does anything.
pub(crate) async fn measure(settings: &Settings) -> Result<Section, Failure> {
    let programs = settings.programs()?;
    let mut rows = Vec::new();
    let fixture = Fixture::start(Engine::Postgres, &programs).await?;
    issue_service_token(&fixture).await?;
    let mut starts = Vec::new();
    for _ in 0..settings.runs.max(3) {
        let auth = start_auth(&programs, fixture.auth_database_url(), fixture.folder.path())?;
        answer(&auth).await?;
        starts.push(auth.age().as_secs_f64() * 1e3);
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
            command.current_dir(folder.path()).args(["--log-filter", "info", "--auth-listen", "127.0.0.1:0"]);
            command.args(["--profile-listen", "127.0.0.1:0"]);
            let process = Process::start(&mut command, &folder.path().join("log"), "address=")?;
            answer(&process).await?;
            // The first start creates the databases and the keys.
            if !is_first {
                both.push(process.age().as_secs_f64() * 1e3);
                tokio::time::sleep(SETTLED).await;
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

async fn answer(process: &Process) -> Result<(), Failure> {
    let kind = Kind::Http(http::Method::GET, "/livez".to_owned());
    Connection::open(&Target { address: process.address.clone(), kind, token: None }).await?.call(bytes::Bytes::new()).await?;
    Ok(())
}

fn describe_memory(process: &Process) -> String {
    format!("{}, of which {} are allocated", megabytes(process.memory()), megabytes(process.allocated_memory()))
}

fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}
