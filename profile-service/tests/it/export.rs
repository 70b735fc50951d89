//! The export of everything that is held about one user.

use profile_service::proto::{
    DeactivateProfileRequest, ExportProfileRequest, Profile, SetFavoriteNoteRequest, UpdateProfileRequest, Visibility,
    export_profile_response::Item,
};
use testing::on_both_engines;
use tonic::{Code, Status};

use crate::app::{App, NOBODY, User, assert_not_found, assert_refused, create_note, note, reference};

async fn export(user: &User, user_id: &str) -> Result<Vec<Item>, Status> {
    let request = ExportProfileRequest { user_id: user_id.to_owned() };
    let mut stream = user.profiles().export_profile(request).await?.into_inner();
    let mut items = Vec::new();
    while let Some(answer) = stream.message().await? {
        items.push(answer.item.unwrap());
    }
    Ok(items)
}

fn text(item: &Item) -> String {
    match item {
        Item::Profile(profile) => format!("profile {}", profile.display_name),
        Item::Note(note) => format!("note {}", note.title),
        Item::Friend(friend) => format!("friend {}", friend.display_name),
        Item::FriendOf(friend) => format!("friend of {}", friend.display_name),
    }
}

on_both_engines! {
    async fn an_export_holds_everything_about_one_user(app: App) {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        let private = alice.writes("private", Visibility::Private).await;
        app.later();
        alice.writes("public", Visibility::Public).await;
        bob.writes("bob's", Visibility::Public).await;
        alice.calls_a_friend(&carol).await;
        alice.calls_a_friend(&bob).await;
        carol.calls_a_friend(&alice).await;
        bob.calls_a_friend(&carol).await;
        carol.profiles().deactivate_profile(DeactivateProfileRequest { user_id: "me".to_owned() }).await.unwrap();
        let profile = Profile { user_id: "me".to_owned(), bio: "bio".to_owned(), ..Profile::default() };
        alice.profiles().update_profile(UpdateProfileRequest { profile: Some(profile), update_mask: None }).await.unwrap();
        let favorite = SetFavoriteNoteRequest { user_id: "me".to_owned(), note: Some(reference(&private)) };
        alice.profiles().set_favorite_note(favorite).await.unwrap();

        let own = export(&alice, "me").await.unwrap();
        let texts: Vec<_> = own.iter().map(text).collect();
        assert_eq!(texts, ["profile alice", "note public", "note private", "friend bob", "friend carol", "friend of carol"]);
        assert_eq!(own[0], Item::Profile(alice.profile("me").await.unwrap()));
        assert_eq!(own[2], Item::Note(private));
        let Item::FriendOf(carol_s) = &own[5] else { panic!("{own:?}") };
        assert_eq!(carol_s.user_id, carol.id);
        assert!(carol_s.create_time.is_some());
        // It is the same, whoever asks for it.
        let viewer = app.user_with("viewer", "profile.view_profile").await;
        assert_eq!(export(&viewer, &alice.id).await.unwrap(), own);
    }

    async fn an_export_is_for_the_owner_and_who_holds_the_permission(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        for user_id in [alice.id.as_str(), NOBODY, "x"] {
            assert_refused(export(&bob, user_id).await, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        let viewer = app.user_with("viewer", "profile.view_profile").await;
        assert_not_found(export(&viewer, NOBODY).await, "user_id");
    }

    async fn an_export_has_no_largest_size(app: App) {
        let alice = app.user("alice").await;
        let body = "\u{1F600}".repeat(10_000);
        for number in 0..110 {
            alice.notes().create_note(create_note("me", "", note(&format!("{number}"), &body, Visibility::Private))).await.unwrap();
            app.later();
        }
        let texts: Vec<_> = export(&alice, "me").await.unwrap().iter().map(text).collect();
        let notes = (0..110).rev().map(|number| format!("note {number}"));
        assert_eq!(texts, std::iter::once("profile alice".to_owned()).chain(notes).collect::<Vec<_>>());
    }
}
