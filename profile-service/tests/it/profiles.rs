//! The creation, the update and the list of profiles.

use access::{Actor, proto::google::Date};
use profile_service::proto::{
    ActivateProfileRequest, BatchGetProfilesRequest, DeactivateProfileRequest, ListProfilesRequest, Profile, UpdateProfileRequest,
};
use prost_types::FieldMask;
use testing::on_both_engines;
use tonic::{Code, Response, Status};

use crate::app::{App, NOBODY, User, assert_invalid, assert_not_found, assert_refused};

async fn update(user: &User, profile: Profile, mask: &[&str]) -> Result<Profile, Status> {
    let profile =
        Profile { user_id: if profile.user_id.is_empty() { "me".to_owned() } else { profile.user_id.clone() }, ..profile };
    let update_mask = (!mask.is_empty()).then(|| FieldMask { paths: mask.iter().map(ToString::to_string).collect() });
    let request = UpdateProfileRequest { profile: Some(profile), update_mask };
    user.profiles().update_profile(request).await.map(Response::into_inner)
}

async fn list(user: &User, request: ListProfilesRequest) -> Result<(Vec<String>, String), Status> {
    let answer = user.profiles().list_profiles(request).await?.into_inner();
    Ok((answer.profiles.into_iter().map(|profile| profile.display_name).collect(), answer.next_page_token))
}

fn date(year: i32, month: i32, day: i32) -> Date {
    Date { year, month, day }
}

on_both_engines! {
    async fn a_profile_is_made_on_the_first_call(app: App) {
        let alice = app.user("Alice").await;
        let profile = alice.profile("me").await.unwrap();
        assert_eq!((profile.user_id.as_str(), profile.display_name.as_str()), (alice.id.as_str(), "Alice"));
        assert!(profile.is_active && profile.bio.is_empty() && profile.birth_date.is_none() && profile.favorite_note.is_none());
        let now = prost_types::Timestamp { seconds: app.clock.now().timestamp(), nanos: 0 };
        assert_eq!((profile.create_time, profile.update_time), (Some(now), Some(now)));
        // Any first call creates the profile, even one that is rejected.
        let bob = app.caller(app.issuer.claims(access::UserId::new(&app.clock), "bob"));
        assert_not_found(bob.profile(NOBODY).await, "user_id");
        assert_eq!(alice.profile(&bob.id).await.unwrap().display_name, "bob");
    }

    async fn a_newer_version_of_a_user_brings_the_newer_username(app: App) {
        let alice = app.user("alice").await;
        let before = alice.profile("me").await.unwrap();
        let mut renamed = alice.claims.clone();
        (renamed.ver, renamed.preferred_username) = (3, Some("alicia".to_owned()));
        app.later();
        let after = app.caller(renamed).profile("me").await.unwrap();
        assert_eq!((after.display_name.as_str(), after.etag, after.update_time), ("alicia", before.etag, before.update_time));
        // An older token that is still valid does not restore the older username.
        let mut older = alice.claims.clone();
        (older.ver, older.preferred_username) = (2, Some("alice2".to_owned()));
        assert_eq!(app.caller(older).profile("me").await.unwrap().display_name, "alicia");
        assert_eq!(alice.profile("me").await.unwrap().display_name, "alicia");
    }

    async fn neither_a_service_nor_a_user_without_a_username_gets_a_profile(app: App) {
        let mut service = app.issuer.claims(access::UserId::new(&app.clock), "batch");
        service.actor = Actor::Service;
        assert_not_found(app.caller(service).profile("me").await, "user_id");
        let mut nameless = app.issuer.claims(access::UserId::new(&app.clock), "");
        nameless.preferred_username = None;
        assert_not_found(app.caller(nameless).profile("me").await, "user_id");
    }

    async fn first_calls_at_the_same_time_make_one_profile(app: App) {
        let alice = app.caller(app.issuer.claims(access::UserId::new(&app.clock), "alice"));
        let calls: Vec<_> = (0..10).map(|_| alice.profiles()).map(|mut profiles| {
            tokio::spawn(async move { profiles.get_profile(profile_service::proto::GetProfileRequest { user_id: "me".to_owned() }).await })
        }).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().into_inner().display_name, "alice");
        }
    }

    async fn an_update_writes_what_its_mask_names(app: App) {
        let alice = app.user("alice").await;
        let full = Profile { bio: "I write.\n\nA lot.".to_owned(), birth_date: Some(date(1990, 2, 28)), website: "https://example.com/~alice".to_owned(), ..Profile::default() };
        let stored = update(&alice, full.clone(), &[]).await.unwrap();
        assert_eq!((&stored.bio, stored.birth_date, &stored.website), (&full.bio, full.birth_date, &full.website));
        assert_eq!(alice.profile("me").await.unwrap(), stored);

        // An update without a mask writes every field that is set.
        let stored = update(&alice, Profile { bio: "short".to_owned(), ..Profile::default() }, &[]).await.unwrap();
        assert_eq!((stored.bio.as_str(), stored.birth_date, &stored.website), ("short", full.birth_date, &full.website));
        // An update with a mask writes the fields that the mask names, and no other field.
        let stored = update(&alice, Profile { bio: "ignored".to_owned(), website: "javascript:alert(1)".to_owned(), ..Profile::default() }, &["birth_date"]).await.unwrap();
        assert_eq!((stored.bio.as_str(), stored.birth_date, &stored.website), ("short", None, &full.website));
        // An update with the mask `*` writes every field.
        let stored = update(&alice, Profile { birth_date: Some(date(2026, 3, 1)), ..Profile::default() }, &["*"]).await.unwrap();
        assert_eq!((stored.bio.as_str(), stored.birth_date, stored.website.as_str()), ("", Some(date(2026, 3, 1)), ""));
        assert_eq!(alice.profile("me").await.unwrap(), stored);
    }

    async fn an_update_moves_the_etag_and_the_time_where_it_changes_something(app: App) {
        let alice = app.user("alice").await;
        let first = alice.profile("me").await.unwrap();
        app.later();
        let second = update(&alice, Profile { bio: "new".to_owned(), etag: first.etag.clone(), ..Profile::default() }, &[]).await.unwrap();
        assert_ne!(second.etag, first.etag);
        assert_ne!(second.update_time, first.update_time);
        assert_eq!(second.create_time, first.create_time);
        app.later();
        let third = update(&alice, Profile { bio: "new".to_owned(), ..Profile::default() }, &[]).await.unwrap();
        assert_eq!(third, second);
        let stale = update(&alice, Profile { bio: "newer".to_owned(), etag: first.etag, ..Profile::default() }, &[]).await;
        assert_refused(stale, Code::Aborted, "ETAG_STALE", &[("profile.etag", "ETAG_CURRENT")]);
        assert_eq!(alice.profile("me").await.unwrap(), second);
    }

    async fn one_of_the_updates_with_the_same_etag_wins(app: App) {
        let alice = app.user("alice").await;
        for round in 0..10 {
            let etag = alice.profile("me").await.unwrap().etag;
            let updates: Vec<_> = (0..6).map(|number| {
                let (mut profiles, etag) = (alice.profiles(), etag.clone());
                let profile = Profile { user_id: "me".to_owned(), bio: format!("{round} {number}"), etag, ..Profile::default() };
                tokio::spawn(async move { profiles.update_profile(UpdateProfileRequest { profile: Some(profile), update_mask: None }).await })
            }).collect();
            let mut won = Vec::new();
            for update in updates {
                match update.await.unwrap() {
                    Ok(profile) => won.push(profile.into_inner()),
                    Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
                }
            }
            assert_eq!(won, [alice.profile("me").await.unwrap()]);
        }
    }

    async fn bad_fields_are_refused_by_name(app: App) {
        let alice = app.user("alice").await;
        for (birth_date, rule) in [(date(2026, 2, 30), "DATE_REAL"), (date(1990, 0, 0), "DATE_REAL"), (date(2026, 3, 2), "DATE_PAST")] {
            assert_invalid(update(&alice, Profile { birth_date: Some(birth_date), ..Profile::default() }, &[]).await, &[("profile.birth_date", rule)]);
        }
        for (website, rule) in [
            ("javascript:alert(1)", "WEBSITE_HTTP_URL"),
            ("https://alice:secret@example.com", "WEBSITE_NO_CREDENTIALS"),
        ] {
            let profile = Profile { website: website.to_owned(), ..Profile::default() };
            assert_invalid(update(&alice, profile, &[]).await, &[("profile.website", rule)]);
        }
        assert_invalid(update(&alice, Profile { bio: "a\0b".to_owned(), ..Profile::default() }, &[]).await, &[("profile.bio", "STRING_NO_NUL")]);
        assert_invalid(update(&alice, Profile { bio: "a".repeat(2001), ..Profile::default() }, &[]).await, &[("profile.bio", "STRING_MAX_LEN")]);
        // One response reports every violation.
        let profile = Profile { website: "x".to_owned(), birth_date: Some(date(2000, 2, 31)), ..Profile::default() };
        let every = [("profile.website", "WEBSITE_HTTP_URL"), ("profile.birth_date", "DATE_REAL")];
        assert_invalid(update(&alice, profile, &["*"]).await, &every);
        let unknown = update(&alice, Profile::default(), &["bio", "username"]).await;
        assert_refused(unknown, Code::InvalidArgument, "MASK_PATH_INVALID", &[("update_mask", "UPDATE_MASK_PATH")]);
    }

    async fn only_the_owner_and_who_holds_the_permission_write(app: App) {
        let alice = app.user("alice").await;
        let bob = app.user("bob").await;
        let editor = app.user_with("editor", "profile.change_profile").await;
        let profile = Profile { user_id: alice.id.clone(), bio: "hm".to_owned(), ..Profile::default() };
        let refused = update(&bob, profile.clone(), &[]).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        assert_eq!(update(&editor, profile, &[]).await.unwrap().bio, "hm");
        assert_not_found(update(&editor, Profile { user_id: NOBODY.to_owned(), bio: "hm".to_owned(), ..Profile::default() }, &[]).await, "profile.user_id");
    }

    async fn whoever_may_not_call_learns_nothing_else(app: App) {
        let bob = app.user("bob").await;
        // The profile does not exist, and both the mask and the fields are invalid.
        let request = Profile { user_id: NOBODY.to_owned(), bio: "a".repeat(3000), website: "x".to_owned(), ..Profile::default() };
        let refused = update(&bob, request, &["nothing"]).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        let refused = list(&bob, ListProfilesRequest { page_size: -1, ..ListProfilesRequest::default() }).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
    }

    async fn a_batch_keeps_the_order_and_names_what_is_missing(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let batch = async |user_ids: &[&str]| {
            let user_ids = user_ids.iter().map(ToString::to_string).collect();
            let answer = alice.profiles().batch_get_profiles(BatchGetProfilesRequest { user_ids }).await?;
            Ok::<_, Status>(answer.into_inner().profiles.into_iter().map(|profile| profile.display_name).collect::<Vec<_>>())
        };
        assert_eq!(batch(&[&bob.id, &alice.id, &bob.id]).await.unwrap(), ["bob", "alice", "bob"]);
        assert_not_found(batch(&[&bob.id, &alice.id, NOBODY]).await, "user_ids[2]");
        assert_invalid(batch(&[&bob.id, "x"]).await, &[("user_ids[1]", "STRING_UUID")]);
        assert_invalid(batch(&[]).await, &[("user_ids", "REPEATED_MIN_ITEMS")]);
        assert_eq!(batch(&[bob.id.as_str(); 100]).await.unwrap().len(), 100);
    }

    async fn a_profile_that_is_not_active_is_out_of_lists_only(app: App) {
        let viewer = app.user_with("viewer", "profile.view_profile").await;
        let bob = app.user("bob").await;
        let request = DeactivateProfileRequest { user_id: "me".to_owned() };
        let inactive = bob.profiles().deactivate_profile(request.clone()).await.unwrap().into_inner();
        assert!(!inactive.is_active);
        assert_eq!(bob.profiles().deactivate_profile(request).await.unwrap().into_inner(), inactive);
        assert_eq!(list(&viewer, ListProfilesRequest::default()).await.unwrap().0, ["viewer"]);
        let all = ListProfilesRequest { show_inactive: true, ..ListProfilesRequest::default() };
        assert_eq!(list(&viewer, all).await.unwrap().0, ["bob", "viewer"]);
        assert_eq!(viewer.profile(&bob.id).await.unwrap(), inactive);
        let active = bob.profiles().activate_profile(ActivateProfileRequest { user_id: "me".to_owned() }).await.unwrap().into_inner();
        assert!(active.is_active && active.etag != inactive.etag);
        assert_eq!(list(&viewer, ListProfilesRequest::default()).await.unwrap().0, ["bob", "viewer"]);
        let refused = bob.profiles().deactivate_profile(DeactivateProfileRequest { user_id: viewer.id.clone() }).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
    }

    async fn the_list_is_by_username_without_regard_to_case(app: App) {
        for username in ["Zoë", "bob", "Öland", "alice", "Alicia", "ALF", "a_b", "zoe"] {
            app.user(username).await;
        }
        let viewer = app.user_with("viewer", "profile.view_profile").await;
        let all = list(&viewer, ListProfilesRequest::default()).await.unwrap().0;
        assert_eq!(all, ["a_b", "ALF", "alice", "Alicia", "bob", "viewer", "zoe", "Zoë", "Öland"]);
        for (prefix, expected) in [
            ("AL", &["ALF", "alice", "Alicia"][..]),
            ("alic", &["alice", "Alicia"]),
            ("öL", &["Öland"]),
            ("zo", &["zoe", "Zoë"]),
            // `_` and `%` in a prefix stand for themselves. They are not wildcards as in LIKE.
            ("a_", &["a_b"]),
            ("%", &[]),
            ("x", &[]),
        ] {
            let request = ListProfilesRequest { username_prefix: prefix.to_owned(), ..ListProfilesRequest::default() };
            assert_eq!(list(&viewer, request).await.unwrap().0, expected, "{prefix:?}");
        }
    }

    async fn pages_of_profiles_follow_one_another_while_users_arrive(app: App) {
        for username in ["d", "b", "f", "h", "j", "l"] {
            app.user(username).await;
        }
        let viewer = app.user_with("n", "profile.view_profile").await;
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let request = ListProfilesRequest { page_size: 2, page_token: token, ..ListProfilesRequest::default() };
            let (names, next) = list(&viewer, request).await.unwrap();
            assert!(names.len() <= 2);
            seen.extend(names);
            if next.is_empty() {
                break;
            }
            token = next;
            // After every page, add one user who sorts before the next page and one who sorts after it.
            app.user(&format!("a{}", seen.len())).await;
            app.user(&format!("z{}", seen.len())).await;
        }
        assert_eq!(seen[..7], ["b", "d", "f", "h", "j", "l", "n"]);
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(seen, sorted);
    }

    async fn a_page_token_belongs_to_its_list_and_filter(app: App) {
        app.user("bob").await;
        let viewer = app.user_with("viewer", "profile.view_profile").await;
        let first = ListProfilesRequest { page_size: 1, ..ListProfilesRequest::default() };
        let token = list(&viewer, first).await.unwrap().1;
        for request in [
            ListProfilesRequest { page_token: token.clone(), username_prefix: "v".to_owned(), ..ListProfilesRequest::default() },
            ListProfilesRequest { page_token: token.clone(), show_inactive: true, ..ListProfilesRequest::default() },
            ListProfilesRequest { page_token: "nonsense".to_owned(), ..ListProfilesRequest::default() },
        ] {
            let refused = list(&viewer, request).await;
            assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);
        }
        let second = ListProfilesRequest { page_token: token, page_size: 1000, ..ListProfilesRequest::default() };
        assert_eq!(list(&viewer, second).await.unwrap(), (vec!["viewer".to_owned()], String::new()));
        let negative = list(&viewer, ListProfilesRequest { page_size: -1, ..ListProfilesRequest::default() }).await;
        assert_invalid(negative, &[("page_size", "INT32_GTE")]);
    }

    async fn an_answer_stays_below_what_clients_take(app: App) {
        let viewer = app.user_with("viewer", "profile.view_profile").await;
        let mut expected = vec!["viewer".to_owned()];
        for number in 0..140 {
            let user = app.user(&format!("user{number:03}")).await;
            update(&user, Profile { bio: "\u{1F600}".repeat(2000), ..Profile::default() }, &[]).await.unwrap();
            expected.push(format!("user{number:03}"));
        }
        expected.sort();
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let request = ListProfilesRequest { page_size: 1000, page_token: token, ..ListProfilesRequest::default() };
            let (names, next) = list(&viewer, request).await.unwrap();
            assert!(names.len() < 135);
            seen.extend(names);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected);
    }
}
