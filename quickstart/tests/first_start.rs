//! If the first start fails, no superuser is created. The next start creates the superuser and shows the password.
#![allow(missing_docs)]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

fn quickstart(data: &Path, auth: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.arg("--data-dir").arg(data).args(["--auth-listen", auth, "--profile-listen", "127.0.0.1:0", "--log-filter", "info"]);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn the_superuser_is_made_when_their_password_is_shown_and_not_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = quickstart(folder.path(), &address).output().expect("a process");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("cannot listen on {address}")), "{said}");

    for shown in [true, false] {
        let mut running = quickstart(folder.path(), "127.0.0.1:0").spawn().expect("a process");
        let lines = BufReader::new(running.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
        let greeting: Vec<_> = lines.take_while(|line| !line.contains("Ctrl-C")).collect();
        assert_eq!(greeting.iter().any(|line| line.starts_with("password")), shown, "{greeting:#?}");
        running.kill().expect("a kill");
        let output = running.wait_with_output().expect("an end");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(
            log.contains("serving") && !log.contains('\u{1b}'),
            "a log without colors, because it is not on a terminal: {log}"
        );
    }
}
