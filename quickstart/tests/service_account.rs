//! The profile service has a service account, whose secret only the owner of the folder can read.
#![allow(missing_docs)]

mod running;

use std::{fs, os::unix::fs::PermissionsExt};

use access::token::{ClientCredentials, ServiceToken, auth_channel};
use profile_service::proto::{BatchGetProfilesRequest, profile_service_client::ProfileServiceClient};

use crate::running::Running;

#[tokio::test]
async fn the_profile_service_has_an_account_that_both_services_know() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret_file = folder.path().join("profile-service.secret");
    for other_secret in [false, true] {
        if other_secret {
            fs::write(&secret_file, "a secret that the database does not know").expect("a write");
        }
        let running = Running::start(folder.path());
        assert_eq!(fs::metadata(&secret_file).expect("a file").permissions().mode() & 0o777, 0o600);
        let token = ServiceToken::default();
        let channel = auth_channel(&running.auth).expect("a URL");
        let credentials = ClientCredentials { client_id: profile_service::NAME.to_owned(), secret_file: secret_file.clone() };
        let mut profiles = ProfileServiceClient::with_interceptor(auth_channel(&running.profile).expect("a URL"), token.clone());
        let keeping = tokio::spawn({
            let token = token.clone();
            async move { token.keep_fresh(channel, credentials).await }
        });
        token.ready().await;
        let user_ids = vec!["018f0000-0000-7000-8000-000000000000".to_owned()];
        let refused = profiles.batch_get_profiles(BatchGetProfilesRequest { user_ids }).await.expect_err("nobody has a profile");
        assert!(refused.message().starts_with("user_ids[0] names nothing"), "{}", refused.message());
        keeping.abort();
    }
}
