//! A database with an audit log.

use std::net::IpAddr;

use audit::{
    Actor, AuditKey, AuditKeys, AuditLog, BATCH_SIZE, Entry, PublishedSeal, SCHEMA, Seal, Target, Verification, seal, verify,
};
use chrono::{DateTime, TimeDelta};
use store::{Db, Executor};
use testing::{Engine, TestClock, TestDatabase};

pub(crate) struct App {
    pub(crate) database: TestDatabase,
    pub(crate) db: Db,
    pub(crate) clock: TestClock,
    pub(crate) key: AuditKey,
    pub(crate) log: AuditLog,
}

impl App {
    pub(crate) async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let db = database.open();
        let clock = TestClock::new(DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
        let log = AuditLog::new(db.clone(), clock.clock());
        let app = Self { database, db, clock, key: AuditKey::derive(&[7; 32]), log };
        app.execute(SCHEMA).await;
        app
    }

    /// Runs statements without parameters.
    pub(crate) async fn execute(&self, sql: &str) {
        let mut tx = self.db.begin().await.expect("a transaction");
        tx.execute_raw(sql.to_owned()).await.expect(sql);
        tx.commit().await.expect("a commit");
    }

    pub(crate) async fn record(&self, entry: &Entry) {
        self.clock.advance(TimeDelta::milliseconds(1500));
        let mut tx = self.db.begin().await.expect("a transaction");
        self.log.record(&mut tx, entry.clone()).await.expect("an entry");
        tx.commit().await.expect("a commit");
    }

    /// Records one entry more than a batch has, in one transaction.
    pub(crate) async fn record_1001(&self) {
        let mut tx = self.db.begin().await.expect("a transaction");
        for number in 0..=BATCH_SIZE as u64 {
            self.log.record(&mut tx, entry(number)).await.expect("an entry");
        }
        tx.commit().await.expect("a commit");
    }

    pub(crate) async fn seal(&self) -> Option<Seal> {
        let mut tx = self.db.begin().await.expect("a transaction");
        let sealed = seal(&mut tx, &self.clock, &self.key).await.expect("a seal");
        tx.commit().await.expect("a commit");
        sealed
    }

    pub(crate) async fn verify(&self, published: &[PublishedSeal]) -> Verification {
        verify(&self.db, &AuditKeys::new([self.key.clone()]), published).await.expect("a verification")
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        self.db.query(sql).one::<(i64,)>().await.expect("a number").0
    }

    /// Records and seals three batches of three entries, and leaves one entry unsealed.
    pub(crate) async fn three_batches(&self) -> Vec<PublishedSeal> {
        let mut seals = Vec::new();
        for batch in 0..3 {
            for index in 0..3 {
                self.record(&entry(batch * 3 + index)).await;
            }
            seals.push(self.seal().await.expect("a seal").published());
        }
        self.record(&entry(9)).await;
        seals
    }
}

/// The columns of an entry after its id.
pub(crate) const COLUMNS: &str =
    "time, actor_type, actor_id, method, target_type, target_id, outcome, reason, fields, request_id, trace_id,
    occurrences, actor_digest, target_digest, actor_salt, actor_name, address, user_agent, target_salt, target_name";

/// Returns the statement that copies the new entries to the table of the others, without a seal.
pub(crate) fn copy_new_entries() -> String {
    format!("INSERT INTO audit_event (event_id, {COLUMNS}) SELECT event_id, {COLUMNS} FROM audit_new_event")
}

/// Returns an entry in which each column has a value.
pub(crate) fn entry(number: u64) -> Entry {
    Entry {
        actor: Actor::User { id: user_id(number), name: Some(format!("actor {number}")) },
        method: "/test.v1.TestService/Change".into(),
        target: Some(Target { kind: "user".into(), id: user_id(number + 100), name: Some(format!("target {number}")) }),
        outcome: "FAILED_PRECONDITION".into(),
        reason: "REASON".into(),
        fields: vec!["username".into(), "email".into()],
        request_id: format!("request-{number}"),
        trace_id: Some(format!("{number:032x}")),
        address: Some(IpAddr::from([192, 0, 2, 1])),
        user_agent: Some("curl/8".to_owned()),
        occurrences: None,
        is_actor_erased: false,
    }
}

pub(crate) fn user_id(number: u64) -> String {
    uuid::Uuid::from_u128(number.into()).to_string()
}
