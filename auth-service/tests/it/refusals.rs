//! Each limit refuses what exceeds it, and `/metrics` counts every refusal.

use std::net::SocketAddr;

use auth_service::{Settings, login_throttle::Limits, proto::LoginRequest};
use bytes::Bytes;
use http::Request;
use server::ServerLimits;
use testing::{
    Engine, Metrics,
    http::{HeldCall, send},
    on_both_engines,
};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinSet};
use tonic::Code;

use crate::app::App;

async fn start(engine: Engine, limits: ServerLimits) -> App {
    let mut settings = Settings { limits: Limits { per_source: 0, ..Limits::default() }, ..Settings::default() };
    settings.server.limits = limits;
    App::start_with(engine, settings).await
}

/// Handles two calls at the same time, and one of each caller.
struct FewCalls(App);

impl FewCalls {
    async fn start(engine: Engine) -> Self {
        let limits = ServerLimits { max_concurrent_calls: 2, max_calls_per_caller: 1, ..ServerLimits::default() };
        Self(start(engine, limits).await)
    }
}

/// Accepts two connections of each client.
struct TwoConnectionsEach(App);

impl TwoConnectionsEach {
    async fn start(engine: Engine) -> Self {
        Self(start(engine, ServerLimits { max_connections_per_address: 2, ..ServerLimits::default() }).await)
    }
}

/// Accepts one connection.
struct OneConnection(App);

impl OneConnection {
    async fn start(engine: Engine) -> Self {
        Self(start(engine, ServerLimits { max_connections: 1, ..ServerLimits::default() }).await)
    }
}

/// Keeps 64 KiB of unread responses for each client.
struct LittleMemory(App);

impl LittleMemory {
    async fn start(engine: Engine) -> Self {
        Self(start(engine, ServerLimits { max_unread_bytes_per_connection: 1 << 16, ..ServerLimits::default() }).await)
    }
}

/// Does not limit the wrong passwords of one client.
struct PatientApp(App);

impl PatientApp {
    async fn start(engine: Engine) -> Self {
        Self(start(engine, ServerLimits::default()).await)
    }
}

/// Connects, and asserts that the server closes the connection without a word.
async fn assert_closed(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let mut answer = Vec::new();
    // The server may also reset the connection.
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
}

on_both_engines! {
    async fn calls_beyond_the_concurrent_ones_are_counted(app: FewCalls) {
        let address = app.0.server.address;
        let held = HeldCall::start(address, "POST /v1/tokens:login", &[]).await;
        let another = HeldCall::start(address, "POST /v1/tokens:login", &[]).await;
        for _ in 0..3 {
            assert_eq!(send(address, "GET /v1/users/me", &[], &[]).await.status, 429);
        }
        // Probes and metrics are answered meanwhile.
        assert_eq!(send(address, "GET /livez", &[], &[]).await.status, 200);
        let metrics = Metrics::read(address).await;
        metrics.assert(&[("server_calls_refused_total{limit=\"concurrent\"}", 3.0), ("server_calls_refused_total{limit=\"caller\"}", 0.0)]);
        // A call whose turn comes within a second is answered.
        let waiting = loop {
            let call = tokio::spawn(async move { send(address, "GET /v1/users/me", &[], &[]).await });
            while !call.is_finished() && Metrics::read(address).await.value("server_calls_waiting") != Some(1.0) {}
            if !call.is_finished() {
                break call;
            }
        };
        assert_eq!(another.finish(b"{}").await.0, 400);
        assert_eq!(waiting.await.expect("an answer").status, 401);
        assert_eq!(held.finish(b"{}").await.0, 400);
    }

    async fn calls_beyond_those_of_one_caller_are_counted(app: FewCalls) {
        let FewCalls(app) = app;
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        let address = app.server.address;
        let bearer = |token: &str| format!("Bearer {token}");
        let (of_alice, of_bob) = (bearer(&alice.login.access_token), bearer(&bob.login.access_token));
        let held = HeldCall::start(address, "POST /v1/permissions:check", &[("authorization", &of_alice)]).await;
        for _ in 0..2 {
            assert_eq!(send(address, "GET /v1/users/me", &[("authorization", &of_alice)], &[]).await.status, 429);
        }
        assert_eq!(send(address, "GET /v1/users/me", &[("authorization", &of_bob)], &[]).await.status, 200);
        Metrics::read(address).await.assert(&[
            ("server_calls_refused_total{limit=\"caller\"}", 2.0),
            ("server_calls_refused_total{limit=\"concurrent\"}", 0.0),
        ]);
        held.finish(b"{}").await;
        assert_eq!(send(address, "GET /v1/users/me", &[("authorization", &of_alice)], &[]).await.status, 200);
    }

    async fn calls_of_a_client_that_does_not_read_are_counted(app: LittleMemory) {
        let address = app.0.server.address;
        let stream = TcpStream::connect(address).await.expect("a connection");
        // The window of a stream is empty, so that the server cannot send a byte of a body.
        let (requests, connection) =
            h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.expect("a handshake");
        tokio::spawn(connection);
        let get = async |path: &str| {
            let request = Request::get(format!("http://{address}{path}")).body(()).expect("a request");
            let mut requests = requests.clone().ready().await.expect("an open connection");
            requests.send_request(request, true).expect("a stream").0.await.expect("the head of a response")
        };
        let unread = get("/openapi.json").await;
        for _ in 0..2 {
            assert_eq!(get("/livez").await.status(), 429);
        }
        let metrics = Metrics::read(address).await;
        metrics.assert(&[("server_calls_refused_total{limit=\"unread\"}", 2.0)]);
        assert!(metrics.value("server_unread_response_bytes").is_some_and(|bytes| bytes > 65_536.0));
        drop(unread);
    }

    async fn connections_beyond_those_of_one_address_are_counted(app: TwoConnectionsEach) {
        let address = app.0.server.address;
        let held = TcpStream::connect(address).await.expect("a connection");
        let another = TcpStream::connect(address).await.expect("a connection");
        for _ in 0..2 {
            assert_closed(address).await;
        }
        Metrics::read_on(held).await.assert(&[("server_connections_refused_total", 2.0), ("server_connections", 2.0)]);
        drop(another);
    }

    async fn connections_beyond_all_that_may_be_open_are_counted(app: OneConnection) {
        let address = app.0.server.address;
        let held = HeldCall::start(address, "POST /v1/tokens:login", &[]).await;
        for _ in 0..2 {
            assert_closed(address).await;
        }
        let (status, stream) = held.finish(b"{}").await;
        assert_eq!(status, 400);
        Metrics::read_on(stream).await.assert(&[("server_connections_refused_total", 2.0), ("server_connections_limit", 1.0)]);
    }

    async fn sign_ins_beyond_the_hashing_queue_are_counted(app: PatientApp) {
        let PatientApp(app) = app;
        let mut logins = JoinSet::new();
        // One client has at most half of the queue of 64 hashes.
        for number in 0..90 {
            let mut tokens = app.tokens();
            let request = LoginRequest { username: format!("nobody-{number}"), password: "wrong".to_owned() };
            logins.spawn(async move { tokens.login(request).await.expect_err("a refusal").code() });
        }
        let codes = logins.join_all().await;
        let refused = codes.iter().filter(|code| **code == Code::ResourceExhausted).count();
        assert!(refused > 0 && codes.contains(&Code::Unauthenticated), "{codes:?}");
        let refused = f64::from(u32::try_from(refused).expect("at most 90"));
        Metrics::read(app.server.address).await.assert(&[
            ("auth_password_hashes_refused_total{purpose=\"login\"}", refused),
            ("auth_password_hashes_refused_total{purpose=\"registration\"}", 0.0),
            ("auth_sign_ins_total{grant=\"password\",outcome=\"overloaded\"}", refused),
        ]);
    }
}
