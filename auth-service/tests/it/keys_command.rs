//! The life of a signing key, from the command line.

use std::process::{Output, Stdio};

use access::Clock;
use auth_service::keys::MasterKey;
use chrono::TimeDelta;
use store::Executor;
use testing::Engine;
use testing::on_both_engines;

use crate::starting::{self, assert_fails};

struct Fresh {
    database: starting::Fresh,
    master_key: String,
}

impl Fresh {
    async fn start(engine: Engine) -> Self {
        let database = starting::Fresh::start(engine).await;
        database.migrated().await;
        Self { database, master_key: MasterKey::generate() }
    }

    fn keys(&self, arguments: &[&str]) -> Output {
        let (verb, rest) = arguments.split_first().expect("a verb");
        let mut command = starting::process(&["keys", verb, "--database-url", self.database.0.url()]);
        command
            .args(rest)
            .env("MASTER_KEY", &self.master_key)
            .env("LOG_FILTER", "off")
            .stdout(Stdio::piped())
            .output()
            .expect("a process")
    }

    /// Returns the output of a command that must succeed.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.keys(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8([output.stdout, output.stderr].concat()).expect("text")
    }

    /// The states of the keys, the newest first.
    fn states(&self) -> Vec<String> {
        let listed = self.says(&["list"]);
        listed.lines().skip(1).map(|line| line.split_whitespace().nth(1).expect("a state").to_owned()).collect()
    }

    fn newest(&self) -> String {
        let listed = self.says(&["list"]);
        listed.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("a key").to_owned()
    }
}

on_both_engines! {
    async fn a_key_is_made_activated_and_retired(app: Fresh) {
        assert_eq!(app.states(), [""; 0]);
        app.database.serves_with(&app.master_key);
        assert_eq!(app.states(), ["ACTIVE"]);
        let first = app.newest();

        assert!(app.says(&["create", "--key-bits", "3072"]).contains("is pending and can be activated from "));
        let second = app.newest();
        assert!(app.says(&["list"]).lines().nth(1).expect("a line").contains("3072"));
        assert_fails(&app.keys(&["activate", &second]), "the key may be activated from ");
        assert_eq!(app.says(&["activate", &second, "--force"]), format!("the key {second} is active\n"));
        assert_eq!(app.states(), ["ACTIVE", "RETIRED"]);
        assert_fails(&app.keys(&["retire", &second]), "the active key is retired by activating another");
        assert!(app.says(&["retire", &first]).starts_with(&format!("the key {first} is retired and will be deleted after ")));
        let withdraw = app.keys(&["retire", &first, "--withdraw"]);
        assert_eq!(withdraw.status.code(), Some(2), "{}", String::from_utf8_lossy(&withdraw.stderr));
        app.says(&["retire", &first, "--withdraw", "--yes"]);
        app.database.serves_with(&app.master_key);
        assert_eq!(app.states(), ["ACTIVE"]);
        assert_fails(&app.keys(&["retire", "nothing"]), "there is no key nothing");
    }

    async fn a_rotation_goes_on_where_it_was_interrupted(app: Fresh) {
        app.database.serves_with(&app.master_key);
        app.says(&["create"]);
        let pending = app.newest();
        // As if the key had been made a day ago.
        let mut tx = app.database.0.open().begin().await.expect("a transaction");
        let before = Clock::system().now() - TimeDelta::days(1);
        tx.query("UPDATE signing_keys SET create_time = $1 WHERE state = 'PENDING'").bind(before).execute().await.expect("a statement");
        tx.commit().await.expect("a commit");
        assert_eq!(app.says(&["rotate"]), format!("the key {pending} is active\n"));
        let said = app.says(&["rotate", "--force"]);
        assert_eq!(said, format!("the key {} is active\n", app.newest()));
        assert!(!said.contains(&pending));
        assert_eq!(app.states(), ["ACTIVE", "RETIRED", "RETIRED"]);
    }

    async fn another_master_key_takes_the_place_of_the_first(app: Fresh) {
        app.database.serves_with(&app.master_key);
        app.says(&["rotate", "--force"]);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("master.key");
        let new = MasterKey::generate();
        std::fs::write(&file, &new).expect("a write");
        let rewrap = ["rewrap", "--new-master-key-file", file.to_str().expect("a path")];
        assert_eq!(app.says(&rewrap), "encrypted 2 key(s) with the new master key\n");
        assert_eq!(app.says(&rewrap), "encrypted 0 key(s) with the new master key\n");
        assert_fails(&app.database.serve(&app.master_key).output().expect("a process"), "cannot be decrypted with this master key");
        assert_fails(&app.keys(&["create"]), "cannot be decrypted with this master key");
        app.database.serves_with(&new);
        assert_eq!(app.states(), ["ACTIVE", "RETIRED"]);

        // With a key that never sealed anything, nothing is lost.
        let other = Fresh { database: app.database, master_key: MasterKey::generate() };
        std::fs::write(&file, MasterKey::generate()).expect("a write");
        assert_fails(&other.keys(&rewrap), "cannot be decrypted with this master key");
        other.database.serves_with(&new);
    }
}
