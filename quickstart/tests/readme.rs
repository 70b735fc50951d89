//! Checks that the code blocks of the documents are lines of the source files that they show. `.ci/readme.py` runs the commands.
#![allow(missing_docs)]

use std::fs;

const GREETER: [&str; 4] = [
    "examples/greeter/proto/greeter/v1/greeter.proto",
    "examples/greeter/build.rs",
    "examples/greeter/src/lib.rs",
    "examples/greeter/src/main.rs",
];

fn read(file: &str) -> String {
    fs::read_to_string(format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Checks that each line of the page's code blocks is in one of the files, without regard to indentation.
fn check(page: &str, files: &[&str]) {
    let sources: Vec<_> = files.iter().map(|file| read(file)).collect();
    let known: Vec<_> = sources.iter().flat_map(|source| source.lines().map(str::trim)).collect();
    let text = read(page);
    let mut blocks = text.split("```");
    let mut lines = 0;
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let (language, code) = block.split_once('\n').expect("a block of code");
        if matches!(language, "rust" | "proto") {
            for line in code.lines().map(str::trim).filter(|line| !line.is_empty()) {
                assert!(known.contains(&line), "{page} shows a line that is not in {files:?}: {line}");
                lines += 1;
            }
        }
    }
    assert!(lines > 10, "{page} shows only {lines} lines of code");
}

#[test]
fn the_readme_and_the_tutorial_show_the_greeter() {
    check("README.md", &GREETER);
    check("docs/tutorial/README.md", &GREETER);
}

#[test]
fn the_architecture_page_shows_the_layer_stack() {
    check("docs/architecture/README.md", &["shared/server/src/stack.rs"]);
}
