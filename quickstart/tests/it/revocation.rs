//! The profile service rejects revoked tokens. While it cannot follow the revocation feed, its methods with `REVOCATION_STRICT`
//! fail.

use std::time::Duration;

use auth_service::proto::{
    Client, CreateClientRequest, DeactivateClientRequest, DeactivateUserRequest, RevokeAllSessionsRequest,
};
use profile_service::proto::{ExportProfileRequest, GetProfileRequest};
use server::REVOCATIONS;
use testing::on_both_engines;
use testing::{Engine, Running, assert_refused};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::pair::{self, Pair, User, refused_at_last};

async fn reads(user: &User) -> Result<(), Status> {
    user.profiles().get_profile(GetProfileRequest { user_id: "me".to_owned() }).await.map(drop)
}

async fn exports(user: &User) -> Result<(), Status> {
    user.profiles().export_profile(ExportProfileRequest { user_id: "me".to_owned() }).await.map(drop)
}

async fn becomes(profile: &Running, status: ServingStatus) {
    let mut health = HealthClient::new(profile.channel());
    let request = HealthCheckRequest { service: REVOCATIONS.to_owned() };
    pair::eventually(async || {
        let answer = health.check(request.clone()).await;
        answer.is_ok_and(|answer| answer.into_inner().status() == status)
    })
    .await;
}

on_both_engines! {
    async fn what_is_revoked_is_refused_elsewhere_and_nothing_else(app: Pair) {
        let (alice, root) = (app.user("alice").await, app.superuser("root").await);
        let elsewhere = app.login("alice").await;
        for user in [&alice, &elsewhere, &root] {
            reads(user).await.unwrap();
        }
        // A session is revoked whose access token the profile service has cached.
        let request = RevokeAllSessionsRequest { user_id: "me".to_owned(), keep_current: true };
        alice.sessions().revoke_all_sessions(request).await.unwrap();
        let status = refused_at_last(|| reads(&elsewhere)).await;
        assert_refused(Err::<(), _>(status), Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        reads(&alice).await.unwrap();
        // The user is deactivated.
        root.users().deactivate_user(DeactivateUserRequest { user_id: alice.id.clone() }).await.unwrap();
        let status = refused_at_last(|| reads(&alice)).await;
        assert_refused(Err::<(), _>(status), Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        reads(&root).await.unwrap();
        // A client is deactivated.
        let client = Client { client_id: "billing".to_owned(), ..Client::default() };
        let client = root.clients().create_client(CreateClientRequest { client: Some(client) }).await.unwrap().into_inner();
        let billing = root.service("billing", &client.client_secret).await;
        let request = GetProfileRequest { user_id: root.id.clone() };
        billing.profiles().get_profile(request.clone()).await.unwrap();
        root.clients().deactivate_client(DeactivateClientRequest { client_id: "billing".to_owned() }).await.unwrap();
        let status = refused_at_last(|| async { billing.profiles().get_profile(request.clone()).await.map(drop) }).await;
        assert_refused(Err::<(), _>(status), Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        reads(&root).await.unwrap();
        // A replica that starts later also rejects the tokens that were revoked before.
        let source = pair::source(app.auth_database.url(), &app.master_key, app.clock.clock(), app.auth.channel());
        let bound = Duration::from_secs(15);
        let late = pair::profile(app.profile_database.url(), app.clock.clock(), app.auth.channel(), Some(source), bound).await;
        becomes(&late, ServingStatus::Serving).await;
        for user in [&alice, &elsewhere] {
            assert_refused(reads(&user.at(&late)).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        }
        let refused = billing.at(&late).profiles().get_profile(request).await;
        assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        reads(&root.at(&late)).await.unwrap();
        // The auth service itself rejects revoked tokens at once.
        let request = RevokeAllSessionsRequest { user_id: "me".to_owned(), keep_current: true };
        let refused = alice.sessions().revoke_all_sessions(request).await;
        assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }
}

#[tokio::test]
async fn a_method_that_asks_for_revocations_is_unavailable_while_they_are_not_heard() {
    let app = Pair::start(Engine::Sqlite).await;
    let alice = app.user("alice").await;
    let (clock, url) = (app.clock.clock(), app.auth_database.url());
    let source = pair::source(url, &app.master_key, clock.clone(), app.auth.channel());
    let bound = Duration::from_secs(3);
    let profile = pair::profile(app.profile_database.url(), clock, app.auth.channel(), Some(source), bound).await;
    let alice = alice.at(&profile);
    becomes(&profile, ServingStatus::Serving).await;
    exports(&alice).await.unwrap();

    app.auth.stop().await;
    becomes(&profile, ServingStatus::NotServing).await;
    assert_refused(exports(&alice).await, Code::Unavailable, "REVOCATIONS_STALE", &[]);
    // Other methods still succeed, and the service as a whole is still ready.
    reads(&alice).await.unwrap();
    let answer = HealthClient::new(profile.channel()).check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}
