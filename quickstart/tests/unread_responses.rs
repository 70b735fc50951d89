//! Clients that do not read their responses occupy a bounded amount of memory, and other clients are served meanwhile.
#![allow(missing_docs)]

mod running;

use std::time::{Duration, Instant};

use auth_service::proto::{
    IssueServiceTokenRequest, LoginRequest, RegisterRequest, issue_service_token_request::Credential,
    token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{Method, Request, StatusCode};
use profile_service::proto::{CreateNoteRequest, ListNotesRequest, Note, note_service_client::NoteServiceClient};
use prost::Message;
use tokio::net::TcpStream;
use tonic::transport::Channel;

use crate::running::Running;

const PASSWORD: &str = "correct horse battery staple";
/// The largest growth of the process: 32 MiB of unread responses in each of the two services, and as much again for the transport and for
/// freed memory that the allocator keeps for a while. The JSON responses alone would take more than a gigabyte.
const GROWTH_LIMIT: u64 = 128 << 20;
const STREAMS: usize = 100;

/// A connection whose client never reads a byte of a response body.
struct SilentConnection {
    requests: SendRequest<Bytes>,
    responses: Vec<ResponseFuture>,
}

impl SilentConnection {
    async fn open(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await.expect("a connection");
        let (requests, connection) =
            h2::client::Builder::new().initial_window_size(0).handshake(stream).await.expect("a handshake");
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { requests, responses: Vec::new() }
    }

    async fn send(&mut self, request: Request<()>, body: Bytes) {
        self.requests = self.requests.clone().ready().await.expect("an open connection");
        let (response, mut stream) = self.requests.send_request(request, body.is_empty()).expect("a stream");
        if !body.is_empty() {
            stream.send_data(body, true).expect("an open stream");
        }
        self.responses.push(response);
    }

    /// Waits for the heads of the responses, and returns how many were refused because of the limit.
    async fn refused(&mut self) -> usize {
        let mut refused = 0;
        let mut bodies = Vec::new();
        for response in self.responses.drain(..) {
            let Ok(response) = response.await else { continue };
            let status = response.headers().get("grpc-status").map(http::HeaderValue::as_bytes);
            refused += usize::from(response.status() == StatusCode::TOO_MANY_REQUESTS || status == Some(b"8"));
            bodies.push(response.into_body());
        }
        // The bodies stay open and unread.
        std::mem::forget(bodies);
        refused
    }
}

/// One kind of request that an attacker sends.
struct Attack<'a> {
    name: &'static str,
    url: &'a str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Attack<'_> {
    fn request(&self) -> Request<()> {
        let method = if self.body.is_empty() { Method::GET } else { Method::POST };
        let builder = Request::builder().method(method).uri(format!("{}{}", self.url, self.path));
        let builder = self.headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        builder.body(()).expect("a request")
    }

    /// Opens connections with 100 requests each and reads nothing. Returns the connections, and how many requests were refused.
    async fn run(&self, connections: usize) -> (Vec<SilentConnection>, usize) {
        let (mut open, mut refused) = (Vec::new(), 0);
        for _ in 0..connections {
            let mut connection = SilentConnection::open(self.url).await;
            for _ in 0..STREAMS {
                connection.send(self.request(), self.body.clone()).await;
            }
            refused += connection.refused().await;
            open.push(connection);
        }
        (open, refused)
    }
}

/// Calls as a client that reads its responses, and returns the median and the 99th percentile of the durations.
async fn honest_calls(channel: Channel, token: &str, user_id: &str, count: usize) -> (Duration, Duration) {
    let mut notes = NoteServiceClient::new(channel);
    let mut durations = Vec::new();
    for _ in 0..count {
        let list = ListNotesRequest { user_id: user_id.to_owned(), page_size: 1, ..ListNotesRequest::default() };
        let began = now();
        notes.list_notes(with_token(list, token)).await.expect("an answer to an honest client");
        durations.push(began.elapsed());
    }
    durations.sort_unstable();
    (durations[count / 2], durations[count * 99 / 100])
}

#[expect(clippy::disallowed_methods, reason = "durations are printed, not asserted")]
fn now() -> Instant {
    Instant::now()
}

fn address(url: &str) -> std::net::SocketAddr {
    url.trim_start_matches("http://").replace("localhost", "127.0.0.1").parse().unwrap_or_else(|_| panic!("{url} has no address"))
}

fn with_token<T>(message: T, token: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    request
}

async fn register(auth: Channel) -> (String, String) {
    let register =
        RegisterRequest { username: "mallory".to_owned(), password: PASSWORD.to_owned(), ..RegisterRequest::default() };
    let user = UserServiceClient::new(auth.clone()).register(register).await.expect("a user").into_inner();
    let login = LoginRequest { username: "mallory".to_owned(), password: PASSWORD.to_owned() };
    let login = TokenServiceClient::new(auth).login(login).await.expect("a session").into_inner();
    (login.access_token, user.user_id)
}

/// A message with the frame that gRPC puts before it.
fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let length = u32::try_from(encoded.len()).expect("a short message").to_be_bytes();
    [&[0][..], &length, &encoded].concat().into()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures are for the reference page")]
async fn unread_responses_occupy_bounded_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(folder.path());
    let channel = |url: &str| Channel::from_shared(url.to_owned()).expect("a URL").connect_lazy();
    let (token, user_id) = register(channel(&running.auth)).await;
    let mut notes = NoteServiceClient::new(channel(&running.profile));
    // A control character takes six bytes in JSON.
    for _ in 0..100 {
        let note = Note { title: "unread".to_owned(), body: "\u{1}".repeat(10_000), ..Note::default() };
        let create = CreateNoteRequest { user_id: user_id.clone(), note: Some(note), ..CreateNoteRequest::default() };
        notes.create_note(with_token(create, &token)).await.expect("a note");
    }
    let secret = std::fs::read_to_string(folder.path().join("profile-service.secret")).expect("a secret");
    let issue = IssueServiceTokenRequest {
        client_id: profile_service::NAME.to_owned(),
        credential: Some(Credential::ClientSecret(secret.trim().to_owned())),
        ..IssueServiceTokenRequest::default()
    };
    let service_token = TokenServiceClient::new(channel(&running.auth)).issue_service_token(issue).await.expect("a token");
    let service_token = service_token.into_inner().access_token;

    let page = testing::http::send(address(&running.auth), "GET /", &[], &[]).await;
    let bundle = page.text().split('"').find(|part| part.ends_with("swagger-ui-bundle.js")).expect("the page loads a bundle");
    let bearer = |token: &str| ("authorization", format!("Bearer {token}"));
    let list_path = format!("/v1/profiles/{user_id}/notes?page_size=1000");
    let list = ListNotesRequest { user_id: user_id.clone(), page_size: 1000, ..ListNotesRequest::default() };
    let attack = |name, url, path: &str, headers, body| Attack { name, url, path: path.to_owned(), headers, body };
    let grpc = ("content-type", "application/grpc".to_owned());
    let attacks = [
        attack("bundle", &*running.auth, bundle, vec![], Bytes::new()),
        attack("JSON", &*running.profile, &list_path, vec![bearer(&token)], Bytes::new()),
        attack(
            "XML",
            &*running.profile,
            &list_path,
            vec![bearer(&token), ("accept", "application/xml".to_owned())],
            Bytes::new(),
        ),
        attack("gRPC", &*running.profile, "/profiles.v1.NoteService/ListNotes", vec![bearer(&token), grpc], framed(&list)),
        attack(
            "SSE",
            &*running.auth,
            "/v1/events:watch",
            vec![bearer(&service_token), ("accept", "text/event-stream".to_owned())],
            Bytes::new(),
        ),
    ];
    let connections: usize = testing::rounds(2);

    let idle = honest_calls(channel(&running.profile), &token, &user_id, 100).await;
    // One unread connection of each kind lets the allocator and the caches grow to their usual size.
    let before = running.memory();
    let mut open = Vec::new();
    for attack in &attacks {
        let (silent, refused) = attack.run(connections).await;
        let during = honest_calls(channel(&running.profile), &token, &user_id, 100).await;
        let grown = running.memory().saturating_sub(before);
        println!(
            "{}: {} requests, {refused} refused, memory +{} MiB; honest p50 {:?} (idle {:?}), p99 {:?} (idle {:?})",
            attack.name,
            connections * STREAMS,
            grown >> 20,
            during.0,
            idle.0,
            during.1,
            idle.1,
        );
        assert!(grown <= GROWTH_LIMIT, "{}: the process has grown by {grown} bytes", attack.name);
        assert!(attack.name == "SSE" || refused > 0, "{}: no request was refused", attack.name);
        open.push(silent);
    }
}
