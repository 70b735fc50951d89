//! Users: register, get, list and update.

use auth_service::{
    MIGRATIONS, Settings,
    proto::{
        AddMemberRequest, CreateGroupRequest, DeactivateUserRequest, GetUserRequest, Group, ListUsersRequest, ListUsersResponse,
        RegisterRequest, UpdateUserRequest, User,
    },
};
use migrate::{Mode, Target};
use prost_types::FieldMask;
use store::Executor;
use testing::on_both_engines;
use testing::{Engine, assert_refused};
use tonic::{Code, Status};

use crate::app::{Actor, App, PASSWORD};

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

async fn list(actor: &Actor, request: ListUsersRequest) -> Result<ListUsersResponse, Status> {
    actor.users().list_users(request).await.map(tonic::Response::into_inner)
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

    async fn an_imported_username_may_break_the_rules_for_new_ones(app: App) {
        let alice = app.user("alice").await;
        let mut tx = app.database.open().begin().await.expect("a transaction");
        let imported = "b\u{43e}b";
        let query = tx.query("UPDATE users SET username = $1, username_key = $2").bind(imported).bind(imported.as_bytes());
        query.execute().await.expect("a user");
        tx.commit().await.expect("a commit");
        let change = |username: &str, first_name: &str| User {
            username: username.to_owned(),
            first_name: first_name.to_owned(),
            user_id: alice.user.user_id.clone(),
            ..User::default()
        };
        alice.users().update_user(update(change(imported, "Bob"), &[])).await.expect("an update of another field");
        let outcome = alice.users().update_user(update(change("\u{430}lice", ""), &[])).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("user.username", "USERNAME_ONE_SCRIPT")]);
    }

    async fn an_invalid_registration_names_the_field_and_the_rule(app: App) {
        let long = "x".repeat(151);
        for (request, violation) in [
            (registration("", "", PASSWORD), ("username", "STRING_MIN_LEN")),
            (registration(&long, "", PASSWORD), ("username", "STRING_MAX_LEN")),
            (registration("two words", "", PASSWORD), ("username", "USERNAME_RFC8265")),
            (registration("a\0b", "", PASSWORD), ("username", "STRING_NO_NUL")),
            (registration("bob@example.com", "", PASSWORD), ("username", "USERNAME_OWN_EMAIL")),
            (registration("b\u{43e}b", "", PASSWORD), ("username", "USERNAME_ONE_SCRIPT")),
            (registration("Me", "", PASSWORD), ("username", "USERNAME_NOT_RESERVED")),
            (registration("018f0000-0000-7000-8000-000000000000", "", PASSWORD), ("username", "USERNAME_NOT_RESERVED")),
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
        let outcome = alice.users().update_user(update(user("carol", ""), &["password"])).await;
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
            ..ListUsersRequest::default()
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

    async fn users_are_searched_filtered_and_ordered(app: App) {
        let root = app.superuser("root").await;
        for (username, email, first_name, last_name) in [
            ("zoe", "zoe@example.com", "Åsa", "Öberg"),
            ("Yan", "strasse@example.com", "", ""),
            ("xia", "", "Li", "Strasser"),
            ("strand", "", "", ""),
        ] {
            app.clock.advance(chrono::Duration::seconds(1));
            let names = RegisterRequest { first_name: first_name.to_owned(), last_name: last_name.to_owned(), ..RegisterRequest::default() };
            let request = RegisterRequest { username: username.to_owned(), email: email.to_owned(), password: PASSWORD.to_owned(), ..names };
            app.users().register(request).await.expect("a user");
        }
        let names = |answer: &ListUsersResponse| answer.users.iter().map(|user| user.username.clone()).collect::<Vec<_>>();
        for (search, expected) in [
            ("åSA", &["zoe"][..]),
            ("o\u{308}b", &["zoe"]),
            ("STRASSE", &["xia", "yan"]),
            ("stra", &["strand", "xia", "yan"]),
            ("Y", &["yan"]),
            ("example", &[]),
            ("%", &[]),
        ] {
            let answer = list(&root, ListUsersRequest { search: search.to_owned(), with_total_size: true, ..ListUsersRequest::default() }).await;
            let answer = answer.expect("a page");
            assert_eq!(names(&answer).iter().map(|name| name.to_lowercase()).collect::<Vec<_>>(), expected, "{search}");
            assert_eq!(answer.total_size, Some(i32::try_from(expected.len()).expect("a small number")), "{search}");
        }

        // The keys follow a change.
        let found = list(&root, ListUsersRequest { search: "Li".to_owned(), ..ListUsersRequest::default() }).await.expect("a page").users.remove(0);
        let xia = User { user_id: found.user_id.clone(), first_name: "Mei".to_owned(), ..User::default() };
        root.users().update_user(update(xia, &["first_name"])).await.expect("a change");
        for (search, count) in [("li", 0), ("mei", 1), ("xia", 1)] {
            let answer = list(&root, ListUsersRequest { search: search.to_owned(), ..ListUsersRequest::default() }).await.expect("a page");
            assert_eq!(answer.users.len(), count, "{search}");
        }

        for (order_by, expected) in [
            ("", ["root", "strand", "xia", "Yan", "zoe"]),
            ("username desc", ["zoe", "Yan", "xia", "strand", "root"]),
            ("create_time", ["root", "zoe", "Yan", "xia", "strand"]),
            ("create_time desc", ["strand", "xia", "Yan", "zoe", "root"]),
        ] {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let request = ListUsersRequest { order_by: order_by.to_owned(), page_size: 2, page_token: token, ..ListUsersRequest::default() };
                let answer = list(&root, request).await.expect("a page");
                assert_eq!(answer.total_size, None);
                seen.extend(names(&answer));
                token = answer.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, expected, "{order_by}");
        }
        let outcome = list(&root, ListUsersRequest { order_by: "email".to_owned(), ..ListUsersRequest::default() }).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("order_by", "ORDER_BY_FIELD")]);
    }

    async fn users_are_filtered_by_state_and_group(app: App) {
        let root = app.superuser("root").await;
        let alice = app.user("alice").await;
        let bob = app.user("bob").await;
        root.users().deactivate_user(DeactivateUserRequest { user_id: bob.user.user_id.clone() }).await.expect("a deactivation");
        let group = Some(Group { name: "editors".to_owned(), ..Group::default() });
        let group_id = root.groups().create_group(CreateGroupRequest { group }).await.expect("a group").into_inner().group_id;
        root.groups().add_member(AddMemberRequest { group_id: group_id.clone(), user_id: alice.user.user_id.clone() }).await.expect("a member");

        let default = ListUsersRequest::default;
        for (request, expected) in [
            (default(), &["alice", "root"][..]),
            (ListUsersRequest { show_inactive: true, ..default() }, &["alice", "bob", "root"]),
            (ListUsersRequest { is_active: Some(false), ..default() }, &["bob"]),
            (ListUsersRequest { is_active: Some(true), show_inactive: true, ..default() }, &["alice", "root"]),
            (ListUsersRequest { group_id: group_id.clone(), ..default() }, &["alice"]),
            (ListUsersRequest { group_id: group_id.clone(), search: "AL".to_owned(), ..default() }, &["alice"]),
            (ListUsersRequest { group_id: group_id.clone(), search: "r".to_owned(), ..default() }, &[]),
            (ListUsersRequest { group_id: group_id.clone(), is_active: Some(false), ..default() }, &[]),
        ] {
            let answer = list(&root, request.clone()).await.expect("a page");
            assert_eq!(answer.users.iter().map(|user| &user.username).collect::<Vec<_>>(), expected, "{request:?}");
        }

        // A page token is bound to each of them.
        let first = ListUsersRequest { page_size: 1, ..default() };
        let page_token = list(&root, first.clone()).await.expect("a page").next_page_token;
        let next = ListUsersRequest { page_token, ..first };
        for other in [
            ListUsersRequest { search: "a".to_owned(), ..next.clone() },
            ListUsersRequest { is_active: Some(false), ..next.clone() },
            ListUsersRequest { group_id: group_id.clone(), ..next.clone() },
            ListUsersRequest { order_by: "username desc".to_owned(), ..next.clone() },
        ] {
            let outcome = list(&root, other).await;
            assert_refused(outcome, Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[("page_token", "PAGE_TOKEN_SAME_LIST")]);
        }

        // A caller who may list users, but not groups, cannot find out the members of a group.
        let viewer = app.clerk(&root, "viewer", &["auth.view_user"]).await;
        assert_eq!(list(&viewer, default()).await.expect("a page").users.len(), 3);
        let outcome = list(&viewer, ListUsersRequest { group_id, ..default() }).await;
        assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
    }

    async fn users_from_before_the_search_keys_are_found(app: App) {
        let root = app.superuser("root").await;
        app.register("alice").await;
        let db = app.database.open();
        migrate::migrate_to(&db, &MIGRATIONS, &"0007".parse::<Target>().expect("a target"), Mode::Run, |_| {}).await.expect("an old schema");
        migrate::migrate(&db, &MIGRATIONS).await.expect("a new schema");
        let request = ListUsersRequest { search: "ALI".to_owned(), ..ListUsersRequest::default() };
        assert_eq!(list(&root, request.clone()).await.expect("a page").users.len(), 0);
        // A replica computes the keys when it starts.
        let _replica = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        while list(&root, request.clone()).await.expect("a page").users.is_empty() {}
        assert_eq!(list(&root, ListUsersRequest::default()).await.expect("a page").users.len(), 2);
    }
}
