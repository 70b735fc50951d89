//! A client that leaves in the middle of a call loses nobody's acknowledged write.

use profile_service::proto::{ListNotesRequest, Visibility};
use store::Executor;
use testing::on_both_engines;
use tokio::task::{self, JoinSet};

use crate::app::{App, create_note, note};

const CALLS: usize = 400;

on_both_engines! {
    async fn acknowledged_writes_are_there_when_other_calls_were_cancelled(app: App) {
        let alice = app.user("alice").await;
        let mut calls = JoinSet::new();
        for index in 0..CALLS {
            let (mut notes, title) = (alice.notes(), format!("note {index}"));
            let cancelled = calls.spawn(async move {
                let answer = notes.create_note(create_note("me", "", note(&title, "", Visibility::Private))).await;
                answer.expect("a note").into_inner().note_id
            });
            // Every other client leaves, each after another number of steps: some before the BEGIN, some in it, some after.
            if index % 2 == 0 {
                for _ in 0..index % 61 {
                    task::yield_now().await;
                }
                cancelled.abort();
            }
        }
        let mut acknowledged = Vec::new();
        while let Some(outcome) = calls.join_next().await {
            acknowledged.extend(outcome.ok());
        }
        assert!(acknowledged.len() >= CALLS / 2, "{}", acknowledged.len());

        let request = ListNotesRequest { user_id: "me".to_owned(), page_size: 1000, ..ListNotesRequest::default() };
        let listed = alice.notes().list_notes(request).await.expect("a list").into_inner().notes;
        let missing = acknowledged.iter().filter(|id| !listed.iter().any(|note| note.note_id == **id)).count();
        assert_eq!(missing, 0, "acknowledged writes are missing");

        // Read over another connection: the service's own connections could still be inside a transaction.
        let elsewhere = app.database.open();
        let (stored,): (i64,) = elsewhere.query("SELECT COUNT(*) FROM notes").one().await.expect("a count");
        assert!(usize::try_from(stored).expect("a count") >= acknowledged.len());
        if app.database.url().starts_with("postgres") {
            let idle = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
            let (idle,): (i64,) = elsewhere.query(idle).one().await.expect("a count");
            assert_eq!(idle, 0, "sessions are idle in a transaction");
        }
    }
}
