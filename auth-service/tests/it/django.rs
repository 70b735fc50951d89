//! The import of a real Django project, from a database of each engine and from a dump, into each engine.

use std::{
    collections::BTreeMap,
    process::{Output, Stdio},
};

use access::Clock;
use auth_service::{
    Settings,
    keys::MasterKey,
    proto::{LoginRequest, RegisterRequest, UpdateUserRequest, User, WhoAmIRequest},
};
use serde_json::json;
use store::Executor;
use testing::on_both_engines;
use testing::{DjangoProject, Engine, TestClock, assert_refused};
use tonic::Code;

use crate::{
    app::{App, profile_rules, registration},
    starting::{Fresh, assert_fails},
};

/// A Django project on one of its engines.
pub(crate) struct Project(pub(crate) DjangoProject);

impl Project {
    pub(crate) async fn start(engine: Engine) -> Self {
        Self(DjangoProject::new(engine).await)
    }
}

/// A line of the report: the outcomes of the rows of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) read: u64,
    pub(crate) imported: u64,
    pub(crate) unchanged: u64,
    pub(crate) skipped: u64,
}

pub(crate) fn import(database: &Fresh, from: &str, flags: &[&str]) -> Output {
    let mut process = crate::starting::process(&["import", "django", "--database-url", database.0.url(), "--from", from]);
    process.args(flags).stdout(Stdio::piped()).output().expect("a process")
}

#[track_caller]
pub(crate) fn imported(database: &Fresh, from: &str, flags: &[&str]) -> (String, BTreeMap<String, Line>) {
    let output = import(database, from, &[flags, &["--allow-skips"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("a report in UTF-8");
    let line = |line: &str| {
        let parts: Vec<_> = line.split_whitespace().collect();
        let [name, read, imported, unchanged, skipped] = parts.try_into().ok()?;
        let [read, imported, unchanged, skipped] = [read, imported, unchanged, skipped].map(|number: &str| number.parse().ok());
        Some((name.to_owned(), Line { read: read?, imported: imported?, unchanged: unchanged?, skipped: skipped? }))
    };
    let lines: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    for (name, Line { read, imported, unchanged, skipped }) in &lines {
        assert_eq!(*read, imported + unchanged + skipped, "{name}: {text}");
    }
    (text, lines)
}

async fn empty(engine: Engine) -> Fresh {
    let database = Fresh::start(engine).await;
    database.migrated().await;
    database
}

/// Returns the number of events of a kind in the outbox.
async fn count_events(database: &Fresh, kind: &str) -> u64 {
    let db = database.0.open();
    db.query("SELECT COUNT(*) FROM outbox WHERE kind = $1").bind(kind).one::<(i64,)>().await.expect("a count").0.unsigned_abs()
}

async fn hashes(database: &Fresh) -> BTreeMap<String, String> {
    let rows: Vec<(String, String)> =
        database.0.open().query("SELECT username, password_hash FROM users").all().await.expect("the users");
    rows.into_iter().collect()
}

/// Starts an app on a database with imported users, at the time of the project's tokens.
pub(crate) async fn app_on(database: Fresh, settings: Settings) -> App {
    let clock = TestClock::new(Clock::system().now());
    let master_key = MasterKey::generate();
    let server = App::replica(&database.0, &clock, &master_key, settings).await;
    App { clock, database: database.0, master_key, server }
}

/// The odd users of a Django project on one of its engines.
struct Odd(DjangoProject);

impl Odd {
    async fn start(engine: Engine) -> Self {
        Self(DjangoProject::odd(engine).await)
    }
}

on_both_engines! {
    async fn of_2000_odd_users_nothing_is_lost(project: Odd) {
        let project = project.0;
        let ids = project.file("ids", "");
        let flag = format!("--ids={}", ids.display());
        for (from, engine) in [(project.url().to_owned(), Engine::Sqlite), (project.dump(), Engine::Postgres)] {
            let database = empty(engine).await;
            let output = import(&database, &from, &[&flag]);
            let text = String::from_utf8_lossy(&output.stdout);
            // The command fails if anything is lost.
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            let count = |sql: &'static str| {
                let db = database.0.open();
                async move { db.query(sql).one::<(i64,)>().await.expect("a count").0.unsigned_abs() }
            };
            assert_eq!(count("SELECT COUNT(*) FROM users").await, project.facts.counts["users"]);
            assert_eq!(count("SELECT COUNT(*) FROM users WHERE email <> ''").await, project.facts.counts["users.email"]);
            // Of several users with one address, it signs in the first one only.
            assert_eq!(count("SELECT COUNT(*) FROM users WHERE email_key = 'same@example.com'").await, 1);
            let written = std::fs::read_to_string(&ids).expect("the ids");
            for (username, key) in &project.facts.keys {
                let id = django::user_id("django", key);
                assert!(written.contains(&format!("users\t{key}\t{id}\n")), "{username}");
            }

            let app = app_on(database, Settings::default()).await;
            // The name is the address of another user. Login prefers the username.
            let request = LoginRequest { username: "user10@example.com".to_owned(), password: "Pa$$wörd".to_owned() };
            let login = app.tokens().login(request).await.expect("a login").into_inner();
            let user = login.user.expect("a user");
            assert_eq!((&*user.username, user.first_name.chars().count()), ("user10@example.com", 11));
            // Nobody else can take an address that is a username, and a change of another field keeps the username.
            let register = RegisterRequest { email: "User30@example.com".to_owned(), ..registration("mallory") };
            assert_refused(app.users().register(register).await, Code::AlreadyExists, "EMAIL_TAKEN", &[("email", "EMAIL_UNIQUE")]);
            let root = app.superuser("root").await;
            let names = |fields: &[&str], user: User| UpdateUserRequest {
                update_mask: Some(prost_types::FieldMask { paths: fields.iter().map(ToString::to_string).collect() }),
                user: Some(user),
            };
            let renamed = User { first_name: "Ann".to_owned(), etag: String::new(), ..user.clone() };
            let updated = root.users().update_user(names(&["first_name"], renamed)).await.expect("an update").into_inner();
            assert_eq!((&*updated.username, &*updated.first_name), ("user10@example.com", "Ann"));
            let taken = User { email: "user30@example.com".to_owned(), etag: String::new(), ..user };
            let outcome = root.users().update_user(names(&["email"], taken)).await;
            assert_refused(outcome, Code::AlreadyExists, "EMAIL_TAKEN", &[("user.email", "EMAIL_UNIQUE")]);
        }
    }

    async fn a_source_that_does_not_fit_is_named_with_the_remedy(database: Fresh) {
        database.migrated().await;
        let folder = tempfile::tempdir().expect("a folder");
        let (missing, dump) = (folder.path().join("missing.sqlite3"), folder.path().join("dump.json"));
        std::fs::write(&dump, r#"[{"model": "accounts.user", "pk": 1, "fields": {}}]"#).expect("a dump");
        for (from, sentence) in [
            (format!("sqlite:{}", missing.display()), "missing.sqlite3: entity not found"),
            ("mysql://root@localhost/site".to_owned(), "cannot read a database of the kind `mysql`: write its rows to a file with `manage.py dumpdata --output dump.json`"),
            (dump.display().to_string(), "table `auth_user` does not exist: pass `--map users.table=accounts_user`"),
        ] {
            assert_fails(&import(&database, &from, &[]), sentence);
        }
    }
}

on_both_engines! {
    async fn all_users_are_imported_and_log_in_with_their_old_passwords(project: Project) {
        let project = project.0;
        // The hashes are the same in all four databases, and a login takes long. So the users log in from one source for each engine.
        for (from, engine, logs_in) in [
            (project.url().to_owned(), Engine::Sqlite, true),
            (project.url().to_owned(), Engine::Postgres, false),
            (project.dump(), Engine::Sqlite, false),
            (project.dump(), Engine::Postgres, true),
        ] {
            let database = empty(engine).await;
            let (text, dry) = imported(&database, &from, &["--dry-run"]);
            assert!(text.contains("Dry run: no changes were made."), "{text}");
            assert!(hashes(&database).await.is_empty());

            let (text, lines) = imported(&database, &from, &[]);
            assert_eq!(dry, lines, "a dry run does the same");
            for name in [
                "users", "groups", "user_groups", "user_permissions", "group_permissions", "outstanding_tokens", "blacklisted_tokens",
            ] {
                assert_eq!(lines[name].read, project.facts.counts[name], "{name}: {text}");
            }
            let skipped = |name: &str| lines[name].skipped;
            assert_eq!((skipped("users"), skipped("groups"), skipped("group_permissions")), (2, 0, 0), "{text}");
            assert_eq!((skipped("user_groups"), skipped("user_permissions"), skipped("blacklisted_tokens")), (1, 1, 0), "{text}");
            // Two tokens belong to users who were skipped, one token has expired, and one token has no user.
            assert_eq!(skipped("outstanding_tokens"), 4, "{text}");
            for reason in [
                "skipped users: the username is taken, in this or in another spelling (RFC 8265): 1",
                " `Alice`)\n",
                " `two words`)\n",
                "skipped users: username: must consist of letters, digits and ASCII punctuation",
                "skipped users.email: it is not an e-mail address: 1",
                "skipped users.password: the hash algorithm `md5` is not supported: 1",
                "skipped users.password: the cost of the `pbkdf2_sha256` hash is above the limit: 1",
                "not needed outstanding_tokens: the token has expired: 1",
                "not needed outstanding_tokens: the token has no user: 1",
                "not needed outstanding_tokens: the user was not imported: 2",
                "skipped user_groups: the user was skipped: 1",
            ] {
                assert!(text.contains(reason), "{reason}: {text}");
            }
            for (username, hash) in hashes(&database).await {
                match username.as_str() {
                    "judy" | "kim" => assert_eq!(hash, "!", "{username}"),
                    _ => assert_eq!(hash, project.facts.hashes[&username], "untouched"),
                }
            }

            let (text, again) = imported(&database, &from, &[]);
            assert!(text.contains("\nNo rows to import.\n"), "{text}");
            for (name, line) in &again {
                let before = lines[name];
                if name.contains('.') {
                    // The parts of an unchanged row count as unchanged, even the parts that the first import skipped.
                    assert_eq!((line.imported, line.read), (0, before.read), "{name}: {text}");
                    continue;
                }
                assert_eq!((line.imported, line.unchanged, line.skipped), (0, before.imported, before.skipped), "{name}: {text}");
            }
            let lossy = import(&database, &from, &[]);
            assert_fails(&lossy, "which are lost: see the report above, and pass --allow-skips to accept it");

            assert_eq!(count_events(&database, "USER_CREATED").await, lines["users"].imported);
            assert_eq!(count_events(&database, "USER_DEACTIVATED").await, 1, "heidi");
            if logs_in {
                assert_logins(&project, database).await;
            }
        }
    }
}

async fn assert_logins(project: &DjangoProject, database: Fresh) {
    let app = app_on(database, Settings { access_rules: vec![profile_rules()], ..Settings::default() }).await;
    for (username, password) in &project.facts.passwords {
        let request = || auth_service::proto::LoginRequest { username: username.clone(), password: password.clone() };
        let outcome = app.tokens().login(request()).await;
        if ["Alice", "heidi", "judy", "kim"].contains(&username.as_str()) {
            // These users were skipped, are not active, or were imported without a password.
            assert_refused(outcome, Code::Unauthenticated, "CREDENTIALS_INVALID", &[]);
            continue;
        }
        let login = outcome.expect("a login with the old password").into_inner();
        let user = login.user.clone().expect("a user");
        assert_eq!(user.user_id, django::user_id("django", &project.facts.keys[username]).to_string());
        assert_eq!(user.is_superuser, username == "root");
        assert_eq!(user.create_time.expect("a time").seconds, 1_556_938_921);
        let wrong = auth_service::proto::LoginRequest { password: format!("{password}."), ..request() };
        assert_refused(app.tokens().login(wrong).await, Code::Unauthenticated, "CREDENTIALS_INVALID", &[]);
        let me = app.actor(login).identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        let (groups, permissions): (&[&str], &[&str]) = match username.as_str() {
            "alice" => (&["editors", "readers"], &["profile.change_note", "profile.view_profile"]),
            "bob" => (&["readers"], &["profile.change_profile"]),
            _ => (&[], &[]),
        };
        if username != "root" {
            assert_eq!(
                (me.groups.as_slice(), me.permissions.as_slice()),
                (to_owned(groups).as_slice(), to_owned(permissions).as_slice())
            );
        }
        let hash: (String,) = app
            .database
            .open()
            .query("SELECT password_hash FROM users WHERE username = $1")
            .bind(username)
            .one()
            .await
            .expect("a hash");
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{username}: {}", hash.0);
        app.tokens().login(request()).await.expect("a login with the new hash");
    }
}

fn to_owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// The empty database that a test imports into.
struct Target(Fresh);

impl Target {
    async fn start(engine: Engine) -> Self {
        Self(empty(engine).await)
    }
}

/// Returns a dump of a project with a custom user model.
fn dump(users: u32) -> tempfile::NamedTempFile {
    let user = |number: u32| {
        json!({ "model": "accounts.person", "pk": format!("{:08x}-0000-4000-8000-000000000000", number), "fields": {
            "login": format!("person{number}"), "password": "!", "last_login": null, "is_superuser": false, "is_active": true,
            "mail": format!("person{number}@example.com"), "joined": "2020-02-29T12:00:00.123Z", "groups": [], "user_permissions": [],
        }})
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    let users: Vec<_> = (0..users).map(user).collect();
    std::fs::write(file.path(), serde_json::to_vec(&users).expect("JSON")).expect("a write");
    file
}

const MAPPING: &[&str] = &[
    "--map=users.table=accounts_person",
    "--map=users.username=login",
    "--map=users.email=mail",
    "--map=users.date_joined=joined",
    "--map=users.first_name=",
    "--map=users.last_name=",
];

on_both_engines! {
    async fn an_import_that_is_killed_continues_and_imports_each_user_once(target: Target) {
        const USERS: u32 = 4000;
        let (database, dump) = (target.0, dump(USERS));
        let from = dump.path().to_str().expect("a path").to_owned();
        let count = async || {
            database.0.open().query("SELECT COUNT(*) FROM users").one::<(i64,)>().await.expect("a count").0.unsigned_abs()
        };
        let mut kills = 0;
        while kills < 2 {
            let before = count().await;
            let mut process = crate::starting::process(&["import", "django", "--database-url", database.0.url(), "--from", &from]);
            let mut process = process.args(MAPPING).stderr(Stdio::null()).spawn().expect("a process");
            while count().await == before && process.try_wait().expect("a process").is_none() {
                tokio::task::yield_now().await;
            }
            process.kill().expect("a kill");
            process.wait().expect("an end");
            kills += 1;
        }
        let before = count().await;
        let (_, lines) = imported(&database, &from, MAPPING);
        let expected = Line { read: USERS.into(), imported: u64::from(USERS) - before, unchanged: before, skipped: 0 };
        assert_eq!((lines["users"], lines["users.email"], count().await), (expected, expected, USERS.into()));
        assert!(before > 0);
        assert_eq!(count_events(&database, "USER_CREATED").await, u64::from(USERS));
    }

    async fn a_deleted_user_is_not_imported_again(target: Target) {
        let (database, dump) = (target.0, dump(3));
        let from = dump.path().to_str().expect("a path").to_owned();
        imported(&database, &from, MAPPING);
        database.execute("DELETE FROM users WHERE username = 'person1'").await;
        let (text, lines) = imported(&database, &from, MAPPING);
        assert_eq!(lines["users"], Line { read: 3, imported: 0, unchanged: 3, skipped: 0 }, "{text}");
        assert_eq!(hashes(&database).await.len(), 2);

        // If the record of the import is missing, the record of the deletion still prevents reuse of the id.
        let deleted = "INSERT INTO deleted_users (user_id, delete_time) SELECT user_id, create_time FROM users";
        for statement in [deleted, "DELETE FROM users", "DELETE FROM django_rows"] {
            database.execute(statement).await;
        }
        let (text, lines) = imported(&database, &from, MAPPING);
        assert_eq!((lines["users"].imported, lines["users"].unchanged), (1, 2), "{text}");
        assert_eq!(hashes(&database).await.len(), 1);
    }

    async fn an_unreadable_source_is_reported(target: Target) {
        let database = target.0;
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), text).expect("a write");
            file
        };
        let natural = r#"[{"model": "auth.user", "fields": {"username": "a"}}]"#;
        let fields = r#"[{"model": "auth.user", "pk": 1, "fields": {"username": "a"}}]"#;
        for (dump, flags, sentence) in [
            ("no JSON", &[][..], "not the output of `dumpdata --format json`"),
            ("[]", &[], "table `auth_user` does not exist: pass `--map users.table=NAME`"),
            (natural, &[], "has natural keys"),
            (fields, &[], "table `auth_user` has no column `password`"),
            (fields, &["--map=users"], "invalid mapping entry `users`: expected TABLE.ENTRY=NAME"),
            (fields, &["--map=users.name=login"], "unknown field `name`"),
            (fields, &["--map=people.table=person"], "unknown field `people`"),
        ] {
            let file = file(dump);
            assert_fails(&import(&database, file.path().to_str().expect("a path"), flags), sentence);
        }
        assert_fails(&import(&database, "no-such-file.json", &[]), "no-such-file.json: No such file or directory");
        assert_fails(&import(&database, "sqlite:/no/such/file", &[]), "/no/such/file: entity not found");
    }
}
