//! Measures the services and writes `docs/reference/benchmarks.md`: see `just bench` and `just soak`.
#![allow(clippy::disallowed_methods, reason = "the program measures real time")]
#![allow(clippy::print_stdout, reason = "it prints its measurements")]

mod auth_calls;
mod bare;
mod connection;
mod django;
mod fixture;
mod footprint;
mod load;
mod overload;
mod plot;
mod process;
mod profile_calls;
mod report;
mod signature;
mod soak;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{connection::Failure, process::Programs, report::Section};

/// The messages and the clients of both services.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, clippy::pedantic)]
pub mod proto {
    /// The protos of the auth service.
    pub mod auth {
        tonic::include_proto!("auth.v1");
    }
    /// The protos of the profile service.
    pub mod profiles {
        tonic::include_proto!("profiles.v1");
    }
}

/// The allocator of the services, so that the bare service has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measures the services.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures everything and writes the page.
    Run(Settings),
    /// Runs a mixed load on both engines, and plots memory, open files and latency.
    Soak(SoakSettings),
    /// Serves `GetProfile` with tonic and sqlx alone.
    #[command(hide = true)]
    Bare {
        #[arg(long)]
        database_url: String,
    },
}

/// The settings of the benchmarks.
#[derive(Debug, Clone, Args)]
pub(crate) struct Settings {
    /// The folder with the programs of the services.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// The virtual environment with the packages of `bench/django/requirements.txt`. Without it, Django is not measured.
    #[arg(long)]
    django: Option<PathBuf>,
    /// The duration of each load, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The number of runs of each load.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The number of notes to which the database grows.
    #[arg(long, default_value_t = 2_000_000)]
    growth: usize,
    /// The number of notes of the user who has many.
    #[arg(long, default_value_t = 30_000)]
    many_notes: usize,
    /// The names of the sections that are measured. All of them by default.
    #[arg(long)]
    only: Vec<String>,
    /// The folder of the page. Without it, the figures are only printed.
    #[arg(long)]
    output: Option<PathBuf>,
}

impl Settings {
    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Returns the programs, by their absolute path, because some run in another folder.
    fn programs(&self) -> Result<Programs, Failure> {
        Ok(Programs(std::path::absolute(&self.programs)?))
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SoakSettings {
    /// The folder with the programs of the services.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// The duration on each engine, in seconds.
    #[arg(long, env = "SOAK_SECONDS", default_value_t = 1200)]
    seconds: u64,
    /// The folder of the plots. Without it, the figures are only printed.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(settings) => run(&settings).await,
        Command::Soak(settings) => soak::run(&settings).await,
        Command::Bare { database_url } => bare::serve(&database_url).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: &Settings) -> Result<(), Failure> {
    let wants = |name: &str| settings.only.is_empty() || settings.only.iter().any(|only| only == name);
    let mut sections = Vec::new();
    let mut add = |section: Section| {
        println!("\n{}", section.title);
        for row in &section.rows {
            println!("  {}: {} (goal: {})", row.measure, row.figure, row.goal);
        }
        sections.push(section);
    };
    if wants("profile") {
        add(profile_calls::compare_with_bare_tonic(settings).await?);
    }
    if wants("auth") {
        add(auth_calls::measure(settings).await?);
    }
    if wants("notes") {
        add(profile_calls::measure_notes(settings).await?);
    }
    if wants("audit") {
        add(profile_calls::measure_audit_log(settings).await?);
    }
    if wants("overload") {
        add(overload::measure(settings).await?);
    }
    if wants("django") && settings.django.is_some() {
        add(profile_calls::compare_with_django(settings).await?);
    }
    if wants("growth") {
        add(profile_calls::measure_growth(settings).await?);
    }
    if wants("footprint") {
        add(footprint::measure(settings).await?);
    }
    match &settings.output {
        Some(folder) => report::write(folder, "just bench", &sections),
        None => Ok(()),
    }
}
