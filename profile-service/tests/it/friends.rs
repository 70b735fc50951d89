//! Friendships in both directions, and mutual friends.

use profile_service::proto::{
    AddFriendRequest, DeactivateProfileRequest, ListFriendOfRequest, ListFriendsRequest, ListMutualFriendsRequest,
    RemoveFriendRequest,
};
use testing::on_both_engines;
use tonic::{Code, Status};

use crate::app::{App, NOBODY, User, assert_invalid, assert_not_found, assert_refused};

fn add(user_id: &str, friend_id: &str) -> AddFriendRequest {
    AddFriendRequest { user_id: user_id.to_owned(), friend_id: friend_id.to_owned() }
}

fn remove(user_id: &str, friend_id: &str) -> RemoveFriendRequest {
    RemoveFriendRequest { user_id: user_id.to_owned(), friend_id: friend_id.to_owned() }
}

fn names(profiles: Vec<profile_service::proto::Profile>) -> Vec<String> {
    profiles.into_iter().map(|profile| profile.display_name).collect()
}

async fn friends(reader: &User, user_id: &str) -> Result<Vec<String>, Status> {
    let request = ListFriendsRequest { user_id: user_id.to_owned(), ..ListFriendsRequest::default() };
    Ok(names(reader.friends().list_friends(request).await?.into_inner().profiles))
}

async fn friend_of(reader: &User, user_id: &str) -> Result<Vec<String>, Status> {
    let request = ListFriendOfRequest { user_id: user_id.to_owned(), ..ListFriendOfRequest::default() };
    Ok(names(reader.friends().list_friend_of(request).await?.into_inner().profiles))
}

async fn mutual_friends(reader: &User, user_id: &str) -> Result<Vec<String>, Status> {
    let request = ListMutualFriendsRequest { user_id: user_id.to_owned(), ..ListMutualFriendsRequest::default() };
    Ok(names(reader.friends().list_mutual_friends(request).await?.into_inner().profiles))
}

on_both_engines! {
    async fn a_friendship_has_a_direction(app: App) {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        alice.calls_a_friend(&carol).await;
        alice.calls_a_friend(&bob).await;
        bob.calls_a_friend(&alice).await;
        assert_eq!(friends(&alice, "me").await.unwrap(), ["bob", "carol"]);
        assert_eq!(friend_of(&alice, "me").await.unwrap(), ["bob"]);
        assert_eq!(mutual_friends(&alice, "me").await.unwrap(), ["bob"]);
        // Every caller with a token may list the friends of any user.
        assert_eq!(friends(&alice, &carol.id).await.unwrap(), [""; 0]);
        assert_eq!(friend_of(&bob, &carol.id).await.unwrap(), ["alice"]);
        assert_eq!(mutual_friends(&bob, &carol.id).await.unwrap(), [""; 0]);

        alice.friends().remove_friend(remove("me", &bob.id)).await.unwrap();
        alice.friends().remove_friend(remove("me", &bob.id)).await.unwrap();
        assert_eq!(friends(&alice, "me").await.unwrap(), ["carol"]);
        assert_eq!(friends(&alice, &bob.id).await.unwrap(), ["alice"]);
        assert_eq!(mutual_friends(&alice, "me").await.unwrap(), [""; 0]);
    }

    async fn adding_a_friend_again_answers_the_friendship_that_exists(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let first = alice.friends().add_friend(add("me", &bob.id)).await.unwrap().into_inner();
        assert_eq!((&first.user_id, &first.friend_id), (&alice.id, &bob.id));
        app.later();
        let calls: Vec<_> = (0..5).map(|_| {
            let (mut friends, request) = (alice.friends(), add(&alice.id, &bob.id.to_uppercase()));
            tokio::spawn(async move { friends.add_friend(request).await })
        }).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().into_inner(), first);
        }
        assert_eq!(friends(&alice, "me").await.unwrap(), ["bob"]);
    }

    async fn a_friend_is_somebody_else_who_exists(app: App) {
        let alice = app.user("alice").await;
        assert_invalid(alice.friends().add_friend(add("me", &alice.id)).await, &[("friend_id", "FRIEND_NOT_SELF")]);
        assert_invalid(alice.friends().add_friend(add(&alice.id, &alice.id.to_uppercase())).await, &[("friend_id", "FRIEND_NOT_SELF")]);
        assert_not_found(alice.friends().add_friend(add("me", NOBODY)).await, "friend_id");
        assert_invalid(alice.friends().add_friend(add("me", "bob")).await, &[("friend_id", "STRING_UUID")]);
    }

    async fn only_the_owner_and_who_holds_the_permission_change_friends(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let refused = bob.friends().add_friend(add(&alice.id, &bob.id)).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        // The error is the same for an invalid field and for a user who does not exist, so that the caller cannot learn who exists.
        let refused = bob.friends().add_friend(add(NOBODY, "x")).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        alice.calls_a_friend(&bob).await;
        let refused = bob.friends().remove_friend(remove(&alice.id, &bob.id)).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        let editor = app.user_with("editor", "profile.change_profile").await;
        editor.friends().add_friend(add(&bob.id, &alice.id)).await.unwrap();
        assert_eq!(friends(&bob, "me").await.unwrap(), ["alice"]);
        assert_not_found(editor.friends().add_friend(add(NOBODY, &alice.id)).await, "user_id");
    }

    async fn the_lists_of_nobody_are_not_found(app: App) {
        let alice = app.user("alice").await;
        assert_not_found(friends(&alice, NOBODY).await, "user_id");
        assert_not_found(friend_of(&alice, NOBODY).await, "user_id");
        assert_not_found(mutual_friends(&alice, NOBODY).await, "user_id");
    }

    async fn a_friend_who_is_not_active_is_out_of_the_lists(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        alice.calls_a_friend(&bob).await;
        bob.calls_a_friend(&alice).await;
        bob.profiles().deactivate_profile(DeactivateProfileRequest { user_id: "me".to_owned() }).await.unwrap();
        assert_eq!(friends(&alice, "me").await.unwrap(), [""; 0]);
        assert_eq!(friend_of(&alice, "me").await.unwrap(), [""; 0]);
        assert_eq!(mutual_friends(&alice, "me").await.unwrap(), [""; 0]);
        assert_eq!(friends(&alice, &bob.id).await.unwrap(), ["alice"]);
    }

    async fn pages_follow_one_another_while_friends_are_made(app: App) {
        let alice = app.user("alice").await;
        for number in [3, 1, 4, 5, 9, 2, 6] {
            let friend = app.user(&format!("m{number}")).await;
            alice.calls_a_friend(&friend).await;
        }
        let page = async |page_token: String| {
            let request = ListFriendsRequest { user_id: "me".to_owned(), page_size: 3, page_token };
            let answer = alice.friends().list_friends(request).await.unwrap().into_inner();
            (names(answer.profiles), answer.next_page_token)
        };
        let (first, token) = page(String::new()).await;
        assert_eq!(first, ["m1", "m2", "m3"]);
        for username in ["a", "m10", "m35"] {
            let friend = app.user(username).await;
            alice.calls_a_friend(&friend).await;
        }
        let (second, token) = page(token).await;
        assert_eq!(second, ["m35", "m4", "m5"]);
        assert_eq!(page(token).await, (vec!["m6".to_owned(), "m9".to_owned()], String::new()));
    }

    async fn a_page_token_belongs_to_its_list(app: App) {
        let (alice, bob, carol) = (app.user("alice").await, app.user("bob").await, app.user("carol").await);
        alice.calls_a_friend(&bob).await;
        alice.calls_a_friend(&carol).await;
        let request = ListFriendsRequest { user_id: "me".to_owned(), page_size: 1, page_token: String::new() };
        let page_token = alice.friends().list_friends(request).await.unwrap().into_inner().next_page_token;
        let rule = [("page_token", "PAGE_TOKEN_SAME_LIST")];
        let request = ListFriendOfRequest { user_id: "me".to_owned(), page_size: 1, page_token: page_token.clone() };
        assert_refused(alice.friends().list_friend_of(request).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &rule);
        let request = ListMutualFriendsRequest { user_id: "me".to_owned(), page_size: 1, page_token: page_token.clone() };
        assert_refused(alice.friends().list_mutual_friends(request).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &rule);
        let request = ListFriendsRequest { user_id: bob.id.clone(), page_size: 1, page_token: page_token.clone() };
        assert_refused(alice.friends().list_friends(request).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &rule);
        // The page token stays valid, because an id in upper case names the same user.
        let request = ListFriendsRequest { user_id: alice.id.to_uppercase(), page_size: 1, page_token };
        assert_eq!(names(alice.friends().list_friends(request).await.unwrap().into_inner().profiles), ["carol"]);
    }
}
