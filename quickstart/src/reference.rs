//! Checks that `docs/reference/configuration.md` describes the flags of the programs, that `docs/reference/access.md` contains the access
//! matrix, and that `deploy/access-rules/` contains the access rules. `UPDATE=1 cargo test -p quickstart --bin quickstart` writes these
//! files.

use std::{fmt::Write, fs, path::Path};

use clap::{Arg, Command};
use server::config;
use testing::{MatrixCaller, MatrixRow, access_matrix};

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

const ACCESS_INTRODUCTION: &str = "# Access

Whether the access rule of each method allows a call, by the kind of caller.

| caller | meaning |
|---|---|
| anonymous | without an access token |
| owner | a user without permissions, for a resource of their own |
| another user | a user without permissions, for a resource of somebody else |
| holder | a user with the permission of the rule, for a resource of somebody else |
| superuser | a superuser, for a resource of somebody else |
| service | a service account with the permission of the rule |
| inactive | a superuser who was deactivated, for a resource of their own |

`yes` means that the rule allows the call. `401` is UNAUTHENTICATED, `403` is PERMISSION_DENIED, and `–` means that the rule has no owner, no permission, or one that
cannot be granted: only superusers have `auth.change_superuser`.

The rule decides before the request is validated. A method can have further rules about the request, which its comment in the proto describes: for example,
a caller can only grant permissions that they have, and a reader of notes sees only those that are visible to them. The methods of `grpc.health.v1` and of server
reflection are public. [Why was this call refused?](../guides/refused-calls.md) describes how to examine one call.

This page is generated from the access rules in the protos. A test of each service calls every cell on both engines.
`UPDATE=1 cargo test -p quickstart --bin quickstart` writes the page again.
";

/// Returns the page with the access matrix of both services.
fn access_page() -> String {
    let mut page = ACCESS_INTRODUCTION.to_owned();
    for (service, descriptors, package) in [
        (auth_service::NAME, auth_service::DESCRIPTORS, "auth.v1"),
        (profile_service::NAME, profile_service::DESCRIPTORS, "profiles.v1"),
    ] {
        let _ = write!(page, "\n## {service}\n");
        let mut heading = "";
        let rows = access_matrix(descriptors, package);
        for row in &rows {
            let (interface, method) = row.path().trim_start_matches('/').split_once('/').expect("the path of a method");
            if interface != heading {
                heading = interface;
                let _ = write!(page, "\n### {heading}\n\n{ACCESS_COLUMNS}");
            }
            page.push_str(&access_row(method, row));
        }
    }
    page
}

const ACCESS_COLUMNS: &str =
    "| Method | Permission | anonymous | owner | another user | holder | superuser | service | inactive |
|---|---|---|---|---|---|---|---|---|
";

fn access_row(method: &str, row: &MatrixRow) -> String {
    let permission = Some(row.permission()).filter(|permission| !permission.is_empty());
    let permission = permission.map_or_else(|| "–".to_owned(), |permission| format!("`{permission}`"));
    let cells: Vec<_> = MatrixCaller::ALL.into_iter().map(|caller| row.cell(caller).to_string()).collect();
    format!("| {method} | {permission} | {} |\n", cells.join(" | "))
}

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
fn the_access_matrix_is_up_to_date_and_has_a_row_for_every_method() {
    let page = access_page();
    assert_generated("docs/reference/access.md", &page);
    for rules in [auth_service::access_rules(), profile_service::access_rules()] {
        for entry in rules.methods {
            let (interface, method) = entry.path.trim_start_matches('/').split_once('/').expect("the path of a method");
            let section = page.split("\n### ").find(|section| section.starts_with(&format!("{interface}\n")));
            assert!(section.is_some_and(|section| section.contains(&format!("\n| {method} | "))), "no row for {}", entry.path);
        }
    }
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
            let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned());
            // The variables of the traces are those that OpenTelemetry specifies.
            if !variable.as_ref().is_some_and(|variable| variable.starts_with("OTEL_")) {
                assert_eq!(variable, Some(name));
            }
        }
    }
}
