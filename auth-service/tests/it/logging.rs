//! The log of a process: what a line says, what remains at the end, and a filter that changes while the service runs.

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
};

use auth_service::keys::MasterKey;
use testing::{http::send, on_both_engines};

use crate::starting::Fresh;

/// A process that serves. It is killed when the value is dropped.
pub(crate) struct Serving {
    process: Child,
    lines: Lines<BufReader<ChildStderr>>,
    pub(crate) address: SocketAddr,
    pub(crate) master_key: String,
    config: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Serving {
    pub(crate) async fn start(app: &Fresh, format: &str) -> Self {
        app.migrated().await;
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("auth.toml");
        fs::write(&config, "log-filter = \"info\"\n").expect("a write");
        let master_key = MasterKey::generate();
        let mut command = app.serve(&master_key);
        command.arg("--config").arg(&config).args(["--log-format", format]).stderr(Stdio::piped());
        let mut process = command.spawn().expect("a process");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let serving = lines
            .by_ref()
            .map(|line| line.expect("a line"))
            .find(|line| line.contains("serving"))
            .expect("a service that serves");
        let mut address = serving.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
        let address = address.find_map(|word| word.parse().ok()).expect("an address");
        Self { process, lines, address, master_key, config, _folder: folder }
    }

    async fn call(&self, request_id: &str) {
        let headers = [("x-request-id", request_id), ("user-agent", "test/1")];
        assert_eq!(send(self.address, "GET /v1/users/me", &headers, b"").await.status, 401);
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    fn wait_for(&mut self, text: &str) {
        assert!(self.lines.by_ref().any(|line| line.expect("a line").contains(text)), "a line with {text}");
    }

    /// Ends the process with SIGTERM, and returns the rest of its log.
    fn terminate(mut self) -> Vec<String> {
        self.signal("TERM");
        let rest = self.lines.by_ref().map(|line| line.expect("a line")).collect();
        assert!(self.process.wait().expect("an end").success());
        rest
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

on_both_engines! {
    async fn the_last_call_before_sigterm_is_logged(app: Fresh) {
        let serving = Serving::start(&app, "text").await;
        serving.call("the-last").await;
        let rest = serving.terminate();
        let line = rest.iter().find(|line| line.contains("request_id=\"the-last\"")).unwrap_or_else(|| panic!("{rest:#?}"));
        for part in
            ["answered", "protocol=\"http\"", "method=GET /v1/users/me", "code=401", " ms=", "client=127.0.0.1", "user_agent=\"test/1\""]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains('\u{1b}'), "{line}");
    }

    async fn sighup_reads_the_filter_again(app: Fresh) {
        let mut serving = Serving::start(&app, "json").await;
        serving.call("first").await;
        fs::write(&serving.config, "log-filter = \"info,access_log=off\"\n").expect("a write");
        serving.signal("HUP");
        serving.wait_for("the log filter was read again");
        serving.call("second").await;
        // A wrong filter is reported, and the filter before stays.
        fs::write(&serving.config, "log-filter = \"info,=\"\n").expect("a write");
        serving.signal("HUP");
        serving.wait_for("the log filter is not replaced");
        serving.call("third").await;
        let rest = serving.terminate();
        assert!(!rest.is_empty() && !rest.iter().any(|line| line.contains("answered")), "{rest:#?}");
    }
}
