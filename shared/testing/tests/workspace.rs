//! Dependencies between the crates of this workspace point to lower levels, and no source file is too long.
#![allow(missing_docs)]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

/// Every dependency that is allowed between our crates, other than dev-dependencies.
const ALLOWED: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("protos", &[]),
    ("access-build", &["contract", "protos"]),
    ("access", &["access-build", "contract"]),
    ("store", &["access"]),
    ("gateway", &["access", "contract"]),
    ("server", &["access", "gateway"]),
    ("audit", &["access", "server", "store"]),
    ("migrate", &["access", "store"]),
    ("django", &["access", "store"]),
    ("testing", &["access", "store"]),
    ("auth-service", &["access", "access-build", "audit", "django", "gateway", "migrate", "server", "store"]),
    ("profile-service", &["access", "access-build", "audit", "django", "gateway", "migrate", "server", "store"]),
    ("quickstart", &["access", "auth-service", "migrate", "profile-service", "server", "store"]),
    ("bench", &["access", "access-build", "store", "testing"]),
    ("client", &["access", "access-build"]),
    ("clock", &["access", "protos"]),
    ("greeter", &["access", "access-build"]),
    ("greeter-http", &["access", "gateway", "greeter", "server"]),
];

fn metadata() -> Value {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    serde_json::from_slice(&cargo.stdout).expect("the metadata is JSON")
}

#[test]
fn our_crates_depend_on_the_allowed_crates_only() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), ALLOWED.len(), "every crate of the workspace is in the list");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) =
            ALLOWED.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is not in the list"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let (other, kind) = (dependency["name"].as_str().expect("a name"), &dependency["kind"]);
            if dependency["path"].is_string() && kind != "dev" {
                assert!(allowed.contains(&other), "{name} must not depend on {other}");
            }
        }
    }
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let folder = manifest.parent().expect("a folder").join("src");
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                    let lines = fs::read_to_string(&path).expect("text").lines().count();
                    assert!(lines <= 500, "{} has {lines} lines", path.display());
                }
            }
        }
    }
}
