//! The quickstart in a process of its own.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// A quickstart that runs until it is dropped.
pub(crate) struct Running {
    process: Child,
    /// The URL of the auth service.
    pub(crate) auth: String,
    /// The URL of the profile service.
    pub(crate) profile: String,
}

impl Running {
    pub(crate) fn start(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
        command.arg("--data-dir").arg(data).args(["--auth-listen", "127.0.0.1:0", "--profile-listen", "127.0.0.1:0"]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a process");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
        let greeting: Vec<_> = lines.take_while(|line| !line.contains("Ctrl-C")).collect();
        let address = |name: &str| {
            let line = greeting.iter().find_map(|line| line.strip_prefix(name)).expect("an address");
            format!("http://{}", line.trim())
        };
        Self { auth: address("auth-service"), profile: address("profile-service"), process }
    }

    /// Returns the resident memory of the process, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
