//! Records the commit and the date of the build, which `--version` prints.

use std::{env, process::Command};

use chrono::{DateTime, Utc};

#[expect(clippy::disallowed_methods, reason = "a build script has no clock and no configuration")]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let is_release = variable("PROFILE").is_some_and(|profile| profile == "release");
    if is_release {
        // A debug build names no commit, because each commit would otherwise compile every service again.
        println!("cargo:rerun-if-changed=../../.git/logs/HEAD");
    }
    let commit = variable("BUILD_COMMIT").or_else(|| if is_release { head() } else { None });
    let epoch = variable("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.parse().ok());
    let time = epoch.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).unwrap_or_else(Utc::now);
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=BUILD_DATE={}", time.format("%F"));
}

/// Returns the commit that is checked out, or `None` outside a repository.
fn head() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|commit| commit.trim().to_owned())
}
