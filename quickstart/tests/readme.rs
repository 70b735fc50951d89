//! Checks the documents against the code: the settings are those of the services, and the code blocks are the example's.
//! `.ci/readme.py` runs the commands.
#![allow(missing_docs)]

use std::fs;

use clap::CommandFactory;

const CONFIGURATION: &str = include_str!("../../docs/reference/configuration.md");
const PAGES: [&str; 2] = [include_str!("../../README.md"), include_str!("../../docs/tutorial/README.md")];

#[test]
fn every_setting_of_a_service_is_in_the_table() {
    let commands = [auth_service::cli::Cli::command(), profile_service::cli::Cli::command()];
    for serve in commands.iter().filter_map(|command| command.find_subcommand("serve")) {
        let shown = serve.get_arguments().filter(|argument| !argument.is_hide_set());
        for argument in shown.filter(|argument| argument.get_id() != "help") {
            let flag = format!("`--{}`", argument.get_long().expect("a flag"));
            let row = CONFIGURATION
                .lines()
                .find(|line| line.starts_with(&format!("| {flag}")))
                .unwrap_or_else(|| panic!("{flag} is not in the configuration reference"));
            let variable = argument.get_env().expect("a variable").to_str().expect("text");
            assert!(row.contains(&format!("`{variable}`")), "{row}");
            let default = argument.get_default_values().first().map(|value| value.to_str().expect("text").to_owned());
            if let Some(default) = default.filter(|default| !matches!(default.as_str(), "true" | "false")) {
                assert!(row.contains(&default) || default.ends_with(":50052"), "{row}: {default}");
            }
        }
    }
}

#[test]
fn every_line_of_code_is_the_example_s() {
    let read =
        |file: &str| fs::read_to_string(format!("{}/../examples/greeter/{file}", env!("CARGO_MANIFEST_DIR"))).expect("a file");
    let example = ["proto/greeter/v1/greeter.proto", "build.rs", "src/lib.rs", "src/main.rs"].map(read).join("\n");
    for page in PAGES {
        let mut blocks = page.split("```");
        let mut lines = 0;
        while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
            let (language, code) = block.split_once('\n').expect("a block of code");
            if matches!(language, "rust" | "proto") {
                for line in code.lines().filter(|line| !line.trim().is_empty()) {
                    assert!(example.contains(line), "not in the example: {line}");
                    lines += 1;
                }
            }
        }
        assert!(lines > 10, "a page shows {lines} lines of the example");
    }
}
