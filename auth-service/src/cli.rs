//! The commands of `auth-service`: `serve`, and the commands that administer the service.

mod administration;
mod audit;
mod check;
mod clients;
mod explain;
mod groups;
mod keys;
mod password;
mod permissions;
mod sessions;
mod superuser;
mod users;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
};

use access::{AuditedCall, Clock, read_secret_file};
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
use crate::{MIGRATIONS, NAME, OTHER_SERVICES, Settings, import, keys::MasterKey, settings::DEFAULT_ISSUER};

/// The auth service: users, sessions, tokens and keys.
#[derive(Debug, Parser)]
#[command(name = "auth-service", version)]
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
    /// Examines the settings of `serve`, the database, the keys, the issuer and the running service. Fails if one of them is wrong.
    Check(Box<check::Check>),
    /// Creates a superuser, who holds every permission.
    Createsuperuser(superuser::Createsuperuser),
    /// Sets the password of a user, and ends their sessions.
    Changepassword(superuser::Changepassword),
    /// Lists, creates, activates, deactivates, promotes and deletes users.
    #[command(subcommand)]
    Users(users::Command),
    /// Lists, creates and deletes groups, and changes their members.
    #[command(subcommand)]
    Groups(groups::Command),
    /// Lists, grants and revokes permissions.
    #[command(subcommand)]
    Permissions(permissions::Command),
    /// Lists and ends the sessions of users.
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Lists, creates, activates, rotates and retires the signing keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Lists and creates the clients (service accounts), and rotates their secrets.
    #[command(subcommand)]
    Clients(clients::Command),
    /// Lists, exports and verifies the audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Explains whether a user may call a method, and what would change that.
    Explain(explain::Explain),
    /// Imports users, groups, permissions and tokens from another system.
    #[command(subcommand)]
    Import(import::Command),
}

impl Command {
    /// Returns the name of a command that can change something. A nested command adds its own name when it commits. The import writes its
    /// entry by itself, because it commits many transactions.
    fn audited_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Createsuperuser(_) => "createsuperuser",
            Self::Changepassword(_) => "changepassword",
            Self::Users(_) => "users",
            Self::Groups(_) => "groups",
            Self::Permissions(_) => "permissions",
            Self::Sessions(_) => "sessions",
            Self::Keys(_) => "keys",
            Self::Clients(_) => "clients",
            Self::Serve(_)
            | Self::Migration(_)
            | Self::AccessRules
            | Self::Health(_)
            | Self::Check(_)
            | Self::Audit(_)
            | Self::Explain(_)
            | Self::Import(_) => return None,
        })
    }
}

#[derive(Debug, Args)]
struct Serve {
    /// The address to listen on.
    #[arg(long, env = "LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50051", value_parser = config::address)]
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
    master_key: MasterKeyArgs,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct MasterKeyArgs {
    /// A file with the master key, which encrypts the signing keys in the database: 32 bytes in base64, as
    /// `openssl rand -base64 32` writes them. The environment variable `MASTER_KEY` may hold the key itself instead.
    #[arg(long, env = "MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// The master key itself. It is hidden because other users of the machine can read a command line.
    #[arg(long, env = "MASTER_KEY", hide = true, hide_env_values = true)]
    master_key: Option<String>,
}

impl MasterKeyArgs {
    fn read(&self) -> Result<MasterKey, CliError> {
        let text = match (&self.master_key_file, &self.master_key) {
            (Some(file), _) => read_secret_file(file)?,
            (None, Some(key)) => key.clone(),
            (None, None) => return Err(CliError::NoMasterKey),
        };
        Ok(MasterKey::from_base64(&text)?)
    }
}

#[derive(Debug, Args)]
struct Health {
    /// The address of the service.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051", value_parser = config::address)]
    address: SocketAddr,
    #[command(flatten)]
    tls: HealthTls,
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let outcome = match cli.command.audited_name() {
        // The transactions of the command find it, and write an entry to the audit log.
        Some(name) => AuditedCall::command(name, operating_system_user()).scope(run_command(cli.command)).await,
        None => run_command(cli.command).await,
    };
    match outcome {
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
        Command::Createsuperuser(arguments) => superuser::create(arguments).await,
        Command::Changepassword(arguments) => superuser::change_password(arguments).await,
        Command::Users(command) => Box::pin(users::run(command)).await,
        Command::Groups(command) => Box::pin(groups::run(command)).await,
        Command::Permissions(command) => Box::pin(permissions::run(command)).await,
        Command::Sessions(command) => Box::pin(sessions::run(command)).await,
        Command::Keys(command) => Box::pin(keys::run(command)).await,
        Command::Clients(command) => Box::pin(clients::run(command)).await,
        Command::Audit(command) => Box::pin(audit::run(command)).await,
        Command::Explain(arguments) => explain::run(arguments).await,
        Command::Import(command) => Box::pin(import::run(command)).await,
    }
}

fn print_access_rules() -> io::Result<()> {
    io::stdout().write_all(crate::access_rules().to_json().as_bytes())
}

async fn serve(arguments: Serve) -> Result<(), CliError> {
    let Serve { listen: address, database, timeouts, log, traces, master_key, settings } = arguments;
    let _log = log.init::<Cli>()?;
    let traces = traces.start(NAME)?;
    if settings.issuer == DEFAULT_ISSUER && !address.ip().is_loopback() {
        tracing::warn!(
            "the issuer is {DEFAULT_ISSUER}, which other machines cannot reach, but the service listens on {address}: set --issuer to the \
             URL at which clients reach the auth service"
        );
    }
    let (db, master_key) = (database.open_with(timeouts)?, master_key.read()?);
    let listener = TcpListener::bind(address).await.map_err(|source| CliError::Listen { address, source })?;
    let serving = crate::serve(db, Clock::system(), master_key, settings, listener, server::stop_signal());
    Ok(Box::pin(traces.record(serving)).await?)
}
