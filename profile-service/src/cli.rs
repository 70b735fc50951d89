//! The commands: `serve`, the verbs of the schema, `health`, and `import`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use access::{
    Clock,
    events::EventSource,
    token::{ClientCredentials, ServiceToken, Verifier, auth_channel, follow_auth_service},
};
use clap::{Args, Parser, Subcommand};
use django::tokens::TokenArgs;
use gateway::ApiDocs;
use migrate::MigrationCommand;
use server::{
    config::{HttpArgs, LogArgs},
    health::{self},
};
use store::DatabaseArgs;
use tokio::net::TcpListener;

pub use crate::cli_error::CliError;
use crate::{MIGRATIONS, NAME, Service, import};

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
    Serve(Serve),
    #[command(flatten)]
    Schema(MigrationCommand),
    /// Asks a running service whether it is ready, and fails where it is not.
    Health(HealthCheck),
    /// Brings profiles, notes and friends over from elsewhere.
    #[command(subcommand)]
    Import(import::Command),
}

#[derive(Debug, Args)]
struct Serve {
    /// The address to listen on.
    #[arg(long, env = "LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50052")]
    listen: SocketAddr,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    http: HttpArgs,
    /// Where the auth service publishes its keys.
    #[arg(long, env = "AUTH_URL", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    auth_url: String,
    /// The issuer of the access tokens that are accepted: their `iss`.
    #[arg(long, env = "ISSUER", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    issuer: String,
    /// The name of this service in the `aud` of access tokens.
    #[arg(long, env = "AUDIENCE", value_name = "NAME", default_value = NAME)]
    audience: String,
    /// How often the keys are fetched, in seconds.
    #[arg(long, env = "KEY_INTERVAL", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    key_interval: u64,
    #[command(flatten)]
    legacy: TokenArgs,
    #[command(flatten)]
    events: EventArgs,
}

#[derive(Debug, Args)]
struct EventArgs {
    /// The account with which this service follows the events of the auth service: `auth-service clients create` makes it.
    #[arg(long, env = "CLIENT_ID", value_name = "NAME", requires = "client_secret_file")]
    client_id: Option<String>,
    /// A file that holds its secret.
    #[arg(long, env = "CLIENT_SECRET_FILE", value_name = "FILE", requires = "client_id")]
    client_secret_file: Option<PathBuf>,
    /// How old news of revocations may be, in seconds, before methods that ask for them are UNAVAILABLE.
    #[arg(long, env = "REVOCATION_STALENESS", value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(2..=3600))]
    revocation_staleness: u64,
}

#[derive(Debug, Args)]
struct HealthCheck {
    /// Where the service listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50052")]
    address: SocketAddr,
}

/// Runs a command.
///
/// # Errors
///
/// What a person has to be told.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(arguments) => Box::pin(serve(arguments)).await,
        Command::Schema(verb) => Ok(verb.run(&MIGRATIONS).await?),
        Command::Health(arguments) => Ok(health::check(arguments.address).await?),
        Command::Import(command) => Box::pin(import::run(command)).await,
    }
}

async fn serve(arguments: Serve) -> Result<(), CliError> {
    arguments.log.init()?;
    let db = arguments.database.open()?;
    let clock = Clock::system();
    // The issuer is how everybody reaches the auth service, a browser too.
    let page = (!arguments.http.no_page).then(|| ApiDocs { auth_url: arguments.issuer.clone() });
    let bound = Duration::from_secs(arguments.events.revocation_staleness);
    let verifier = Verifier::new(arguments.issuer, arguments.audience, clock.clone()).with_staleness_bound(bound);
    let verifier = Arc::new(verifier.with_source(arguments.legacy.read()?));
    let key_interval = Duration::from_secs(arguments.key_interval);
    let channel = auth_channel(&arguments.auth_url)?;
    let follow_keys = follow_auth_service(Arc::clone(&verifier), key_interval, channel.clone());
    let (token, account) = (ServiceToken::default(), arguments.events.client_id.zip(arguments.events.client_secret_file));
    let events = account.is_some().then(|| EventSource::with_service_token(channel.clone(), token.clone()));
    let keep_token = async {
        match account {
            Some((client_id, secret_file)) => token.keep_fresh(channel, ClientCredentials { client_id, secret_file }).await,
            None => std::future::pending().await,
        }
    };
    let address = arguments.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| CliError::Listen { address, source })?;
    let stop = server::stop_signal();
    let service = Service { db, clock, verifier, events, cors_origins: arguments.http.cors_origin, page };
    tokio::select! {
        served = crate::serve(service, listener, stop) => Ok(served?),
        never = follow_keys => match never {},
        never = keep_token => match never {},
    }
}
