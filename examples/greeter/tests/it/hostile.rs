//! Calls a running service with the hostile tokens of the verifier's own tests. Every token gets exactly the same error.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use access::token::{Verifier, follow};
use chrono::DateTime;
use greeter::proto::{GreetRequest, greeter_service_client::GreeterServiceClient};
use testing::{ErrorLines, Issuer, TestClock, token_corpus as corpus, with_token};
use tonic::Code;

use crate::app::serve;

#[tokio::test]
async fn every_hostile_token_gets_the_same_answer() {
    let log = ErrorLines::watch();
    let clock = TestClock::new(DateTime::from_timestamp(1_790_000_000, 0).expect("a time"));
    // The hostile tokens contain variants of this issuer and this audience.
    let issuer = Issuer::new("https://auth.example.test", "profile-service", clock.clock());
    let verifier = Arc::new(Verifier::new(&*issuer.name, &*issuer.audience[0], clock.clock()));
    let jwks = corpus::jwks(&issuer);
    tokio::spawn(follow(Arc::clone(&verifier), Duration::from_mins(1), move || {
        let jwks = jwks.clone();
        async move { Ok::<_, String>(jwks) }
    }));
    while !verifier.has_keys() {
        tokio::task::yield_now().await;
    }
    let running = serve(verifier).await;
    let mut client = GreeterServiceClient::new(running.channel());
    let hostile: Vec<_> = corpus::hostile(&issuer).into_iter().filter(corpus::Hostile::travels).collect();
    assert!(hostile.len() >= 150, "{}", hostile.len());
    let mut answers = BTreeSet::new();
    for token in &hostile {
        let refused = client.greet(with_token(&token.token, GreetRequest { name: "Bob".to_owned() })).await;
        let status = refused.expect_err(&token.name);
        assert_eq!(status.code(), Code::Unauthenticated, "{}", token.name);
        answers.insert((status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    log.assert_none();
}
