//! Greet requires an access token, the permission of its access rule, and a name.

use greeter::proto::{GreetRequest, greeter_service_client::GreeterServiceClient};
use testing::{assert_refused, with_token};
use tonic::Code;

use crate::app::App;

#[tokio::test]
async fn only_who_may_greet_greets_and_only_with_a_name() {
    let app = App::start().await;
    let mut client = GreeterServiceClient::new(app.channel.clone());
    let named = |name: &str| GreetRequest { name: name.to_owned() };

    assert_refused(client.greet(named("Bob")).await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    let refused = client.greet(with_token(&app.issuer.token(&app.alice), named("Bob"))).await;
    assert_refused(refused, Code::PermissionDenied, "PERMISSION_MISSING", &[]);

    let refused = client.greet(with_token(&app.token(), named(""))).await;
    assert_refused(refused, Code::InvalidArgument, "FIELD_INVALID", &[("name", "STRING_MIN_LEN")]);
    let greeting = client.greet(with_token(&app.token(), named("Bob"))).await.expect("a greeting").into_inner().greeting;
    assert_eq!(greeting, "Hello Bob, says alice");
}
