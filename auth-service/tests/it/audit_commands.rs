//! The commands `audit …`, and the entries of every command that changes something.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Output, Stdio},
};

use auth_service::keys::MasterKey;
use chrono::TimeDelta;
use serde_json::Value;
use store::Executor;
use testing::on_both_engines;
use tokio::task::yield_now;

use crate::{
    app::{App, PASSWORD},
    starting::{Fresh, assert_fails, process},
};

impl App {
    /// Runs a command on the database of the service, with this text as its standard input.
    fn command(&self, command: &[&str], input: &str) -> Output {
        let mut process = process(command);
        process.args(["--database-url", self.database.url()]).env("LOG_FILTER", "off").env("MASTER_KEY", &self.master_key);
        let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        // A command that reads no input may have ended already.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("an end")
    }

    /// Returns the standard output of a command that must succeed.
    #[track_caller]
    fn says(&self, command: &[&str], input: &str) -> String {
        let output = self.command(command, input);
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, command: &[&str]) -> Value {
        serde_json::from_str(&self.says(&[command, &["--json"]].concat(), "")).expect("JSON")
    }

    /// Waits until every entry is sealed. The service seals only while the clock advances, so that it does not write while a command blocks the
    /// test.
    async fn sealed(&self) {
        self.clock.advance(TimeDelta::seconds(2));
        while self.verify_audit_log().await.unsealed > 0 {
            yield_now().await;
        }
    }
}

on_both_engines! {
    async fn every_command_that_changes_something_has_an_entry(app: App) {
        app.superuser("root").await;
        let folder = tempfile::tempdir().expect("a folder");
        let key_file = folder.path().join("key");
        let new_master_key = MasterKey::generate();
        fs::write(&key_file, &new_master_key).expect("a write");
        let password = format!("{PASSWORD}\n");
        let other_password = "nine red harbours of salt\n";
        let password_file = folder.path().join("password");
        fs::write(&password_file, PASSWORD).expect("a write");
        let create = ["createsuperuser", "--username", "second", "--noinput", "--password-file", &password_file.display().to_string()];
        app.says(&create, "");
        let session = app.user("bob").await;
        let session = crate::app::claims(&session.login.access_token)["sid"].as_str().expect("a session").to_owned();
        let commands: &[(&[&str], &str, &str)] = &[
            (&["changepassword", "second"], other_password, "changepassword user second password"),
            (&["users", "create", "alice"], &password, "users create user alice"),
            (&["users", "set-password", "alice"], other_password, "users set-password user alice password"),
            (&["users", "deactivate", "alice"], "", "users deactivate user alice is_active"),
            (&["users", "activate", "alice"], "", "users activate user alice is_active"),
            (&["users", "promote", "alice"], "", "users promote user alice is_superuser"),
            (&["users", "demote", "alice"], "", "users demote user alice is_superuser"),
            (&["groups", "create", "editors"], "", "groups create group editors"),
            (&["groups", "add-member", "editors", "alice"], "", "groups add-member group members.*"),
            (&["groups", "remove-member", "editors", "alice"], "", "groups remove-member group members.*"),
            (&["permissions", "grant", "auth.view_user", "--user", "alice"], "", "permissions grant user permissions.auth.view_user"),
            (&["permissions", "revoke", "auth.view_user", "--user", "alice"], "", "permissions revoke user permissions.auth.view_user"),
            (&["groups", "delete", "editors", "--yes"], "", "groups delete group"),
            (&["sessions", "revoke", "bob", &session], "", "sessions revoke user bob sessions.*"),
            (&["sessions", "revoke", "bob", "--all"], "", "sessions revoke user bob sessions"),
            (&["clients", "create", "billing"], "", "clients create client billing"),
            (&["clients", "rotate-secret", "billing"], "", "clients rotate-secret client billing secret"),
            (&["migrate", "--fake", "0012"], "", "migrate recorded_as_unapplied.0013_audit_new_event"),
            (&["migrate", "--fake"], "", "migrate recorded_as_applied.0013_audit_new_event"),
            (&["keys", "create"], "", "keys create key"),
            (&["keys", "rotate", "--force"], "", "keys activate key state"),
            (&["users", "delete", "bob", "--yes"], "", "users delete user"),
            (&["keys", "rewrap", "--new-master-key-file", &key_file.display().to_string()], "", "keys rewrap"),
        ];
        app.sealed().await;
        let os_user = server::command::operating_system_user();
        for (command, input, expected) in commands {
            let before = app.audit_log().await;
            app.says(command, input);
            let log = app.events_since(&before).await;
            assert_eq!(log.len(), 1, "{command:?}: {log:?}");
            let event = &log[0];
            assert_eq!((event.actor_type.as_str(), &event.actor_id, event.outcome.as_str()), ("cli", &os_user, "OK"));
            let name = if event.target_type == "client" { &event.target_id } else { event.target_name.as_deref().unwrap_or_default() };
            let mut said = format!("{} {} {name} ", event.method, event.target_type);
            said += &event.fields().collect::<Vec<_>>().join(",");
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            // The text after the asterisk is an id.
            let is_expected = match expected.split_once('*') {
                Some((prefix, _)) => said.starts_with(prefix),
                None => said == *expected,
            };
            assert!(is_expected, "{command:?}: {said}");
            for secret in [PASSWORD, other_password.trim(), &app.master_key, &new_master_key] {
                assert!(!format!("{event:?}").contains(secret));
            }
        }
        // A command that is refused changes nothing.
        let before = app.audit_log().await.len();
        assert_fails(&app.command(&["groups", "create", " "], ""), "the name must not be blank");
        assert_eq!(app.audit_log().await.len(), before);
        // The new master key verifies the seals that the old one made.
        let verify = ["audit", "verify", "--master-key-file", &key_file.display().to_string()];
        assert!(app.says(&verify, "").contains("Newest seal:       1."));
        assert_fails(&app.command(&["audit", "verify"], ""), "cannot be decrypted with this master key");
    }

    async fn the_log_is_listed_exported_and_verified(app: App) {
        let root = app.superuser("root").await;
        let alice = app.user("alice").await;
        root.grant("auth.view_user", &alice.user.user_id).await.expect("a grant");
        app.sealed().await;
        let list = app.says(&["audit", "list"], "");
        let lines: Vec<_> = list.lines().collect();
        assert!(lines[0].starts_with("TIME") && list.contains("PermissionService/Grant"), "{list}");
        assert_eq!(lines.len(), app.audit_log().await.len() + 1);
        assert_eq!(app.says(&["audit", "list", "--quiet", "--limit", "2"], "").lines().count(), 2);
        let by_alice = app.json(&["audit", "list", "--actor", "alice"]);
        assert_eq!((by_alice.as_array().map(Vec::len), by_alice[0]["actorName"].as_str()), (Some(1), Some("alice")));
        let about = app.json(&["audit", "list", "--target", "alice", "--method", "Grant", "--outcome", "OK"]);
        assert_eq!(about[0]["fields"][0], "permissions.auth.view_user");
        assert_eq!(app.json(&["audit", "list", "--from", "2040-01-01T00:00:00Z"]), Value::Array(Vec::new()));
        let exported = app.says(&["audit", "export"], "");
        let exported: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(exported.len(), lines.len() - 1);
        assert!(exported.is_sorted_by_key(|event| event["eventId"].as_str().map(str::to_owned)));
        assert!(exported.iter().all(|event| event["sealId"].as_i64().is_some()));

        let verified = app.json(&["audit", "verify"]);
        assert_eq!((verified["isIntact"].as_bool(), verified["unsealed"].as_i64()), (Some(true), Some(0)));
        let seal = verified["newestSeal"].as_str().expect("a seal").to_owned();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("log");
        fs::write(&file, format!("INFO serving\nINFO the newest seal of the audit log audit_seal={seal}\n")).expect("a write");
        let file = file.display().to_string();
        app.says(&["audit", "verify", "--published", &seal, "--log", &file], "");
        assert_eq!(app.command(&["audit", "verify", "--published", "nonsense"], "").status.code(), Some(2));
        assert_fails(&app.command(&["audit", "verify", "--log", "/nonexistent"], ""), "cannot read the log /nonexistent");
        fs::write(&file, "INFO serving\n").expect("a write");
        assert_fails(&app.command(&["audit", "verify", "--log", &file], ""), "contains no seal");

        let mut tx = app.database.open().begin().await.expect("a transaction");
        tx.query("UPDATE audit_event SET outcome = 'PERMISSION_DENIED' WHERE method LIKE '%Grant'").execute().await.expect("a change");
        tx.commit().await.expect("a commit");
        let output = app.command(&["audit", "verify"], "");
        assert_eq!(output.status.code(), Some(1));
        assert_fails(&output, "the audit log was changed after it was sealed: 1 finding(s)");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("an entry of the seal") && said.contains("was altered"), "{said}");
        let mut tx = app.database.open().begin().await.expect("a transaction");
        tx.execute_raw("DELETE FROM audit_event WHERE seal_id IS NOT NULL; DELETE FROM audit_seal".to_owned()).await.expect("a change");
        tx.commit().await.expect("a commit");
        let output = app.command(&["audit", "verify", "--published", &seal], "");
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stdout).contains("published seal"), "{output:?}");
    }

    async fn the_service_writes_the_newest_seal_to_its_log(app: Fresh) {
        app.migrated().await;
        let master_key = MasterKey::generate();
        let mut serving = app.serve(&master_key).stderr(Stdio::piped()).spawn().expect("a process");
        // The first signing key has an entry.
        let mut lines = BufReader::new(serving.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("audit_seal="));
        serving.kill().expect("a kill");
        serving.wait().expect("an end");
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log").display().to_string();
        fs::write(&log, line.expect("a seal in the log")).expect("a write");
        let verify = || {
            let mut command = process(&["audit", "verify", "--log", &log, "--database-url", app.0.url()]);
            command.env("MASTER_KEY", &master_key).stdout(Stdio::piped()).output().expect("a process")
        };
        let verified = verify();
        assert!(verified.status.success(), "{verified:?}");
        app.execute("DELETE FROM audit_event").await;
        app.execute("DELETE FROM audit_seal").await;
        let truncated = verify();
        assert_eq!(truncated.status.code(), Some(1), "{truncated:?}");
        assert!(String::from_utf8_lossy(&truncated.stdout).contains("the log ends before the published seal"), "{truncated:?}");
    }
}
