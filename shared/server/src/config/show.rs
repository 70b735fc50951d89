//! `config show`: the effective settings of `serve`, and where each comes from. It shows no secret.

use std::fmt::Write;

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use url::Url;

use super::{CONFIG, file::ConfigFile};

const SHOW: &str = "show";

/// Adds `config show` to a command that has `serve`. It takes the flags of `serve`.
pub(super) fn with_command(command: Command) -> Command {
    let Some(serve) = command.find_subcommand("serve") else { return command };
    let show = serve.clone().name(SHOW).about("Prints the settings of `serve` and where each comes from, without secrets");
    let config = Command::new(CONFIG).about("Shows the configuration").subcommand_required(true).arg_required_else_help(true);
    command.subcommand(config.subcommand(show))
}

/// Returns the output of `config show`, if that is the command. The output is a configuration file.
pub(super) fn text(command: &Command, matches: &ArgMatches, file: Option<&ConfigFile>) -> Option<String> {
    // clap panics in a debug build where the command has no such subcommand.
    let show = command.find_subcommand(CONFIG)?.find_subcommand(SHOW)?;
    let matches = matches.subcommand_matches(CONFIG)?.subcommand_matches(SHOW)?;
    let mut text = String::new();
    for argument in show.get_arguments() {
        let Some(flag) = argument.get_long().filter(|flag| ![CONFIG, "help", "version"].contains(flag)) else { continue };
        let _ = match source(argument, flag, matches, file) {
            None => writeln!(text, "# {flag} is not set"),
            Some(source) if argument.is_hide_set() => writeln!(text, "# {flag} is set, but it is not shown  # {source}"),
            Some(source) => writeln!(text, "{flag} = {}  # {source}", value(argument, matches)),
        };
    }
    Some(text)
}

/// Returns where the value of a flag comes from, or `None` if it has no value.
fn source(argument: &Arg, flag: &str, matches: &ArgMatches, file: Option<&ConfigFile>) -> Option<String> {
    Some(match matches.value_source(argument.get_id().as_str())? {
        ValueSource::CommandLine => "command line".to_owned(),
        ValueSource::EnvVariable => {
            format!("environment variable {}", argument.get_env().unwrap_or_default().to_string_lossy())
        }
        _ => match file.filter(|file| file.has(flag)) {
            Some(file) => file.path().display().to_string(),
            None => "default".to_owned(),
        },
    })
}

/// Returns the value of a flag in TOML.
fn value(argument: &Arg, matches: &ArgMatches) -> String {
    if let ArgAction::SetTrue = argument.get_action() {
        return matches.get_flag(argument.get_id().as_str()).to_string();
    }
    let raw = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
    let values: Vec<_> = raw.map(|value| scalar(&without_password(argument, &value.to_string_lossy()))).collect();
    if let ArgAction::Append = argument.get_action() { format!("[{}]", values.join(", ")) } else { values.concat() }
}

fn scalar(value: &str) -> String {
    let is_bare = matches!(value, "true" | "false") || value.parse::<i64>().is_ok();
    if is_bare { value.to_owned() } else { format!("{value:?}") }
}

/// Replaces the password of a URL whose variable may contain one.
fn without_password(argument: &Arg, value: &str) -> String {
    let Some(mut url) = Url::parse(value).ok().filter(|_| argument.is_hide_env_values_set()) else { return value.to_owned() };
    let has_parameter = url.query_pairs().any(|(name, _)| name == "password");
    if url.password().is_none() && !has_parameter {
        return value.to_owned();
    }
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    if has_parameter {
        let pairs: Vec<_> = url
            .query_pairs()
            .filter(|(name, _)| name != "password")
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs).append_pair("password", "***");
    }
    url.to_string()
}
