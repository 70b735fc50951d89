//! Checks that the code blocks of the documents are the code of the example.
//! `.ci/readme.py` runs the commands.
#![allow(missing_docs)]

use std::fs;

const PAGES: [&str; 2] = [include_str!("../../README.md"), include_str!("../../docs/tutorial/README.md")];

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
