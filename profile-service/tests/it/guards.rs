//! Every method accepts the callers that its access rule allows, and rejects all others.

use std::collections::BTreeSet;

use profile_service::{DESCRIPTORS, access_rules};
use testing::access_matrix;
use testing::on_both_engines;

use crate::app::App;

on_both_engines! {
    async fn every_method_lets_in_whom_its_rule_names(app: App) {
        let alice = app.user("alice").await;
        let walked = access_matrix(app.channel.clone(), DESCRIPTORS, "profiles.v1", &alice.claims, |claims| app.issuer.token(claims)).await;
        assert_eq!(walked, access_rules().methods.into_iter().map(|method| method.path).collect::<BTreeSet<_>>());
    }
}
