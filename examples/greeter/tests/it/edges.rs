//! Errors that tonic itself generates have the same form as all others.

use access::limits::MESSAGE_LIMIT;
use greeter::proto::{GreetRequest, GreetResponse, greeter_service_client::GreeterServiceClient};
use testing::{assert_refused, with_token};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::app::App;

impl App {
    fn greeting(&self, name: &str) -> Request<GreetRequest> {
        with_token(&self.token(), GreetRequest { name: name.to_owned() })
    }

    /// Calls any method with any message.
    async fn call<M: prost::Message + 'static>(&self, path: &'static str, message: M) -> Result<Response<GreetResponse>, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.expect("a server that accepts connections");
        client.unary(with_token(&self.token(), message), path.parse().expect("a path"), ProstCodec::default()).await
    }
}

#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented_for_everybody() {
    let app = App::start().await;
    for path in ["/greeter.v1.GreeterService/Nothing", "/nobody.v1.NobodyService/Nothing", "/"] {
        let answer = app.call(path, GreetRequest::default()).await;
        assert_refused(answer, Code::Unimplemented, "METHOD_UNKNOWN", &[]);
    }
}

#[tokio::test]
async fn a_message_of_another_type_or_size_is_the_callers_fault() {
    let app = App::start().await;
    // A number where the name is a string.
    let other = prost_types::Timestamp { seconds: 5, nanos: 0 };
    let answer = app.call("/greeter.v1.GreeterService/Greet", other).await;
    assert_refused(answer, Code::InvalidArgument, "MESSAGE_MALFORMED", &[]);

    let mut client = GreeterServiceClient::new(app.channel.clone());
    let answer = client.greet(app.greeting(&"x".repeat(MESSAGE_LIMIT))).await;
    assert_refused(answer, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", &[]);
}

#[tokio::test]
async fn no_message_at_all_is_the_callers_fault() {
    let app = App::start().await;
    let mut client = tonic::client::Grpc::new(app.channel.clone());
    client.ready().await.expect("a server that accepts connections");
    let nothing = with_token(&app.token(), tokio_stream::empty::<GreetRequest>());
    let path = "/greeter.v1.GreeterService/Greet".parse().expect("a path");
    let codec: ProstCodec<_, GreetResponse> = ProstCodec::default();
    let answer = client.client_streaming(nothing, path, codec).await;
    assert_refused(answer, Code::InvalidArgument, "MESSAGE_MALFORMED", &[]);
}

#[tokio::test]
async fn two_tokens_are_none() {
    let app = App::start().await;
    let mut request = app.greeting("Bob");
    let second = format!("Bearer {}", app.token()).parse().expect("a header");
    request.metadata_mut().append("authorization", second);
    let answer = GreeterServiceClient::new(app.channel.clone()).greet(request).await;
    assert_refused(answer, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
}
