//! `check` names what would keep the service from working.

use std::process::Output;

use auth_service::keys::MasterKey;
use serde_json::Value;
use testing::on_both_engines;

use crate::{logging::Serving, starting::Fresh};

/// An address at which nothing listens.
const CLOSED: &str = "127.0.0.1:1";

/// Runs `check --json`, and returns whether it succeeded and its rows.
fn check(app: &Fresh, master_key: &str, listen: &str) -> (bool, Vec<Value>) {
    let mut command = app.command("check");
    command.args(["--json", "--issuer", "http://127.0.0.1:1", "--listen", listen]);
    let Output { status, stdout, stderr } =
        command.env("MASTER_KEY", master_key).stdout(std::process::Stdio::piped()).output().expect("a process");
    let rows = serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
    (status.success(), rows)
}

fn state<'a>(rows: &'a [Value], check: &str) -> (&'a str, &'a str) {
    let row = rows.iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("no {check}: {rows:?}"));
    (row["state"].as_str().expect("a state"), row["detail"].as_str().expect("a detail"))
}

on_both_engines! {
    async fn each_problem_is_named(app: Fresh) {
        let master_key = MasterKey::generate();
        let (success, rows) = check(&app, &master_key, CLOSED);
        let problem = rows.iter().find(|row| row["state"] == "failed").map(|row| row["detail"].to_string()).unwrap_or_default();
        assert!(!success && problem.contains("migrat"), "{rows:?}");

        app.migrated().await;
        let (success, rows) = check(&app, &master_key, CLOSED);
        assert!(success, "{rows:?}");
        assert_eq!(state(&rows, "schema"), ("ok", "all migrations are applied"));
        assert_eq!(state(&rows, "signing keys").0, "warning");
        assert_eq!(state(&rows, "running service"), ("warning", "nothing answers at 127.0.0.1:1"));

        app.serves_with(&master_key);
        let (success, rows) = check(&app, &master_key, CLOSED);
        assert!(success, "{rows:?}");
        assert_eq!(state(&rows, "encrypted keys"), ("ok", "the master key decrypts 1 of 1"));
        assert!(state(&rows, "issuer").1.starts_with("http://127.0.0.1:1 does not answer"), "{rows:?}");

        let (success, rows) = check(&app, &MasterKey::generate(), CLOSED);
        assert_eq!((success, state(&rows, "encrypted keys").0), (false, "failed"), "{rows:?}");
        let (success, rows) = check(&app, "too short", "0.0.0.0:1");
        assert_eq!((success, state(&rows, "master key").0, state(&rows, "certificate").0), (false, "failed", "failed"), "{rows:?}");
    }

    async fn the_running_service_and_its_issuer_are_asked(app: Fresh) {
        let serving = Serving::start(&app, "text").await;
        let url = format!("http://{}", serving.address);
        let listen = serving.address.to_string();
        let table = |master_key: &str| {
            let mut command = app.command("check");
            command.args(["--listen", &listen, "--issuer", &url]).env("MASTER_KEY", master_key);
            let output = command.stdout(std::process::Stdio::piped()).output().expect("a process");
            String::from_utf8(output.stdout).expect("text")
        };
        let found = table(&serving.master_key);
        for line in ["running service", "writes", "revocations", "encrypted keys", "issuer", "schema"] {
            assert!(found.lines().any(|found| found.starts_with(line) && found.contains("  ok       ")), "{line}: {found}");
        }
        assert!(found.contains(" publishes the active key of this database"), "{found}");
        let found = table(&MasterKey::generate());
        assert!(found.lines().any(|line| line.starts_with("encrypted keys ") && line.contains("FAILED")), "{found}");
    }
}
