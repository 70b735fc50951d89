//! The example does what it says.
#![allow(missing_docs)]

use std::sync::Arc;

use greeter::proto::{GreetRequest, greeter_service_client::GreeterServiceClient};
use shared::{
    Clock, UserId,
    testing::{Issuer, Running, assert_refused, with_token},
    token::{KeySet, Verifier},
};
use tonic::Code;

#[tokio::test]
async fn only_who_may_greet_greets_and_only_with_a_name() {
    let clock = Clock::system();
    let issuer = Issuer::new("http://issuer.test", greeter::NAME, clock.clone());
    let verifier = Arc::new(Verifier::new("http://issuer.test", greeter::NAME, clock.clone()));
    verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
    let server = greeter::server(verifier).expect("descriptors");
    let running = Running::start(|listener, shutdown| async {
        server.serve(listener, || async { true }, shutdown).await.expect("a server that serves");
    })
    .await;
    let mut client = GreeterServiceClient::new(running.channel());
    let named = |name: &str| GreetRequest { name: name.to_owned() };

    assert_refused(client.greet(named("Bob")).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    let mut claims = issuer.claims(UserId::new(&clock), "alice");
    let refused = client.greet(with_token(&issuer.token(&claims), named("Bob"))).await;
    assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);

    claims.scope = "greeter.greet_people".to_owned();
    let token = issuer.token(&claims);
    let refused = client.greet(with_token(&token, named(""))).await;
    assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID", &[("name", "STRING_MIN_LEN")]);
    let greeting = client.greet(with_token(&token, named("Bob"))).await.expect("a greeting").into_inner().greeting;
    assert_eq!(greeting, "Hello Bob, says alice");
    running.stop().await;
}
