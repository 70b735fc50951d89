//! The visibility of notes, for each of the three visibilities, each of the four kinds of reader, and every method that reads.

use access::Actor;
use profile_service::proto::{
    BatchGetNotesRequest, GetNoteRequest, ListFavoritedByRequest, ListNotesRequest, Note, RemoveFriendRequest,
    SetFavoriteNoteRequest, UpdateNoteRequest, Visibility,
};
use testing::on_both_engines;

use crate::app::{App, NOBODY, User, assert_not_found, reference};

/// Asserts that every method returns the note to the reader if `expected` is true, and otherwise that every method responds as it
/// does for a note that does not exist.
async fn assert_sees(reader: &User, note: &Note, expected: bool) {
    let (user_id, note_id) = (note.user_id.clone(), note.note_id.clone());
    let found = reader.notes().get_note(GetNoteRequest { user_id: user_id.clone(), note_id: note_id.clone() }).await;
    let batch =
        reader.notes().batch_get_notes(BatchGetNotesRequest { user_id: user_id.clone(), note_ids: vec![note_id.clone()] }).await;
    let request =
        ListFavoritedByRequest { user_id: user_id.clone(), note_id: note_id.clone(), ..ListFavoritedByRequest::default() };
    let favorited_by = reader.notes().list_favorited_by(request).await;
    let favorite = SetFavoriteNoteRequest { user_id: "me".to_owned(), note: Some(reference(note)) };
    let favorite = reader.profiles().set_favorite_note(favorite).await;
    let list = reader.notes().list_notes(ListNotesRequest { user_id, ..ListNotesRequest::default() }).await.unwrap().into_inner();
    let is_listed = list.notes.iter().any(|listed| listed.note_id == note.note_id);
    let context = format!("{} reads {:?}", reader.claims.preferred_username.as_deref().unwrap(), note.visibility());
    assert_eq!(is_listed, expected, "{context}");
    if expected {
        assert_eq!(found.expect(&context).into_inner(), *note);
        assert_eq!(batch.expect(&context).into_inner().notes, std::slice::from_ref(note));
        favorited_by.expect(&context);
        assert_eq!(favorite.expect(&context).into_inner().favorite_note, Some(reference(note)));
    } else {
        assert_not_found(found, "note_id");
        assert_not_found(batch, "note_ids[0]");
        assert_not_found(favorited_by, "note_id");
        assert_not_found(favorite, "note.note_id");
    }
}

on_both_engines! {
    async fn a_reader_sees_what_visibility_lets_them_see(app: App) {
        let owner = app.user("owner").await;
        let friend = app.user("friend").await;
        let admirer = app.user("admirer").await;
        let stranger = app.user("stranger").await;
        owner.calls_a_friend(&friend).await;
        // A user who adds the owner as a friend does not gain access, because only the owner's own list of friends counts.
        admirer.calls_a_friend(&owner).await;
        let private = owner.writes("private", Visibility::Private).await;
        let friends = owner.writes("friends", Visibility::Friends).await;
        let public = owner.writes("public", Visibility::Public).await;
        for (reader, sees) in [
            (&owner, [true, true, true]),
            (&friend, [false, true, true]),
            (&admirer, [false, false, true]),
            (&stranger, [false, false, true]),
        ] {
            for (note, expected) in [&private, &friends, &public].into_iter().zip(sees) {
                assert_sees(reader, note, expected).await;
            }
        }
        let request = RemoveFriendRequest { user_id: "me".to_owned(), friend_id: friend.id.clone() };
        owner.friends().remove_friend(request).await.unwrap();
        assert_sees(&friend, &friends, false).await;
        assert_sees(&friend, &public, true).await;
    }

    async fn a_change_of_visibility_is_seen_at_once(app: App) {
        let (owner, reader) = (app.user("owner").await, app.user("reader").await);
        let note = owner.writes("note", Visibility::Private).await;
        for (visibility, expected) in [(Visibility::Public, true), (Visibility::Friends, false), (Visibility::Public, true), (Visibility::Private, false)] {
            let change = Note { visibility: visibility.into(), ..note.clone() };
            let change = UpdateNoteRequest { note: Some(Note { etag: String::new(), ..change }), update_mask: None };
            let note = owner.notes().update_note(change).await.unwrap().into_inner();
            assert_sees(&reader, &note, expected).await;
        }
    }

    async fn a_permission_to_write_is_none_to_read(app: App) {
        let owner = app.user("owner").await;
        let editor = app.user_with("editor", "profile.change_note profile.view_profile").await;
        let private = owner.writes("private", Visibility::Private).await;
        assert_sees(&editor, &private, false).await;
    }

    async fn a_service_reads_what_is_public(app: App) {
        let owner = app.user("owner").await;
        let mut claims = app.issuer.claims(access::UserId::new(&app.clock), "batch");
        claims.actor = Actor::Service;
        let service = app.caller(claims);
        owner.writes("private", Visibility::Private).await;
        owner.writes("friends", Visibility::Friends).await;
        owner.writes("public", Visibility::Public).await;
        let list = service.notes().list_notes(ListNotesRequest { user_id: owner.id.clone(), ..ListNotesRequest::default() }).await.unwrap();
        let titles: Vec<_> = list.into_inner().notes.into_iter().map(|note| note.title).collect();
        assert_eq!(titles, ["public"]);
        assert_eq!(service.profile(&owner.id).await.unwrap().display_name, "owner");
        assert_not_found(service.profile(NOBODY).await, "user_id");
    }
}
