//! `GrantSuperuser` and `RevokeSuperuser`.

use auth_service::proto::{GrantSuperuserRequest, ListUsersRequest, RevokeSuperuserRequest, User};
use testing::assert_refused;
use testing::on_both_engines;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::app::{Actor, App};

/// The id of no user.
const NOBODY: &str = "018f0000-0000-7000-8000-000000000000";

impl Actor {
    async fn grant_superuser(&self, user_id: &str) -> Result<User, Status> {
        let request = GrantSuperuserRequest { user_id: user_id.to_owned() };
        self.users().grant_superuser(request).await.map(tonic::Response::into_inner)
    }

    async fn revoke_superuser(&self, user_id: &str) -> Result<User, Status> {
        let request = RevokeSuperuserRequest { user_id: user_id.to_owned() };
        self.users().revoke_superuser(request).await.map(tonic::Response::into_inner)
    }
}

fn assert_last<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    assert_refused(outcome, Code::FailedPrecondition, "LAST_SUPERUSER", &[("user_id", "USER_OTHER_SUPERUSER")]);
}

on_both_engines! {
    async fn a_superuser_makes_another_and_one_always_remains(app: App) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let (alice_id, root_id) = (alice.user.user_id.as_str(), root.user.user_id.as_str());
        assert_last(root.revoke_superuser(root_id).await);
        let granted = root.grant_superuser(alice_id).await.expect("a superuser");
        assert!(granted.is_superuser && granted.etag != alice.user.etag);
        assert_eq!(root.grant_superuser(alice_id).await.expect("the same"), granted);

        // The token from before the change is revoked, and the next one has every permission.
        let list = async |actor: &Actor| actor.users().list_users(ListUsersRequest::default()).await;
        assert_refused(list(&alice).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        let alice = app.again(&alice).await;
        list(&alice).await.expect("users");
        let revoked = alice.revoke_superuser(root_id).await.expect("an ordinary user");
        assert!(!revoked.is_superuser);
        assert_eq!(alice.revoke_superuser(root_id).await.expect("the same"), revoked);
        assert_last(alice.revoke_superuser(alice_id).await);
        assert_refused(list(&root).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        let root = app.again(&root).await;
        let refused = root.grant_superuser(root_id).await;
        assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        assert_refused(alice.grant_superuser(NOBODY).await, Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
    }

    async fn nobody_but_a_superuser_can_make_superusers(app: App) {
        let root = app.superuser("root").await;
        let permissions = auth_service::access_rules().permissions;
        let grantable: Vec<_> = permissions.iter().map(String::as_str).filter(|name| *name != "auth.change_superuser").collect();
        let clerk = app.clerk(&root, "clerk", &grantable).await;
        let (clerk_id, root_id) = (clerk.user.user_id.as_str(), root.user.user_id.as_str());
        for outcome in [clerk.grant_superuser(clerk_id).await, clerk.revoke_superuser(root_id).await] {
            assert_refused(outcome, Code::PermissionDenied, "PERMISSION_MISSING", &[]);
        }
        let granted = root.grant("auth.change_superuser", clerk_id).await;
        assert_refused(granted, Code::InvalidArgument, "FIELD_INVALID", &[("permission", "PERMISSION_GRANTABLE")]);
    }

    async fn superusers_who_revoke_one_another_leave_one(app: App) {
        let actors = [app.superuser("alice").await, app.superuser("bob").await];
        for _ in 0..testing::rounds(5) {
            let [alice, bob] = [app.again(&actors[0]).await, app.again(&actors[1]).await];
            let ids = [alice.user.user_id.clone(), bob.user.user_id.clone()];
            let mut calls = JoinSet::new();
            let [alice_id, bob_id] = ids.clone();
            calls.spawn(async move { alice.revoke_superuser(&bob_id).await.is_ok() });
            calls.spawn(async move { bob.revoke_superuser(&alice_id).await.is_ok() });
            let successes = calls.join_all().await.into_iter().filter(|succeeded| *succeeded).count();
            assert_eq!(successes, 1);
            let [alice, bob] = [app.again(&actors[0]).await, app.again(&actors[1]).await];
            let (remaining, other) = if alice.user.is_superuser { (alice, &ids[1]) } else { (bob, &ids[0]) };
            remaining.grant_superuser(other).await.expect("a second superuser");
        }
    }
}
