//! Configuration: a flag, then an environment variable, then the configuration file, then the default.
//!
//! The clap structs are the settings. The help, the environment names, the configuration file and `docs/reference/` follow from
//! them. The file is TOML, and its keys are the names of the flags: `listen = "0.0.0.0:50051"`. An environment variable that is
//! empty counts as not set.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::TimeDelta;
use clap::{
    Arg, Args, Command, CommandFactory, FromArgMatches,
    builder::{RangedU64ValueParser, Resettable, TypedValueParser},
    error::ErrorKind,
};

use crate::{
    cors_origin::CorsOrigin,
    telemetry::{self, FilterError, LogFormat},
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
    /// Starts to log.
    pub fn init(&self) -> Result<(), FilterError> {
        telemetry::log(self.log_format, &self.log_filter)
    }
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
/// process with an error message if a setting is wrong.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
pub fn parse<T: CommandFactory + FromArgMatches>() -> T {
    let is_empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let command = without_variables(command::<T>(), &is_empty);
    parse_from(command, &env::args_os().collect::<Vec<_>>()).unwrap_or_else(|error| error.exit())
}

/// Returns the command of `T` with the flag `--config`.
pub fn command<T: CommandFactory>() -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .env(CONFIG_ENV)
        .value_name("FILE")
        .global(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("A TOML file that replaces the defaults. Its keys are the names of the flags");
    T::command().arg(config)
}

fn parse_from<T: FromArgMatches>(mut command: Command, arguments: &[OsString]) -> Result<T, clap::Error> {
    // The file decides which flags are missing, so it has to be known before the flags can be checked.
    if let Some(path) = config_file(&command, arguments) {
        command = with_defaults(command, &path)?;
    }
    T::from_arg_matches(&command.try_get_matches_from_mut(arguments)?).map_err(|error| error.format(&mut command))
}

/// Returns the file that `--config` or `CONFIG_FILE` names. It ignores errors, because the second parse reports them.
fn config_file(command: &Command, arguments: &[OsString]) -> Option<PathBuf> {
    let matches = command.clone().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    let mut matches = &matches;
    while let Some((_, subcommand)) = matches.subcommand() {
        matches = subcommand;
    }
    matches.try_get_one(CONFIG).ok().flatten().cloned()
}

/// Makes the command ignore the environment variables for which `is_ignored` returns true.
fn without_variables(command: Command, is_ignored: &dyn Fn(&OsStr) -> bool) -> Command {
    let command = command.mut_args(|argument| match argument.get_env() {
        Some(name) if is_ignored(name) => argument.env(Resettable::Reset),
        _ => argument,
    });
    command.mut_subcommands(|subcommand| without_variables(subcommand, is_ignored))
}

fn with_defaults(mut command: Command, path: &Path) -> Result<Command, clap::Error> {
    let table = fs::read_to_string(path).map_err(|error| error.to_string());
    let table = table.and_then(|text| text.parse::<toml::Table>().map_err(|error| error.to_string()));
    let outcome = table.and_then(|table| table.into_iter().try_for_each(|(key, value)| set_default(&mut command, &key, &value)));
    match outcome {
        Ok(()) => Ok(command),
        Err(message) => Err(command.error(ErrorKind::InvalidValue, format!("{}: {message}", path.display()))),
    }
}

fn set_default(command: &mut Command, key: &str, value: &toml::Value) -> Result<(), String> {
    let values = match value {
        toml::Value::Array(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>(),
        value => scalar(value).map(|value| vec![value]),
    };
    let values = values.ok_or_else(|| format!("`{key}` must be a string, a number, a boolean, or an array of them"))?;
    let mut is_known = false;
    *command = replace_default(command.clone(), &key.replace('_', "-"), &values, &mut is_known);
    if is_known { Ok(()) } else { Err(format!("there is no setting `{key}`")) }
}

/// Replaces the default of the flag in the command and in every subcommand.
fn replace_default(command: Command, flag: &str, values: &[String], is_known: &mut bool) -> Command {
    let command = command.mut_args(|argument| {
        if argument.get_long() != Some(flag) || argument.get_id() == CONFIG {
            return argument;
        }
        *is_known = true;
        argument.required(false).default_values(values.to_vec())
    });
    command.mut_subcommands(|subcommand| replace_default(subcommand, flag, values, is_known))
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::{Parser, Subcommand};

    use super::*;

    #[derive(Debug, Parser)]
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
    }

    fn parse(arguments: &[&str], file: &str) -> Result<Serve, String> {
        let mut config = tempfile::NamedTempFile::new().expect("a file");
        config.write_all(file.as_bytes()).expect("a write");
        let path = config.path().to_str().expect("a path");
        let arguments: Vec<_> =
            ["service"].iter().chain(arguments).map(|argument| OsString::from(argument.replace("FILE", path))).collect();
        let command = without_variables(super::command::<Cli>(), &|name| name == "PATH");
        let cli: Cli = parse_from(command, &arguments).map_err(|error| error.to_string())?;
        let (Commands::Serve(serve) | Commands::Keys(Keys::List(serve))) = cli.command;
        Ok(serve)
    }

    fn settings(listen: &str, database_connections: u32, audience: &[&str]) -> Serve {
        let audience = audience.iter().map(ToString::to_string).collect();
        Serve { listen: listen.to_owned(), database_connections, audience, path: None }
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
            ("listen = \"a\"\ndatabase-connections = \"many\"", "invalid value 'many'"),
            ("listen", "TOML parse error"),
            ("", "--listen <LISTEN>"),
        ] {
            let error = parse(&["serve", "--config", "FILE"], file).expect_err(file);
            assert!(error.contains(expected), "{file}: {error}");
        }
        let error = parse(&["serve", "--config", "FILE", "--listne", "x"], "listen = 'a'").expect_err("an unknown flag");
        assert!(error.contains("unexpected argument '--listne'"), "{error}");
    }

    #[test]
    fn an_ignored_environment_variable_is_not_set() {
        let arguments = ["service", "serve", "--listen", "a"].map(OsString::from);
        let with: Cli = parse_from(super::command::<Cli>(), &arguments).expect("settings");
        let without: Cli =
            parse_from(without_variables(super::command::<Cli>(), &|name| name == "PATH"), &arguments).expect("settings");
        let (Commands::Serve(with), Commands::Serve(without)) = (with.command, without.command) else {
            panic!("`serve` is the command");
        };
        assert!(with.path.is_some() && without.path.is_none());
    }
}
