//! Every method admits exactly the callers that its access rule allows.

use std::collections::BTreeSet;

use access::UserId;
use auth_service::{
    DESCRIPTORS, access_rules,
    keys::{KeyBits, KeyRing, MasterKey},
};
use chrono::TimeDelta;
use testing::on_both_engines;
use testing::{Issuer, access_matrix};

use crate::app::App;

on_both_engines! {
    async fn every_method_enforces_its_access_rule(app: App) {
        let alice = app.user("alice").await;
        let master_key = MasterKey::from_base64(&app.master_key).expect("a master key");
        let keys = KeyRing::open(app.database.open(), app.clock.clock(), master_key, KeyBits::default(), TimeDelta::zero()).await.expect("the keys");
        let key = keys.keys().active().expect("a key").clone();
        let issuer = Issuer::new("http://127.0.0.1:50051", "auth-service", app.clock.clock());
        let claims = issuer.claims(UserId::parse("user_id", &alice.user.user_id).expect("an id"), "alice");
        let sign = |claims: &_| key.sign("at+jwt", claims).expect("a token");
        let walked = access_matrix(app.server.channel(), DESCRIPTORS, "auth.v1", &claims, sign).await;
        assert_eq!(walked, access_rules().methods.into_iter().map(|method| method.path).collect::<BTreeSet<_>>());
    }
}
