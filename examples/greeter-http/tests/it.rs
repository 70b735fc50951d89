//! Tests the greeter over HTTP, and the request id that the server adds.
#![allow(missing_docs)]

use std::sync::Arc;

use access::{
    Clock, UserId,
    token::{Claims, KeySet, Verifier},
};
use greeter::proto::{GreetRequest, greeter_service_client::GreeterServiceClient};
use testing::{Issuer, Running, http, with_token};
use tonic::{Request, transport::Channel};

struct App {
    token: String,
    running: Running,
    channel: Channel,
}

impl App {
    async fn start() -> Self {
        let clock = Clock::system();
        let issuer = Issuer::new("http://issuer.test", greeter::NAME, clock.clone());
        let verifier = Arc::new(Verifier::new("http://issuer.test", greeter::NAME, clock.clone()));
        verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
        let server = greeter_http::server(verifier, "http://issuer.test").expect("descriptors");
        let running = Running::start(|listener, shutdown| async {
            server.serve(listener, || async { server::Health::new() }, shutdown).await.expect("a server that serves");
        })
        .await;
        let claims = issuer.claims(UserId::new(&clock), "alice");
        let token = issuer.token(&Claims { scope: "greeter.greet_people".to_owned(), ..claims });
        Self { token, channel: running.channel(), running }
    }

    fn greeting(&self, name: &str) -> Request<GreetRequest> {
        with_token(&self.token, GreetRequest { name: name.to_owned() })
    }
}

#[tokio::test]
async fn the_openapi_document_and_the_metrics_are_served_over_http() {
    let app = App::start().await;
    let document = http::send(app.running.address, "GET /openapi.json", &[], b"").await;
    assert_eq!((document.status, document.json()["info"]["title"].as_str()), (200, Some("Greeter")));
    let metrics = http::send(app.running.address, "GET /metrics", &[], b"").await;
    assert!(metrics.text().contains("\nrevocations_fresh 0"), "{}", metrics.text());
}

#[tokio::test]
async fn a_request_id_comes_back_and_one_is_made_where_there_is_none_of_use() {
    let app = App::start().await;
    let mut client = GreeterServiceClient::new(app.channel.clone());
    let long = "x".repeat(65);
    for (given, kept) in
        [(Some("order-17.retry_2"), true), (Some("two words"), false), (Some(long.as_str()), false), (None, false)]
    {
        let mut request = app.greeting("Bob");
        if let Some(given) = given {
            request.metadata_mut().insert("x-request-id", given.parse().expect("a header"));
        }
        let answer = client.greet(request).await.expect("a greeting");
        let id = answer.metadata().get("x-request-id").expect("a request id").to_str().expect("text");
        assert_eq!(Some(id) == given, kept, "{given:?}: {id}");
        assert!(!id.is_empty());
    }
}
