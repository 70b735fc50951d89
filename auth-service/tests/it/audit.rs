//! The audit log: which calls have an entry, and what it says.

use std::collections::BTreeMap;

use audit::Event;
use auth_service::{
    DESCRIPTORS,
    proto::{
        AddMemberRequest, ChangePasswordRequest, CreateGroupRequest, DeleteGroupRequest, DeleteUserRequest, Group,
        ListAuditEventsRequest, LoginRequest, LogoutRequest, RefreshRequest, RevokeAllSessionsRequest, SetPasswordRequest,
        UpdateGroupRequest, UpdateUserRequest, User, user_service_client::UserServiceClient,
    },
};
use chrono::TimeDelta;
use store::Executor;
use testing::{MatrixRow, access_matrix, assert_refused, on_both_engines};
use tokio::task::yield_now;
use tonic::{Code, Request};

use crate::app::{App, PASSWORD, registration};

/// The methods that are not a GET and have no entries, with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("/auth.v1.IdentityService/CheckPermissions", "it only reads"),
    ("/auth.v1.IdentityService/ExplainAccess", "it only reads"),
    ("/auth.v1.TokenService/Introspect", "it only reads"),
    ("/auth.v1.TokenService/Refresh", "it continues a session; the entry of the sign-in stands for it, and a reuse has an entry"),
];

/// Returns the parts of an entry that a test compares: actor, method, target, outcome and reason, and fields.
fn summary(event: &Event) -> String {
    let Event { actor_type, method, target_type, outcome, reason, .. } = event;
    let actor = event.actor_name.as_deref().unwrap_or_default();
    let target = event.target_name.as_deref().unwrap_or_default();
    let method = method.rsplit('/').next().unwrap_or_default();
    let fields: Vec<_> = event.fields().collect();
    let text = format!("{actor_type} {actor} {method} {target_type} {target} {outcome} {reason} {}", fields.join(","));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl App {
    /// Returns the summaries of the entries that are not in `before`.
    async fn entries_since(&self, before: &[Event]) -> Vec<String> {
        self.events_since(before).await.iter().map(summary).collect()
    }
}

#[test]
fn every_method_that_changes_something_is_audited() {
    let rows = access_matrix(DESCRIPTORS, "auth.v1");
    let unaudited: Vec<_> = rows.iter().filter(|row| !row.is_safe() && !row.is_audited()).map(MatrixRow::path).collect();
    let mut expected: Vec<_> = EXCEPTIONS.iter().map(|(path, _)| *path).collect();
    expected.sort_unstable();
    assert_eq!(
        {
            let mut found = unaudited;
            found.sort_unstable();
            found
        },
        expected
    );
    assert!(rows.iter().all(|row| !(row.is_safe() && row.is_audited())));
}

#[test]
fn the_schema_contains_the_tables_of_the_audit_log() {
    let schema = include_str!("../../schema.sql");
    assert!(schema.contains(audit::SCHEMA), "schema.sql must contain the text of shared/audit/schema.sql");
}

on_both_engines! {
    async fn changes_have_entries_in_their_transaction(app: App) {
        let root = app.superuser("root").await;
        let alice = app.user("alice").await;
        let alice_id = alice.user.user_id.clone();
        let before = app.audit_log().await;

        let group = Group { name: "the editors".to_owned(), description: "They edit".to_owned(), ..Group::default() };
        let group = root.groups().create_group(CreateGroupRequest { group: Some(group) }).await.expect("a group").into_inner();
        let group_id = group.group_id.clone();
        let member = AddMemberRequest { group_id: group_id.clone(), user_id: alice_id.clone() };
        root.groups().add_member(member).await.expect("a member");
        root.grant("auth.view_user", &alice_id).await.expect("a grant");
        let renamed = Group { name: "editors".to_owned(), etag: String::new(), description: "Them".to_owned(), ..group };
        let update = UpdateGroupRequest { group: Some(renamed), update_mask: None };
        root.groups().update_group(update).await.expect("a group");
        root.groups().delete_group(DeleteGroupRequest { group_id: group_id.clone(), etag: String::new() }).await.expect("a deletion");
        let new_password = "nine red harbours of salt".to_owned();
        let set = SetPasswordRequest { user_id: alice_id.clone(), new_password };
        root.users().set_password(set).await.expect("a password");
        let user = User { user_id: alice_id.clone(), email: "alice@example.com".to_owned(), first_name: "Al".to_owned(), ..User::default() };
        root.users().update_user(UpdateUserRequest { user: Some(user), update_mask: None }).await.expect("a user");
        let revoke = RevokeAllSessionsRequest { user_id: alice_id.clone(), keep_current: false };
        root.sessions().revoke_all_sessions(revoke).await.expect("an end");

        let found = app.entries_since(&before).await;
        let expected = [
            "user root CreateGroup group the editors OK".to_owned(),
            format!("user root AddMember group OK members.{alice_id}"),
            "user root Grant user OK permissions.auth.view_user".to_owned(),
            "user root UpdateGroup group the editors OK name,description".to_owned(),
            "user root DeleteGroup group OK".to_owned(),
            "user root SetPassword user alice OK password".to_owned(),
            "user root UpdateUser user alice OK email,first_name".to_owned(),
            "user root RevokeAllSessions user OK sessions".to_owned(),
        ];
        assert_eq!(found, expected);
        let log = app.events_since(&before).await;
        let event = &log[0];
        assert_eq!((&event.actor_id, &event.target_id), (&root.user.user_id, &group_id));
        assert_eq!((event.address.as_deref(), event.occurrences), (Some("127.0.0.1"), 1));
        assert!(event.user_agent.as_deref().is_some_and(|agent| agent.contains("tonic")), "{event:?}");
        assert_eq!(log[1].target_id, group_id);
        assert!(log[2..].iter().all(|event| event.actor_id == root.user.user_id));
    }

    async fn an_entry_names_the_request(app: App) {
        let before = app.audit_log().await;
        let mut request = Request::new(registration("alice"));
        request.metadata_mut().insert("x-request-id", "order-17".parse().expect("a value"));
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        request.metadata_mut().insert("traceparent", trace.parse().expect("a value"));
        UserServiceClient::new(app.server.channel()).register(request).await.expect("a user");
        let event = app.events_since(&before).await.pop().expect("an entry");
        assert_eq!((event.request_id.as_str(), event.trace_id.as_str()), ("order-17", "0af7651916cd43dd8448eb211c80319c"));
        // The same over HTTP, where the gateway does not pass the headers on.
        let body = format!(r#"{{"username": "bob", "password": "{PASSWORD}"}}"#);
        let headers = [("x-request-id", "order-18"), ("content-type", "application/json"), ("user-agent", "test/1")];
        let answer = testing::http::send(app.server.address, "POST /v1/users:register", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200);
        let event = app.events_since(&before).await.pop().expect("an entry");
        assert_eq!((event.request_id.as_str(), event.user_agent.as_deref()), ("order-18", Some("test/1")));
        assert_eq!(summary(&event), "anonymous Register user bob OK");
    }

    async fn sign_ins_have_entries(app: App) {
        let before = app.audit_log().await;
        let alice = app.user("alice").await;
        let login = |username: &str, password: &str| LoginRequest { username: username.to_owned(), password: password.to_owned() };
        app.tokens().login(login("alice", "not the password of anybody")).await.expect_err("a wrong password");
        // People type passwords into the field of the username.
        app.tokens().login(login("a password of mine", "x")).await.expect_err("no such user");
        app.tokens().logout(LogoutRequest { refresh_token: alice.login.refresh_token.clone() }).await.expect("a logout");
        app.tokens().logout(LogoutRequest { refresh_token: "nonsense".to_owned() }).await.expect_err("no token");
        let change = ChangePasswordRequest {
            user_id: "me".to_owned(),
            old_password: "not the password of anybody".to_owned(),
            new_password: "nine red harbours of salt".to_owned(),
        };
        let alice = app.again(&alice).await;
        alice.users().change_password(change).await.expect_err("a wrong password");
        let found = app.entries_since(&before).await;
        let session = found[4].rsplit_once(' ').expect("fields").1.to_owned();
        assert!(session.starts_with("sessions."), "{found:?}");
        assert_eq!(
            found,
            [
                "anonymous Register user alice OK",
                "user alice Login user alice OK",
                "anonymous Login user UNAUTHENTICATED CREDENTIALS_INVALID",
                "anonymous Login UNAUTHENTICATED CREDENTIALS_INVALID",
                &format!("user Logout OK {session}"),
                "anonymous Logout UNAUTHENTICATED REFRESH_TOKEN_INVALID",
                "user alice Login user alice OK",
                "user alice ChangePassword user INVALID_ARGUMENT FIELD_INVALID",
            ]
        );
        let log = app.events_since(&before).await;
        assert!(log[2..].iter().filter(|event| event.target_type == "user").all(|event| event.target_id == alice.user.user_id));
        assert_eq!(log[4].actor_id, alice.user.user_id);
    }

    async fn the_reuse_of_a_refresh_token_has_an_entry(app: App) {
        let alice = app.user("alice").await;
        let request = RefreshRequest { refresh_token: alice.login.refresh_token.clone(), request_id: String::new() };
        app.tokens().refresh(request.clone()).await.expect("a refresh");
        app.clock.advance(TimeDelta::seconds(60));
        let before = app.audit_log().await;
        app.tokens().refresh(request.clone()).await.expect_err("a reuse");
        app.tokens().refresh(request).await.expect_err("a session that has ended");
        let found = app.entries_since(&before).await;
        assert_eq!(found.len(), 1);
        let expected = "anonymous Refresh user alice UNAUTHENTICATED REFRESH_TOKEN_INVALID sessions.";
        assert!(found[0].starts_with(expected), "{found:?}");
    }

    async fn refused_calls_have_entries(app: App) {
        let (root, alice) = (app.superuser("root").await, app.user("alice").await);
        let before = app.audit_log().await;
        let delete = DeleteUserRequest { user_id: root.user.user_id.clone(), etag: String::new() };
        assert_refused(alice.users().delete_user(delete).await, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        let nobody = "018f0000-0000-7000-8000-000000000000";
        let delete = DeleteUserRequest { user_id: nobody.to_owned(), etag: String::new() };
        root.users().delete_user(delete).await.expect_err("no such user");
        let stale = DeleteUserRequest { user_id: alice.user.user_id.clone(), etag: "stale".to_owned() };
        root.users().delete_user(stale).await.expect_err("a stale etag");
        // A request that is not valid, and one without a token, have none.
        root.groups().create_group(CreateGroupRequest { group: None }).await.expect_err("no group");
        app.users().delete_user(DeleteUserRequest { user_id: "me".to_owned(), etag: String::new() }).await.expect_err("no token");
        let expected = [
            "user alice DeleteUser user PERMISSION_DENIED PERMISSION_MISSING",
            "user root DeleteUser user NOT_FOUND NOT_FOUND",
            "user root DeleteUser user ABORTED ETAG_STALE",
        ];
        assert_eq!(app.entries_since(&before).await, expected);
        let targets: Vec<_> = app.events_since(&before).await.into_iter().map(|event| event.target_id).collect();
        assert_eq!(targets, [root.user.user_id.as_str(), nobody, &alice.user.user_id]);
    }

    async fn a_flood_of_failed_sign_ins_is_counted(app: App) {
        app.register("alice").await;
        let before = app.audit_log().await;
        for _ in 0..25 {
            let request = LoginRequest { username: "alice".to_owned(), password: "not the password".to_owned() };
            app.tokens().login(request).await.expect_err("a wrong password");
        }
        assert_eq!(app.entries_since(&before).await.len(), 10);
        app.clock.advance(TimeDelta::minutes(2));
        // The task that seals writes the count.
        let counted = loop {
            let log = app.audit_log().await;
            if let Some(event) = log.into_iter().find(|event| event.occurrences > 1) {
                break event;
            }
            yield_now().await;
        };
        assert_eq!((counted.occurrences, counted.address.as_deref()), (15, Some("127.0.0.1")));
        assert_eq!(summary(&counted), "anonymous Login UNAUTHENTICATED CREDENTIALS_INVALID");
    }

    async fn a_deleted_user_leaves_no_personal_data(app: App) {
        let (root, alice) = (app.superuser("root").await, app.user("alice").await);
        let alice_id = alice.user.user_id.clone();
        let request = LoginRequest { username: "alice".to_owned(), password: "not the password".to_owned() };
        app.tokens().login(request).await.expect_err("a wrong password");
        root.grant("auth.view_user", &alice_id).await.expect("a grant");
        let alice = app.again(&alice).await;
        let delete = DeleteUserRequest { user_id: "me".to_owned(), etag: String::new() };
        alice.users().delete_user(delete).await.expect("a deletion");
        let mut counts = BTreeMap::new();
        for event in app.audit_log().await {
            if event.actor_id == alice_id || event.actor_type == "anonymous" {
                assert_eq!([&event.actor_name, &event.address, &event.user_agent, &event.target_name], [&None; 4], "{event:?}");
                assert!(event.is_erased());
                *counts.entry(summary(&event)).or_insert(0) += 1;
            } else if event.target_id == alice_id {
                // The address of the administrator remains.
                assert_eq!((event.actor_name.as_deref(), event.address.as_deref()), (Some("root"), Some("127.0.0.1")));
                assert_eq!(event.target_name, None);
            }
        }
        assert_eq!(counts.get("user DeleteUser user OK"), Some(&1), "{counts:?}");
        assert_eq!(counts.len(), 4, "{counts:?}");
        app.clock.advance(TimeDelta::seconds(2));
        let all_sealed = loop {
            let verification = app.verify_audit_log().await;
            assert_eq!(verification.findings, []);
            if verification.unsealed == 0 {
                break verification;
            }
            yield_now().await;
        };
        assert!(all_sealed.erased >= 5 && all_sealed.entries >= 8, "{all_sealed:?}");
    }

    async fn entries_are_listed_by_those_who_may_see_them(app: App) {
        let (root, alice) = (app.superuser("root").await, app.user("alice").await);
        let request = ListAuditEventsRequest::default();
        assert_refused(alice.audit().list_audit_events(request.clone()).await, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        let clerk = app.clerk(&root, "clerk", &["auth.view_auditevent"]).await;
        let all = clerk.audit().list_audit_events(request.clone()).await.expect("entries").into_inner().audit_events;
        assert_eq!(all.len(), app.audit_log().await.len());
        let pages = ListAuditEventsRequest { page_size: 3, ..request.clone() };
        let first = clerk.audit().list_audit_events(pages.clone()).await.expect("a page").into_inner();
        let second = ListAuditEventsRequest { page_token: first.next_page_token.clone(), ..pages };
        let second = clerk.audit().list_audit_events(second).await.expect("a page").into_inner();
        assert_eq!([first.audit_events.clone(), second.audit_events].concat(), all[..6]);
        let other_filter = ListAuditEventsRequest { page_token: first.next_page_token, outcome: "OK".to_owned(), ..request.clone() };
        assert_refused(clerk.audit().list_audit_events(other_filter).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);
        let by_alice = ListAuditEventsRequest { actor_id: alice.user.user_id.clone(), method: "Login".to_owned(), ..request.clone() };
        let by_alice = clerk.audit().list_audit_events(by_alice).await.expect("entries").into_inner().audit_events;
        assert_eq!(by_alice.iter().map(|event| event.actor_name.as_str()).collect::<Vec<_>>(), ["alice"]);
        let about = ListAuditEventsRequest { target_id: clerk.user.user_id.clone(), outcome: "OK".to_owned(), ..request.clone() };
        let about = clerk.audit().list_audit_events(about).await.expect("entries").into_inner().audit_events;
        assert_eq!(about.len(), 3);
        let now = app.clock.now();
        let time_start = Some(std::time::SystemTime::from(now).into());
        let recent = ListAuditEventsRequest { time_start, ..request.clone() };
        assert_eq!(clerk.audit().list_audit_events(recent).await.expect("entries").into_inner().audit_events.len(), all.len());
        let past = ListAuditEventsRequest { time_end: time_start, ..request };
        assert_eq!(clerk.audit().list_audit_events(past).await.expect("entries").into_inner().audit_events, []);
    }

    async fn a_call_that_the_database_rolls_back_has_no_entry(app: App) {
        let root = app.superuser("root").await;
        let before = app.audit_log().await;
        let db = app.database.open();
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute_raw("ALTER TABLE audit_new_event RENAME TO hidden".to_owned()).await.expect("a change");
        tx.commit().await.expect("a commit");
        let group = CreateGroupRequest { group: Some(Group { name: "editors".to_owned(), ..Group::default() }) };
        let log = testing::ErrorLines::watch();
        let refused = root.groups().create_group(group).await.expect_err("no audit log");
        assert_eq!(refused.code(), Code::Internal);
        assert!(!log.take().is_empty());
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute_raw("ALTER TABLE hidden RENAME TO audit_new_event".to_owned()).await.expect("a change");
        tx.commit().await.expect("a commit");
        // The change needs its entry.
        assert_eq!(db.query("SELECT COUNT(*) FROM groups").one::<(i64,)>().await.expect("a count"), (0,));
        assert_eq!(app.audit_log().await.len(), before.len());
    }
}
