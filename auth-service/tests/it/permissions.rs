//! Permissions: grant them to users and groups, find them in tokens, and limit delegation to one's own permissions.

use access::UserId;
use auth_service::{
    Settings,
    permissions::{self, Catalogue, Holder},
    proto::{
        AddMemberRequest, CreateGroupRequest, DeleteGroupRequest, GetUserRequest, GrantRequest, Group, ListPermissionsRequest,
        ListUsersRequest, RemoveMemberRequest, RevokeRequest, UpdateGroupRequest, WhoAmIRequest, grant_request,
        list_permissions_request, revoke_request,
    },
};
use testing::on_both_engines;
use testing::{Engine, assert_refused};
use tonic::{Code, Status};

use crate::app::{Actor, App, claims, profile_rules};

/// The id of no user.
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

impl Actor {
    async fn grant_to_group(&self, permission: &str, group_id: &str) -> Result<(), Status> {
        let holder = Some(grant_request::Holder::GroupId(group_id.to_owned()));
        let request = GrantRequest { permission: permission.to_owned(), holder };
        self.permissions().grant(request).await.map(tonic::Response::into_inner)
    }

    async fn revoke(&self, permission: &str, user_id: &str) -> Result<(), Status> {
        let holder = Some(revoke_request::Holder::UserId(user_id.to_owned()));
        let request = RevokeRequest { permission: permission.to_owned(), holder };
        self.permissions().revoke(request).await.map(tonic::Response::into_inner)
    }

    async fn create_group(&self, name: &str) -> String {
        let group = Some(Group { name: name.to_owned(), ..Group::default() });
        self.groups().create_group(CreateGroupRequest { group }).await.expect("a group").into_inner().group_id
    }

    async fn add_member(&self, group_id: &str, user_id: &str) -> Result<(), Status> {
        let request = AddMemberRequest { group_id: group_id.to_owned(), user_id: user_id.to_owned() };
        self.groups().add_member(request).await.map(tonic::Response::into_inner)
    }

    async fn remove_member(&self, group_id: &str, user_id: &str) -> Result<(), Status> {
        let request = RemoveMemberRequest { group_id: group_id.to_owned(), user_id: user_id.to_owned() };
        self.groups().remove_member(request).await.map(tonic::Response::into_inner)
    }

    async fn delete_group(&self, group_id: &str) -> Result<(), Status> {
        let request = DeleteGroupRequest { group_id: group_id.to_owned(), etag: String::new() };
        self.groups().delete_group(request).await.map(tonic::Response::into_inner)
    }
}

/// Signs in again and returns the scope, the groups and the version in the new token.
async fn next_claims(app: &App, actor: &Actor) -> (String, Vec<String>, i64) {
    let login = app.login(&actor.user.username).await;
    let claims = claims(&login.access_token);
    let groups = claims["groups"].as_array().expect("groups").iter().map(|group| group.as_str().expect("text").to_owned());
    let (scope, groups) = (claims["scope"].as_str().expect("a scope").to_owned(), groups.collect::<Vec<_>>());
    let me = app.actor(login).identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
    assert_eq!((me.permissions.join(" "), me.groups), (scope.clone(), groups.clone()));
    (scope, groups, claims["ver"].as_i64().expect("a version"))
}

struct WithGreeter(App);

impl WithGreeter {
    async fn start(engine: Engine) -> Self {
        let permissions = vec!["greeter.greet_people".to_owned()];
        Self(App::start_with(engine, Settings { permissions, ..Settings::default() }).await)
    }
}

on_both_engines! {
    /// An import stores permissions as the Django project names them.
    async fn an_imported_permission_grants_no_other(app: App) {
        let alice = app.user("alice").await;
        let db = app.database.open();
        let mut tx = db.begin().await.expect("a transaction");
        let user_id = UserId::parse("user_id", &alice.user.user_id).expect("an id");
        for permission in ["memos.read auth.view_user", "memos.read\u{1F}auth.view_user", "auth.view_group"] {
            permissions::give(&mut tx, Holder::User(user_id), permission).await.expect("a permission");
        }
        tx.commit().await.expect("a commit");
        let me = alice.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        assert_eq!(me.permissions, ["auth.view_group"]);
        assert_eq!(claims(&app.login("alice").await.access_token)["scope"], "auth.view_group");
    }

    async fn the_next_token_contains_the_permissions_of_the_user_and_their_groups(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let user_id = alice.user.user_id.as_str();
        let list = |actor: &Actor| { let mut users = actor.users(); async move { users.list_users(ListUsersRequest::default()).await } };
        assert_eq!(next_claims(&app, &alice).await, (String::new(), vec![], 1));
        for _ in 0..2 {
            root.grant("auth.view_user", user_id).await.expect("a grant");
        }
        assert_eq!(next_claims(&app, &alice).await, ("auth.view_user".to_owned(), vec![], 2));
        // A token with the previous permissions is revoked.
        assert_refused(list(&alice).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        let alice = app.again(&alice).await;
        list(&alice).await.expect("users");

        let (editors, readers) = (root.create_group("Editors").await, root.create_group("All readers").await);
        for _ in 0..2 {
            root.add_member(&editors, user_id).await.expect("a member");
        }
        assert_eq!(next_claims(&app, &alice).await, ("auth.view_user".to_owned(), vec!["Editors".to_owned()], 3));
        root.grant_to_group("profile.change_note", &editors).await.expect("a grant");
        root.grant_to_group("auth.view_user", &readers).await.expect("a grant");
        root.add_member(&readers, user_id).await.expect("a member");
        let both = vec!["All readers".to_owned(), "Editors".to_owned()];
        assert_eq!(next_claims(&app, &alice).await, ("auth.view_user profile.change_note".to_owned(), both.clone(), 5));

        // The user's own permission is revoked; the one of the group stays.
        for _ in 0..2 {
            root.revoke("auth.view_user", user_id).await.expect("a revocation");
        }
        assert_eq!(next_claims(&app, &alice).await, ("auth.view_user profile.change_note".to_owned(), both, 6));
        for _ in 0..2 {
            root.remove_member(&readers, user_id).await.expect("a removal");
        }
        let group = Some(Group { group_id: editors.clone(), name: "Writers".to_owned(), ..Group::default() });
        root.groups().update_group(UpdateGroupRequest { group, update_mask: None }).await.expect("a new name");
        assert_eq!(next_claims(&app, &alice).await, ("profile.change_note".to_owned(), vec!["Writers".to_owned()], 8));
        root.delete_group(&editors).await.expect("a deletion");
        assert_eq!(next_claims(&app, &alice).await, (String::new(), vec![], 9));
        let user = root.users().get_user(GetUserRequest { user_id: user_id.to_owned() }).await.expect("a user").into_inner();
        assert_eq!(user.etag, "\"9\"");
    }

    async fn a_caller_can_grant_only_permissions_they_hold(app: App) {
        let (bob, root) = (app.user("bob").await, app.superuser("root").await);
        let clerk = app.clerk(&root, "clerk", &["auth.change_permission", "auth.change_group", "auth.delete_group"]).await;
        let (clerk_id, bob_id, root_id) = (&clerk.user.user_id, &bob.user.user_id, &root.user.user_id);
        let keepers = root.create_group("Keepers of keys").await;
        root.grant_to_group("auth.change_key", &keepers).await.expect("a grant");
        root.add_member(&keepers, bob_id).await.expect("a member");

        clerk.grant("auth.change_group", bob_id).await.expect("a grant of what they hold");
        clerk.revoke("auth.change_group", bob_id).await.expect("a revocation of what they hold");
        for outcome in [
            clerk.grant("auth.change_key", clerk_id).await,
            clerk.grant_to_group("auth.view_key", &keepers).await,
            clerk.revoke("auth.view_key", bob_id).await,
            clerk.add_member(&keepers, clerk_id).await,
            clerk.remove_member(&keepers, bob_id).await,
            clerk.delete_group(&keepers).await,
            clerk.grant("auth.change_group", root_id).await,
            clerk.revoke("auth.change_group", root_id).await,
        ] {
            assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        let empty = root.create_group("Nothing").await;
        clerk.add_member(&empty, clerk_id).await.expect("a member of a group that may do nothing");
        let clerk = app.again(&clerk).await;
        assert_refused(clerk.add_member(&empty, root_id).await, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        assert_eq!(next_claims(&app, &bob).await.0, "auth.change_key");
        clerk.delete_group(&empty).await.expect("a deletion");
        let clerk = app.again(&clerk).await;
        clerk.grant("auth.change_group", clerk_id).await.expect("nothing new");

        root.revoke("auth.change_group", clerk_id).await.expect("a revocation");
        let refused = clerk.grant("auth.change_group", bob_id).await;
        assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        let refused = app.again(&clerk).await.grant("auth.change_group", bob_id).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
    }

    async fn an_unknown_permission_cannot_be_granted(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        for permission in ["auth.fly", "auth", "AUTH.VIEW_USER", "greeter.greet_people"] {
            let outcome = root.grant(permission, &alice.user.user_id).await;
            assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("permission", "PERMISSION_KNOWN")]);
        }
        let outcome = root.permissions().grant(GrantRequest { permission: "auth.view_user".to_owned(), holder: None }).await;
        assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", &[("holder", "REQUIRED")]);
        let outcome = root.permissions().revoke(RevokeRequest::default()).await;
        assert_refused(
            outcome,
            Code::InvalidArgument,
            "FIELD_INVALID",
            &[("permission", "STRING_MIN_LEN"), ("holder", "REQUIRED")],
        );
        assert_refused(root.grant("auth.view_user", NOBODY).await, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        let outcome = root.grant_to_group("auth.view_user", NOBODY).await;
        assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("group_id", "EXISTS")]);
    }

    async fn configured_permissions_of_other_services_can_be_granted(app: WithGreeter) {
        let app = app.0;
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        root.grant("greeter.greet_people", &alice.user.user_id).await.expect("a grant");
        assert_eq!(next_claims(&app, &alice).await.0, "greeter.greet_people");
        let me = root.identity().who_am_i(WhoAmIRequest {}).await.expect("an answer").into_inner();
        assert_eq!(me.permissions.len(), auth_service::access_rules().permissions.len() + 1);
    }

    async fn permissions_are_listed(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        root.grant("auth.view_user", &alice.user.user_id).await.expect("a grant");
        let list = |request: ListPermissionsRequest| {
            let mut permissions = root.permissions();
            async move { permissions.list_permissions(request).await.map(tonic::Response::into_inner) }
        };
        let (mut page_token, mut all) = (String::new(), Vec::new());
        loop {
            let page = list(ListPermissionsRequest { page_size: 7, page_token, holder: None }).await.expect("a page");
            assert!(page.permissions.len() <= 7 && page.permissions.iter().all(|permission| permission.is_known));
            all.extend(page.permissions.into_iter().map(|permission| permission.permission));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(all, Catalogue::new(&[profile_rules()], &[]).expect("a catalogue").all());
        let of = |user_id: &str| Some(list_permissions_request::Holder::UserId(user_id.to_owned()));
        let given = list(ListPermissionsRequest { holder: of(&alice.user.user_id), ..Default::default() }).await.expect("a list");
        assert_eq!(given.permissions.iter().map(|given| given.permission.as_str()).collect::<Vec<_>>(), ["auth.view_user"]);
        let outcome = list(ListPermissionsRequest { holder: of(NOBODY), ..Default::default() }).await;
        assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
    }
}
