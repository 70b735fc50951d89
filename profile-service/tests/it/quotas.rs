//! The amount of data that a user may store.

use profile_service::{
    MIGRATIONS, Quotas,
    proto::{AddFriendRequest, DeleteNoteRequest, Note, UpdateNoteRequest, Visibility},
};
use store::Executor;
use testing::{Engine, TestDatabase, on_both_engines};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::app::{App, User, assert_refused, create_note, note};

const CHOSEN: &str = "01890a5d-ac96-774b-bcce-b302099a0001";

/// Allows 1000 bytes of notes, three notes and two friends.
struct Limited(App);

impl Limited {
    async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let db = database.open();
        migrate::migrate(&db, &MIGRATIONS).await.unwrap();
        Self(App::with_quotas(database, db, Quotas { note_bytes: 1000, notes: 3, friends: 2 }).await)
    }
}

/// Creates a note of this many bytes.
async fn create(user: &User, note_id: &str, bytes: usize) -> Result<Note, Status> {
    // "é" has two bytes.
    let body = "é".repeat((bytes - 2) / 2);
    let request = create_note("me", note_id, note("ab", &body, Visibility::Private));
    user.notes().create_note(request).await.map(Response::into_inner)
}

async fn update(user: &User, stored: &Note, bytes: usize) -> Result<Note, Status> {
    let note = Note { body: "x".repeat(bytes - 2), etag: String::new(), ..stored.clone() };
    user.notes().update_note(UpdateNoteRequest { note: Some(note), update_mask: None }).await.map(Response::into_inner)
}

async fn delete(user: &User, note: &Note) {
    let request =
        DeleteNoteRequest { user_id: note.user_id.clone(), note_id: note.note_id.clone(), ..DeleteNoteRequest::default() };
    user.notes().delete_note(request).await.unwrap();
}

async fn add_friend(user: &User, friend: &User) -> Result<(), Status> {
    let request = AddFriendRequest { user_id: "me".to_owned(), friend_id: friend.id.clone() };
    user.friends().add_friend(request).await.map(drop)
}

fn assert_exceeded<T: std::fmt::Debug>(outcome: Result<T, Status>, quota: &str) {
    let details = outcome.as_ref().expect_err("a refusal").get_error_details();
    let subjects: Vec<_> = details.quota_failure().expect("a quota").violations.iter().map(|one| one.subject.clone()).collect();
    assert_eq!(subjects, [quota]);
    assert!(details.retry_info().is_none(), "a retry alone does not help");
    assert_refused(outcome, Code::ResourceExhausted, "QUOTA_EXCEEDED", &[]);
}

on_both_engines! {
    async fn the_bytes_of_the_notes_of_a_user_are_limited(app: Limited) {
        let app = app.0;
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let first = create(&alice, CHOSEN, 600).await.unwrap();
        assert_exceeded(create(&alice, "", 402).await, "note_bytes_per_user");
        let second = create(&alice, "", 400).await.unwrap();
        // A retry of a call that has succeeded is not counted again.
        assert_eq!(create(&alice, CHOSEN, 600).await.unwrap(), first);
        assert_exceeded(update(&alice, &second, 401).await, "note_bytes_per_user");
        let shorter = update(&alice, &second, 200).await.unwrap();
        update(&alice, &first, 800).await.unwrap();
        delete(&alice, &shorter).await;
        create(&alice, "", 200).await.unwrap();
        create(&bob, "", 1000).await.unwrap();
    }

    async fn the_number_of_notes_of_a_user_is_limited(app: Limited) {
        let app = app.0;
        let alice = app.user("alice").await;
        let creates: Vec<_> = (0..8).map(|_| {
            let mut notes = alice.notes();
            tokio::spawn(async move { notes.create_note(create_note("me", "", note("a", "", Visibility::Private))).await })
        }).collect();
        let mut created = Vec::new();
        for create in creates {
            match create.await.unwrap() {
                Ok(note) => created.push(note.into_inner()),
                refused => assert_exceeded(refused.map(Response::into_inner), "notes_per_user"),
            }
        }
        assert_eq!(created.len(), 3);
        delete(&alice, &created[0]).await;
        create(&alice, CHOSEN, 2).await.unwrap();
        create(&alice, CHOSEN, 2).await.expect("a retry");
    }

    async fn the_number_of_friends_of_a_user_is_limited(app: Limited) {
        let app = app.0;
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let (carol, dora) = (app.user("carol").await, app.user("dora").await);
        add_friend(&alice, &bob).await.unwrap();
        add_friend(&alice, &carol).await.unwrap();
        assert_exceeded(add_friend(&alice, &dora).await, "friends_per_user");
        add_friend(&alice, &bob).await.expect("a friendship that exists");
        add_friend(&dora, &alice).await.expect("a friend of another user");
    }

    async fn notes_from_before_the_upgrade_count(app: Limited) {
        let app = app.0;
        let alice = app.user("alice").await;
        create(&alice, CHOSEN, 900).await.unwrap();
        let db = app.database.open();
        migrate::migrate_to(&db, &MIGRATIONS, &migrate::Target::Named("0005".to_owned()), migrate::Mode::Run, |_| {}).await.unwrap();
        migrate::migrate(&db, &MIGRATIONS).await.unwrap();
        let (bytes,): (i64,) = db.query("SELECT bytes FROM note_usage").one().await.unwrap();
        assert_eq!(bytes, 900);
    }
}
