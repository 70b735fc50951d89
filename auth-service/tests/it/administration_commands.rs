//! The administration commands, beside a running service on the same database.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use auth_service::proto::{LoginRequest, RefreshRequest, WhoAmIRequest};
use serde_json::Value;
use store::Executor;
use testing::{assert_refused, on_both_engines};
use tonic::Code;

use crate::{
    app::{Actor, App, PASSWORD, claims},
    starting::{assert_fails, process},
};

const OTHER_PASSWORD: &str = "nine red harbours of salt";

/// Runs a command on the database of the service.
fn run(app: &App, command: &[&str]) -> Output {
    run_with_input(app, command, "")
}

fn run_with_input(app: &App, command: &[&str], input: &str) -> Output {
    let mut process = process(command);
    process.args(["--database-url", app.database.url()]).env("LOG_FILTER", "off");
    let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    // A command that reads no input may have ended already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("an end")
}

/// Returns the standard output and the standard error of a command that must succeed.
#[track_caller]
fn says(app: &App, command: &[&str]) -> (String, String) {
    let output = run(app, command);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (said, noted) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{command:?}: {noted}");
    (said, noted)
}

/// Returns the message of a change that must succeed.
#[track_caller]
fn notes(app: &App, command: &[&str]) -> String {
    let (said, noted) = says(app, command);
    assert_eq!(said, "", "{command:?}");
    noted.trim_end().to_owned()
}

#[track_caller]
fn json(app: &App, command: &[&str]) -> Value {
    let (said, noted) = says(app, &[command, &["--json"]].concat());
    assert_eq!(noted, "", "{command:?}");
    serde_json::from_str(&said).expect("JSON")
}

async fn signs_in(app: &App, username: &str, password: &str) -> bool {
    let request = LoginRequest { username: username.to_owned(), password: password.to_owned() };
    app.tokens().login(request).await.is_ok()
}

async fn assert_ended(app: &App, actor: &Actor) {
    let request = RefreshRequest { refresh_token: actor.login.refresh_token.clone(), request_id: String::new() };
    assert_refused(app.tokens().refresh(request).await, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
}

/// Returns the kind of the last event.
async fn last_event(app: &App) -> String {
    let db = app.database.open();
    db.query("SELECT kind FROM outbox ORDER BY pos DESC LIMIT 1").one::<(String,)>().await.expect("an event").0
}

on_both_engines! {
    async fn users_are_created_listed_and_shown(app: App) {
        app.superuser("root").await;
        let create = ["users", "create", "Alice", "--email", "alice@example.com", "--first-name", "Al"];
        let created = run_with_input(&app, &create, &format!("{PASSWORD}\n"));
        assert_eq!(String::from_utf8_lossy(&created.stderr), "created the user Alice\n");
        assert_eq!(last_event(&app).await, "USER_CREATED");
        assert!(signs_in(&app, "alice", PASSWORD).await);
        assert_eq!(notes(&app, &["users", "create", "bob", "--no-password"]), "created the user bob");

        for (command, sentence) in [
            (&["users", "create", "alice", "--no-password"][..], "the username is taken, in this or in another spelling"),
            (&["users", "create", "me", "--no-password"], "the username must not be `me`"),
            (&["users", "create", "carol", "--email", "nope", "--no-password"], "the email must be"),
            (&["users", "create", "carol"], "no password was given on standard input"),
            (&["users", "show", "carol"], "there is no user carol: name a user by username, e-mail address or id"),
        ] {
            assert_fails(&run(&app, command), sentence);
        }

        let (list, _) = says(&app, &["users", "list"]);
        let lines: Vec<_> = list.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect();
        let expected = ["USERNAME E-MAIL STATE SUPERUSER", "Alice alice@example.com ACTIVE -", "bob - ACTIVE -", "root - ACTIVE yes"];
        assert_eq!(lines, expected);
        assert_eq!(says(&app, &["users", "list", "--quiet"]).0, "Alice\nbob\nroot\n");
        assert_eq!(says(&app, &["users", "list", "--quiet", "--limit", "1"]).0, "Alice\n");
        assert_eq!(says(&app, &["users", "list", "--quiet", "--superusers"]).0, "root\n");
        assert_eq!(says(&app, &["users", "list", "--quiet", "--search", "al"]).0, "Alice\n");
        assert_eq!(says(&app, &["users", "list", "--quiet", "--inactive"]).0, "");
        let users = json(&app, &["users", "list"]);
        assert_eq!((users[0]["username"].as_str(), users[2]["isSuperuser"].as_bool()), (Some("Alice"), Some(true)));

        let user_id = users[0]["userId"].as_str().expect("an id");
        for name in ["ALICE", "alice@example.com", user_id] {
            assert_eq!(json(&app, &["users", "show", name])["userId"], user_id);
        }
        let (shown, _) = says(&app, &["users", "show", "alice"]);
        assert!(shown.starts_with("Username:         Alice\n") && shown.contains("\nState:            ACTIVE\n"), "{shown}");
    }

    async fn users_are_changed_by_the_rules_of_the_rpcs(app: App) {
        let alice = app.user("alice").await;
        assert_eq!(notes(&app, &["users", "deactivate", "alice"]), "alice is inactive, and their sessions have ended");
        assert_eq!(last_event(&app).await, "USER_DEACTIVATED");
        assert_ended(&app, &alice).await;
        assert!(!signs_in(&app, "alice", PASSWORD).await);
        assert_eq!(says(&app, &["users", "list", "--quiet", "--inactive"]).0, "alice\n");
        assert_eq!(notes(&app, &["users", "activate", "alice"]), "alice is active");
        assert_eq!(notes(&app, &["users", "activate", "alice"]), "alice is already active");

        let alice = app.actor(app.login("alice").await);
        let short = run_with_input(&app, &["users", "set-password", "alice"], "short\n");
        assert_fails(&short, "the password must have at least 15 characters");
        let set = run_with_input(&app, &["users", "set-password", "alice"], &format!("{OTHER_PASSWORD}\n"));
        assert_eq!(String::from_utf8_lossy(&set.stderr), "set the password of alice and ended their sessions\n");
        assert_ended(&app, &alice).await;
        assert!(signs_in(&app, "alice", OTHER_PASSWORD).await && !signs_in(&app, "alice", PASSWORD).await);

        let refused = run(&app, &["users", "delete", "alice"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("delete the user alice") && said.contains("pass --yes"), "{said}");
        assert!(signs_in(&app, "alice", OTHER_PASSWORD).await);
        assert_eq!(says(&app, &["users", "delete", "alice", "--yes", "--quiet"]), (String::new(), String::new()));
        assert_eq!(last_event(&app).await, "USER_DELETED");
        assert!(!signs_in(&app, "alice", OTHER_PASSWORD).await);
    }

    async fn the_last_superuser_stays_one(app: App) {
        let root = app.superuser("root").await;
        app.register("alice").await;
        assert_fails(&run(&app, &["users", "demote", "root"]), "no other active superuser would remain");
        assert_eq!(notes(&app, &["users", "promote", "alice"]), "alice is a superuser now");
        assert_eq!(last_event(&app).await, "PERMISSIONS_CHANGED");
        let alice = app.actor(app.login("alice").await);
        let me = alice.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        assert!(me.permissions.contains(&"auth.delete_user".to_owned()), "{me:?}");
        assert_eq!(json(&app, &["users", "demote", "root"])["isSuperuser"], false);
        assert_eq!(app.actor(app.login("root").await).user.user_id, root.user.user_id);
        notes(&app, &["users", "promote", "root"]);
        notes(&app, &["users", "deactivate", "root"]);
        assert_fails(&run(&app, &["users", "demote", "alice"]), "no other active superuser would remain");
    }

    async fn groups_and_permissions_are_administered(app: App) {
        app.register("alice").await;
        assert_eq!(notes(&app, &["groups", "create", "the editors"]), "created the group the editors");
        assert_fails(&run(&app, &["groups", "create", "the editors"]), "another group has this name");
        assert_fails(&run(&app, &["groups", "create", " "]), "the name must not be blank");
        assert_fails(&run(&app, &["groups", "show", "nobody"]), "there is no group nobody");
        assert_eq!(notes(&app, &["groups", "add-member", "the editors", "alice"]), "alice is a member of the editors");
        assert_eq!(notes(&app, &["groups", "add-member", "the editors", "alice"]), "alice is already a member of the editors");
        let to_group = ["permissions", "grant", "auth.view_user", "--group", "the editors"];
        assert_eq!(notes(&app, &to_group), "granted auth.view_user to the group the editors");
        assert_eq!(last_event(&app).await, "PERMISSIONS_CHANGED");
        let to_user = ["permissions", "grant", "greeter.greet", "--permission", "greeter.greet", "--user", "alice"];
        assert_eq!(notes(&app, &to_user), "granted greeter.greet to alice");
        assert_fails(&run(&app, &["permissions", "grant", "greeter.fly", "--user", "alice"]), "no service has the permission greeter.fly");
        assert_eq!(run(&app, &["permissions", "grant", "auth.view_user"]).status.code(), Some(2));

        let (list, _) = says(&app, &["permissions", "list", "--user", "alice"]);
        let expected = "PERMISSION      FROM               KNOWN\nauth.view_user  group the editors  yes\ngreeter.greet   user               no\n";
        assert_eq!(list, expected);
        assert_eq!(says(&app, &["permissions", "list", "--group", "the editors", "--quiet"]).0, "auth.view_user\n");
        assert!(says(&app, &["permissions", "list"]).0.contains("\nauth.change_user "));
        let me = app.actor(app.login("alice").await).identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        assert_eq!(me.permissions, ["auth.view_user"]);
        let group = json(&app, &["groups", "show", "the editors"]);
        assert_eq!((group["members"][0].as_str(), group["permissions"][0].as_str()), (Some("alice"), Some("auth.view_user")));
        assert_eq!(json(&app, &["groups", "list"])[0]["name"], "the editors");
        assert!(says(&app, &["groups", "list"]).0.lines().nth(1).expect("a group").contains("auth.view_user"));

        assert_eq!(notes(&app, &["permissions", "revoke", "greeter.greet", "--user", "alice"]), "revoked greeter.greet from alice");
        assert_eq!(notes(&app, &["permissions", "revoke", "greeter.greet", "--user", "alice"]), "alice was not granted greeter.greet");
        assert_eq!(notes(&app, &["groups", "remove-member", "the editors", "alice"]), "alice is no longer a member of the editors");
        assert_eq!(run(&app, &["groups", "delete", "the editors"]).status.code(), Some(2));
        assert_eq!(notes(&app, &["groups", "delete", "the editors", "--yes"]), "deleted the group the editors");
        assert_eq!(json(&app, &["groups", "list"]), Value::Array(Vec::new()));
    }

    async fn sessions_are_listed_and_revoked(app: App) {
        let alice = app.user("alice").await;
        let (second, third) = (app.again(&alice).await, app.again(&alice).await);
        let (list, _) = says(&app, &["sessions", "list", "alice", "--quiet"]);
        let ids: Vec<_> = list.lines().collect();
        assert_eq!(ids.len(), 3);
        let sessions = json(&app, &["sessions", "list", "alice"]);
        assert_eq!(sessions[0]["sessionId"], ids[0]);
        let claims = claims(&third.login.access_token);
        let last = claims["sid"].as_str().expect("a session");
        assert!(ids.contains(&last), "{list}");
        app.register("bob").await;
        assert_fails(&run(&app, &["sessions", "revoke", "bob", last]), &format!("bob has no session {last}"));
        assert_fails(&run(&app, &["sessions", "revoke", "alice", "last"]), "alice has no session last");
        assert_eq!(run(&app, &["sessions", "revoke", "alice"]).status.code(), Some(2));
        assert_eq!(notes(&app, &["sessions", "revoke", "alice", last]), "ended a session of alice");
        assert_eq!(last_event(&app).await, "SESSIONS_ENDED");
        assert_ended(&app, &third).await;
        assert_eq!(says(&app, &["sessions", "list", "alice"]).0.lines().count(), 3);
        assert_eq!(notes(&app, &["sessions", "revoke", "alice", "--all"]), "ended every session of alice");
        assert_ended(&app, &alice).await;
        assert_ended(&app, &second).await;
        assert_eq!(says(&app, &["sessions", "list", "alice"]).0.lines().count(), 1);
    }

    async fn a_change_is_logged_with_the_operating_system_user(app: App) {
        app.register("alice").await;
        let mut command = process(&["users", "promote", "alice", "--database-url", app.database.url(), "--log-format", "json"]);
        let output = command.output().expect("a process");
        let noted = String::from_utf8_lossy(&output.stderr);
        let line: Value = noted.lines().find_map(|line| serde_json::from_str(line).ok()).expect("a log line");
        let id = std::process::Command::new("id").arg("-un").output().expect("`id`");
        assert_eq!(line["actor"], String::from_utf8_lossy(&id.stdout).trim(), "{line}");
        assert_eq!((&line["command"], &line["subject"]), (&Value::from("users promote"), &Value::from("alice")), "{line}");
    }
}

#[test]
fn the_version_names_the_commit_and_the_date_of_the_build() {
    let version = |flag| process(&[flag]).stdout(Stdio::piped()).output().expect("a process").stdout;
    assert_eq!(version("-V"), format!("auth-service {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    let long = String::from_utf8(version("--version")).expect("text");
    let lines: Vec<_> = long.lines().collect();
    assert_eq!(lines[0], concat!("auth-service ", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit: ") && chrono::NaiveDate::parse_from_str(lines[2], "built: %Y-%m-%d").is_ok(), "{long}");
}

#[test]
fn bash_completes_commands_and_flags() {
    let script = process(&["completions", "bash"]).stdout(Stdio::piped()).output().expect("a process").stdout;
    let script = String::from_utf8(script).expect("text");
    let complete = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        // Bash calls the function that `complete` has registered with the words of the line.
        let ask = format!(
            "COMP_WORDS=({}); COMP_CWORD={}; _auth__service auth-service '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{script}\n{ask}")).expect("a write");
        let mut bash = std::process::Command::new("bash");
        let output = bash.args(["--noprofile", "--norc"]).arg(file.path()).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(complete("auth-service us"), "users\n");
    assert_eq!(complete("auth-service users pro"), "promote\n");
    assert_eq!(complete("auth-service users list --sup"), "--superusers\n");
    for shell in ["zsh", "fish"] {
        let output = process(&["completions", shell]).stdout(Stdio::piped()).output().expect("a process");
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("set-password"), "{shell}");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("man1");
    let output = process(&["manpages", directory.to_str().expect("a path")]).output().expect("a process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(directory.join("auth-service-users-promote.1")).expect("a page");
    assert!(page.contains("Makes a user a superuser"), "{page}");
}
