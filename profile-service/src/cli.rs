//! The commands: `serve`, `check`, the migration commands, `health`, and `import`.

mod administration;
mod audit;
mod check;
mod profiles;
mod sync;

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use access::Clock;
use clap::{Args, Parser, Subcommand};
use migrate::MigrationCommand;
use server::{
    command::operating_system_user,
    config::{self, LogArgs},
    health::{self, HealthTls},
    traces::TraceArgs,
};
use store::{DatabaseArgs, Db, TimeoutArgs};
use tokio::net::TcpListener;

pub use crate::cli_error::CliError;
use crate::{MIGRATIONS, NAME, OTHER_SERVICES, Settings, import, settings::DEFAULT_ISSUER};

/// The profile service: profiles, friends and notes.
#[derive(Debug, Parser)]
#[command(name = "profile-service", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or Ctrl-C.
    Serve(Box<Serve>),
    #[command(flatten)]
    Migration(MigrationCommand),
    /// Prints the access rules of this service in JSON, for `auth-service serve --access-rules`.
    AccessRules,
    /// Checks that a running service is ready. Fails if it is not.
    Health(Health),
    /// Examines the settings of `serve`, the database, the auth service and the running service. Fails if one of them is wrong.
    Check(Box<check::Check>),
    /// Shows and exports profiles.
    #[command(subcommand)]
    Profiles(profiles::Command),
    /// Shows how far the events of the auth service are applied, and requests a snapshot of all users.
    #[command(subcommand)]
    Sync(sync::Command),
    /// Lists, exports and verifies the audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Imports profiles, notes and friends from another system.
    #[command(subcommand)]
    Import(import::Command),
}

#[derive(Debug, Args)]
struct Serve {
    /// The address to listen on.
    #[arg(long, env = "LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50052", value_parser = config::address)]
    listen: SocketAddr,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    timeouts: TimeoutArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    traces: TraceArgs,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct Health {
    /// The address of the service.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50052", value_parser = config::address)]
    address: SocketAddr,
    #[command(flatten)]
    tls: HealthTls,
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match run_command(cli.command).await {
        Err(error) if error.is_broken_pipe() => Ok(()),
        outcome => outcome,
    }
}

async fn run_command(command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve(arguments) => Box::pin(serve(*arguments)).await,
        Command::Check(arguments) => Box::pin(check::run(*arguments)).await,
        Command::Migration(command) => {
            let record = async |db: &Db, operations| ::audit::record_migrations(db, operating_system_user(), operations).await;
            Ok(command.run(NAME, &MIGRATIONS, &OTHER_SERVICES, record).await?)
        }
        Command::AccessRules => Ok(print_access_rules()?),
        Command::Health(arguments) => Ok(health::check(arguments.address, &arguments.tls).await?),
        Command::Profiles(command) => Box::pin(profiles::run(command)).await,
        Command::Sync(command) => Box::pin(sync::run(command)).await,
        Command::Audit(command) => Box::pin(audit::run(command)).await,
        Command::Import(command) => Box::pin(import::run(command)).await,
    }
}

fn print_access_rules() -> io::Result<()> {
    io::stdout().write_all(crate::access_rules().to_json().as_bytes())
}

async fn serve(arguments: Serve) -> Result<(), CliError> {
    let Serve { listen: address, database, timeouts, log, traces, settings } = arguments;
    let _log = log.init::<Cli>()?;
    let traces = traces.start(NAME)?;
    if settings.issuer == DEFAULT_ISSUER && !address.ip().is_loopback() {
        tracing::warn!(
            "the issuer is {DEFAULT_ISSUER}, which other machines cannot reach, but the service listens on {address}: set --issuer to the \
             URL at which clients reach the auth service"
        );
    }
    let db = database.open_with(timeouts)?;
    let listener = TcpListener::bind(address).await.map_err(|source| CliError::Listen { address, source })?;
    let serving = crate::run(db, Clock::system(), settings, listener, server::stop_signal());
    Ok(Box::pin(traces.record(serving)).await?)
}
