//! Every method lets in whom its access rule names, and nobody else.

use std::collections::BTreeSet;

use profile_service::{
    DESCRIPTORS,
    proto::{friend_service, note_service, profile_service as profiles, sync_service},
};
use testing::access_matrix;
use testing::on_both_engines;

use crate::app::App;

on_both_engines! {
    async fn every_method_lets_in_whom_its_rule_names(app: App) {
        let alice = app.user("alice").await;
        let walked = access_matrix(app.channel.clone(), DESCRIPTORS, "profiles.v1", &alice.claims, |claims| app.issuer.token(claims)).await;
        let served = [profiles::METHODS, friend_service::METHODS, note_service::METHODS, sync_service::METHODS].concat();
        assert_eq!(walked, served.iter().map(|method| method.path.to_string()).collect::<BTreeSet<_>>());
    }
}
