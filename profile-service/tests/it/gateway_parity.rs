//! The same requests, sent over gRPC to one service and over HTTP to a second one with the same data, get the same responses.

use access::UserId;
use profile_service::DESCRIPTORS;
use serde_json::{Value, json};
use testing::on_both_engines;
use testing::{Engine, Parity};
use tonic::Code::{self, Aborted, AlreadyExists, InvalidArgument, NotFound, Ok, PermissionDenied, Unauthenticated};

use crate::app::{App, NOBODY};

const PROFILES: &str = "profiles.v1.ProfileService";
const FRIENDS: &str = "profiles.v1.FriendService";
const NOTES: &str = "profiles.v1.NoteService";

/// Two services with the same data, and the requests that are sent to both.
struct Pair {
    _services: [App; 2],
    parity: Parity,
}

impl Pair {
    async fn start(engine: Engine) -> Self {
        let services = [App::start(engine).await, App::start(engine).await];
        let [grpc, http] = &services;
        let mut parity = Parity::new(DESCRIPTORS, grpc.channel.clone(), http.address);
        let everything = "profile.view_profile profile.change_profile profile.add_note profile.change_note profile.delete_note";
        for (name, scope) in [("alice", ""), ("bob", ""), ("carol", ""), ("admin", everything)] {
            let mut claims = grpc.issuer.claims(UserId::new(&grpc.clock), name);
            scope.clone_into(&mut claims.scope);
            parity.name(&format!("{name}.id"), &claims.sub);
            parity.name(name, &grpc.issuer.token(&claims));
        }
        for note in 0..9 {
            parity.name(&format!("note{note}"), &note_id(note));
        }
        parity.name("nobody", NOBODY);
        Self { _services: services, parity }
    }

    async fn call(&mut self, who: &str, service: &str, method: &str, request: Value, expected: Code) {
        self.parity.call("last", who, &format!("{service}/{method}"), request, expected).await;
    }
}

fn note_id(number: usize) -> String {
    format!("01890a5d-ac96-774b-bcce-00000000000{number}")
}

on_both_engines! {
    async fn a_hundred_and_fifty_calls_are_answered_alike(pair: Pair) {
        let mut pair = pair;
        profiles(&mut pair).await;
        notes(&mut pair).await;
        friends(&mut pair).await;
        favorites_and_export(&mut pair).await;
        deletions(&mut pair).await;
        assert!(pair.parity.calls() >= 150, "{} calls", pair.parity.calls());
    }
}

async fn profiles(pair: &mut Pair) {
    for who in ["alice", "bob", "carol", "admin"] {
        pair.call(who, PROFILES, "GetProfile", json!({ "userId": "me" }), Ok).await;
        pair.call(who, PROFILES, "GetProfile", json!({ "userId": "$alice.id" }), Ok).await;
        pair.call(who, PROFILES, "GetProfile", json!({ "userId": "$nobody" }), NotFound).await;
        pair.call(who, PROFILES, "GetProfile", json!({ "userId": "nobody" }), InvalidArgument).await;
    }
    pair.call("", PROFILES, "GetProfile", json!({ "userId": "me" }), Unauthenticated).await;
    pair.call("", PROFILES, "ListProfiles", json!({}), Unauthenticated).await;

    for (profile, mask, expected) in [
        (json!({ "bio": "Likes tin.", "birthDate": { "year": 1990, "month": 2, "day": 28 } }), json!("bio,birthDate"), Ok),
        (json!({ "website": "https://example.org/a?b=c" }), Value::Null, Ok),
        (json!({ "bio": "Ünïcödé \u{1F980} \"quoted\" <b>&amp;</b>\nand a line" }), json!("bio"), Ok),
        (json!({ "bio": "" }), json!("bio"), Ok),
        (json!({}), json!("*"), Ok),
        (json!({ "bio": "x".repeat(2001) }), json!("bio"), InvalidArgument),
        (json!({ "birthDate": { "year": 2001, "month": 2, "day": 30 } }), Value::Null, InvalidArgument),
        (json!({ "birthDate": { "year": 3001, "month": 1, "day": 1 } }), json!("birthDate"), InvalidArgument),
        (json!({ "website": "javascript:alert(1)" }), Value::Null, InvalidArgument),
        (json!({ "bio": "x" }), json!("displayName"), Ok),
        (json!({ "bio": "x" }), json!("bio,nothing"), InvalidArgument),
        (json!({ "bio": "x", "etag": "\"99\"" }), json!("bio"), Aborted),
    ] {
        let mut profile = profile;
        profile["userId"] = json!("me");
        let mut request = json!({ "profile": profile });
        if !mask.is_null() {
            request["updateMask"] = mask;
        }
        pair.call("alice", PROFILES, "UpdateProfile", request, expected).await;
    }
    let of_alice = json!({ "profile": { "userId": "$alice.id", "bio": "not mine" } });
    pair.call("bob", PROFILES, "UpdateProfile", of_alice.clone(), PermissionDenied).await;
    pair.call("admin", PROFILES, "UpdateProfile", of_alice, Ok).await;
    pair.call("alice", PROFILES, "GetProfile", json!({ "userId": "me" }), Ok).await;
    let same = json!({ "profile": { "userId": "me", "bio": "again", "etag": "$last.etag" }, "updateMask": "bio" });
    pair.call("alice", PROFILES, "UpdateProfile", same, Ok).await;

    for (who, user, expected) in [("bob", "me", Ok), ("bob", "$alice.id", PermissionDenied), ("admin", "$bob.id", Ok)] {
        pair.call(who, PROFILES, "DeactivateProfile", json!({ "userId": user }), expected).await;
        pair.call(who, PROFILES, "ActivateProfile", json!({ "userId": user }), expected).await;
    }
    pair.call("carol", PROFILES, "DeactivateProfile", json!({ "userId": "me" }), Ok).await;

    pair.call("alice", PROFILES, "ListProfiles", json!({}), PermissionDenied).await;
    for (request, expected) in [
        (json!({}), Ok),
        (json!({ "pageSize": 1 }), Ok),
        (json!({ "showInactive": true }), Ok),
        (json!({ "usernamePrefix": "a" }), Ok),
        (json!({ "usernamePrefix": "A&b=c %" }), Ok),
        (json!({ "pageSize": -1 }), InvalidArgument),
        (json!({ "pageSize": 2_147_483_647 }), Ok),
        (json!({ "pageToken": "nonsense" }), InvalidArgument),
    ] {
        pair.call("admin", PROFILES, "ListProfiles", request, expected).await;
    }
    pair.call("admin", PROFILES, "ListProfiles", json!({ "pageSize": 2 }), Ok).await;
    pair.call("admin", PROFILES, "ListProfiles", json!({ "pageSize": 2, "pageToken": "$last.nextPageToken" }), Ok).await;
    for (ids, expected) in [
        (json!(["$bob.id", "$alice.id"]), Ok),
        (json!(["$alice.id", "$alice.id"]), Ok),
        (json!(["$alice.id", "$nobody"]), NotFound),
        (json!(["alice"]), InvalidArgument),
        (json!([]), InvalidArgument),
    ] {
        pair.call("bob", PROFILES, "BatchGetProfiles", json!({ "userIds": ids }), expected).await;
    }
}

async fn notes(pair: &mut Pair) {
    for number in 0..9 {
        let visibility = ["VISIBILITY_PRIVATE", "VISIBILITY_FRIENDS", "VISIBILITY_PUBLIC"][number % 3];
        let note = json!({ "title": format!("Note {number} – ünï"), "body": "line\nline\ttab", "visibility": visibility });
        let request = json!({ "userId": "me", "noteId": format!("$note{number}"), "note": note });
        pair.call("alice", NOTES, "CreateNote", request.clone(), Ok).await;
        pair.call("alice", NOTES, "CreateNote", request, Ok).await;
    }
    let again = |note: Value| json!({ "userId": "me", "noteId": "$note0", "note": note });
    pair.call("alice", NOTES, "CreateNote", again(json!({ "title": "Another" })), AlreadyExists).await;
    for (note, expected) in [
        (json!({ "title": "By number", "visibility": 3 }), Ok),
        (json!({ "title": "" }), InvalidArgument),
        (json!({ "title": "x".repeat(201) }), InvalidArgument),
        (json!({ "title": "x", "body": "x".repeat(10_001) }), InvalidArgument),
        (json!({ "title": "x", "visibility": 77 }), InvalidArgument),
    ] {
        pair.call("bob", NOTES, "CreateNote", json!({ "userId": "me", "note": note }), expected).await;
    }
    pair.call("bob", NOTES, "CreateNote", json!({ "userId": "me" }), InvalidArgument).await;
    pair.call("bob", NOTES, "CreateNote", json!({ "userId": "$alice.id", "note": { "title": "x" } }), PermissionDenied).await;
    pair.call("", NOTES, "CreateNote", json!({ "userId": "me", "note": { "title": "x" } }), Unauthenticated).await;

    for (number, seen_by_bob) in [(0, NotFound), (1, NotFound), (2, Ok)] {
        let request = json!({ "userId": "$alice.id", "noteId": format!("$note{number}") });
        pair.call("alice", NOTES, "GetNote", request.clone(), Ok).await;
        pair.call("bob", NOTES, "GetNote", request, seen_by_bob).await;
    }
    for (who, request, expected) in [
        ("alice", json!({}), Ok),
        ("alice", json!({ "pageSize": 4 }), Ok),
        ("alice", json!({ "pageSize": 4, "pageToken": "$last.nextPageToken" }), Ok),
        ("alice", json!({ "pageSize": -4 }), InvalidArgument),
        ("alice", json!({ "pageToken": "!" }), InvalidArgument),
        ("bob", json!({}), Ok),
        ("bob", json!({ "pageSize": 1 }), Ok),
    ] {
        let mut request = request;
        request["userId"] = json!("$alice.id");
        pair.call(who, NOTES, "ListNotes", request, expected).await;
    }
    for (who, ids, expected) in [
        ("alice", json!(["$note2", "$note0", "$note1"]), Ok),
        ("bob", json!(["$note2", "$note5"]), Ok),
        ("bob", json!(["$note2", "$note0"]), NotFound),
        ("bob", json!([]), InvalidArgument),
        ("bob", json!(["$note2", "x"]), InvalidArgument),
    ] {
        pair.call(who, NOTES, "BatchGetNotes", json!({ "userId": "$alice.id", "noteIds": ids }), expected).await;
    }
    for (note, mask, expected) in [
        (json!({ "title": "Changed" }), json!("title"), Ok),
        (json!({ "title": "Changed again", "body": "b", "visibility": "VISIBILITY_PUBLIC" }), json!("*"), Ok),
        (json!({ "body": "only the body" }), Value::Null, Ok),
        (json!({ "title": "" }), json!("title"), InvalidArgument),
        (json!({ "title": "x", "etag": "\"77\"" }), json!("title"), Aborted),
        (json!({ "title": "x" }), json!("createTime"), Ok),
    ] {
        let mut note = note;
        note["userId"] = json!("me");
        note["noteId"] = json!("$note8");
        let mut request = json!({ "note": note });
        if !mask.is_null() {
            request["updateMask"] = mask;
        }
        pair.call("alice", NOTES, "UpdateNote", request, expected).await;
    }
}

async fn friends(pair: &mut Pair) {
    for (who, user, friend, expected) in [
        ("alice", "me", "$bob.id", Ok),
        ("alice", "me", "$bob.id", Ok),
        ("alice", "me", "$carol.id", Ok),
        ("bob", "me", "$alice.id", Ok),
        ("bob", "me", "$carol.id", Ok),
        ("alice", "me", "$nobody", NotFound),
        ("alice", "me", "$alice.id", InvalidArgument),
        ("alice", "$bob.id", "$carol.id", PermissionDenied),
        ("alice", "me", "bob", InvalidArgument),
    ] {
        pair.call(who, FRIENDS, "AddFriend", json!({ "userId": user, "friendId": friend }), expected).await;
    }
    pair.call("bob", NOTES, "GetNote", json!({ "userId": "$alice.id", "noteId": "$note1" }), Ok).await;
    for method in ["ListFriends", "ListFriendOf", "ListMutualFriends"] {
        for who in ["alice", "bob", "carol"] {
            pair.call(who, FRIENDS, method, json!({ "userId": "me" }), Ok).await;
        }
        pair.call("alice", FRIENDS, method, json!({ "userId": "me", "pageSize": 1 }), Ok).await;
        pair.call("alice", FRIENDS, method, json!({ "userId": "me", "pageSize": -1 }), InvalidArgument).await;
        pair.call("", FRIENDS, method, json!({ "userId": "me" }), Unauthenticated).await;
    }
    pair.call("alice", FRIENDS, "RemoveFriend", json!({ "userId": "me", "friendId": "$carol.id" }), Ok).await;
}

async fn favorites_and_export(pair: &mut Pair) {
    for (who, note, expected) in [
        ("alice", "$note0", Ok),
        ("bob", "$note0", NotFound),
        ("bob", "$note2", Ok),
        ("bob", "$nobody", NotFound),
        ("bob", "x", InvalidArgument),
    ] {
        let note = json!({ "userId": "$alice.id", "noteId": note });
        pair.call(who, PROFILES, "SetFavoriteNote", json!({ "userId": "me", "note": note }), expected).await;
    }
    pair.call("bob", PROFILES, "SetFavoriteNote", json!({ "userId": "me" }), InvalidArgument).await;
    pair.call("carol", NOTES, "ListFavoritedBy", json!({ "userId": "$alice.id", "noteId": "$note2" }), Ok).await;
    for (who, user, expected) in [
        ("alice", "me", Ok),
        ("bob", "me", Ok),
        ("bob", "$alice.id", PermissionDenied),
        ("admin", "$alice.id", Ok),
        ("", "me", Unauthenticated),
    ] {
        pair.call(who, PROFILES, "ExportProfile", json!({ "userId": user }), expected).await;
    }
    pair.call("bob", PROFILES, "ClearFavoriteNote", json!({ "userId": "me" }), Ok).await;
}

async fn deletions(pair: &mut Pair) {
    for (who, note, etag, expected) in [
        ("alice", "$note3", "\"99\"", Aborted),
        ("bob", "$note3", "", PermissionDenied),
        ("alice", "$note3", "\"1\"", Ok),
        ("alice", "$note3", "", NotFound),
        ("admin", "$note4", "", Ok),
        ("", "$note5", "", Unauthenticated),
    ] {
        let mut request = json!({ "userId": "$alice.id", "noteId": note });
        if !etag.is_empty() {
            request["etag"] = json!(etag);
        }
        pair.call(who, NOTES, "DeleteNote", request, expected).await;
    }
}
