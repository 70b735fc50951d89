//! The commands: `serve`, the verbs of the schema, `health`, `createsuperuser`, `keys`, `clients`, `import`.

mod clients;
mod keys;

use std::{
    io::{self, BufRead, IsTerminal},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use access::{Clock, read_secret_file};
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand};
use django::tokens::TokenArgs;
use ipnet::IpNet;
use migrate::MigrationCommand;
use server::{
    config::{HttpArgs, LogArgs},
    health::{self},
};
use store::DatabaseArgs;
use tokio::net::TcpListener;

pub use crate::cli_error::CliError;
use crate::{
    MIGRATIONS, SCHEMA, Settings,
    attempts::Limits,
    import,
    keys::{KeyBits, MasterKey},
    passwords::Policy,
    sessions::Lifetime,
};

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
    Schema(MigrationCommand),
    /// Asks a running service whether it is ready, and fails where it is not.
    Health(HealthCheck),
    /// Makes a user who may do everything.
    Createsuperuser(Createsuperuser),
    /// Lists, makes, rotates and retires the keys that sign tokens.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Lists and makes the accounts of services, and rotates their secrets.
    #[command(subcommand)]
    Clients(clients::Command),
    /// Brings users, groups, permissions and tokens over from elsewhere.
    #[command(subcommand)]
    Import(import::Command),
}

#[derive(Debug, Args)]
struct Serve {
    /// The address to listen on.
    #[arg(long, env = "LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    master_key: MasterKeyArgs,
    /// The URL by which this service is known: the `iss` of every token.
    #[arg(long, env = "ISSUER", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    issuer: String,
    /// A service that tokens are for: their `aud`. May be given more than once.
    #[arg(long, env = "AUDIENCE", value_name = "NAME", value_delimiter = ',')]
    audience: Vec<String>,
    /// How long an access token lives, in seconds.
    #[arg(long, env = "ACCESS_LIFETIME", value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(i64).range(10..=86_400))]
    access_lifetime: i64,
    /// How long a session lives without a refresh, in seconds.
    #[arg(long, env = "SESSION_IDLE_LIFETIME", value_name = "SECONDS", default_value_t = 1_209_600, value_parser = clap::value_parser!(i64).range(60..=31_536_000))]
    session_idle_lifetime: i64,
    /// How long a session lives at most, in seconds.
    #[arg(long, env = "SESSION_LIFETIME", value_name = "SECONDS", default_value_t = 7_776_000, value_parser = clap::value_parser!(i64).range(60..=315_360_000))]
    session_lifetime: i64,
    /// Ends a session at every second use of a refresh token, even where only an answer was lost.
    #[arg(long, env = "STRICT_REFRESH")]
    strict_refresh: bool,
    /// Refuses Register: users are made by others.
    #[arg(long, env = "CLOSED_REGISTRATION")]
    closed_registration: bool,
    #[command(flatten)]
    passwords: PasswordArgs,
    #[command(flatten)]
    attempts: AttemptArgs,
    /// A proxy that is believed what its `x-forwarded-for` says: an address, or a network such as 10.0.0.0/8. May be given
    /// more than once.
    #[arg(long, env = "TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',', value_parser = access::parse_network)]
    trusted_proxy: Vec<IpNet>,
    #[command(flatten)]
    legacy: TokenArgs,
    #[command(flatten)]
    new_keys: NewKeyArgs,
    /// Lets `/oauth2/token` take passwords, for clients that know no other way.
    #[arg(long, env = "PASSWORD_GRANT")]
    password_grant: bool,
    /// A permission of a service beside the pair, such as `greeter.greet_people`, which may then be granted. May be given more
    /// than once.
    #[arg(long, env = "PERMISSION", value_name = "APP.CODENAME", value_delimiter = ',')]
    permission: Vec<String>,
    /// How long events are kept for those who watch them, in seconds. Whoever was away for longer takes a snapshot.
    #[arg(long, env = "EVENT_RETENTION", value_name = "SECONDS", default_value_t = 604_800, value_parser = clap::value_parser!(i64).range(60..=31_536_000))]
    event_retention: i64,
}

#[derive(Debug, Args)]
struct MasterKeyArgs {
    /// A file that holds the key that seals the signing keys: `openssl rand -base64 32` makes one.
    #[arg(long, env = "MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// The same key itself, for the environment only: a command line is no place for a secret.
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
struct PasswordArgs {
    /// The shortest password that is accepted, in characters.
    #[arg(long, env = "SHORTEST_PASSWORD", value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(8..=128))]
    shortest_password: u16,
    /// The memory that a hash of a password takes (Argon2id), in KiB. A cheaper hash is made anew at the next Login.
    #[arg(long, env = "PASSWORD_MEMORY", value_name = "KIB", default_value_t = 19_456, value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    password_memory: u32,
    /// How often a hash of a password goes through that memory.
    #[arg(long, env = "PASSWORD_PASSES", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    password_passes: u32,
}

impl PasswordArgs {
    fn policy(&self) -> Policy {
        Policy { shortest: self.shortest_password.into(), memory: self.password_memory, passes: self.password_passes }
    }
}

#[derive(Debug, Args)]
struct AttemptArgs {
    /// How many wrong passwords an hour are checked for one account: half of them by username, half by e-mail address.
    #[arg(long, env = "ATTEMPTS_PER_ACCOUNT", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..=1000))]
    attempts_per_account: u16,
    /// How many are from one IPv4 address, or one /64 of IPv6 addresses. 0 is no limit.
    #[arg(long, env = "ATTEMPTS_PER_SOURCE", value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(0..=1000))]
    attempts_per_source: u16,
}

#[derive(Debug, Args)]
struct NewKeyArgs {
    /// The size of the keys that are made.
    #[arg(long, env = "KEY_BITS", value_enum, default_value = "2048")]
    key_bits: KeyBits,
    /// How long verifiers keep the keys that they were told, in seconds: a new key signs no sooner.
    #[arg(long, env = "JWKS_MAX_AGE", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(i64).range(0..=86_400))]
    jwks_max_age: i64,
}

#[derive(Debug, Args)]
struct Createsuperuser {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The username.
    #[arg(long)]
    username: String,
    /// The e-mail address.
    #[arg(long, default_value = "")]
    email: String,
    /// A file that holds the password. Without it the password is asked for, or read from standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    passwords: PasswordArgs,
}

#[derive(Debug, Args)]
struct HealthCheck {
    /// Where the service listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    address: SocketAddr,
}

/// Runs a command.
///
/// # Errors
///
/// What a person has to be told.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(arguments) => Box::pin(serve(*arguments)).await,
        Command::Schema(verb) => Ok(verb.run(&MIGRATIONS).await?),
        Command::Health(arguments) => Ok(health::check(arguments.address).await?),
        Command::Createsuperuser(arguments) => create_superuser(arguments).await,
        Command::Keys(command) => keys::run(command).await,
        Command::Clients(command) => clients::run(command).await,
        Command::Import(command) => Box::pin(import::run(command)).await,
    }
}

async fn serve(arguments: Serve) -> Result<(), CliError> {
    arguments.log.init()?;
    let db = arguments.database.open()?;
    let master_key = arguments.master_key.read()?;
    let settings = Settings {
        issuer: arguments.issuer,
        audience: arguments.audience,
        access_lifetime: TimeDelta::seconds(arguments.access_lifetime),
        session_lifetime: Lifetime {
            idle: TimeDelta::seconds(arguments.session_idle_lifetime),
            absolute: TimeDelta::seconds(arguments.session_lifetime),
        },
        strict_refresh: arguments.strict_refresh,
        registration: !arguments.closed_registration,
        passwords: arguments.passwords.policy(),
        limits: Limits {
            per_account: arguments.attempts.attempts_per_account.into(),
            per_source: arguments.attempts.attempts_per_source.into(),
        },
        trusted_proxies: arguments.trusted_proxy,
        legacy_keys: arguments.legacy.read()?,
        cors_origins: arguments.http.cors_origin,
        key_bits: arguments.new_keys.key_bits,
        jwks_max_age: TimeDelta::seconds(arguments.new_keys.jwks_max_age),
        password_grant: arguments.password_grant,
        page: !arguments.http.no_page,
        permissions: arguments.permission,
        event_retention: TimeDelta::seconds(arguments.event_retention),
    };
    let address = arguments.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| CliError::Listen { address, source })?;
    Box::pin(crate::serve(db, Clock::system(), master_key, settings, listener, server::stop_signal())).await?;
    Ok(())
}

async fn create_superuser(arguments: Createsuperuser) -> Result<(), CliError> {
    let db = arguments.database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA).await?;
    let password = password(arguments.password_file.as_deref())?;
    let (username, email) = (&arguments.username, &arguments.email);
    crate::create_superuser(&db, &Clock::system(), username, email, &password, arguments.passwords.policy()).await?;
    db.close().await;
    eprintln!("the superuser {username} is made");
    Ok(())
}

fn password(file: Option<&Path>) -> Result<String, CliError> {
    if let Some(file) = file {
        return Ok(read_secret_file(file)?);
    }
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(CliError::Password)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let ask = |prompt| rpassword::prompt_password(prompt).map_err(CliError::Password);
    let password = ask("Password: ")?;
    if ask("Password (again): ")? == password { Ok(password) } else { Err(CliError::PasswordsDiffer) }
}
