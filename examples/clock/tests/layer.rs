//! The access layer passes the access matrix, and refuses to start with a rule that it cannot enforce.
#![allow(missing_docs)]

use std::sync::Arc;

use access::{
    AccessLayer, AccessRulesError, Actor, Clock, UserId,
    token::{Claims, KeySet, Revocation, Verifier},
};
use clock::{Clocks, DESCRIPTORS, NAME, proto::clock_service_server::ClockServiceServer};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use testing::{Issuer, MatrixClaims, Running, check_access_matrix};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

#[tokio::test]
async fn every_method_lets_in_the_callers_that_its_rule_names_and_nobody_else() {
    let clock = Clock::system();
    let issuer = Issuer::new("http://issuer.test", NAME, clock.clone());
    let verifier = Arc::new(Verifier::new("http://issuer.test", NAME, clock.clone()));
    verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
    let user = issuer.claims(UserId::new(&clock), "alice");
    let superuser =
        Claims { scope: "clock.change_zone clock.synchronize".to_owned(), ..issuer.claims(UserId::new(&clock), "root") };
    let service = Claims { sub: "billing".to_owned(), actor: Actor::Service, ..user.clone() };
    let former = UserId::new(&clock);
    let inactive = Claims { scope: superuser.scope.clone(), ..issuer.claims(former, "former") };
    verifier.revoke(Revocation::User(former), clock.now() + std::time::Duration::from_hours(1));
    let claims = MatrixClaims { user, superuser, service, inactive };
    let layer = AccessLayer::new(DESCRIPTORS, verifier).expect("rules");
    let running = Running::start(|listener, shutdown| async {
        let server = Server::builder().layer(layer).add_service(ClockServiceServer::new(Clocks));
        let incoming = TcpListenerStream::new(listener);
        server.serve_with_incoming_shutdown(incoming, shutdown).await.expect("a server that serves");
    })
    .await;
    let rows = check_access_matrix(running.channel(), DESCRIPTORS, "clock.v1", &claims, |claims| issuer.token(claims)).await;
    assert_eq!(rows.len(), 4);
}

#[tokio::test]
async fn a_rule_with_an_owner_and_a_method_without_a_rule_do_not_start() {
    let verifier = || Arc::new(Verifier::new("http://issuer.test", NAME, Clock::system()));
    // The descriptors of the auth service hold rules with owners.
    let error = AccessLayer::new(access::proto::DESCRIPTORS, verifier()).expect_err("a rule with an owner");
    assert!(matches!(error, AccessRulesError::Owner(_)), "{error}");
    let method = MethodDescriptorProto {
        name: Some("Get".to_owned()),
        input_type: Some(".test.v1.Empty".to_owned()),
        output_type: Some(".test.v1.Empty".to_owned()),
        ..Default::default()
    };
    let service = ServiceDescriptorProto { name: Some("TestService".to_owned()), method: vec![method], ..Default::default() };
    let file = FileDescriptorProto {
        name: Some("test.proto".to_owned()),
        package: Some("test.v1".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![DescriptorProto { name: Some("Empty".to_owned()), ..Default::default() }],
        service: vec![service],
        ..Default::default()
    };
    let descriptors = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    let error = AccessLayer::new(&descriptors, verifier()).expect_err("a method without a rule");
    assert_eq!(error.to_string(), "test.v1.TestService.Get: no (access.v1.rule): every method must declare who may call it");
    let error = AccessLayer::new(b"nonsense", verifier()).expect_err("bytes that are no descriptors");
    assert!(matches!(error, AccessRulesError::Descriptors(_)), "{error}");
}
