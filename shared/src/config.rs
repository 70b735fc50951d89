//! Configuration: flag, then environment, then file, then default. And what every service has of it.
//!
//! The file is TOML, and its keys are the names of the flags: `listen = "0.0.0.0:50051"`.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, error::ErrorKind};

use crate::{
    db::{Db, UrlError},
    server::CorsOrigin,
    telemetry::{self, FilterError, LogFormat},
};

/// Where the configuration file is named when no flag names it.
const CONFIG_ENV: &str = "CONFIG_FILE";
const CONFIG: &str = "config";

/// Where the database is.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// The database: `sqlite:path/to/file.db` or `postgres://user@host/name`.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,
    /// A file that holds the database's password.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// How many connections to the database are open at most.
    #[arg(long, env = "DATABASE_CONNECTIONS", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
}

impl DatabaseArgs {
    /// The database.
    ///
    /// # Errors
    ///
    /// A URL that names none, or a password file that can't be read.
    pub fn open(&self) -> Result<Db, ConfigError> {
        let password = self.database_password_file.as_deref().map(secret).transpose()?;
        Ok(Db::new(&self.database_url, password.as_deref(), self.database_connections)?)
    }
}

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

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret of which nothing is left when white space is taken from its ends.
    #[error("{}: the file is empty", .0.display())]
    EmptySecret(PathBuf),
    /// A database URL that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// The secret that a file holds, without the line end that editors add.
///
/// # Errors
///
/// A file that can't be read, or holds nothing.
pub fn secret(path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(ConfigError::EmptySecret(path.to_owned())),
        secret => Ok(secret.to_owned()),
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
