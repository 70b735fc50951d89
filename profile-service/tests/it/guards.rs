//! Every method accepts the callers that its access rule allows, and rejects all others.

use std::collections::BTreeSet;

use access::{
    Actor, UserId,
    token::{Claims, Revocation},
};
use profile_service::{DESCRIPTORS, access_rules};
use testing::{MatrixClaims, check_access_matrix, on_both_engines};

use crate::app::App;

on_both_engines! {
    async fn every_method_lets_in_whom_its_rule_names(app: App) {
        let rules = access_rules();
        let user = app.user("alice").await.claims;
        let superuser = app.user_with("root", &rules.permissions.join(" ")).await.claims;
        let inactive = app.user_with("former", &superuser.scope).await.claims;
        let service = Claims { sub: "billing".to_owned(), sid: None, preferred_username: None, actor: Actor::Service, ..user.clone() };
        let inactive_id = UserId::parse("user_id", &inactive.sub).unwrap();
        app.verifier.revoke(Revocation::User(inactive_id), app.clock.now() + chrono::Duration::hours(1));
        let claims = MatrixClaims { user, superuser, service, inactive };
        let rows = check_access_matrix(app.channel.clone(), DESCRIPTORS, "profiles.v1", &claims, |claims| app.issuer.token(claims)).await;
        let called: BTreeSet<_> = rows.iter().map(testing::MatrixRow::path).collect();
        assert_eq!(called, rules.methods.iter().map(|method| method.path.as_str()).collect());
    }
}
