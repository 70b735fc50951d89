//! Notes: created once, updated by mask and etag, deleted.

use profile_service::proto::{
    BatchGetNotesRequest, CreateNoteRequest, DeleteNoteRequest, GetNoteRequest, Note, UpdateNoteRequest, Visibility,
};
use prost_types::FieldMask;
use testing::on_both_engines;
use tonic::{Code, Response, Status};

use crate::app::{App, NOBODY, User, assert_invalid, assert_not_found, assert_refused, create_note, note};

const CHOSEN: &str = "01890a5d-ac96-774b-bcce-b302099a0001";

async fn create(user: &User, user_id: &str, note_id: &str, note: Note) -> Result<Note, Status> {
    user.notes().create_note(create_note(user_id, note_id, note)).await.map(Response::into_inner)
}

async fn get(user: &User, note: &Note) -> Result<Note, Status> {
    let request = GetNoteRequest { user_id: note.user_id.clone(), note_id: note.note_id.clone() };
    user.notes().get_note(request).await.map(Response::into_inner)
}

async fn update(user: &User, note: Note, mask: &[&str]) -> Result<Note, Status> {
    let update_mask = (!mask.is_empty()).then(|| FieldMask { paths: mask.iter().map(ToString::to_string).collect() });
    user.notes().update_note(UpdateNoteRequest { note: Some(note), update_mask }).await.map(Response::into_inner)
}

async fn delete(user: &User, note: &Note, etag: &str) -> Result<(), Status> {
    let request = DeleteNoteRequest { user_id: note.user_id.clone(), note_id: note.note_id.clone(), etag: etag.to_owned() };
    user.notes().delete_note(request).await.map(Response::into_inner)
}

/// Returns the request that updates the note.
fn of(stored: &Note, change: Note) -> Note {
    Note { user_id: stored.user_id.clone(), note_id: stored.note_id.clone(), ..change }
}

on_both_engines! {
    async fn a_note_is_there_once_it_is_created(app: App) {
        let alice = app.user("alice").await;
        let content = note("Title", "One.\n\tTwo. \u{1F600}", Visibility::Unspecified);
        let created = create(&alice, "me", "", content.clone()).await.unwrap();
        assert_eq!((&created.user_id, created.visibility()), (&alice.id, Visibility::Private));
        assert_eq!((&created.title, &created.body), (&content.title, &content.body));
        let now = prost_types::Timestamp { seconds: app.clock.now().timestamp(), nanos: 0 };
        assert_eq!((created.create_time, created.update_time), (Some(now), Some(now)));
        assert_eq!(get(&alice, &created).await.unwrap(), created);
        let other = create(&alice, "me", "", content).await.unwrap();
        assert_ne!(other.note_id, created.note_id);
    }

    async fn a_note_with_a_chosen_id_is_created_once(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let content = note("Title", "Body", Visibility::Public);
        let created = create(&alice, "me", CHOSEN, content.clone()).await.unwrap();
        assert_eq!(created.note_id, CHOSEN);
        app.later();
        assert_eq!(create(&alice, &alice.id, &CHOSEN.to_uppercase(), content.clone()).await.unwrap(), created);
        for other in [note("Other", "Body", Visibility::Public), note("Title", "", Visibility::Public), note("Title", "Body", Visibility::Unspecified)] {
            let refused = create(&alice, "me", CHOSEN, other).await;
            assert_refused(refused, Code::AlreadyExists, "ALREADY_EXISTS", &[("note_id", "NOTE_ID_SAME_CONTENT")]);
        }
        assert_eq!(get(&alice, &created).await.unwrap(), created);
        // The id is the owner's own.
        let of_bob = create(&bob, "me", CHOSEN, note("Bob's", "", Visibility::Public)).await.unwrap();
        assert_eq!((of_bob.note_id.as_str(), of_bob.title.as_str()), (CHOSEN, "Bob's"));
        // The ids inside the note are ignored.
        let strange = Note { user_id: bob.id.clone(), note_id: NOBODY.to_owned(), ..content };
        assert_eq!(create(&alice, "me", CHOSEN, strange).await.unwrap(), created);
    }

    async fn creates_of_the_same_note_at_the_same_time_answer_one_note(app: App) {
        let alice = app.user("alice").await;
        let creates: Vec<_> = (0..12).map(|number| {
            let request = create_note("me", CHOSEN, note(if number % 4 == 3 { "other" } else { "same" }, "", Visibility::Private));
            let mut notes = alice.notes();
            tokio::spawn(async move { notes.create_note(request).await.map(Response::into_inner) })
        }).collect();
        let mut answers = Vec::new();
        for create in creates {
            match create.await.unwrap() {
                Ok(note) => answers.push(note),
                Err(status) => assert_eq!(status.code(), Code::AlreadyExists, "{status:?}"),
            }
        }
        assert!(matches!(answers.len(), 3 | 9), "{answers:?}");
        assert!(answers.iter().all(|note| *note == answers[0]));
    }

    async fn an_update_writes_what_its_mask_names(app: App) {
        let alice = app.user("alice").await;
        let first = create(&alice, "me", "", note("Title", "Body", Visibility::Public)).await.unwrap();
        app.later();
        let second = update(&alice, of(&first, note("New", "", Visibility::Unspecified)), &[]).await.unwrap();
        assert_eq!((second.title.as_str(), second.body.as_str(), second.visibility()), ("New", "Body", Visibility::Public));
        assert_eq!(second.create_time, first.create_time);
        assert!(second.etag != first.etag && second.update_time != first.update_time);
        let third = update(&alice, of(&first, note("ignored", "", Visibility::Friends)), &["body", "visibility"]).await.unwrap();
        assert_eq!((third.title.as_str(), third.body.as_str(), third.visibility()), ("New", "", Visibility::Friends));
        // Named and not specified is private, as it is where a note is created.
        let fourth = update(&alice, of(&first, note("All", "of it", Visibility::Unspecified)), &["*"]).await.unwrap();
        assert_eq!((fourth.title.as_str(), fourth.body.as_str(), fourth.visibility()), ("All", "of it", Visibility::Private));
        assert_eq!(get(&alice, &first).await.unwrap(), fourth);
        app.later();
        assert_eq!(update(&alice, of(&first, Note::default()), &[]).await.unwrap(), fourth);
    }

    async fn a_stale_etag_is_refused_and_none_overwrites(app: App) {
        let alice = app.user("alice").await;
        let first = create(&alice, "me", "", note("First", "", Visibility::Private)).await.unwrap();
        let change = |title, etag: &str| Note { etag: etag.to_owned(), ..of(&first, note(title, "", Visibility::Unspecified)) };
        let second = update(&alice, change("Second", &first.etag), &[]).await.unwrap();
        let stale = update(&alice, change("Third", &first.etag), &[]).await;
        assert_refused(stale, Code::Aborted, "ETAG_STALE", &[("note.etag", "ETAG_CURRENT")]);
        assert_refused(delete(&alice, &first, &first.etag).await, Code::Aborted, "ETAG_STALE", &[("etag", "ETAG_CURRENT")]);
        assert_eq!(get(&alice, &first).await.unwrap(), second);
        let third = update(&alice, change("Third", ""), &[]).await.unwrap();
        delete(&alice, &first, &third.etag).await.unwrap();
        assert_not_found(get(&alice, &first).await, "note_id");
    }

    async fn updates_at_the_same_time_lose_nothing(app: App) {
        let alice = app.user("alice").await;
        let stored = create(&alice, "me", "", note("Title", "Body", Visibility::Private)).await.unwrap();
        let changes = [note("T", "", Visibility::Unspecified), note("", "B", Visibility::Unspecified), note("", "", Visibility::Public)];
        let updates: Vec<_> = changes.into_iter().map(|change| {
            let (mut notes, request) = (alice.notes(), UpdateNoteRequest { note: Some(of(&stored, change)), update_mask: None });
            tokio::spawn(async move { notes.update_note(request).await })
        }).collect();
        for update in updates {
            update.await.unwrap().unwrap();
        }
        let stored = get(&alice, &stored).await.unwrap();
        assert_eq!((stored.title.as_str(), stored.body.as_str(), stored.visibility()), ("T", "B", Visibility::Public));
    }

    async fn bad_fields_are_refused_by_name(app: App) {
        let alice = app.user("alice").await;
        let stored = create(&alice, "me", "", note("ä".repeat(200).as_str(), "ä".repeat(10_000).as_str(), Visibility::Private)).await.unwrap();
        for (title, rule) in [("", "TITLE_NOT_BLANK"), (" \t", "TITLE_ONE_LINE"), ("  ", "TITLE_NOT_BLANK"), ("a\u{85}b", "TITLE_ONE_LINE"), ("a\nb", "TITLE_ONE_LINE")] {
            let bad = note(title, "", Visibility::Private);
            assert_invalid(create(&alice, "me", "", bad.clone()).await, &[("note.title", rule)]);
            assert_invalid(update(&alice, of(&stored, bad), &["title"]).await, &[("note.title", rule)]);
        }
        let long = "a".repeat(201);
        assert_invalid(create(&alice, "me", "", note(&long, "", Visibility::Private)).await, &[("note.title", "STRING_MAX_LEN")]);
        let long = "a".repeat(10_001);
        assert_invalid(create(&alice, "me", "", note("a", &long, Visibility::Private)).await, &[("note.body", "STRING_MAX_LEN")]);
        let both = [("note.title", "STRING_NO_NUL"), ("note.body", "STRING_NO_NUL")];
        assert_invalid(create(&alice, "me", "", note("a\0", "a\0", Visibility::Private)).await, &both);
        assert_invalid(update(&alice, of(&stored, note("a\0", "a\0", Visibility::Private)), &["*"]).await, &both);
        let unknown = Note { visibility: 4, ..note("a", "", Visibility::Private) };
        assert_invalid(create(&alice, "me", "", unknown).await, &[("note.visibility", "ENUM_DEFINED_ONLY")]);
        assert_invalid(create(&alice, "me", "x", note("a", "", Visibility::Private)).await, &[("note_id", "STRING_UUID")]);
        let nothing = alice.notes().create_note(CreateNoteRequest { user_id: "me".to_owned(), ..CreateNoteRequest::default() }).await;
        assert_invalid(nothing, &[("note", "REQUIRED")]);
        let nameless = update(&alice, Note { user_id: "me".to_owned(), ..note("a", "", Visibility::Private) }, &[]).await;
        assert_invalid(nameless, &[("note.note_id", "STRING_UUID")]);
        let unknown = update(&alice, of(&stored, note("a", "", Visibility::Private)), &["owner"]).await;
        assert_refused(unknown, Code::InvalidArgument, "MASK_PATH_INVALID", &[("update_mask", "UPDATE_MASK_PATH")]);
    }

    async fn only_the_owner_and_who_holds_the_permission_write(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let editor = app.user_with("editor", "profile.add_note profile.change_note profile.delete_note").await;
        let stored = create(&alice, "me", "", note("Title", "", Visibility::Public)).await.unwrap();
        // Before anything is said about what exists or what is valid.
        let missing = Note { note_id: NOBODY.to_owned(), ..stored.clone() };
        let long = note(&"a".repeat(300), "", Visibility::Public);
        for refused in [
            create(&bob, &alice.id, "", note("Title", "", Visibility::Public)).await,
            create(&bob, NOBODY, "x", long.clone()).await,
            update(&bob, stored.clone(), &[]).await,
            update(&bob, missing.clone(), &["nothing"]).await,
            update(&bob, of(&missing, long), &[]).await,
            delete(&bob, &stored, "").await.map(|()| Note::default()),
            delete(&bob, &missing, "\"9\"").await.map(|()| Note::default()),
        ] {
            assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        let refused = app.stranger().get_note(GetNoteRequest { user_id: "x".to_owned(), note_id: NOBODY.to_owned() }).await;
        assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);

        let created = create(&editor, &alice.id, "", note("For Alice", "", Visibility::Private)).await.unwrap();
        assert_eq!(created.user_id, alice.id);
        assert_eq!(update(&editor, of(&created, note("Better", "", Visibility::Unspecified)), &[]).await.unwrap().title, "Better");
        delete(&editor, &created, "").await.unwrap();
        assert_not_found(create(&editor, NOBODY, "", note("Title", "", Visibility::Public)).await, "user_id");
    }

    async fn what_is_not_there_is_not_found(app: App) {
        let alice = app.user("alice").await;
        let missing = Note { user_id: alice.id.clone(), note_id: NOBODY.to_owned(), ..note("a", "", Visibility::Private) };
        assert_not_found(get(&alice, &missing).await, "note_id");
        assert_not_found(update(&alice, missing.clone(), &[]).await, "note.note_id");
        assert_not_found(delete(&alice, &missing, "").await, "note_id");
        let stored = create(&alice, "me", "", note("Title", "", Visibility::Private)).await.unwrap();
        delete(&alice, &stored, "").await.unwrap();
        assert_not_found(delete(&alice, &stored, "").await, "note_id");
        assert_not_found(get(&alice, &stored).await, "note_id");
    }

    async fn a_batch_keeps_the_order_and_names_what_is_missing(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let one = alice.writes("one", Visibility::Public).await;
        let two = alice.writes("two", Visibility::Public).await;
        let hidden = alice.writes("hidden", Visibility::Private).await;
        let batch = async |reader: &User, note_ids: &[&str]| {
            let request = BatchGetNotesRequest { user_id: alice.id.clone(), note_ids: note_ids.iter().map(ToString::to_string).collect() };
            let answer = reader.notes().batch_get_notes(request).await?;
            Ok::<_, Status>(answer.into_inner().notes.into_iter().map(|note| note.title).collect::<Vec<_>>())
        };
        assert_eq!(batch(&bob, &[&two.note_id, &one.note_id, &two.note_id]).await.unwrap(), ["two", "one", "two"]);
        assert_eq!(batch(&alice, &[&hidden.note_id]).await.unwrap(), ["hidden"]);
        assert_not_found(batch(&bob, &[&two.note_id, &one.note_id, &two.note_id, &hidden.note_id]).await, "note_ids[3]");
        assert_not_found(batch(&bob, &[NOBODY, &hidden.note_id]).await, "note_ids[0]");
        assert_invalid(batch(&bob, &[&one.note_id, "x"]).await, &[("note_ids[1]", "STRING_UUID")]);
        assert_invalid(batch(&bob, &[NOBODY; 101]).await, &[("note_ids", "REPEATED_MAX_ITEMS")]);
    }
}
