//! Favorite notes: set, shown, listed from the note's side, and gone with the note.

use profile_service::proto::{
    ClearFavoriteNoteRequest, DeactivateProfileRequest, DeleteNoteRequest, ListFavoritedByRequest, Note, NoteReference, Profile,
    SetFavoriteNoteRequest, UpdateNoteRequest, Visibility,
};
use testing::on_both_engines;
use tonic::{Code, Response, Status};

use crate::app::{App, NOBODY, User, assert_invalid, assert_not_found, assert_refused, reference};

async fn set(user: &User, user_id: &str, note: NoteReference) -> Result<Profile, Status> {
    let request = SetFavoriteNoteRequest { user_id: user_id.to_owned(), note: Some(note) };
    user.profiles().set_favorite_note(request).await.map(Response::into_inner)
}

async fn clear(user: &User, user_id: &str) -> Result<Profile, Status> {
    user.profiles().clear_favorite_note(ClearFavoriteNoteRequest { user_id: user_id.to_owned() }).await.map(Response::into_inner)
}

async fn favorited_by(reader: &User, note: &Note, page_size: i32, page_token: &str) -> Result<(Vec<String>, String), Status> {
    let (user_id, note_id, page_token) = (note.user_id.clone(), note.note_id.clone(), page_token.to_owned());
    let answer =
        reader.notes().list_favorited_by(ListFavoritedByRequest { user_id, note_id, page_size, page_token }).await?.into_inner();
    Ok((answer.user_ids, answer.next_page_token))
}

async fn delete(owner: &User, note: &Note) {
    let request = DeleteNoteRequest { user_id: "me".to_owned(), note_id: note.note_id.clone(), etag: String::new() };
    owner.notes().delete_note(request).await.unwrap();
}

on_both_engines! {
    async fn a_favorite_is_set_replaced_and_cleared(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let one = bob.writes("one", Visibility::Public).await;
        let own = alice.writes("own", Visibility::Private).await;
        let before = alice.profile("me").await.unwrap();
        app.later();
        let first = set(&alice, "me", reference(&one)).await.unwrap();
        assert_eq!(first.favorite_note, Some(reference(&one)));
        assert!(first.etag != before.etag && first.update_time != before.update_time);
        assert_eq!(alice.profile("me").await.unwrap(), first);
        assert_eq!(bob.profile(&alice.id).await.unwrap(), first);
        // Again changes nothing.
        app.later();
        assert_eq!(set(&alice, "me", reference(&one)).await.unwrap(), first);
        let second = set(&alice, "me", reference(&own)).await.unwrap();
        assert_eq!(second.favorite_note, Some(reference(&own)));
        let third = clear(&alice, "me").await.unwrap();
        assert_eq!(third.favorite_note, None);
        assert_ne!(third.etag, second.etag);
        assert_eq!(clear(&alice, "me").await.unwrap(), third);
        assert_eq!(alice.profile("me").await.unwrap(), third);
    }

    async fn a_favorite_goes_when_its_note_goes(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let (one, two) = (bob.writes("one", Visibility::Public).await, bob.writes("two", Visibility::Public).await);
        let set_to_one = set(&alice, "me", reference(&one)).await.unwrap();
        set(&bob, "me", reference(&two)).await.unwrap();
        app.later();
        delete(&bob, &one).await;
        // Nobody has changed the profile.
        assert_eq!(alice.profile("me").await.unwrap(), Profile { favorite_note: None, ..set_to_one });
        assert_eq!(bob.profile("me").await.unwrap().favorite_note, Some(reference(&two)));
        assert_not_found(set(&alice, "me", reference(&one)).await, "note.note_id");
        assert_eq!(set(&alice, "me", reference(&two)).await.unwrap().favorite_note, Some(reference(&two)));
    }

    async fn a_favorite_is_a_note_that_the_caller_can_see(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let hidden = bob.writes("hidden", Visibility::Private).await;
        let before = alice.profile("me").await.unwrap();
        let missing = NoteReference { note_id: NOBODY.to_owned(), ..reference(&hidden) };
        let refused = set(&alice, "me", reference(&hidden)).await.unwrap_err();
        let same = set(&alice, "me", missing).await.unwrap_err();
        assert_eq!((refused.message(), refused.details()), (same.message(), same.details()));
        assert_not_found::<()>(Err(refused), "note.note_id");
        assert_not_found(set(&alice, "me", NoteReference { user_id: NOBODY.to_owned(), ..reference(&hidden) }).await, "note.note_id");
        assert_eq!(alice.profile("me").await.unwrap(), before);

        let nothing = SetFavoriteNoteRequest { user_id: "me".to_owned(), note: None };
        assert_invalid(alice.profiles().set_favorite_note(nothing).await, &[("note", "REQUIRED")]);
        let nonsense = NoteReference { user_id: "me".to_owned(), note_id: String::new() };
        assert_invalid(set(&alice, "me", nonsense).await, &[("note.user_id", "STRING_UUID"), ("note.note_id", "STRING_UUID")]);
    }

    async fn only_the_owner_and_who_holds_the_permission_choose(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let editor = app.user_with("editor", "profile.change_profile").await;
        let (public, private) = (alice.writes("public", Visibility::Public).await, alice.writes("private", Visibility::Private).await);
        for refused in [set(&bob, &alice.id, reference(&public)).await, clear(&bob, &alice.id).await, clear(&bob, NOBODY).await] {
            assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        // The caller must be able to see the note.
        assert_not_found(set(&editor, &alice.id, reference(&private)).await, "note.note_id");
        assert_eq!(set(&editor, &alice.id, reference(&public)).await.unwrap().favorite_note, Some(reference(&public)));
        assert_not_found(set(&editor, NOBODY, reference(&public)).await, "user_id");
        assert_not_found(clear(&editor, NOBODY).await, "user_id");
        // A favorite that the caller can't see is cleared all the same.
        set(&alice, "me", reference(&private)).await.unwrap();
        clear(&editor, &alice.id).await.unwrap();
        assert_eq!(alice.profile("me").await.unwrap().favorite_note, None);
    }

    async fn a_reader_is_not_shown_a_favorite_that_they_can_t_see(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let note = alice.writes("note", Visibility::Friends).await;
        set(&alice, "me", reference(&note)).await.unwrap();
        assert_eq!(bob.profile(&alice.id).await.unwrap().favorite_note, None);
        alice.calls_a_friend(&bob).await;
        assert_eq!(bob.profile(&alice.id).await.unwrap().favorite_note, Some(reference(&note)));
        set(&bob, "me", reference(&note)).await.unwrap();
        let hide = Note { visibility: Visibility::Private.into(), etag: String::new(), ..note.clone() };
        alice.notes().update_note(UpdateNoteRequest { note: Some(hide), update_mask: None }).await.unwrap();
        assert_eq!(bob.profile("me").await.unwrap().favorite_note, None);
        assert_eq!(alice.profile(&bob.id).await.unwrap().favorite_note, Some(reference(&note)));
    }

    async fn a_note_knows_whose_favorite_it_is(app: App) {
        let owner = app.user("owner").await;
        let note = owner.writes("note", Visibility::Public).await;
        let other = owner.writes("other", Visibility::Public).await;
        let mut by_username = Vec::new();
        for username in ["carol", "Alice", "bob", "dave"] {
            let user = app.user(username).await;
            set(&user, "me", reference(&note)).await.unwrap();
            by_username.push((username.to_lowercase(), user));
        }
        by_username.sort_by_key(|(username, _)| username.clone());
        let ids: Vec<_> = by_username.iter().map(|(_, user)| user.id.clone()).collect();
        assert_eq!(favorited_by(&owner, &note, 0, "").await.unwrap(), (ids.clone(), String::new()));
        assert_eq!(favorited_by(&owner, &other, 0, "").await.unwrap(), (vec![], String::new()));

        let (first, token) = favorited_by(&owner, &note, 3, "").await.unwrap();
        assert_eq!(first, ids[..3]);
        assert_eq!(favorited_by(&owner, &note, 3, &token).await.unwrap(), (vec![ids[3].clone()], String::new()));
        let refused = favorited_by(&owner, &other, 3, &token).await;
        assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);

        clear(&by_username[1].1, "me").await.unwrap();
        set(&by_username[2].1, "me", reference(&other)).await.unwrap();
        let request = DeactivateProfileRequest { user_id: "me".to_owned() };
        by_username[3].1.profiles().deactivate_profile(request).await.unwrap();
        assert_eq!(favorited_by(&owner, &note, 0, "").await.unwrap().0, ids[..1]);
        assert_eq!(favorited_by(&owner, &other, 0, "").await.unwrap().0, ids[2..3]);
        delete(&owner, &note).await;
        assert_not_found(favorited_by(&owner, &note, 0, "").await, "note_id");
    }
}
