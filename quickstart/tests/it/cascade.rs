//! Changes of a user reach the user's profile.

use auth_service::proto::{ActivateUserRequest, DeactivateUserRequest, UpdateUserRequest};
use profile_service::proto::{
    AddFriendRequest, CreateNoteRequest, GetProfileRequest, GetSyncStateRequest, ListFriendsRequest, ListProfilesRequest, Note,
    NoteReference, SetFavoriteNoteRequest, Visibility,
};
use store::Executor;
use testing::on_both_engines;
use testing::{assert_refused, http};
use tonic::Code;

use crate::pair::{Pair, User};

async fn names(reader: &User) -> Vec<String> {
    let listed = reader.profiles().list_profiles(ListProfilesRequest::default()).await.unwrap().into_inner().profiles;
    listed.into_iter().map(|profile| profile.display_name).collect()
}

pub async fn note(user: &User, title: &str) -> Result<Note, tonic::Status> {
    let note = Note { title: title.to_owned(), visibility: Visibility::Public.into(), ..Note::default() };
    let request = CreateNoteRequest { user_id: "me".to_owned(), note_id: String::new(), note: Some(note) };
    user.notes().create_note(request).await.map(tonic::Response::into_inner)
}

/// Deletes a user in the database, as `DeleteUser` does.
pub async fn delete(app: &Pair, user_id: &str) {
    let user_id = access::UserId::parse("user_id", user_id).unwrap();
    let mut change = app.event_log().begin().await.unwrap();
    let user = auth_service::users::lock(&mut change, user_id).await.unwrap().unwrap();
    auth_service::users::delete(&mut change, &app.clock, &user).await.unwrap();
    change.commit().await.unwrap();
}

on_both_engines! {
    async fn a_user_has_a_profile_before_the_first_call_and_its_name_follows(app: Pair) {
        let alice = app.register("alice").await;
        let root = app.superuser("root").await;
        app.assert_equal().await;
        assert_eq!(names(&root).await, ["alice", "root"]);
        let user = auth_service::proto::User { user_id: alice, username: "Zoe".to_owned(), ..Default::default() };
        root.users().update_user(UpdateUserRequest { user: Some(user), update_mask: None }).await.unwrap();
        app.assert_equal().await;
        assert_eq!(names(&root).await, ["root", "Zoe"]);
    }

    async fn a_user_who_is_deactivated_is_in_no_list(app: Pair) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        root.users().deactivate_user(DeactivateUserRequest { user_id: alice.id.clone() }).await.unwrap();
        app.assert_equal().await;
        assert_eq!(names(&root).await, ["root"]);
        let request = GetProfileRequest { user_id: alice.id.clone() };
        assert!(!root.profiles().get_profile(request).await.unwrap().into_inner().is_active);
        root.users().activate_user(ActivateUserRequest { user_id: alice.id.clone() }).await.unwrap();
        app.assert_equal().await;
        assert_eq!(names(&root).await, ["alice", "root"]);
    }

    async fn a_user_who_is_deleted_takes_everything_along(app: Pair) {
        let (alice, bob, root) = (app.user("alice").await, app.user("bob").await, app.superuser("root").await);
        // The profile of a user who has not called the profile service yet comes with an event.
        app.assert_equal().await;
        let written = note(&alice, "gone soon").await.unwrap();
        for (one, other) in [(&alice, &bob), (&bob, &alice)] {
            let request = AddFriendRequest { user_id: "me".to_owned(), friend_id: other.id.clone() };
            one.friends().add_friend(request).await.unwrap();
        }
        let reference = NoteReference { user_id: written.user_id, note_id: written.note_id };
        let favourite = SetFavoriteNoteRequest { user_id: "me".to_owned(), note: Some(reference) };
        bob.profiles().set_favorite_note(favourite).await.unwrap();

        delete(&app, &alice.id).await;
        app.assert_equal().await;
        assert_eq!(names(&root).await, ["bob", "root"]);
        let request = ListFriendsRequest { user_id: "me".to_owned(), ..Default::default() };
        assert!(bob.friends().list_friends(request).await.unwrap().into_inner().profiles.is_empty());
        let bobs = bob.profiles().get_profile(GetProfileRequest { user_id: "me".to_owned() }).await.unwrap().into_inner();
        assert_eq!(bobs.favorite_note, None);
        let db = app.profile_database.open();
        for rows in ["SELECT COUNT(*) FROM notes", "SELECT COUNT(*) FROM friendships", "SELECT COUNT(*) FROM favorites"] {
            assert_eq!(db.query(rows).one::<(i64,)>().await.unwrap(), (0,), "{rows}");
        }
    }

    async fn the_state_of_the_profiles_is_for_those_who_may_see_it(app: Pair) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        app.assert_equal().await;
        let refused = alice.sync().get_sync_state(GetSyncStateRequest {}).await;
        assert_refused(refused.map(drop), Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        crate::pair::eventually(async || {
            let state = root.sync().get_sync_state(GetSyncStateRequest {}).await.unwrap().into_inner();
            state.is_connected && state.is_at_end && state.revocations_are_fresh && state.lag.is_some() && state.pos >= 4 && state.generation == 1
        }).await;
    }

    async fn whoever_watches_over_the_services_reads_how_far_the_profiles_are(app: Pair) {
        app.user("alice").await;
        app.assert_equal().await;
        let metric = async |name: &str| -> Option<f64> {
            let answer = http::send(app.profile.address, "GET /metrics", &[], &[]).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
            let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            Some(line.parse().expect("a number"))
        };
        let (auth_db, mut last) = (app.auth_database.open(), 0);
        crate::pair::eventually(async || {
            last = auth_db.query("SELECT last FROM feed").one::<(i64,)>().await.unwrap().0;
            metric("events_position").await == Some(f64::from(i32::try_from(last).unwrap()))
                && metric("events_at_end").await == Some(1.0)
                // The verifier follows the events with a stream of its own.
                && metric("revocations_fresh").await == Some(1.0)
        }).await;
        for (name, value) in [
            ("events_connected", 1.0),
            ("events_connects_total", 1.0),
            ("events_snapshots_total", 1.0),
            ("revocations_fresh", 1.0),
            ("revocations", 0.0),
        ] {
            assert_eq!(metric(name).await, Some(value), "{name}");
        }
        assert!(metric("events_lag_seconds").await.is_some_and(|lag| lag >= 0.0));
    }
}
