//! The list of a user's notes: the newest first, page by page.

use profile_service::proto::{ListNotesRequest, Note, Visibility};
use testing::on_both_engines;
use tonic::{Code, Status};

use crate::app::{App, NOBODY, User, assert_invalid, assert_not_found, assert_refused, create_note, note};

async fn page(reader: &User, user_id: &str, page_size: i32, page_token: &str) -> Result<(Vec<Note>, String), Status> {
    let request = ListNotesRequest { user_id: user_id.to_owned(), page_size, page_token: page_token.to_owned() };
    let answer = reader.notes().list_notes(request).await?.into_inner();
    Ok((answer.notes, answer.next_page_token))
}

fn titles(notes: &[Note]) -> Vec<&str> {
    notes.iter().map(|note| note.title.as_str()).collect()
}

on_both_engines! {
    async fn the_newest_note_comes_first(app: App) {
        let alice = app.user("alice").await;
        assert_eq!(page(&alice, "me", 0, "").await.unwrap(), (vec![], String::new()));
        for title in ["one", "two", "three"] {
            alice.writes(title, Visibility::Private).await;
            app.later();
        }
        let (notes, token) = page(&alice, "me", 0, "").await.unwrap();
        assert_eq!((titles(&notes), token.as_str()), (vec!["three", "two", "one"], ""));
        assert_not_found(page(&alice, NOBODY, 0, "").await, "user_id");
        assert_invalid(page(&alice, "me", -1, "").await, &[("page_size", "INT32_GTE")]);
    }

    async fn pages_follow_one_another_while_notes_are_written_and_deleted(app: App) {
        let alice = app.user("alice").await;
        let mut expected = Vec::new();
        for number in 0..23 {
            // Some at the very same time, and some with a fraction of a second.
            if number % 3 == 0 {
                app.clock.advance(chrono::Duration::microseconds(333_333));
            }
            expected.push(alice.writes(&format!("{number}"), Visibility::Private).await);
        }
        expected.sort_by(|a, b| {
            let key = |note: &Note| (note.create_time.map(|time| (time.seconds, time.nanos)), note.note_id.clone());
            key(b).cmp(&key(a))
        });
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let (notes, next) = page(&alice, "me", 4, &token).await.unwrap();
            seen.extend(notes);
            if next.is_empty() {
                break;
            }
            assert_eq!(seen.len() % 4, 0);
            token = next;
            app.later();
            alice.writes("newer", Visibility::Private).await;
            // The note that the next page begins after need not be there any more.
            let last: &Note = seen.last().unwrap();
            let request = profile_service::proto::DeleteNoteRequest { user_id: last.user_id.clone(), note_id: last.note_id.clone(), etag: String::new() };
            alice.notes().delete_note(request).await.unwrap();
        }
        assert_eq!(seen, expected);
    }

    async fn notes_that_the_reader_can_t_see_leave_no_gap(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        for number in 0..9 {
            alice.writes(&format!("{number}"), if number % 3 == 0 { Visibility::Public } else { Visibility::Private }).await;
            app.later();
        }
        let (first, token) = page(&bob, &alice.id, 2, "").await.unwrap();
        assert_eq!(titles(&first), ["6", "3"]);
        let (second, token) = page(&bob, &alice.id, 2, &token).await.unwrap();
        assert_eq!((titles(&second), token.as_str()), (vec!["0"], ""));
    }

    async fn long_notes_make_short_pages(app: App) {
        let alice = app.user("alice").await;
        for number in 0..70 {
            let long = note(&format!("{number:02}"), &"\u{1F600}".repeat(10_000), Visibility::Private);
            alice.notes().create_note(create_note("me", "", long)).await.unwrap();
            app.later();
        }
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let (notes, next) = page(&alice, "me", 1000, &token).await.unwrap();
            assert!(notes.iter().map(|note| note.body.len()).sum::<usize>() <= 1 << 20);
            seen.extend(notes.into_iter().map(|note| note.title));
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, (0..70).rev().map(|number| format!("{number:02}")).collect::<Vec<_>>());
    }

    async fn a_page_may_be_larger_than_what_is_read_at_a_time(app: App) {
        let alice = app.user("alice").await;
        for number in 0..130 {
            alice.writes(&format!("{number}"), Visibility::Private).await;
            app.later();
        }
        let (notes, token) = page(&alice, "me", 128, "").await.unwrap();
        assert_eq!((notes.len(), notes[127].title.as_str()), (128, "2"));
        let (rest, token) = page(&alice, "me", 128, &token).await.unwrap();
        assert_eq!((titles(&rest), token.as_str()), (vec!["1", "0"], ""));
        let (all, token) = page(&alice, "me", 5000, "").await.unwrap();
        assert_eq!((all.len(), token.as_str()), (130, ""));
    }

    async fn a_page_token_belongs_to_its_list(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        for title in ["one", "two", "three"] {
            alice.writes(title, Visibility::Public).await;
            bob.writes(title, Visibility::Public).await;
        }
        let (_, token) = page(&alice, "me", 1, "").await.unwrap();
        let damaged = format!("{token}x");
        for (user_id, token) in [(bob.id.as_str(), token.as_str()), ("me", "nonsense"), ("me", &damaged)] {
            let refused = page(&alice, user_id, 1, token).await;
            assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);
        }
        assert_eq!(page(&alice, &alice.id, 5, &token).await.unwrap().0.len(), 2);
    }
}
