//! Configuration: a flag, then an environment variable, then the configuration file, then the default.
//!
//! The clap structs are the settings. The help, the environment names, the configuration file and `docs/reference/` follow from
//! them. The file is TOML, and its keys are the names of the flags: `listen = "0.0.0.0:50051"`.
//!
//! ```no_run
//! use clap::Parser;
//! use server::{
//!     ServerSettings,
//!     config::{self, LogArgs},
//! };
//!
//! #[derive(Parser)]
//! struct Settings {
//!     #[command(flatten)]
//!     server: ServerSettings,
//!     #[command(flatten)]
//!     log: LogArgs,
//! }
//!
//! // Ends the process with a message if a setting is wrong.
//! let settings: Settings = config::parse();
//! ```

mod file;
mod generated;
mod show;
mod variables;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    net::{SocketAddr, ToSocketAddrs},
    ops::RangeInclusive,
    path::PathBuf,
    process,
    time::Duration,
};

use chrono::TimeDelta;
use clap::{
    Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches,
    builder::{RangedU64ValueParser, Resettable, TypedValueParser},
};
use url::Url;

use self::{file::ConfigFile, variables::with_variables};

use crate::{
    cors_origin::CorsOrigin,
    telemetry::{self, FilterError, LogFormat, LogGuard},
};

/// The environment variable that names the configuration file if no flag does.
const CONFIG_ENV: &str = "CONFIG_FILE";
const CONFIG: &str = "config";

/// The settings of the HTTP API.
#[derive(Debug, Clone, Default, Args)]
pub struct HttpArgs {
    /// An origin whose web pages may call this service, for example `https://app.example.com`, or `*` for every origin. May be
    /// given more than once.
    #[arg(long = "cors-origin", env = "CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origins: Vec<CorsOrigin>,
    /// Does not serve the API page at `/`. `/openapi.json` is served all the same.
    #[arg(long, env = "NO_PAGE")]
    pub no_page: bool,
}

/// The settings of the log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// The format of log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// The log lines that are written: a level, or levels by module, for example `info` or `info,sqlx=debug`.
    #[arg(long, env = "LOG_FILTER", value_name = "FILTER", default_value = "info")]
    pub log_filter: String,
}

impl LogArgs {
    /// Starts to log. On SIGHUP the filter is read again from the configuration file, unless a flag or a variable of `T` sets it.
    ///
    /// # Errors
    ///
    /// Returns an error if the filter is invalid.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside a tokio runtime.
    pub fn init<T: CommandFactory + 'static>(&self) -> Result<LogGuard, FilterError> {
        let guard = telemetry::log(self.log_format, &self.log_filter)?;
        telemetry::reload_filter_on_hangup(read_log_filter::<T>);
        Ok(guard)
    }

    /// Starts to log for an administration command. On a terminal the messages of the command are enough. The output of a job is kept, and
    /// shows there who changed what.
    ///
    /// # Errors
    ///
    /// Returns an error if the filter is invalid.
    pub fn init_for_command(&self) -> Result<Option<LogGuard>, FilterError> {
        if io::stderr().is_terminal() {
            return Ok(None);
        }
        telemetry::log(self.log_format, &self.log_filter).map(Some)
    }
}

/// Returns the log filter that the process would have if it was started now.
fn read_log_filter<T: CommandFactory>() -> Result<String, String> {
    let matches = match matches(environment_command::<T>(), &arguments()) {
        Ok((_, matches, _)) => matches,
        Err(ConfigError::File(reason)) => return Err(reason),
        Err(ConfigError::CommandLine(error)) => return Err(error.to_string()),
    };
    let mut serve = &matches;
    while let Some((_, subcommand)) = serve.subcommand() {
        serve = subcommand;
    }
    let filter = serve.try_get_one::<String>("log_filter").ok().flatten();
    filter.cloned().ok_or_else(|| "the command has no log filter".to_owned())
}

/// Returns a parser for a whole number of seconds within `range`.
pub fn seconds(range: RangeInclusive<i64>) -> impl TypedValueParser<Value = TimeDelta> {
    clap::value_parser!(i64).range(range).map(TimeDelta::seconds)
}

/// Returns a parser for a whole number of seconds within `range`, as a [`Duration`].
pub fn duration_seconds(range: RangeInclusive<u64>) -> impl TypedValueParser<Value = Duration> {
    clap::value_parser!(u64).range(range).map(Duration::from_secs)
}

/// Returns a parser for a number within `range`.
pub fn count(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// Parses an address: an IP address or a host name, and a port.
///
/// # Errors
///
/// Returns an error if the host name has no address.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an IP address or a host name, and a port, for example 127.0.0.1:50051 or localhost:50051";
    let mut addresses = text.to_socket_addrs().map_err(|error| format!("{error}; {expected}"))?;
    addresses.next().ok_or_else(|| expected.to_owned())
}

/// Parses an http or https URL without a query and a fragment, and returns it as it is written.
///
/// # Errors
///
/// Returns an error if the text is no such URL.
pub fn http_url(text: &str) -> Result<String, String> {
    let is_plain = |url: &Url| url.has_host() && url.query().is_none() && url.fragment().is_none();
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && is_plain(url));
    let expected = "must be an http or https URL without a query and a fragment, for example https://auth.example.com";
    url.map(|_| text.to_owned()).ok_or_else(|| expected.to_owned())
}

/// Returns the settings as they are without any flag, environment variable or file.
///
/// # Panics
///
/// Panics if a setting of `T` is required.
pub fn defaults<T: Args>() -> T {
    let command = Command::new("defaults").no_binary_name(true);
    let command = T::augment_args(command).mut_args(|argument| argument.env(Resettable::Reset));
    let matches = command.get_matches_from([""; 0]);
    T::from_arg_matches(&matches).expect("every setting has a default")
}

/// Parses the command line of this process. The file that `--config` or `CONFIG_FILE` names replaces the defaults. Ends the
/// process with an error message if a setting is wrong, and after `config show`.
#[expect(clippy::print_stdout, reason = "this is the output of `config show`")]
pub fn parse<T: CommandFactory + FromArgMatches>() -> T {
    let command = environment_command::<T>();
    let name = command.get_name().to_owned();
    match parse_from(command, &arguments()) {
        Ok(Parsed::Settings(settings)) => settings,
        Ok(Parsed::Shown(text)) => {
            print!("{text}");
            process::exit(0)
        }
        Err(ConfigError::File(message)) => {
            eprintln!("{name}: {message}");
            process::exit(2)
        }
        Err(ConfigError::CommandLine(error)) => error.exit(),
    }
}

/// Returns the command of `T` with the variables of this process.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
fn environment_command<T: CommandFactory>() -> Command {
    with_variables(command::<T>(), &|name| env::var_os(name))
}

fn arguments() -> Vec<OsString> {
    env::args_os().collect()
}

/// Returns the command of `T` with the flag `--config` and, if it has the command `serve`, with the commands `config show`,
/// `completions` and `manpages`.
pub fn command<T: CommandFactory>() -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .env(CONFIG_ENV)
        .value_name("FILE")
        .global(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("A TOML file that replaces the defaults. Its keys are the names of the flags");
    generated::with_commands(show::with_command(T::command().arg(config)))
}

/// The outcome of a command line.
enum Parsed<T> {
    Settings(T),
    /// The output of `config show`, `completions` or `manpages`.
    Shown(String),
}

/// The reason why the settings are not accepted.
enum ConfigError {
    CommandLine(clap::Error),
    /// The configuration file is wrong. The message names it.
    File(String),
}

fn parse_from<T: FromArgMatches>(command: Command, arguments: &[OsString]) -> Result<Parsed<T>, ConfigError> {
    let (mut command, matches, file) = matches(command, arguments)?;
    if let Some(text) = show::text(&command, &matches, file.as_ref()) {
        return Ok(Parsed::Shown(text));
    }
    if let Some(text) = generated::text(&command, &matches).map_err(ConfigError::File)? {
        return Ok(Parsed::Shown(text));
    }
    let settings = T::from_arg_matches(&matches);
    settings.map(Parsed::Settings).map_err(|error| ConfigError::CommandLine(error.format(&mut command)))
}

/// Matches the arguments. The values of the configuration file are the defaults of the returned command.
fn matches(mut command: Command, arguments: &[OsString]) -> Result<(Command, ArgMatches, Option<ConfigFile>), ConfigError> {
    // The file decides which flags are missing, so it has to be known before the flags can be checked.
    let file = file::find(&command, arguments).map(ConfigFile::read).transpose().map_err(ConfigError::File)?;
    if let Some(file) = &file {
        command = file.apply(command).map_err(ConfigError::File)?;
    }
    let matches = command.try_get_matches_from_mut(arguments).map_err(|error| match &file {
        Some(file) => file.explain(error),
        None => ConfigError::CommandLine(error),
    })?;
    Ok((command, matches, file))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "server")]
    struct Cli {
        #[command(subcommand)]
        command: Commands,
    }

    #[derive(Debug, Subcommand)]
    enum Commands {
        Serve(Serve),
        #[command(subcommand)]
        Keys(Keys),
    }

    #[derive(Debug, Subcommand)]
    enum Keys {
        List(Serve),
    }

    #[derive(Debug, Args, PartialEq)]
    struct Serve {
        #[arg(long)]
        listen: String,
        #[arg(long, default_value_t = 16)]
        database_connections: u32,
        #[arg(long)]
        audience: Vec<String>,
        #[arg(long, env = "PATH")]
        path: Option<PathBuf>,
        #[arg(long, hide_env_values = true)]
        url: Option<String>,
        #[arg(long, hide = true)]
        hidden: Option<String>,
        #[arg(long)]
        silent: bool,
    }

    fn parse(arguments: &[&str], file: &str) -> Result<Serve, String> {
        let mut config = tempfile::NamedTempFile::new().expect("a file");
        config.write_all(file.as_bytes()).expect("a write");
        let path = config.path().to_str().expect("a path");
        let arguments: Vec<_> =
            ["service"].iter().chain(arguments).map(|argument| OsString::from(argument.replace("FILE", path))).collect();
        let command = with_variables(super::command::<Cli>(), &|name| (name == "PATH").then(OsString::new));
        let cli: Cli = match parse_from(command, &arguments) {
            Ok(Parsed::Settings(cli)) => cli,
            Ok(Parsed::Shown(text)) => return Err(text),
            Err(ConfigError::CommandLine(error)) => return Err(error.to_string()),
            Err(ConfigError::File(message)) => return Err(message),
        };
        let (Commands::Serve(serve) | Commands::Keys(Keys::List(serve))) = cli.command;
        Ok(serve)
    }

    fn settings(listen: &str, database_connections: u32, audience: &[&str]) -> Serve {
        let audience = audience.iter().map(ToString::to_string).collect();
        Serve { listen: listen.to_owned(), database_connections, audience, path: None, url: None, hidden: None, silent: false }
    }

    #[test]
    fn a_file_replaces_defaults_and_a_flag_replaces_the_file() {
        let file = "listen = \"a:1\"\ndatabase_connections = 3\naudience = [\"x\", \"y\"]";
        let from_file = settings("a:1", 3, &["x", "y"]);
        for arguments in [
            &["serve", "--config", "FILE"][..],
            &["serve", "--config=FILE"],
            &["--config", "FILE", "serve"],
            &["keys", "list", "--config", "FILE"],
            &["keys", "--config", "FILE", "list"],
        ] {
            assert_eq!(parse(arguments, file).as_ref(), Ok(&from_file), "{arguments:?}");
        }
        let overridden = parse(&["serve", "--database-connections", "7", "--config", "FILE"], file);
        assert_eq!(overridden, Ok(settings("a:1", 7, &["x", "y"])));
        assert_eq!(parse(&["serve", "--config", "FILE", "--listen", "b:2"], ""), Ok(settings("b:2", 16, &[])));
        // `--config` as the value of another flag does not name a file.
        assert_eq!(
            parse(&["serve", "--listen", "b", "--audience=--config", "--config", "FILE"], "").map(|cli| cli.audience.len()),
            Ok(1)
        );
    }

    #[test]
    fn a_wrong_file_is_named_with_the_reason() {
        for (file, expected) in [
            ("listne = 1", "there is no setting `listne`"),
            ("listen = {}", "`listen` must be a string"),
            (
                "listen = \"a\"\ndatabase-connections = \"many\"",
                "`database-connections` has the wrong value `many`: invalid digit",
            ),
            ("listen", "TOML parse error"),
            ("", "--listen <LISTEN>"),
        ] {
            let error = parse(&["serve", "--config", "FILE"], file).expect_err(file);
            assert!(error.contains(expected), "{file}: {error}");
            assert_eq!(error.contains("Usage:"), file.is_empty(), "{error}");
        }
        let error = parse(&["serve", "--config", "FILE", "--listne", "x"], "listen = 'a'").expect_err("an unknown flag");
        assert!(error.contains("unexpected argument '--listne'"), "{error}");
    }

    #[test]
    fn a_prefixed_variable_wins_and_an_empty_one_is_not_set() {
        let names = |set: &'static [(&'static str, &'static str)]| {
            let command = with_variables(super::command::<Cli>(), &|name| {
                set.iter().find(|(known, _)| name == *known).map(|(_, value)| OsString::from(value))
            });
            let serve = command.find_subcommand("serve").expect("serve");
            let path = serve.get_arguments().find(|argument| argument.get_long() == Some("path")).expect("the flag");
            path.get_env().map(|name| name.to_string_lossy().into_owned())
        };
        assert_eq!(names(&[]).as_deref(), Some("PATH"));
        assert_eq!(names(&[("PATH", "")]), None);
        assert_eq!(names(&[("PATH", "a"), ("SERVER_PATH", "b")]).as_deref(), Some("SERVER_PATH"));
        assert_eq!(names(&[("PATH", "a"), ("SERVER_PATH", "")]).as_deref(), Some("PATH"));
    }

    #[test]
    fn the_effective_settings_are_shown_with_their_sources_and_without_secrets() {
        let file = "listen = \"a:1\"\nurl = \"postgres://me:secret@db/name\"\nhidden = \"secret\"\nsilent = true";
        let shown = parse(&["config", "show", "--config", "FILE", "--audience", "x", "--audience", "y"], file).expect_err("text");
        for line in [
            "listen = \"a:1\"  # /",
            "database-connections = 16  # default\n",
            "audience = [\"x\", \"y\"]  # command line\n",
            "url = \"postgres://me:***@db/name\"  # /",
            "# hidden is set, but it is not shown  # /",
            "silent = true  # /",
            "# path is not set\n",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn addresses_and_urls_are_parsed() {
        assert_eq!(address("127.0.0.1:1"), Ok(SocketAddr::from(([127, 0, 0, 1], 1))));
        assert!(address("localhost:1").is_ok_and(|address| address.ip().is_loopback()));
        for bad in ["127.0.0.1", "", "localhost"] {
            assert!(address(bad).is_err_and(|error| error.contains("localhost:50051")), "{bad}");
        }
        assert_eq!(http_url("https://auth.example.com/a").as_deref(), Ok("https://auth.example.com/a"));
        for bad in ["auth", "ftp://a", "https://", "https://a?b", "https://a#b", "http:a b"] {
            assert!(http_url(bad).is_err(), "{bad}");
        }
    }
}
