//! The list of a user's notes: the newest first, page by page.

use migrate::{Mode, Target};
use profile_service::{
    MIGRATIONS,
    proto::{ListNotesRequest, ListNotesResponse, Note, Visibility},
};
use testing::on_both_engines;
use tonic::{Code, Status};

use crate::app::{App, NOBODY, User, assert_invalid, assert_not_found, assert_refused, create_note, note};

async fn page(reader: &User, user_id: &str, page_size: i32, page_token: &str) -> Result<(Vec<Note>, String), Status> {
    let request = ListNotesRequest {
        user_id: user_id.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
        ..ListNotesRequest::default()
    };
    let answer = reader.notes().list_notes(request).await?.into_inner();
    Ok((answer.notes, answer.next_page_token))
}

fn of(user_id: &str) -> ListNotesRequest {
    ListNotesRequest { user_id: user_id.to_owned(), ..ListNotesRequest::default() }
}

async fn list(reader: &User, request: ListNotesRequest) -> Result<ListNotesResponse, Status> {
    reader.notes().list_notes(request).await.map(tonic::Response::into_inner)
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

    /// JSON and XML write a control character with six bytes.
    async fn no_page_is_larger_than_a_mebibyte_in_any_format(app: App) {
        let alice = app.user("alice").await;
        for number in 0..40 {
            let long = note(&format!("{number:02}"), &"\u{1}".repeat(10_000), Visibility::Private);
            alice.notes().create_note(create_note("me", "", long)).await.unwrap();
            app.later();
        }
        for (format, opening) in [("application/json", "{"), ("application/xml", "<?xml")] {
            let (mut pages, mut notes, mut token) = (0, 0, String::new());
            loop {
                let line = format!("GET /v1/profiles/me/notes?page_size=1000&page_token={token}");
                let answer = alice.sends(&app, &line, &[("accept", format)], b"").await;
                assert!(answer.status == 200 && answer.text().starts_with(opening), "{}", answer.status);
                assert!(answer.body.len() <= (1 << 20) + 1024, "{format}: {} bytes", answer.body.len());
                notes += answer.text().matches("VISIBILITY_PRIVATE").count();
                pages += 1;
                let next = answer.text().split_once(if format.ends_with("xml") { "<nextPageToken>" } else { "\"nextPageToken\":\"" });
                next.and_then(|(_, rest)| rest.split(['<', '"']).next()).unwrap_or_default().clone_into(&mut token);
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!((pages, notes), (3, 40), "{format}");
        }
        // Pages have the same notes in every format, so that a token of one is valid in another.
        let (first, _) = page(&alice, "me", 1000, "").await.unwrap();
        assert_eq!(first.len(), 17);
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

    async fn titles_are_searched_without_regard_to_case(app: App) {
        let alice = app.user("alice").await;
        for title in ["Straße nach Süden", "STRASSE", "Σίσυφος", "100% sure_thing!", "other"] {
            alice.writes(title, Visibility::Private).await;
            app.later();
        }
        for (search, expected) in [
            ("strasse", &["STRASSE", "Straße nach Süden"][..]),
            ("SU\u{308}D", &["Straße nach Süden"]),
            ("ΣΊΣ", &["Σίσυφος"]),
            ("0% S", &["100% sure_thing!"]),
            ("e_t", &["100% sure_thing!"]),
            ("g!", &["100% sure_thing!"]),
            ("%", &["100% sure_thing!"]),
            ("none", &[]),
            ("", &["other", "100% sure_thing!", "Σίσυφος", "STRASSE", "Straße nach Süden"]),
        ] {
            let answer = list(&alice, ListNotesRequest { search: search.to_owned(), with_total_size: true, ..of("me") }).await.unwrap();
            assert_eq!(titles(&answer.notes), expected, "{search}");
            assert_eq!(answer.total_size, Some(i32::try_from(expected.len()).unwrap()), "{search}");
        }
        let renamed = list(&alice, ListNotesRequest { search: "OTHER".to_owned(), ..of("me") }).await.unwrap().notes.remove(0);
        let update = profile_service::proto::UpdateNoteRequest { note: Some(Note { title: "Ångström".to_owned(), ..renamed }), update_mask: None };
        alice.notes().update_note(update).await.unwrap();
        for (search, count) in [("other", 0), ("åNGSTRÖM", 1)] {
            let answer = list(&alice, ListNotesRequest { search: search.to_owned(), ..of("me") }).await.unwrap();
            assert_eq!(answer.notes.len(), count, "{search}");
        }
    }

    async fn notes_are_filtered_by_visibility_and_time(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let mut times = Vec::new();
        for (title, visibility) in [("a", Visibility::Private), ("b", Visibility::Public), ("c", Visibility::Public), ("d", Visibility::Friends)] {
            times.push(alice.writes(title, visibility).await.create_time);
            app.later();
        }
        let public = ListNotesRequest { visibility: Visibility::Public.into(), with_total_size: true, ..of("me") };
        let answer = list(&alice, public).await.unwrap();
        assert_eq!((titles(&answer.notes), answer.total_size), (vec!["c", "b"], Some(2)));
        for (start, end, expected) in [
            (times[1], None, vec!["d", "c", "b"]),
            (None, times[1], vec!["a"]),
            (times[1], times[3], vec!["c", "b"]),
            (times[3], times[1], vec![]),
        ] {
            let answer = list(&alice, ListNotesRequest { create_time_start: start, create_time_end: end, ..of("me") }).await.unwrap();
            assert_eq!((titles(&answer.notes), answer.total_size), (expected, None));
        }
        // The number is that of the notes that the reader can see.
        let answer = list(&bob, ListNotesRequest { with_total_size: true, page_size: 1, ..of(&alice.id) }).await.unwrap();
        assert_eq!((titles(&answer.notes), answer.total_size), (vec!["c"], Some(2)));
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (253_402_300_800, 0)] {
            let create_time_end = Some(prost_types::Timestamp { seconds, nanos });
            let refused = list(&alice, ListNotesRequest { create_time_end, ..of("me") }).await;
            assert_invalid(refused, &[("create_time_end", "TIMESTAMP_VALID")]);
        }
    }

    async fn notes_are_listed_in_the_requested_order(app: App) {
        let alice = app.user("alice").await;
        let mut written = Vec::new();
        for title in ["b", "A", "C", "a", "ä"] {
            written.push(alice.writes(title, Visibility::Private).await);
            app.later();
        }
        let update = profile_service::proto::UpdateNoteRequest { note: Some(Note { body: "x".to_owned(), ..written[1].clone() }), update_mask: None };
        alice.notes().update_note(update).await.unwrap();
        for (order_by, expected) in [
            ("", vec!["ä", "a", "C", "A", "b"]),
            ("create_time", vec!["b", "A", "C", "a", "ä"]),
            ("create_time desc", vec!["ä", "a", "C", "A", "b"]),
            ("update_time", vec!["b", "C", "a", "ä", "A"]),
            ("update_time desc", vec!["A", "ä", "a", "C", "b"]),
            ("title", vec!["A", "a", "b", "C", "ä"]),
            ("  title   desc", vec!["ä", "C", "b", "a", "A"]),
        ] {
            let (mut token, mut seen) = (String::new(), Vec::new());
            loop {
                let request = ListNotesRequest { order_by: order_by.to_owned(), page_size: 2, page_token: token, ..of("me") };
                let answer = list(&alice, request).await.unwrap();
                seen.extend(answer.notes.into_iter().map(|note| note.title));
                token = answer.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, expected, "{order_by}");
        }
        for order_by in ["body", "title, create_time", "create_time down", "title;"] {
            let refused = list(&alice, ListNotesRequest { order_by: order_by.to_owned(), ..of("me") }).await;
            assert_invalid(refused, &[("order_by", "ORDER_BY_FIELD")]);
        }
    }

    async fn a_page_token_belongs_to_its_filter_and_order(app: App) {
        let alice = app.user("alice").await;
        for title in ["one", "two", "three"] {
            alice.writes(title, Visibility::Private).await;
        }
        let first = ListNotesRequest { page_size: 1, order_by: "title".to_owned(), ..of("me") };
        let page_token = list(&alice, first.clone()).await.unwrap().next_page_token;
        let next = ListNotesRequest { page_token, ..first };
        let time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        for other in [
            ListNotesRequest { order_by: String::new(), ..next.clone() },
            ListNotesRequest { order_by: "title desc".to_owned(), ..next.clone() },
            ListNotesRequest { search: "t".to_owned(), ..next.clone() },
            ListNotesRequest { visibility: Visibility::Private.into(), ..next.clone() },
            ListNotesRequest { create_time_start: time, ..next.clone() },
            ListNotesRequest { create_time_end: time, ..next.clone() },
        ] {
            let refused = list(&alice, other).await;
            assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);
        }
        let same = ListNotesRequest { order_by: "title asc".to_owned(), page_size: 5, with_total_size: true, ..next };
        let answer = list(&alice, same).await.unwrap();
        assert_eq!((titles(&answer.notes), answer.total_size), (vec!["three", "two"], Some(3)));
    }

    async fn notes_from_before_the_title_key_are_found(app: App) {
        let alice = app.user("alice").await;
        for title in ["Old", "old too", "other"] {
            alice.writes(title, Visibility::Private).await;
        }
        let App { database, .. } = app;
        let db = database.open();
        migrate::migrate_to(&db, &MIGRATIONS, &"0003".parse::<Target>().unwrap(), Mode::Run, |_| {}).await.unwrap();
        migrate::migrate(&db, &MIGRATIONS).await.unwrap();
        let app = App::on(database, db).await;
        let alice = app.caller(alice.claims);
        loop {
            // The service computes the keys while it serves.
            let request = ListNotesRequest { search: "OLD".to_owned(), order_by: "title".to_owned(), ..of("me") };
            let answer = list(&alice, request).await.unwrap();
            if answer.notes.len() == 2 {
                assert_eq!(titles(&answer.notes), ["Old", "old too"]);
                break;
            }
        }
        assert_eq!(page(&alice, "me", 0, "").await.unwrap().0.len(), 3);
    }
}
