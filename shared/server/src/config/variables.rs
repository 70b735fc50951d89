//! The environment variables of the flags.

use std::ffi::{OsStr, OsString};

use clap::{
    Arg, ArgAction, Command,
    builder::{BoolishValueParser, Resettable},
};

/// Prepares the variables of all flags. A variable that is empty counts as not set. A variable whose name begins with that of the program,
/// for example `AUTH_LISTEN` for `auth-service`, wins over the plain one. A switch takes `true`, `false`, `1` and `0`.
pub(super) fn with_variables(command: Command, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> Command {
    let prefix = command.get_name().trim_end_matches("-service").replace('-', "_").to_uppercase();
    prepare(command, &format!("{prefix}_"), variable)
}

fn prepare(command: Command, prefix: &str, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> Command {
    let command = command.mut_args(|argument| prepare_argument(argument, prefix, variable));
    command.mut_subcommands(|subcommand| prepare(subcommand, prefix, variable))
}

fn prepare_argument(argument: Arg, prefix: &str, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> Arg {
    let Some(name) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else { return argument };
    let argument =
        if let ArgAction::SetTrue = argument.get_action() { argument.value_parser(BoolishValueParser::new()) } else { argument };
    let prefixed = format!("{prefix}{name}");
    if variable(OsStr::new(&prefixed)).is_some_and(|value| !value.is_empty()) {
        argument.env(prefixed)
    } else if variable(OsStr::new(&name)).is_some_and(|value| value.is_empty()) {
        argument.env(Resettable::Reset)
    } else {
        argument
    }
}
