//! Configuration: flag, then environment, then file, then default. And what every service has of it.
//!
//! The file is TOML, and its keys are the names of the flags: `listen = "0.0.0.0:50051"`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, error::ErrorKind};

use crate::{
    cors_origin::CorsOrigin,
    telemetry::{self, FilterError, LogFormat},
};

/// Where the configuration file is named when no flag names it.
const CONFIG_ENV: &str = "CONFIG_FILE";
const CONFIG: &str = "config";

/// What plain HTTP is answered.
#[derive(Debug, Clone, Args)]
pub struct HttpArgs {
    /// An origin whose pages may call, such as `https://app.example.com`, or `*`. May be given more than once.
    #[arg(long, env = "CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<CorsOrigin>,
    /// Serves no page at `/`.
    #[arg(long, env = "NO_PAGE")]
    pub no_page: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// How log lines are written.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Which log lines are written, such as `info` or `info,sqlx=debug`.
    #[arg(long, env = "LOG_FILTER", value_name = "FILTER", default_value = "info")]
    pub log_filter: String,
}

impl LogArgs {
    /// Begins to log.
    ///
    /// # Errors
    ///
    /// A filter that can't be read.
    pub fn init(&self) -> Result<(), FilterError> {
        telemetry::log(self.log_format, &self.log_filter)
    }
}

/// Parses the command line of this process. A file that `--config` or `CONFIG_FILE` names replaces the defaults. Ends the
/// process with a sentence where something is wrong.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
pub fn parse<T: CommandFactory + FromArgMatches>() -> T {
    parse_from(env::args_os().collect(), env::var_os(CONFIG_ENV)).unwrap_or_else(|error| error.exit())
}

fn parse_from<T: CommandFactory + FromArgMatches>(arguments: Vec<OsString>, file: Option<OsString>) -> Result<T, clap::Error> {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .env(CONFIG_ENV)
        .value_name("FILE")
        .global(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("A TOML file with other defaults; its keys are the names of the flags");
    let mut command = T::command().arg(config);
    if let Some(path) = config_flag(&arguments).or(file) {
        command = with_defaults(command, Path::new(&path))?;
    }
    T::from_arg_matches(&command.try_get_matches_from_mut(arguments)?).map_err(|error| error.format(&mut command))
}

/// The file is needed before the flags can be parsed, since it decides which of them are missing.
fn config_flag(arguments: &[OsString]) -> Option<OsString> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str()?.strip_prefix("--config") {
            Some("") => return arguments.next().cloned(),
            Some(value) if value.starts_with('=') => return Some(value[1..].into()),
            _ => {}
        }
    }
    None
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
        toml::Value::Array(values) => values.iter().map(plain).collect::<Option<Vec<_>>>(),
        value => plain(value).map(|value| vec![value]),
    };
    let values = values.ok_or_else(|| format!("`{key}` has to be a string, a number, a boolean, or an array of them"))?;
    let flag = key.replace('_', "-");
    let mut known = false;
    let mut set = |argument: Arg| {
        if argument.get_long() != Some(&flag) || argument.get_id() == CONFIG {
            return argument;
        }
        known = true;
        argument.required(false).default_values(values.clone())
    };
    *command = command.clone().mut_args(&mut set).mut_subcommands(|subcommand| subcommand.mut_args(&mut set));
    if known { Ok(()) } else { Err(format!("there is no setting `{key}`")) }
}

fn plain(value: &toml::Value) -> Option<String> {
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
        Serve {
            #[arg(long)]
            listen: String,
            #[arg(long, default_value_t = 16)]
            database_connections: u32,
            #[arg(long)]
            audience: Vec<String>,
        },
    }

    fn parse(arguments: &[&str], file: &str) -> Result<(String, u32, Vec<String>), String> {
        let mut config = tempfile::NamedTempFile::new().expect("a file");
        config.write_all(file.as_bytes()).expect("a write");
        let arguments = ["service", "serve"].iter().chain(arguments).map(OsString::from).collect();
        let cli: Cli = parse_from(arguments, Some(config.path().into())).map_err(|error| error.to_string())?;
        let Commands::Serve { listen, database_connections, audience } = cli.command;
        Ok((listen, database_connections, audience))
    }

    #[test]
    fn a_file_replaces_defaults_and_a_flag_replaces_the_file() {
        let file = "listen = \"a:1\"\ndatabase_connections = 3\naudience = [\"x\", \"y\"]";
        let audience = vec!["x".to_owned(), "y".to_owned()];
        assert_eq!(parse(&[], file), Ok(("a:1".to_owned(), 3, audience.clone())));
        assert_eq!(parse(&["--database-connections", "7"], file), Ok(("a:1".to_owned(), 7, audience)));
        assert_eq!(parse(&["--listen", "b:2"], ""), Ok(("b:2".to_owned(), 16, vec![])));
    }

    #[test]
    fn a_file_that_is_wrong_is_named_with_the_reason() {
        for (file, expected) in [
            ("listne = 1", "there is no setting `listne`"),
            ("listen = {}", "`listen` has to be a string"),
            ("listen = \"a\"\ndatabase-connections = \"many\"", "invalid value 'many'"),
            ("listen", "TOML parse error"),
            ("", "--listen <LISTEN>"),
        ] {
            let error = parse(&[], file).expect_err(file);
            assert!(error.contains(expected), "{file}: {error}");
        }
    }
}
