//! Users: register, get, list and update.

use auth_service::{
    Settings,
    proto::{GetUserRequest, ListUsersRequest, RegisterRequest, UpdateUserRequest, User},
};
use prost_types::FieldMask;
use testing::on_both_engines;
use testing::{Engine, assert_refused};
use tonic::Code;

use crate::app::{App, PASSWORD};

fn registration(username: &str, email: &str, password: &str) -> RegisterRequest {
    RegisterRequest {
        username: username.to_owned(),
        email: email.to_owned(),
        password: password.to_owned(),
        ..RegisterRequest::default()
    }
}

fn update(user: User, paths: &[&str]) -> UpdateUserRequest {
    let update_mask = (!paths.is_empty()).then(|| FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
    UpdateUserRequest { user: Some(user), update_mask }
}

struct Closed(App);

impl Closed {
    async fn start(engine: Engine) -> Self {
        Self(App::start_with(engine, Settings { closed_registration: true, ..Settings::default() }).await)
    }
}

on_both_engines! {
    async fn a_user_registers(app: App) {
        let user = app.users().register(registration("Alice", "alice@example.com", PASSWORD)).await.expect("a user").into_inner();
        assert_eq!((user.username.as_str(), user.email.as_str()), ("Alice", "alice@example.com"));
        assert!(user.is_active && !user.is_superuser && user.last_login_time.is_none());
        assert_eq!(user.etag, "\"1\"");
    }

    async fn usernames_and_email_addresses_are_unique_in_any_spelling(app: App) {
        app.users().register(registration("Ångström", "a@example.com", PASSWORD)).await.expect("a user");
        for spelling in ["Ångström", "ångström", "A\u{30a}NGSTRO\u{308}M"] {
            let outcome = app.users().register(registration(spelling, "", PASSWORD)).await;
            assert_refused(outcome, Code::AlreadyExists, "USERNAME_TAKEN", &[("username", "USERNAME_UNIQUE")]);
        }
        let outcome = app.users().register(registration("bob", "A@EXAMPLE.com", PASSWORD)).await;
        assert_refused(outcome, Code::AlreadyExists, "EMAIL_TAKEN", &[("email", "EMAIL_UNIQUE")]);
    }

    async fn an_invalid_registration_names_the_field_and_the_rule(app: App) {
        let long = "x".repeat(151);
        for (request, violation) in [
            (registration("", "", PASSWORD), ("username", "STRING_MIN_LEN")),
            (registration(&long, "", PASSWORD), ("username", "STRING_MAX_LEN")),
            (registration("two words", "", PASSWORD), ("username", "USERNAME_RFC8265")),
            (registration("a\0b", "", PASSWORD), ("username", "STRING_NO_NUL")),
            (registration("bob@example.com", "", PASSWORD), ("username", "USERNAME_OWN_EMAIL")),
            (registration("bob", "nowhere", PASSWORD), ("email", "STRING_EMAIL")),
            (registration("bob", "", "short"), ("password", "PASSWORD_MIN_LEN")),
            (registration("bob", "", "passwordpassword"), ("password", "PASSWORD_NOT_COMMON")),
        ] {
            let outcome = app.users().register(request).await;
            assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[violation]);
        }
    }

    async fn registration_can_be_closed(app: Closed) {
        let outcome = app.0.users().register(registration("alice", "", PASSWORD)).await;
        assert_refused(outcome, Code::PermissionDenied, "REGISTRATION_CLOSED", &[]);
    }

    async fn concurrent_registrations_of_one_username_create_one_user(app: App) {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut users = app.users();
            calls.spawn(async move { users.register(registration("alice", "", PASSWORD)).await });
        }
        let (created, rejected): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((created.len(), rejected.len()), (1, 7));
        for outcome in rejected {
            assert_refused(outcome, Code::AlreadyExists, "USERNAME_TAKEN", &[("username", "USERNAME_UNIQUE")]);
        }
    }

    async fn a_user_can_read_and_change_only_themselves(app: App) {
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let read = alice.users().get_user(GetUserRequest { user_id: "me".to_owned() }).await.expect("oneself").into_inner();
        assert_eq!(read.user_id, alice.user.user_id);
        let other = alice.users().get_user(GetUserRequest { user_id: bob.user.user_id.clone() }).await;
        assert_refused(other, Code::PermissionDenied, "PERMISSION_MISSING", &[]);

        let given = User { user_id: "me".to_owned(), first_name: "Alice".to_owned(), ..User::default() };
        let changed = alice.users().update_user(update(given, &[])).await.expect("a change").into_inner();
        assert_eq!((changed.first_name.as_str(), changed.username.as_str(), changed.etag.as_str()), ("Alice", "alice", "\"2\""));
        let given = User { user_id: bob.user.user_id.clone(), first_name: "Bobby".to_owned(), ..User::default() };
        let outcome = alice.users().update_user(update(given, &[])).await;
        assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
    }

    async fn an_invalid_update_changes_nothing(app: App) {
        let (alice, _) = (app.user("alice").await, app.user("bob").await);
        let user = |username: &str, etag: &str| User {
            user_id: "me".to_owned(),
            username: username.to_owned(),
            etag: etag.to_owned(),
            ..User::default()
        };
        let outcome = alice.users().update_user(update(user("BOB", ""), &[])).await;
        assert_refused(outcome, Code::AlreadyExists, "USERNAME_TAKEN", &[("user.username", "USERNAME_UNIQUE")]);
        let outcome = alice.users().update_user(update(user("carol", "\"7\""), &[])).await;
        assert_refused(outcome, Code::Aborted, "ETAG_STALE", &[("user.etag", "ETAG_CURRENT")]);
        let outcome = alice.users().update_user(update(user("carol", ""), &["is_superuser"])).await;
        assert_refused(outcome, Code::InvalidArgument, "MASK_PATH_INVALID", &[("update_mask", "UPDATE_MASK_PATH")]);
        let outcome = alice.users().update_user(update(user("", ""), &["*"])).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("user.username", "USERNAME_RFC8265")]);
        let read = alice.users().get_user(GetUserRequest { user_id: "me".to_owned() }).await.expect("oneself").into_inner();
        assert_eq!((read.username.as_str(), read.etag.as_str()), ("alice", "\"1\""));
        alice.users().update_user(update(user("Alice", "\"1\""), &[])).await.expect("another spelling of the own username");
    }

    async fn pages_can_end_with_the_longest_username(app: App) {
        let root = app.superuser("root").await;
        for letter in ["漢", "字"] {
            app.register(&letter.repeat(150)).await;
        }
        let (mut users, mut token) = (0, String::new());
        loop {
            let request = ListUsersRequest { page_size: 1, page_token: token, ..ListUsersRequest::default() };
            let page = root.users().list_users(request).await.expect("a page").into_inner();
            users += page.users.len();
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(users, 3);
    }

    async fn a_superuser_lists_users_page_by_page(app: App) {
        let root = app.superuser("root").await;
        for username in ["carol", "Alice", "bob", "alan", "Albert"] {
            app.register(username).await;
        }
        let list = |username_prefix: &str, page_size, page_token: String| ListUsersRequest {
            username_prefix: username_prefix.to_owned(),
            page_size,
            page_token,
            show_inactive: false,
        };
        let (mut names, mut token) = (Vec::new(), String::new());
        loop {
            let page = root.users().list_users(list("AL", 2, token)).await.expect("a page").into_inner();
            assert!(page.users.len() <= 2);
            names.extend(page.users.into_iter().map(|user| user.username));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["alan", "Albert", "Alice"]);

        let first = root.users().list_users(list("", 2, String::new())).await.expect("a page").into_inner();
        let outcome = root.users().list_users(list("al", 2, first.next_page_token)).await;
        assert_refused(outcome, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);
        let outcome = root.users().list_users(list("", -1, String::new())).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("page_size", "INT32_GTE")]);
    }
}
