//! The interceptor accepts a call with a valid access token, and rejects every other call.
#![allow(missing_docs)]

use std::sync::Arc;

use access::{
    Clock, Interceptor, UserId,
    token::{KeySet, Verifier},
};
use clock::{
    Clocks, NAME,
    proto::{GetZoneRequest, clock_service_client::ClockServiceClient, clock_service_server::ClockServiceServer},
};
use testing::{Issuer, Running, assert_refused, with_token};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, transport::Server};

#[tokio::test]
async fn a_valid_token_reaches_the_handler_with_its_caller_and_no_other_request_does() {
    let clock = Clock::system();
    let issuer = Issuer::new("http://issuer.test", NAME, clock.clone());
    let verifier = Arc::new(Verifier::new("http://issuer.test", NAME, clock.clone()));
    verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
    let alice = issuer.claims(UserId::new(&clock), "alice");
    let service = ClockServiceServer::with_interceptor(Clocks, Interceptor::new(verifier));
    let running = Running::start(|listener, shutdown| async {
        let server = Server::builder().add_service(service);
        let incoming = TcpListenerStream::new(listener);
        server.serve_with_incoming_shutdown(incoming, shutdown).await.expect("a server that serves");
    })
    .await;
    let mut client = ClockServiceClient::new(running.channel());
    let token = issuer.token(&alice);

    let answer = client.get_zone(with_token(&token, GetZoneRequest {})).await.expect("an answer").into_inner();
    assert_eq!(answer.zone, "UTC for alice");
    assert_refused(client.get_zone(GetZoneRequest {}).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    let mut forged: Request<_> = with_token(&token, GetZoneRequest {});
    let second = format!("Bearer {token}").parse().expect("a header");
    forged.metadata_mut().append("authorization", second);
    assert_refused(client.get_zone(forged).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    let other = testing::Issuer { audience: vec!["another".to_owned()], ..issuer.clone() };
    let elsewhere = other.token(&other.claims(UserId::new(&clock), "alice"));
    let refused = client.get_zone(with_token(&elsewhere, GetZoneRequest {})).await;
    assert_refused(refused, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
}
