//! Checks that `docs/reference/configuration.md` describes the flags of the programs, and that `deploy/access-rules/` contains
//! their access rules. `UPDATE=1 cargo test -p quickstart --bin quickstart` writes these files.

use std::{fmt::Write, fs, path::Path};

use clap::{Arg, Command};
use server::config;

const INTRODUCTION: &str = "# Configuration

Every setting is a flag. Most are also an environment variable and a key of the configuration file. A flag overrides the environment
variable, the environment variable overrides the configuration file, and the file overrides the default.

- An environment variable that is empty counts as not set. A switch takes `true`, `false`, `1` or `0`.
- Every variable also has a name that begins with that of the program, which wins over the plain one: `AUTH_LISTEN` for auth-service, `PROFILE_LISTEN` for
  profile-service.
- An address may have a host name, for example `localhost:50051`.
- Where a flag may be given more than once, the environment variable takes the values separated by commas.
- `--config FILE` or `CONFIG_FILE` names the configuration file. It is TOML; its keys are the names of the flags, and a flag that may
  be given more than once is an array:

  ```toml
  listen = \"0.0.0.0:50051\"
  audience = [\"profile-service\", \"greeter\"]
  ```
- `SERVICE config show` prints the settings of `serve`, each with the place that it comes from. The output is a configuration file, and contains no secret.
- Secrets are read from files. `MASTER_KEY` is the one exception: it may hold the master key of the auth service itself.

This page is generated from the programs. `UPDATE=1 cargo test -p quickstart --bin quickstart` writes it again.
";

fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    let commands = [
        config::command::<auth_service::cli::Cli>(),
        config::command::<profile_service::cli::Cli>(),
        config::command::<super::Quickstart>(),
    ];
    for mut command in commands {
        let name = command.get_name().to_owned();
        command.build();
        let serve = command.find_subcommand("serve");
        let serve_rows: Vec<_> = serve.into_iter().flat_map(arguments).map(row).collect();
        describe(&command, &name, &serve_rows, &mut page);
    }
    page
}

/// Describes a command and its subcommands. A flag that `serve` also has is described only once, with `serve`.
fn describe(command: &Command, name: &str, serve_rows: &[String], page: &mut String) {
    // `makemigrations` exists only in a development build.
    let is_described = |command: &&Command| !["help", "makemigrations"].contains(&command.get_name());
    let subcommands: Vec<_> = command.get_subcommands().filter(is_described).collect();
    if subcommands.is_empty() {
        let _ = write!(page, "\n## {name}\n\n{}.\n", sentence(command.get_about()));
        let (positionals, flags): (Vec<_>, Vec<_>) = arguments(command).partition(|argument| argument.is_positional());
        for positional in positionals {
            let value = positional.get_value_names().and_then(<[_]>::first).expect("a value name");
            let _ = write!(page, "\n- `{value}`: {}.\n", sentence(positional.get_help()));
        }
        let (shared, own): (Vec<_>, Vec<_>) =
            flags.into_iter().partition(|flag| command.get_name() != "serve" && serve_rows.contains(&row(flag)));
        if !own.is_empty() {
            page.push_str("\n| Flag | Environment variable | Default | Description |\n|---|---|---|---|\n");
            for flag in &own {
                page.push_str(&row(flag));
            }
        }
        if !shared.is_empty() {
            let names: Vec<_> = shared.iter().filter_map(|flag| flag.get_long()).map(|flag| format!("`--{flag}`")).collect();
            let _ = write!(page, "\nAs for `serve`: {}.\n", names.join(", "));
        }
    }
    for subcommand in subcommands {
        describe(subcommand, &format!("{name} {}", subcommand.get_name()), serve_rows, page);
    }
}

/// Returns the arguments that are not the same for every command.
fn arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    let everywhere = ["help", "version", "config"];
    command.get_arguments().filter(move |argument| !argument.is_hide_set() && !everywhere.contains(&argument.get_id().as_str()))
}

fn row(flag: &Arg) -> String {
    let code = |text: String| if text.is_empty() { text } else { format!("`{text}`") };
    let value = match flag.get_value_names() {
        Some([value, ..]) if flag.get_action().takes_values() => format!(" {value}"),
        _ => String::new(),
    };
    let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let default = match flag.get_default_values() {
        [] if flag.is_required_set() => "required".to_owned(),
        values => code(values.iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",")),
    };
    let mut help = sentence(flag.get_help());
    let possible: Vec<_> = flag.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if flag.get_action().takes_values() && !possible.is_empty() {
        let _ = write!(help, ": {}", possible.join(", "));
    }
    format!("| `--{}{value}` | {} | {default} | {help}. |\n", flag.get_long().expect("a flag"), code(variable))
}

/// Returns the help text in one line and without its final full stop, which clap removes only from some help texts.
fn sentence(help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    help.trim_end_matches('.').replace('|', "\\|")
}

/// Asserts that the file contains the generated text. Writes the file instead if `UPDATE` is set.
#[expect(clippy::disallowed_methods, reason = "a developer asks for the update by an environment variable")]
fn assert_generated(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, text).expect("a generated file");
    }
    let current = fs::read_to_string(&path).unwrap_or_default();
    assert!(current == text, "{file} is out of date: run `UPDATE=1 cargo test -p quickstart --bin quickstart`");
}

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    assert_generated("docs/reference/configuration.md", &reference());
}

#[test]
fn the_access_rules_of_the_deployment_are_up_to_date() {
    for rules in [auth_service::access_rules(), profile_service::access_rules()] {
        assert_generated(&format!("deploy/access-rules/{}.json", rules.service), &rules.to_json());
    }
}

#[test]
fn every_setting_of_a_service_is_an_environment_variable_too() {
    for mut command in [config::command::<auth_service::cli::Cli>(), config::command::<profile_service::cli::Cli>()] {
        command.build();
        let serve = command.find_subcommand("serve").expect("serve");
        for flag in arguments(serve) {
            let name = flag.get_long().expect("a flag").replace('-', "_").to_uppercase();
            assert_eq!(flag.get_env().map(|name| name.to_string_lossy().into_owned()), Some(name));
        }
    }
}
