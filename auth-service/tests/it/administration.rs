//! User administration: create, deactivate, activate, delete and `SetPassword`.

use std::sync::Arc;

use access::UserId;
use auth_service::{
    Settings,
    keys::{KeyBits, KeyRing, MasterKey},
    proto::{
        ActivateUserRequest, BatchGetUsersRequest, CreateGroupRequest, CreateUserRequest, DeactivateUserRequest,
        DeleteUserRequest, GetUserRequest, Group, LoginRequest, RefreshRequest, RevokeAllSessionsRequest, RevokeSessionRequest,
        SetPasswordRequest, UpdateUserRequest, User, WhoAmIRequest, user_service_client::UserServiceClient,
    },
    users,
};
use chrono::TimeDelta;
use store::Executor;
use testing::on_both_engines;
use testing::{Issuer, assert_refused, rounds};
use tokio::task::JoinSet;
use tonic::{Code, Status, service::interceptor::InterceptedService, transport::Channel};

use crate::app::{Actor, App, Bearer, PASSWORD};

const OTHER_PASSWORD: &str = "nine red harbours of salt";
/// The id of no user.
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

type Users = UserServiceClient<InterceptedService<Channel, Bearer>>;

async fn activate(users: &mut Users, user_id: &str) -> Result<User, Status> {
    users.activate_user(ActivateUserRequest { user_id: user_id.to_owned() }).await.map(tonic::Response::into_inner)
}

async fn deactivate(users: &mut Users, user_id: &str) -> Result<User, Status> {
    users.deactivate_user(DeactivateUserRequest { user_id: user_id.to_owned() }).await.map(tonic::Response::into_inner)
}

async fn set_password(users: &mut Users, user_id: &str, new_password: &str) -> Result<(), Status> {
    let request = SetPasswordRequest { user_id: user_id.to_owned(), new_password: new_password.to_owned() };
    users.set_password(request).await.map(tonic::Response::into_inner)
}

async fn assert_signs_in(app: &App, username: &str, password: &str, signs_in: bool) {
    let outcome = app.tokens().login(LoginRequest { username: username.to_owned(), password: password.to_owned() }).await;
    if signs_in {
        outcome.expect("a login");
    } else {
        assert_refused(outcome, Code::Unauthenticated, "CREDENTIALS_INVALID", &[]);
    }
}

async fn assert_ended(app: &App, actor: &Actor) {
    let request = RefreshRequest { refresh_token: actor.login.refresh_token.clone(), request_id: String::new() };
    assert_refused(app.tokens().refresh(request).await, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
}

/// Returns a client for a caller who holds `auth.change_user` only.
async fn clerk(app: &App) -> Users {
    let clerk = app.user("clerk").await;
    let master_key = MasterKey::from_base64(&app.master_key).expect("a master key");
    let keys = KeyRing::open(app.database.open(), app.clock.clock(), master_key, KeyBits::default(), TimeDelta::zero()).await;
    let key = Arc::clone(keys.expect("the keys").keys().active().expect("a key"));
    let issuer = Issuer::new("http://127.0.0.1:50051", "auth-service", app.clock.clock());
    let mut claims = issuer.claims(UserId::parse("user_id", &clerk.user.user_id).expect("an id"), "clerk");
    "auth.change_user".clone_into(&mut claims.scope);
    let token = key.sign("at+jwt", &claims).expect("a token");
    UserServiceClient::with_interceptor(app.server.channel(), Bearer(token))
}

async fn delete(users: &mut Users, user_id: &str) -> Result<(), Status> {
    users
        .delete_user(DeleteUserRequest { user_id: user_id.to_owned(), etag: String::new() })
        .await
        .map(tonic::Response::into_inner)
}

/// Returns a request for a user without a password.
fn new_user(username: String) -> CreateUserRequest {
    CreateUserRequest { user: Some(User { username, ..User::default() }), password: String::new() }
}

on_both_engines! {
    async fn create_user_works_with_and_without_a_password(app: App) {
        let root = app.superuser("root").await;
        let new = |username: &str, password: &str| CreateUserRequest {
            user: Some(User { username: username.to_owned(), first_name: "Al".to_owned(), ..User::default() }),
            password: password.to_owned(),
        };
        let alice = root.users().create_user(new("Alice", PASSWORD)).await.expect("a user").into_inner();
        assert!(alice.is_active && !alice.is_superuser);
        assert_eq!((alice.username.as_str(), alice.first_name.as_str()), ("Alice", "Al"));
        assert_signs_in(&app, "alice", PASSWORD, true).await;
        let bob = root.users().create_user(new("bob", "")).await.expect("a user").into_inner();
        for password in ["!", PASSWORD] {
            assert_signs_in(&app, "bob", password, false).await;
        }
        set_password(&mut root.users(), &bob.user_id, OTHER_PASSWORD).await.expect("a password");
        assert_signs_in(&app, "bob", OTHER_PASSWORD, true).await;

        let taken = root.users().create_user(new("ALICE", PASSWORD)).await;
        assert_refused(taken, Code::AlreadyExists, "USERNAME_TAKEN", &[("user.username", "USERNAME_UNIQUE")]);
        let short = root.users().create_user(new("carol", "short")).await;
        assert_refused(short, Code::InvalidArgument, "FIELD_INVALID", &[("password", "PASSWORD_MIN_LEN")]);
        let alice = app.actor(app.login("alice").await);
        let denied = alice.users().create_user(new("carol", PASSWORD)).await;
        assert_refused(denied, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
    }

    async fn a_deleted_user_is_not_found_and_the_id_is_not_reused(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let user_id = alice.user.user_id.clone();
        root.grant("auth.view_user", &user_id).await.expect("a grant");
        let request = DeleteUserRequest { user_id: user_id.clone(), etag: alice.user.etag.clone() };
        let stale = root.users().delete_user(request).await;
        assert_refused(stale, Code::Aborted, "ETAG_STALE", &[("etag", "ETAG_CURRENT")]);
        delete(&mut root.users(), &user_id).await.expect("a deletion");
        assert_ended(&app, &alice).await;
        assert_signs_in(&app, "alice", PASSWORD, false).await;
        let found = root.users().get_user(GetUserRequest { user_id: user_id.clone() }).await;
        assert_refused(found, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        let me = alice.identity().who_am_i(WhoAmIRequest {}).await;
        assert_refused(me, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        assert_refused(delete(&mut root.users(), &user_id).await, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        let db = app.database.open();
        assert!(users::was_deleted(&db, UserId::parse("user_id", &user_id).expect("an id")).await.expect("a query"));

        let again = app.user("alice").await;
        assert_ne!(again.user.user_id, user_id);
        let me = again.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        assert_eq!(me.permissions, [""; 0]);
        delete(&mut again.users(), "me").await.expect("a deletion of oneself");
        assert_signs_in(&app, "alice", PASSWORD, false).await;
    }

    async fn a_caller_cannot_change_a_user_with_more_permissions(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let clerk = app.clerk(&root, "clerk", &["auth.change_user", "auth.delete_user", "auth.change_session"]).await;
        let user_id = alice.user.user_id.as_str();
        root.grant("auth.change_permission", user_id).await.expect("a grant");
        let user = User { user_id: user_id.to_owned(), email: "clerk@example.com".to_owned(), ..User::default() };
        let update = clerk.users().update_user(UpdateUserRequest { user: Some(user), update_mask: None }).await.map(drop);
        let set = set_password(&mut clerk.users(), user_id, OTHER_PASSWORD).await;
        let deactivated = deactivate(&mut clerk.users(), user_id).await.map(drop);
        let deleted = delete(&mut clerk.users(), user_id).await;
        let superuser = delete(&mut clerk.users(), &root.user.user_id).await;
        let revoke = |user_id: &str| RevokeAllSessionsRequest { user_id: user_id.to_owned(), keep_current: false };
        let signed_out = clerk.sessions().revoke_all_sessions(revoke(user_id)).await.map(drop);
        let request = RevokeSessionRequest { user_id: user_id.to_owned(), session_id: NOBODY.to_owned() };
        let one_session = clerk.sessions().revoke_session(request).await.map(drop);
        for outcome in [update, set, deactivated, deleted, superuser, signed_out, one_session] {
            assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        assert_signs_in(&app, "alice", PASSWORD, true).await;
        root.grant("auth.change_permission", &clerk.user.user_id).await.expect("a grant");
        delete(&mut app.again(&clerk).await.users(), user_id).await.expect("a deletion");
    }

    async fn batch_get_users_keeps_the_order_of_the_request(app: App) {
        let root = app.superuser("root").await;
        let mut user_ids = Vec::new();
        for username in ["carol", "alice", "bob"] {
            user_ids.push(app.register(username).await.user_id);
        }
        user_ids.push(user_ids[0].clone());
        let get = |user_ids: Vec<String>| { let mut users = root.users(); async move { users.batch_get_users(BatchGetUsersRequest { user_ids }).await } };
        let found = get(user_ids.clone()).await.expect("users").into_inner().users;
        assert_eq!(found.iter().map(|user| user.username.as_str()).collect::<Vec<_>>(), ["carol", "alice", "bob", "carol"]);
        NOBODY.clone_into(&mut user_ids[2]);
        assert_refused(get(user_ids).await, Code::NotFound, "NOT_FOUND", &[("user_ids[2]", "EXISTS")]);
        let many = get(vec![NOBODY.to_owned(); 101]).await;
        assert_refused(many, Code::InvalidArgument, "FIELD_INVALID", &[("user_ids", "REPEATED_MAX_ITEMS")]);
    }

    async fn deactivation_ends_all_sessions_and_activation_allows_login_again(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let (elsewhere, user_id) = (app.again(&alice).await, alice.user.user_id.as_str());
        for _ in 0..2 {
            let user = deactivate(&mut root.users(), user_id).await.expect("an inactive user");
            assert_eq!((user.is_active, user.etag.as_str()), (false, "\"2\""));
        }
        assert_ended(&app, &alice).await;
        assert_ended(&app, &elsewhere).await;
        assert_signs_in(&app, "alice", PASSWORD, false).await;

        for _ in 0..2 {
            let user = activate(&mut root.users(), user_id).await.expect("an active user");
            assert_eq!((user.is_active, user.etag.as_str()), (true, "\"3\""));
        }
        assert_ended(&app, &alice).await;
        assert_signs_in(&app, "alice", PASSWORD, true).await;
    }

    async fn set_password_ends_every_session(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let user_id = alice.user.user_id.as_str();
        for (password, rule) in [("short", "PASSWORD_MIN_LEN"), ("alicealicealicealice", "PASSWORD_NOT_COMMON")] {
            let outcome = set_password(&mut root.users(), user_id, password).await;
            assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("new_password", rule)]);
        }
        assert_signs_in(&app, "alice", PASSWORD, true).await;
        set_password(&mut root.users(), user_id, OTHER_PASSWORD).await.expect("a change");
        assert_ended(&app, &alice).await;
        assert_signs_in(&app, "alice", PASSWORD, false).await;
        assert_signs_in(&app, "alice", OTHER_PASSWORD, true).await;
    }

    async fn only_a_superuser_can_change_a_superuser(app: App) {
        let (alice, root, mut clerk) = (app.user("alice").await, app.superuser("root").await, clerk(&app).await);
        let (alice, admin) = (alice.user.user_id.as_str(), root.user.user_id.as_str());
        set_password(&mut clerk, alice, OTHER_PASSWORD).await.expect("a change");
        deactivate(&mut clerk, alice).await.expect("an inactive user");
        activate(&mut clerk, alice).await.expect("an active user");

        let user = User { user_id: admin.to_owned(), email: "clerk@example.com".to_owned(), ..User::default() };
        let update = clerk.update_user(UpdateUserRequest { user: Some(user), update_mask: None }).await.map(drop);
        let set = set_password(&mut clerk, admin, OTHER_PASSWORD).await;
        let deactivated = deactivate(&mut clerk, admin).await.map(drop);
        let activated = activate(&mut clerk, admin).await.map(drop);
        for outcome in [update, set, deactivated, activated] {
            assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        assert_signs_in(&app, "root", PASSWORD, true).await;
        set_password(&mut root.users(), admin, OTHER_PASSWORD).await.expect("a change of one's own");
    }

    async fn a_deleted_caller_cannot_change_anything_at_any_replica(app: App) {
        let root = app.superuser("root").await;
        let replica = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        let db = app.database.open();
        for round in 0..rounds(8) {
            let clerk = app.clerk(&root, &format!("clerk{round}"), &["auth.add_user"]).await;
            let (begun, mut beginning) = tokio::sync::watch::channel(0);
            let mut writers = JoinSet::new();
            for writer in 0..4 {
                // Two calls go to the replica that handles the deletion, and two to the other one.
                let server = if writer % 2 == 0 { &app.server } else { &replica };
                let (mut users, begun) = (clerk.at(server).users(), begun.clone());
                writers.spawn(async move {
                    for number in 0.. {
                        let made = users.create_user(new_user(format!("of-clerk{round}-{writer}-{number}"))).await;
                        begun.send_modify(|count| *count += 1);
                        if let Err(status) = made {
                            return status;
                        }
                    }
                    unreachable!("the clerk is deleted at some time")
                });
            }
            beginning.wait_for(|count| *count > round * 3).await.expect("writers");
            delete(&mut root.users(), &clerk.user.user_id).await.expect("a deletion");
            // This holds at once, although the revocation has not reached the other replica yet.
            let late = clerk.at(&replica).users().create_user(new_user(format!("late{round}"))).await;
            assert_refused(late, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
            for status in writers.join_all().await {
                assert_refused(Err::<(), _>(status), Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
            }
            let after = "SELECT COUNT(*) FROM outbox WHERE kind = 'USER_CREATED' AND pos > (SELECT MAX(pos) FROM outbox WHERE kind = 'USER_DELETED')";
            assert_eq!(db.query(after).one::<(i64,)>().await.expect("a count"), (0,), "round {round}");
        }
    }

    async fn a_deactivated_caller_cannot_change_anything_at_any_replica(app: App) {
        let root = app.superuser("root").await;
        let replica = App::replica(&app.database, &app.clock, &app.master_key, Settings::default()).await;
        let clerk = app.clerk(&root, "clerk", &["auth.change_user", "auth.add_group"]).await.at(&replica);
        let mut group = clerk.groups();
        let request = |name: &str| CreateGroupRequest { group: Some(Group { name: name.to_owned(), ..Group::default() }) };
        group.create_group(request("one")).await.expect("a group");
        deactivate(&mut root.users(), &clerk.user.user_id).await.expect("an inactive user");
        let late = group.create_group(request("another")).await;
        assert_refused(late, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        let own = activate(&mut clerk.users(), &clerk.user.user_id).await;
        assert_refused(own, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }

    async fn an_unknown_user_is_not_found(app: App) {
        let root = app.superuser("root").await;
        let activated = activate(&mut root.users(), NOBODY).await.map(drop);
        let deactivated = deactivate(&mut root.users(), NOBODY).await.map(drop);
        for outcome in [activated, deactivated, set_password(&mut root.users(), NOBODY, OTHER_PASSWORD).await] {
            assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        }
    }
}
