//! The administration commands, beside a running service on the same database.

use std::process::Output;

use profile_service::proto::Visibility;
use serde_json::Value;
use store::Executor;
use testing::on_both_engines;

use crate::{
    app::App,
    starting::{assert_fails_with, command},
};

fn run(app: &App, arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    command.args(["--database-url", app.database.url()]).env("LOG_FILTER", "off").output().unwrap()
}

/// Returns the standard output and the standard error of a command that must succeed.
#[track_caller]
fn says(app: &App, arguments: &[&str]) -> (String, String) {
    let output = run(app, arguments);
    let (said, noted) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{arguments:?}: {noted}");
    (said, noted)
}

on_both_engines! {
    async fn a_profile_is_shown_and_exported(app: App) {
        let (alice, bob) = (app.user("Alice").await, app.user("bob").await);
        alice.writes("a note", Visibility::Private).await;
        bob.writes("of bob", Visibility::Public).await;
        alice.calls_a_friend(&bob).await;

        let (shown, _) = says(&app, &["profiles", "show", "alice"]);
        assert!(shown.starts_with(&format!("Username:       Alice\nId:             {}\n", alice.id)), "{shown}");
        let (shown, _) = says(&app, &["profiles", "show", &alice.id, "--json"]);
        let profile: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&profile["displayName"], &profile["isActive"]), (&Value::from("Alice"), &Value::from(true)));
        assert_fails_with(&run(&app, &["profiles", "show", "carol"]), "there is no profile of carol: name a user by username or id");

        let (exported, noted) = says(&app, &["profiles", "export", "alice"]);
        assert_eq!(noted, "exported 3 item(s) about Alice\n");
        let items: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(items[0]["profile"]["displayName"], "Alice");
        assert_eq!(items[1]["note"]["title"], "a note");
        assert_eq!(items[2]["friend"]["displayName"], "bob");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alice.jsonl");
        let to_file = says(&app, &["profiles", "export", "alice", "--quiet", "--output", file.to_str().unwrap()]);
        assert_eq!(to_file, (String::new(), String::new()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), exported);
    }

    async fn a_snapshot_is_requested(app: App) {
        assert!(says(&app, &["sync", "status"]).0.contains("events were never followed"));
        assert_fails_with(&run(&app, &["sync", "resync"]), "events of the auth service were never followed");
        let mut tx = app.database.open().begin().await.unwrap();
        let query = tx.query(
            "INSERT INTO feed_cursor (cursor_id, epoch, pos, event_id, generation, update_time) VALUES (1, 'one', 7, 'x', 3, $1)",
        );
        query.bind(app.clock.now()).execute().await.unwrap();
        tx.commit().await.unwrap();
        let status = || -> Value { serde_json::from_str(&says(&app, &["sync", "status", "--json"]).0).unwrap() };
        assert_eq!((&status()["state"], &status()["pos"]), (&Value::from("FOLLOWING"), &Value::from("7")));
        let (_, noted) = says(&app, &["sync", "resync"]);
        assert_eq!(noted, "the running service will read a snapshot of all users within a minute\n");
        assert_eq!((&status()["state"], &status()["generation"]), (&Value::from("SNAPSHOT"), &Value::from("4")));
    }
}
