//! The audit log: acts on the data of other users have entries, and the acts of owners have none.

use std::collections::BTreeSet;

use access::UserId;
use audit::{AuditKeys, Event, Filter, Order};
use profile_service::{
    DESCRIPTORS,
    proto::{
        AddFriendRequest, DeactivateProfileRequest, DeleteNoteRequest, ExportProfileRequest, ListAuditEventsRequest, Note,
        Profile, UpdateNoteRequest, UpdateProfileRequest, Visibility, audit_service_client::AuditServiceClient,
    },
};
use testing::{MatrixRow, access_matrix, assert_refused, on_both_engines};
use tonic::Code;

use crate::app::{App, NOBODY, User, audit_key, create_note, note};

impl App {
    /// Returns the entries of the audit log, the oldest first.
    async fn audit_log(&self) -> Vec<Event> {
        let db = self.database.open();
        audit::list_in_order(&db, &Filter::default(), Order::OldestFirst, None, 1000).await.unwrap()
    }

    /// Returns method, outcome and fields of each entry.
    async fn summaries(&self) -> Vec<String> {
        let summary = |event: &Event| {
            let method = event.method.rsplit('/').next().unwrap_or_default();
            let text =
                format!("{} {method} {} {}", event.actor_type, event.outcome, event.fields().collect::<Vec<_>>().join(","));
            text.trim_end().to_owned()
        };
        self.audit_log().await.iter().map(summary).collect()
    }
}

/// Calls every method that changes data of `owner`, and exports the profile. Returns the id of the note that was created.
async fn change_everything(caller: &User, owner: &str) -> String {
    let user_id = owner.to_owned();
    let created = caller.notes().create_note(create_note(owner, "", note("title", "a text", Visibility::Private))).await.unwrap();
    let written = created.into_inner();
    let changed = Note { title: "another".to_owned(), etag: String::new(), ..written.clone() };
    caller.notes().update_note(UpdateNoteRequest { note: Some(changed), update_mask: None }).await.unwrap();
    let profile = Profile { user_id: user_id.clone(), bio: "a life".to_owned(), ..Profile::default() };
    caller.profiles().update_profile(UpdateProfileRequest { profile: Some(profile), update_mask: None }).await.unwrap();
    let delete = DeleteNoteRequest { user_id: user_id.clone(), note_id: written.note_id.clone(), etag: String::new() };
    caller.notes().delete_note(delete).await.unwrap();
    let mut export = caller.profiles().export_profile(ExportProfileRequest { user_id }).await.unwrap().into_inner();
    while export.message().await.unwrap().is_some() {}
    written.note_id
}

#[test]
fn every_method_that_changes_something_is_audited() {
    let rows = access_matrix(DESCRIPTORS, "profiles.v1");
    let unaudited: BTreeSet<_> = rows.iter().filter(|row| !row.is_safe() && !row.is_audited()).map(MatrixRow::path).collect();
    assert!(unaudited.is_empty(), "{unaudited:?}");
}

#[test]
fn the_schema_contains_the_tables_of_the_audit_log() {
    let schema = include_str!("../../schema.sql");
    assert!(schema.contains(audit::SCHEMA), "schema.sql must contain the text of shared/audit/schema.sql");
}

on_both_engines! {
    async fn acts_on_the_data_of_another_user_have_entries(app: App) {
        let scope = "profile.add_note profile.change_note profile.delete_note profile.change_profile profile.view_profile";
        let (alice, clerk) = (app.user("alice").await, app.user_with("clerk", scope).await);
        let note_id = change_everything(&clerk, &alice.id).await;
        let deactivate = DeactivateProfileRequest { user_id: alice.id.clone() };
        clerk.profiles().deactivate_profile(deactivate).await.unwrap();
        let expected = [
            format!("user CreateNote OK notes.{note_id}"),
            format!("user UpdateNote OK notes.{note_id}.title"),
            "user UpdateProfile OK bio".to_owned(),
            format!("user DeleteNote OK notes.{note_id}"),
            "user ExportProfile OK".to_owned(),
            "user DeactivateProfile OK is_active".to_owned(),
        ];
        assert_eq!(app.summaries().await, expected);
        for event in app.audit_log().await {
            assert_eq!((&event.actor_id, &event.target_id), (&clerk.id, &alice.id));
            assert_eq!((event.actor_name.as_deref(), event.target_type.as_str()), (Some("clerk"), "user"));
            let text = event.to_json().to_string();
            assert!(!text.contains("a text") && !text.contains("a life") && !text.contains("another"), "{text}");
        }
    }

    async fn acts_of_owners_have_no_entries(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        change_everything(&alice, "me").await;
        alice.calls_a_friend(&bob).await;
        let delete = DeleteNoteRequest { user_id: "me".to_owned(), note_id: NOBODY.to_owned(), etag: String::new() };
        alice.notes().delete_note(delete).await.expect_err("no such note");
        assert!(app.audit_log().await.is_empty());
    }

    async fn refused_acts_on_the_data_of_another_user_have_entries(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let refused = bob.notes().create_note(create_note(&alice.id, "", note("t", "", Visibility::Private))).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        let add = AddFriendRequest { user_id: alice.id.clone(), friend_id: bob.id.clone() };
        bob.friends().add_friend(add).await.expect_err("no permission");
        assert_eq!(app.summaries().await, ["user CreateNote PERMISSION_DENIED", "user AddFriend PERMISSION_DENIED"]);
        assert!(app.audit_log().await.iter().all(|event| event.reason == "PERMISSION_MISSING" && event.target_id == alice.id));
    }

    async fn entries_are_listed_sealed_and_verified(app: App) {
        let alice = app.user("alice").await;
        let clerk = app.user_with("clerk", "profile.change_profile profile.view_auditevent").await;
        let deactivate = DeactivateProfileRequest { user_id: alice.id.clone() };
        clerk.profiles().deactivate_profile(deactivate).await.unwrap();
        let db = app.database.open();
        app.clock.advance(chrono::Duration::seconds(2));
        let verification = loop {
            let verification = audit::verify(&db, &AuditKeys::new([audit_key()]), &[]).await.unwrap();
            if verification.unsealed == 0 {
                break verification;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((verification.entries, verification.findings.len()), (1, 0));

        let list = |actor_id: &str| ListAuditEventsRequest { actor_id: actor_id.to_owned(), ..ListAuditEventsRequest::default() };
        let client = |user: &User| AuditServiceClient::with_interceptor(app.channel.clone(), user.token());
        let found = client(&clerk).list_audit_events(list(&clerk.id)).await.unwrap().into_inner().audit_events;
        assert_eq!((found.len(), found[0].seal_id, found[0].fields.as_slice()), (1, 1, ["is_active".to_owned()].as_slice()));
        let none = client(&clerk).list_audit_events(list(&alice.id)).await.unwrap().into_inner().audit_events;
        assert!(none.is_empty());
        let refused = client(&alice).list_audit_events(list("")).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);

        // The personal data of a deleted user is erased, and the seals stay valid.
        let mut tx = db.begin().await.unwrap();
        audit::erase(&mut tx, UserId::parse("user_id", &clerk.id).unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        let event = app.audit_log().await.remove(0);
        assert_eq!((event.actor_name.as_deref(), event.address.as_deref(), event.is_erased()), (None, None, true));
        let verification = audit::verify(&db, &AuditKeys::new([audit_key()]), &[]).await.unwrap();
        assert_eq!((verification.findings.len(), verification.erased), (0, 1));
    }
}
