//! The import of a real Django project, from a database of each engine and from a dump, into each engine.

use std::{collections::BTreeMap, process::Output, sync::Arc};

use access::{Clock, token::Verifier};
use django::tokens::TokenKeys;
use profile_service::{
    MIGRATIONS, Service,
    proto::{
        GetProfileRequest, ListFriendsRequest, ListNotesRequest, Profile, Visibility,
        profile_service_client::ProfileServiceClient,
    },
};
use serde_json::json;
use testing::{DjangoProject, Engine, Running, TestClock, TestDatabase, with_token};
use tonic::Code;
use uuid::Uuid;

use crate::{
    app::{AUDIENCE, App, ISSUER, User, assert_refused, create_note, note},
    starting::{assert_fails_with, command},
};

struct Project(DjangoProject);

impl Project {
    async fn start(engine: Engine) -> Self {
        Self(DjangoProject::new(engine).await)
    }
}

/// The numbers of rows of a table that were read, imported, unchanged and skipped.
type Line = [u64; 4];

fn import(database: &TestDatabase, from: &str, flags: &[&str]) -> Output {
    let mut import = command(&["import", "django", "--database-url", database.url(), "--from", from]);
    import.args(flags).output().unwrap()
}

#[track_caller]
fn imported(database: &TestDatabase, from: &str, flags: &[&str]) -> (String, BTreeMap<String, Line>) {
    let output = import(database, from, &[flags, &["--allow-skips"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (name, numbers) = line.split_once(' ')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map(|number| number.parse().ok()).collect::<Option<_>>()?;
        Some((name.to_owned(), numbers.try_into().ok()?))
    };
    let lines: BTreeMap<String, Line> = text.lines().filter_map(line).collect();
    for (name, [read, imported, unchanged, skipped]) in &lines {
        assert_eq!(*read, imported + unchanged + skipped, "{name}: {text}");
    }
    (text, lines)
}

async fn empty(engine: Engine) -> TestDatabase {
    let database = TestDatabase::new(engine).await;
    migrate::migrate(&database.open(), &MIGRATIONS).await.unwrap();
    database
}

/// Returns an imported user with a token of auth-service.
fn user(app: &App, key: &str, username: &str) -> User {
    app.caller(app.issuer.claims(django::user_id("django", key), username))
}

/// Returns the imported parts of a profile.
fn parts(profile: &Profile) -> (&str, &str, Option<i32>, bool, bool) {
    let year = profile.birth_date.as_ref().map(|date| date.year);
    (&profile.bio, &profile.website, year, profile.is_active, profile.favorite_note.is_some())
}

/// The odd users of a Django project on one of its engines.
struct Odd(DjangoProject);

impl Odd {
    async fn start(engine: Engine) -> Self {
        Self(DjangoProject::odd(engine).await)
    }
}

testing::on_both_engines! {
    async fn of_2000_odd_users_no_text_is_lost(project: Odd) {
        let (project, counts) = (&project.0, &project.0.facts.counts);
        for (from, engine) in [(project.url().to_owned(), Engine::Sqlite), (project.dump(), Engine::Postgres)] {
            let database = empty(engine).await;
            let output = import(&database, &from, &[]);
            // The command fails if anything is lost.
            assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let db = database.open();
            let count = async |sql: &'static str| store::Executor::query(&db, sql).one::<(i64,)>().await.unwrap().0.unsigned_abs();
            assert_eq!(count("SELECT COUNT(*) FROM profiles").await, counts["profiles"]);
            assert_eq!(count("SELECT COUNT(*) FROM profiles WHERE bio <> ''").await, counts["profiles.bio"]);
            assert_eq!(count("SELECT COUNT(*) FROM profiles WHERE length(bio) > 2000").await, 1048);
            assert_eq!(count("SELECT COUNT(*) FROM notes").await, counts["notes"]);
            assert_eq!(count("SELECT COUNT(*) FROM notes WHERE trim(title) = ''").await, 800);
            assert_eq!(count("SELECT COUNT(*) FROM notes WHERE length(body) = 20000").await, 20);

            // Their owner reads them through the API.
            let (username, key) = ("alice0", &project.facts.keys["alice0"]);
            let app = App::on(database, db).await;
            let owner = user(&app, key, username);
            assert_eq!(owner.profile("me").await.unwrap().bio, "ж".repeat(2001));
            let notes = ListNotesRequest { user_id: "me".to_owned(), ..ListNotesRequest::default() };
            let notes = owner.notes().list_notes(notes).await.unwrap().into_inner().notes;
            assert_eq!((notes[0].title.as_str(), notes[0].body.chars().count()), ("", 20000));
        }
    }
}

testing::on_both_engines! {
    async fn profiles_notes_friends_and_favorites_are_imported(project: Project) {
        let project = project.0;
        let duplicate = &project.facts.keys["Alice"];
        // The report of auth-service's import.
        let report = project.file("auth-report", &format!("users\t{duplicate}\tthe username is taken\nusers.email\t1\tno\n"));
        let report = format!("--auth-report={}", report.display());
        for (from, engine) in [
            (project.url().to_owned(), Engine::Sqlite),
            (project.url().to_owned(), Engine::Postgres),
            (project.dump(), Engine::Sqlite),
            (project.dump(), Engine::Postgres),
        ] {
            let database = empty(engine).await;
            let (_, dry) = imported(&database, &from, &[&report, "--dry-run"]);
            let (text, lines) = imported(&database, &from, &[&report, "--map=notes.visibility=public"]);
            assert_eq!(dry, lines, "a dry run does the same");
            for name in ["profiles", "notes", "friends", "profiles.favorite_note"] {
                assert_eq!(lines[name][0], project.facts.counts[name], "{name}: {text}");
            }
            let skipped = |name: &str| lines[name][3];
            let of_profiles = ["profiles", "profiles.website", "profiles.birth_date", "profiles.bio", "profiles.favorite_note"].map(skipped);
            assert_eq!((of_profiles, skipped("notes"), skipped("friends")), ([1, 1, 1, 0, 0], 2, 2), "{text}");
            for reason in [
                "skipped profiles: the user was skipped or does not exist: 1",
                "skipped profiles.website: must be an http or https URL",
                "skipped profiles.birth_date: must not be in the future: 1",
                "skipped notes: the note has no owner: 1",
                "skipped notes: the owner was skipped or does not exist: 1",
                "skipped friends: a user cannot be their own friend: 1",
                "skipped friends: the friend was skipped or does not exist: 1",
            ] {
                assert!(text.contains(reason), "{reason}: {text}");
            }
            let (text, again) = imported(&database, &from, &[&report]);
            assert!(text.contains("\nNo rows to import.\n"), "{text}");
            for (name, [read, imported, unchanged, skipped]) in again {
                if ["profiles.website", "profiles.birth_date", "profiles.bio"].contains(&&*name) {
                    // The parts of a row are unchanged if the row is, also those that the first import skipped.
                    assert_eq!((read, imported), (lines[&name][0], 0), "{name}: {text}");
                    continue;
                }
                assert_eq!((imported, unchanged, skipped), (0, lines[&name][1], lines[&name][3]), "{name}: {text}");
            }
            assert_fails_with(&import(&database, &from, &[&report]), "which are lost: see the report above");
            assert_imported(&project, database).await;
        }
    }
}

async fn assert_imported(project: &DjangoProject, database: TestDatabase) {
    let db = database.open();
    let app = App::on(database, db).await;
    let keys = &project.facts.keys;
    let alice = user(&app, &keys["alice"], "alice");
    for (username, expected) in [
        ("alice", ("Curious", "https://example.com/alice", Some(1852), true, true)),
        ("bob", ("", "", None, true, true)),
        ("carol", ("", "", None, true, true)),
        ("dave", (&*"x".repeat(2001), "", None, true, false)),
        ("heidi", ("", "", None, false, false)),
    ] {
        let user_id = django::user_id("django", &keys[username]).to_string();
        let profile = alice.profiles().get_profile(GetProfileRequest { user_id }).await.unwrap().into_inner();
        assert_eq!((parts(&profile), profile.display_name.as_str()), (expected, username));
        assert_eq!(profile.create_time.unwrap().seconds, 1_556_938_921);
    }
    let mine = alice.profile("me").await.unwrap().favorite_note.unwrap();
    assert_eq!(mine.note_id, django::row_id("django", "note", &project.facts.notes["hers"]).to_string());
    let friends = ListFriendsRequest { user_id: "me".to_owned(), ..ListFriendsRequest::default() };
    let friends = alice.friends().list_friends(friends).await.unwrap().into_inner();
    let names: Vec<_> = friends.profiles.iter().map(|profile| profile.display_name.as_str()).collect();
    assert_eq!(names, ["bob", "carol"]);
    let notes = ListNotesRequest { user_id: "me".to_owned(), ..ListNotesRequest::default() };
    let notes = alice.notes().list_notes(notes).await.unwrap().into_inner().notes;
    let titles: Vec<_> = notes.iter().map(|note| (note.title.as_str(), note.visibility)).collect();
    let public = Visibility::Public.into();
    assert_eq!(titles, [("Note 2", public), ("Note 1", public), ("Note 0", public)]);
    assert_eq!(notes[0].body, "Down the rabbit hole. Down the rabbit hole. ");
}

/// A service that takes the tokens of a Django project.
struct Moved {
    running: Running,
    clock: TestClock,
    project: DjangoProject,
    _database: TestDatabase,
}

impl Moved {
    async fn start(engine: Engine) -> Self {
        let (project, database) = (DjangoProject::new(Engine::Sqlite).await, empty(engine).await);
        imported(&database, project.url(), &[]);
        let clock = TestClock::new(Clock::system().now());
        let mut legacy = TokenKeys::default();
        legacy.add("django", &project.facts.verifying_key).unwrap();
        let verifier = Arc::new(Verifier::new(ISSUER, AUDIENCE, clock.clock()).with_source(legacy));
        let db = database.open();
        let service = Service {
            db,
            clock: clock.clock(),
            verifier,
            events: None,
            server: server::ServerSettings::default(),
            page: None,
            quotas: profile_service::Quotas::default(),
            audit_key: None,
            audit_retention: None,
        };
        let running = Running::start(|listener, shutdown| async {
            profile_service::serve(service, listener, shutdown).await.unwrap();
        })
        .await;
        Self { running, clock, project, _database: database }
    }
}

testing::on_both_engines! {
    async fn an_access_token_of_django_reads_and_writes_the_user_s_own_data(moved: Moved) {
        let facts = &moved.project.facts;
        let mut profiles = ProfileServiceClient::new(moved.running.channel());
        let me = GetProfileRequest { user_id: "me".to_owned() };
        let mine = profiles.get_profile(with_token(&facts.access["alice"], me.clone())).await.unwrap().into_inner();
        assert_eq!((mine.display_name.as_str(), mine.bio.as_str()), ("alice", "Curious"));
        for refused in [&facts.refresh["alice"], &facts.hs256] {
            let outcome = profiles.get_profile(with_token(refused, me.clone())).await;
            assert_refused(outcome, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        }
        let bob = django::user_id("django", &facts.keys["bob"]).to_string();
        let request = profile_service::proto::DeactivateProfileRequest { user_id: bob };
        let outcome = profiles.deactivate_profile(with_token(&facts.access["alice"], request)).await;
        assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied);
        moved.clock.advance(chrono::TimeDelta::seconds(3600 + 31));
        let outcome = profiles.get_profile(with_token(&facts.access["alice"], me)).await;
        assert_refused(outcome, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }
}

/// A service with a dump of users, profiles and notes under other names.
struct Renamed {
    app: App,
    dump: tempfile::NamedTempFile,
    mapping: tempfile::NamedTempFile,
}

impl Renamed {
    async fn start(engine: Engine) -> Self {
        let database = empty(engine).await;
        let db = database.open();
        let dump = json!([
            { "model": "accounts.person", "pk": 1, "fields": { "login": "alice" } },
            { "model": "accounts.person", "pk": 2, "fields": { "login": "bob" } },
            { "model": "people.card", "pk": 7, "fields": { "person": 1, "about": "Curious", "site": "", "contacts": [2, 9], "best": 5 } },
            { "model": "people.card", "pk": 8, "fields": { "person": 2, "about": "", "site": "", "contacts": [], "best": 6 } },
            { "model": "people.card", "pk": 9, "fields": { "person": 3, "about": "", "site": "", "contacts": [], "best": null } },
            { "model": "memos.memo", "pk": 5, "fields": { "by": 2, "subject": "Plans", "text": "Many" } },
        ]);
        let mapping = "
            [users]
            table = 'accounts_person'
            username = 'login'
            date_joined = ''
            email = 'mail'
            [groups]
            table = 'accounts_team'
            [profiles]
            table = 'people_card'
            user = 'person_id'
            bio = 'about'
            website = 'site'
            birth_date = ''
            is_active = ''
            favorite_note = 'best_id'
            [friends]
            table = 'people_card_contacts'
            [notes]
            table = 'memos_memo'
            owner = 'by_id'
            title = 'subject'
            body = 'text'
            created = ''
            updated = ''
            visibility = 'public'
        ";
        let (dumped, mapped) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(dumped.path(), dump.to_string()).unwrap();
        std::fs::write(mapped.path(), mapping).unwrap();
        Self { app: App::on(database, db).await, dump: dumped, mapping: mapped }
    }

    fn import(&self) -> (String, BTreeMap<String, Line>) {
        let mapping = format!("--mapping={}", self.mapping.path().display());
        imported(&self.app.database, self.dump.path().to_str().unwrap(), &[&mapping, "--project=old-site"])
    }
}

testing::on_both_engines! {
    async fn a_mapping_renames_tables_and_columns(renamed: Renamed) {
        let (text, lines) = renamed.import();
        assert_eq!((lines["profiles"], lines["notes"]), ([3, 2, 0, 1], [1, 1, 0, 0]), "{text}");
        assert_eq!((lines["friends"], lines["profiles.favorite_note"]), ([2, 1, 0, 1], [2, 1, 0, 1]), "{text}");
        let alice = renamed.app.caller(renamed.app.issuer.claims(django::user_id("old-site", "1"), "alice"));
        let mine = alice.profile("me").await.unwrap();
        assert_eq!(mine.bio, "Curious");
        assert_eq!(mine.favorite_note.unwrap().note_id, django::row_id("old-site", "note", "5").to_string());
    }

    async fn a_profile_that_was_changed_here_is_kept(renamed: Renamed) {
        let app = &renamed.app;
        let [alice, bob] = [("1", "alice"), ("2", "bob")].map(|(key, name)| {
            app.caller(app.issuer.claims(django::user_id("old-site", key), name))
        });
        // The first call creates the profile.
        let mut profile = alice.profile("me").await.unwrap();
        "Older".clone_into(&mut profile.bio);
        bob.profile("me").await.unwrap();
        let request = profile_service::proto::UpdateProfileRequest { profile: Some(profile), update_mask: None };
        alice.profiles().update_profile(request).await.unwrap();
        let (text, lines) = renamed.import();
        assert_eq!(lines["profiles"], [3, 1, 0, 2], "{text}");
        assert!(text.contains("not needed profiles: the profile was changed here: 1"), "{text}");
        assert_eq!(alice.profile("me").await.unwrap().bio, "Older");
    }

    async fn a_note_with_the_same_id_is_kept(renamed: Renamed) {
        let app = &renamed.app;
        let bob = app.caller(app.issuer.claims(django::user_id("old-site", "2"), "bob"));
        bob.profile("me").await.unwrap();
        let note_id: Uuid = django::row_id("old-site", "note", "5");
        let request = create_note("me", &note_id.to_string(), note("Another", "", Visibility::Private));
        bob.notes().create_note(request).await.unwrap();
        let (text, lines) = renamed.import();
        assert_eq!(lines["notes"], [1, 0, 0, 1], "{text}");
        assert!(text.contains("skipped notes: another note has the id: 1"), "{text}");
    }
}
