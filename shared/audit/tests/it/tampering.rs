//! Every change that an intruder into the database makes to sealed rows is found, and honest entries are never reported.

use std::time::Duration;

use audit::{AuditKey, AuditKeys, Finding, seal, verify};
use chrono::{DateTime, Utc};
use store::{Executor, Parameter};
use testing::{on_both_engines, rounds};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::app::{App, COLUMNS, copy_new_entries, entry};

/// The statements that change a value in one column of one sealed entry.
const ENTRY_CHANGES: &[&str] = &[
    "seal_id = 3",
    "seal_id = NULL",
    "seal_id = 99",
    "time = (SELECT MAX(time) FROM audit_event)",
    "actor_type = 'service'",
    "actor_id = actor_id || 'x'",
    "method = method || 'x'",
    "target_type = 'group'",
    "target_id = target_id || 'x'",
    "outcome = 'OK'",
    "reason = ''",
    "fields = 'username'",
    "request_id = ''",
    "trace_id = ''",
    "occurrences = occurrences + 1",
    "actor_digest = target_digest",
    "actor_digest = NULL",
    "target_digest = actor_digest",
    "target_digest = NULL",
    "actor_salt = target_salt",
    "actor_salt = NULL",
    "actor_name = 'another'",
    "actor_name = NULL",
    "address = '192.0.2.2'",
    "address = NULL",
    "user_agent = 'another'",
    "user_agent = NULL",
    "actor_salt = NULL, actor_name = NULL, address = NULL",
    "target_salt = actor_salt",
    "target_salt = NULL",
    "target_name = 'another'",
    "target_name = NULL",
    // Values that move from one column to the next.
    "actor_id = '', method = actor_id || method",
    "outcome = outcome || reason, reason = ''",
];

/// The statements that change a value in one column of a seal.
const SEAL_CHANGES: &[&str] = &[
    "seal_id = 50",
    "time = (SELECT MAX(time) FROM audit_new_event)",
    "entries = entries + 1",
    "digest = previous",
    "first_kept = first_kept + 1",
    "previous = digest",
    "key_id = 'another'",
    "mac = digest",
];

impl App {
    /// Keeps a copy of the rows for [`App::restore`].
    async fn save(&self) {
        self.execute(
            "CREATE TABLE saved_event AS SELECT * FROM audit_event; CREATE TABLE saved_seal AS SELECT * FROM audit_seal;
             CREATE TABLE saved_new_event AS SELECT * FROM audit_new_event",
        )
        .await;
    }

    async fn restore(&self) {
        self.execute(
            "DELETE FROM audit_event; INSERT INTO audit_event SELECT * FROM saved_event;
             DELETE FROM audit_seal; INSERT INTO audit_seal SELECT * FROM saved_seal;
             DELETE FROM audit_new_event; INSERT INTO audit_new_event SELECT * FROM saved_new_event",
        )
        .await;
        assert_eq!(self.verify(&[]).await.findings, []);
    }

    /// Runs a statement that must be found, and reverts it. Returns what was found.
    async fn finds(&self, sql: &str) -> Vec<Finding> {
        self.execute(sql).await;
        let verification = self.verify(&[]).await;
        assert!(!verification.is_intact(), "not found: {sql}");
        self.restore().await;
        verification.findings
    }

    /// Replaces the value of one parameter in a statement that must be found, and reverts it.
    async fn finds_with(&self, sql: &'static str, value: impl for<'q> Parameter<'q>) {
        let mut tx = self.db.begin().await.expect("a transaction");
        assert_eq!(tx.query(sql).bind(value).execute().await.expect(sql), 1);
        tx.commit().await.expect("a commit");
        assert!(!self.verify(&[]).await.is_intact(), "not found: {sql}");
        self.restore().await;
    }

    async fn ids(&self) -> Vec<Uuid> {
        let query = self.db.query("SELECT event_id FROM audit_event WHERE seal_id IS NOT NULL ORDER BY event_id");
        query.all::<(Uuid,)>().await.expect("ids").into_iter().map(|(id,)| id).collect()
    }
}

on_both_engines! {
    async fn every_altered_column_is_found(app: App) {
        app.three_batches().await;
        app.save().await;
        // The second entry of the second batch.
        for change in ENTRY_CHANGES {
            app.finds(&format!("UPDATE audit_event SET {change} WHERE request_id = 'request-4'")).await;
        }
        for seal_id in 1..=3 {
            for change in SEAL_CHANGES {
                app.finds(&format!("UPDATE audit_seal SET {change} WHERE seal_id = {seal_id}")).await;
            }
        }
        app.finds_with("UPDATE audit_event SET event_id = $1 WHERE request_id = 'request-4'", Uuid::from_u128(1)).await;
        let earlier: DateTime<Utc> = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        app.finds_with("UPDATE audit_event SET time = $1 WHERE request_id = 'request-4'", earlier).await;
        app.finds_with("UPDATE audit_seal SET mac = $1 WHERE seal_id = 2", vec![0_u8; 32]).await;
        app.finds_with("UPDATE audit_event SET actor_salt = $1 WHERE request_id = 'request-4'", vec![0_u8; 16]).await;
    }

    async fn an_entry_that_is_altered_before_it_is_sealed_is_found(app: App) {
        app.three_batches().await;
        app.save().await;
        let columns = ENTRY_CHANGES.iter().filter(|change| !change.starts_with("seal_id"));
        for change in columns.chain(&["sealed_columns = actor_digest", "sealed_columns = sealed_columns || actor_digest"]) {
            app.execute(&format!("UPDATE audit_new_event SET {change}")).await;
            assert_eq!(app.seal().await.expect("a seal").entries, 1);
            assert!(!app.verify(&[]).await.is_intact(), "not found: {change}");
            app.restore().await;
        }
    }

    async fn every_removed_entry_and_seal_is_found(app: App) {
        let published = app.three_batches().await;
        app.save().await;
        for id in app.ids().await {
            app.finds_with("DELETE FROM audit_event WHERE event_id = $1", id).await;
        }
        for (seal_id, seal) in (1..=3).zip(&published) {
            app.finds(&format!("DELETE FROM audit_seal WHERE seal_id = {seal_id}")).await;
            app.finds(&format!("DELETE FROM audit_event WHERE seal_id = {seal_id}")).await;
            // The newest batch can only be missed by the one who knows its seal.
            if seal_id < 3 {
                app.finds(&format!("DELETE FROM audit_event WHERE seal_id = {seal_id}; DELETE FROM audit_seal WHERE seal_id = {seal_id}"))
                    .await;
            }
            app.finds(&format!("DELETE FROM audit_seal WHERE seal_id <= {seal_id}")).await;
            app.execute(&format!("DELETE FROM audit_event WHERE seal_id >= {seal_id}; DELETE FROM audit_seal WHERE seal_id >= {seal_id}"))
                .await;
            assert_eq!(app.verify(&[]).await.findings, []);
            assert_eq!(app.verify(&published[2..]).await.findings, [Finding::Truncated(3)]);
            // The service seals the entries that are left, so a seal with the same number exists again.
            assert_eq!(app.seal().await.expect("a seal").seal_id, seal_id);
            assert_eq!(app.verify(std::slice::from_ref(seal)).await.findings, [Finding::DiffersFromPublished(seal_id)]);
            app.restore().await;
            assert_eq!(app.verify(&published).await.findings, []);
        }
        app.execute("DELETE FROM audit_event; DELETE FROM audit_seal").await;
        assert_eq!(app.verify(&published[..1]).await.findings, [Finding::Truncated(1)]);
    }

    async fn every_inserted_entry_and_seal_is_found(app: App) {
        app.three_batches().await;
        app.save().await;
        let new_id = if app.db.is_sqlite() { "randomblob(16)" } else { "gen_random_uuid()" };
        for seal_id in 0..=4 {
            app.finds(&format!(
                "INSERT INTO audit_event (event_id, seal_id, {COLUMNS})
                 SELECT {new_id}, {seal_id}, {COLUMNS} FROM audit_new_event WHERE request_id = 'request-9'"
            ))
            .await;
        }
        let seal = "time, entries, digest, first_kept, previous, key_id, mac";
        for (new, old) in [(-1, 1), (0, 1), (4, 3), (4, 1), (9, 2)] {
            app.finds(&format!("INSERT INTO audit_seal (seal_id, {seal}) SELECT {new}, {seal} FROM audit_seal WHERE seal_id = {old}")).await;
        }
        // Two batches change places.
        app.finds("UPDATE audit_event SET seal_id = 3 - seal_id WHERE seal_id < 3").await;
        app.finds(
            "UPDATE audit_event SET seal_id = 3 - seal_id WHERE seal_id < 3; UPDATE audit_seal SET seal_id = -seal_id WHERE seal_id < 3;
             UPDATE audit_seal SET seal_id = 3 + seal_id WHERE seal_id < 0",
        )
        .await;
    }

    async fn a_seal_needs_its_key(app: App) {
        app.three_batches().await;
        let other = AuditKeys::new([AuditKey::derive(&[8; 32])]);
        let findings = verify(&app.db, &other, &[]).await.expect("a verification").findings;
        assert_eq!(findings.len(), 3);
        assert!(findings.iter().all(|finding| matches!(finding, Finding::UnknownKey { .. })), "{findings:?}");
        // The next seal has another key, and both verify together.
        let (old, new) = (app.key.clone(), AuditKey::derive(&[8; 32]));
        let mut tx = app.db.begin().await.expect("a transaction");
        seal(&mut tx, &app.clock, &new).await.expect("a result").expect("a seal");
        tx.commit().await.expect("a commit");
        let both = verify(&app.db, &AuditKeys::new([new, old]), &[]).await.expect("a verification");
        assert_eq!((both.findings, both.seals, both.entries, both.unsealed), (vec![], 4, 10, 0));
    }

    async fn honest_entries_of_concurrent_transactions_are_never_reported(app: App) {
        let total = rounds(400);
        let replicas = [app.database.open(), app.database.open()];
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let (db, log) = (replicas[writer % 2].clone(), app.log.clone());
            writers.spawn(async move {
                for number in 0..total / 8 {
                    let mut tx = db.begin().await.expect("a transaction");
                    log.record(&mut tx, entry(number as u64)).await.expect("an entry");
                    // Entries with smaller ids commit later.
                    for _ in 0..(number * 7 + writer * 3) % 11 {
                        tokio::task::yield_now().await;
                    }
                    if number % 10 == 9 {
                        // A transaction that is rolled back leaves no entry.
                        continue;
                    }
                    tx.commit().await.expect("a commit");
                }
            });
        }
        let sealers = replicas.clone().map(|db| {
            let (clock, key) = (app.clock.clock(), app.key.clone());
            tokio::spawn(async move {
                loop {
                    let mut tx = db.begin().await.expect("a transaction");
                    seal(&mut tx, &clock, &key).await.expect("a result");
                    tx.commit().await.expect("a commit");
                    tokio::task::yield_now().await;
                }
            })
        });
        while let Some(writer) = tokio::time::timeout(Duration::from_mins(10), writers.join_next()).await.expect("an end") {
            writer.expect("no panic");
            assert_eq!(app.verify(&[]).await.findings, []);
        }
        for sealer in sealers {
            sealer.abort();
            assert!(sealer.await.expect_err("an endless task").is_cancelled());
        }
        while app.seal().await.is_some() {}
        let verification = app.verify(&[]).await;
        let written = (total / 8 - total / 80) * 8;
        assert_eq!((verification.findings, verification.entries, verification.unsealed), (vec![], written as u64, 0));
    }

    async fn entries_that_an_earlier_version_wrote_are_sealed(app: App) {
        app.three_batches().await;
        app.execute(&format!("{}; DELETE FROM audit_new_event", copy_new_entries())).await;
        app.record(&entry(10)).await;
        assert_eq!([app.seal().await, app.seal().await].map(|seal| seal.map(|seal| seal.entries)), [Some(1), Some(1)]);
        assert_eq!(app.seal().await, None);
        let verification = app.verify(&[]).await;
        assert_eq!((verification.findings, verification.entries, verification.unsealed), (vec![], 11, 0));
    }

    async fn without_a_key_entries_are_moved_and_can_be_sealed_later(app: App) {
        app.record_1001().await;
        // A full batch is moved at once.
        let log = app.log.clone();
        let keeper = tokio::spawn(async move { log.keep(None, None).await });
        while app.count("SELECT COUNT(*) FROM audit_new_event").await > 0 {
            tokio::task::yield_now().await;
        }
        keeper.abort();
        assert!(keeper.await.expect_err("an endless task").is_cancelled());
        assert_eq!(app.count("SELECT COUNT(*) FROM audit_event WHERE seal_id IS NULL").await, 1001);
        assert_eq!((app.verify(&[]).await.unsealed, app.count("SELECT COUNT(*) FROM audit_seal").await), (1001, 0));
        assert_eq!([app.seal().await, app.seal().await].map(|seal| seal.map(|seal| seal.entries)), [Some(1000), Some(1)]);
        let verification = app.verify(&[]).await;
        assert_eq!((verification.findings, verification.entries, verification.unsealed), (vec![], 1001, 0));
    }

    async fn a_batch_has_at_most_1000_entries(app: App) {
        app.record_1001().await;
        assert_eq!([app.seal().await, app.seal().await].map(|seal| seal.map(|seal| seal.entries)), [Some(1000), Some(1)]);
        assert_eq!(app.seal().await, None);
        assert_eq!(app.verify(&[]).await.entries, 1001);
    }
}
