//! `completions` and `manpages`: files for shells and for `man`, generated from the command line itself.

use std::{fs, path::Path};

use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser};
use clap_complete::{Shell, generate};

const COMPLETIONS: &str = "completions";
const MANPAGES: &str = "manpages";

/// Adds both commands to a command that has `serve`, and the commit and the date of the build to `--version`.
pub(super) fn with_commands(command: Command) -> Command {
    if command.find_subcommand("serve").is_none() {
        return command;
    }
    let shell = Arg::new("shell")
        .required(true)
        .value_name("SHELL")
        .value_parser(PossibleValuesParser::new(["bash", "zsh", "fish"]))
        .help("The shell");
    let directory = Arg::new("directory").required(true).value_name("DIRECTORY").help("The directory to write to");
    let version = command.get_version().unwrap_or_default();
    let version = format!("{version}\ncommit: {}\nbuilt: {}", env!("BUILD_COMMIT"), env!("BUILD_DATE"));
    command
        .long_version(version)
        .subcommand(Command::new(COMPLETIONS).about("Prints the completion script of a shell").arg(shell))
        .subcommand(Command::new(MANPAGES).about("Writes the manual pages of all commands into a directory").arg(directory))
}

/// Returns the output of `completions` or `manpages`, if that is the command.
///
/// # Errors
///
/// Returns a message if the pages cannot be written.
pub(super) fn text(command: &Command, matches: &ArgMatches) -> Result<Option<String>, String> {
    let name = command.get_name().to_owned();
    match matches.subcommand() {
        Some((COMPLETIONS, matches)) if command.find_subcommand(COMPLETIONS).is_some() => {
            let shell = matches.get_one::<String>("shell").and_then(|shell| shell.parse().ok()).unwrap_or(Shell::Bash);
            let mut text = Vec::new();
            generate(shell, &mut command.clone(), &name, &mut text);
            // `clap_complete` 4.6 writes a hyphen in the name of the program in two ways, so that Bash finds no subcommand.
            let text = String::from_utf8_lossy(&text).replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
            Ok(Some(text))
        }
        Some((MANPAGES, matches)) if command.find_subcommand(MANPAGES).is_some() => {
            let directory = matches.get_one::<String>("directory").map(String::as_str).unwrap_or_default();
            write_pages(command, Path::new(directory)).map_err(|error| format!("cannot write to {directory}: {error}"))?;
            Ok(Some(String::new()))
        }
        _ => Ok(None),
    }
}

fn write_pages(command: &Command, directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command.clone(), directory)
}
