//! Every method admits exactly the callers that its access rule allows, and `ExplainAccess` says the same.

use std::collections::BTreeSet;

use access::{Actor, UserId, token::Claims};
use auth_service::{
    DESCRIPTORS, access_rules,
    keys::{KeyBits, KeyRing, MasterKey},
    permissions::SUPERUSER_PERMISSION,
    proto::{DeactivateUserRequest, ExplainAccessRequest},
};
use chrono::TimeDelta;
use testing::on_both_engines;
use testing::{Issuer, MatrixCaller, MatrixCell, MatrixClaims, MatrixRow, check_access_matrix};

use crate::app::{self, App};

on_both_engines! {
    async fn every_method_enforces_its_access_rule(app: App) {
        let rules = access_rules();
        let scope = rules.permissions.join(" ");
        let (alice, root, former) = (app.user("alice").await, app.superuser("root").await, app.superuser("former").await);
        let permissions: Vec<_> = rules.permissions.iter().map(String::as_str).collect();
        let grantable: Vec<_> = permissions.iter().copied().filter(|permission| *permission != SUPERUSER_PERMISSION).collect();
        let holder = app.clerk(&root, "holder", &grantable).await;
        let former_id = former.user.user_id.clone();
        root.users().deactivate_user(DeactivateUserRequest { user_id: former_id }).await.expect("a user who is not active");
        let secret = "the secret of a test".to_owned();
        auth_service::ensure_client(&app.database.open(), &app.clock, "billing", &permissions, secret).await.expect("a client");

        let master_key = MasterKey::from_base64(&app.master_key).expect("a master key");
        let keys = KeyRing::open(app.database.open(), app.clock.clock(), master_key, KeyBits::default(), TimeDelta::zero()).await.expect("the keys");
        let key = keys.keys().active().expect("a key").clone();
        let issuer = Issuer::new("http://127.0.0.1:50051", "auth-service", app.clock.clock());
        let claims = |actor: &app::Actor| {
            let user_id = UserId::parse("user_id", &actor.user.user_id).expect("an id");
            issuer.claims(user_id, &actor.user.username)
        };
        let user = claims(&alice);
        let claims = MatrixClaims {
            superuser: Claims { scope: scope.clone(), ..claims(&root) },
            service: Claims { sub: "billing".to_owned(), sid: None, preferred_username: None, actor: Actor::Service, ..user.clone() },
            inactive: Claims { scope, ..claims(&former) },
            user,
        };
        let sign = |claims: &_| key.sign("at+jwt", claims).expect("a token");
        let rows = check_access_matrix(app.server.channel(), DESCRIPTORS, "auth.v1", &claims, sign).await;
        let called: BTreeSet<_> = rows.iter().map(MatrixRow::path).collect();
        assert_eq!(called, rules.methods.iter().map(|method| method.path.as_str()).collect());

        let mut identity = root.identity();
        for row in &rows {
            for (caller, user, is_owner) in [
                (MatrixCaller::Owner, &alice, true),
                (MatrixCaller::AnotherUser, &alice, false),
                (MatrixCaller::Holder, &holder, false),
                (MatrixCaller::Superuser, &root, false),
                (MatrixCaller::Inactive, &former, true),
            ] {
                let cell = row.cell(caller);
                if cell == MatrixCell::NotApplicable {
                    continue;
                }
                let user_id = user.user.user_id.clone();
                let owner_id = if is_owner { user_id.clone() } else { String::new() };
                let request = ExplainAccessRequest { method: row.path().to_owned(), user_id, owner_id };
                let explanation = identity.explain_access(request).await.expect("an explanation").into_inner();
                assert_eq!(explanation.is_allowed, cell == MatrixCell::Allowed, "{caller:?}: {explanation:?}");
            }
        }
    }
}
