//! Traces: from the header of a call to the spans that a collector receives.

use std::collections::BTreeSet;

use profile_service::{
    MIGRATIONS,
    proto::{GetProfileRequest, Visibility, profile_service_client::ProfileServiceClient},
};
use server::traces::TraceArgs;
use testing::{CollectedSpan, Collector, Engine, ErrorLines, Running, TestDatabase, http, on_both_engines};
use tokio::net::TcpListener;
use tonic::{Code, Request, transport::Channel};

use crate::app::{App, create_note, note};

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE_ID}-{PARENT_ID}-{flags}")
}

fn to_collector(running: &Running) -> TraceArgs {
    TraceArgs { otlp_endpoint: Some(format!("http://{}", running.address)), ..TraceArgs::default() }
}

/// A service with a collector of its own.
struct Traced {
    app: App,
    collector: Collector,
    _collecting: Running,
}

impl Traced {
    async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let db = database.open();
        migrate::migrate(&db, &MIGRATIONS).await.unwrap();
        let collector = Collector::default();
        let collecting = collector.serve().await;
        let app = App::with_traces(database, db, &to_collector(&collecting)).await;
        Self { app, collector, _collecting: collecting }
    }

    /// Stops the service, and returns the spans that it has recorded until then.
    async fn spans(self) -> Vec<CollectedSpan> {
        self.app.stop().await;
        self.collector.spans()
    }
}

/// Calls `GetProfile` with a `traceparent`.
async fn get_profile(channel: Channel, bearer: &str, flags: &str) -> Result<(), Code> {
    let mut request = Request::new(GetProfileRequest { user_id: "me".to_owned() });
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    request.metadata_mut().insert("traceparent", traceparent(flags).parse().unwrap());
    ProfileServiceClient::new(channel).get_profile(request).await.map(drop).map_err(|status| status.code())
}

/// Returns the spans of the trace that the test has begun, the one of the server first.
fn of_test(spans: Vec<CollectedSpan>) -> (CollectedSpan, Vec<CollectedSpan>) {
    let (mut servers, statements): (Vec<_>, Vec<_>) =
        spans.into_iter().filter(|span| span.trace_id == TRACE_ID).partition(|span| span.is_server);
    let server = servers.pop().expect("the span of the call");
    assert!(servers.is_empty(), "one call has one span: {servers:?}");
    assert_eq!((server.service.as_str(), server.parent_id.as_str()), ("profile-service", PARENT_ID));
    (server, statements)
}

on_both_engines! {
    async fn a_grpc_call_continues_the_trace_of_its_caller(traced: Traced) {
        let alice = traced.app.user("alice").await;
        get_profile(traced.app.channel.clone(), &alice.bearer, "01").await.unwrap();
        let (server, statements) = of_test(traced.spans().await);
        assert_eq!(server.name, "profiles.v1.ProfileService/GetProfile");
        for (key, expected) in [
            ("rpc.system.name", "grpc"),
            ("rpc.method", "profiles.v1.ProfileService/GetProfile"),
            ("rpc.response.status_code", "OK"),
            ("caller.kind", "user"),
        ] {
            assert_eq!(server.attribute(key), expected, "{server:?}");
        }
        assert!(!server.is_failed);
        assert!(!statements.is_empty());
        for statement in statements {
            assert_eq!(statement.parent_id, server.span_id, "{statement:?}");
            assert!(["sqlite", "postgresql"].contains(&statement.attribute("db.system.name")), "{statement:?}");
            assert_eq!((statement.name.as_str(), statement.attribute("db.operation.name")), ("SELECT", "SELECT"));
            assert!(statement.attribute("db.query.text").contains("$1"), "{statement:?}");
        }
    }

    async fn a_write_over_http_is_one_span_with_its_statements(traced: Traced) {
        let alice = traced.app.user("alice").await;
        let body = br#"{"title": "a title of alice", "body": "a body of alice", "visibility": "VISIBILITY_PRIVATE"}"#;
        let traceparent = traceparent("01");
        let headers = [("authorization", &*alice.bearer), ("traceparent", &*traceparent), ("content-type", "application/json")];
        let answer = http::send(traced.app.address, "POST /v1/profiles/me/notes", &headers, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let spans = traced.spans().await;
        let everything = format!("{spans:?}");
        let (server, statements) = of_test(spans);
        assert_eq!(server.name, "POST /v1/profiles/{user_id}/notes");
        for (key, expected) in [
            ("http.request.method", "POST"),
            ("http.route", "/v1/profiles/{user_id}/notes"),
            ("http.response.status_code", "200"),
            ("caller.kind", "user"),
        ] {
            assert_eq!(server.attribute(key), expected, "{server:?}");
        }
        // The handler runs in a task of its own.
        let operations: BTreeSet<_> = statements.iter().map(|statement| statement.name.as_str()).collect();
        assert!(["BEGIN", "INSERT", "COMMIT"].iter().all(|operation| operations.contains(operation)), "{operations:?}");
        assert!(statements.iter().all(|statement| statement.parent_id == server.span_id), "{statements:?}");
        let token = alice.bearer.trim_start_matches("Bearer ");
        for secret in ["of alice", "alice", &alice.id, token] {
            assert!(!everything.contains(secret), "{secret}: {everything}");
        }
    }

    async fn errors_have_their_code_and_calls_without_a_token_no_caller(traced: Traced) {
        assert_eq!(get_profile(traced.app.channel.clone(), "Bearer wrong", "01").await, Err(Code::Unauthenticated));
        let answer = http::send(traced.app.address, "GET /no/such/path", &[], &[]).await;
        assert_eq!(answer.status, 404);
        let spans = traced.spans().await;
        let unknown: Vec<_> = spans.iter().filter(|span| span.attribute("http.response.status_code") == "404").cloned().collect();
        assert_eq!(unknown.len(), 1, "{spans:?}");
        assert_eq!((unknown[0].name.as_str(), unknown[0].parent_id.as_str(), unknown[0].is_failed), ("GET", "", false));
        let (server, _) = of_test(spans);
        assert_eq!((server.attribute("rpc.response.status_code"), server.attribute("caller.kind")), ("UNAUTHENTICATED", "anonymous"));
        assert!(!server.is_failed, "the error is one of the client");
    }

    async fn a_statement_that_fails_is_marked_without_the_message_of_the_database(traced: Traced) {
        let log = ErrorLines::watch();
        let alice = traced.app.user("alice").await;
        let mut tx = traced.app.database.open().begin().await.unwrap();
        store::Executor::query(&mut tx, "ALTER TABLE notes RENAME TO other_notes").execute().await.unwrap();
        tx.commit().await.unwrap();
        let mut request = Request::new(create_note("me", "", note("title", "body", Visibility::Private)));
        request.metadata_mut().insert("traceparent", traceparent("01").parse().unwrap());
        assert_eq!(alice.notes().create_note(request).await.unwrap_err().code(), Code::Internal);
        let (server, statements) = of_test(traced.spans().await);
        assert_eq!(log.take().len(), 1);
        assert!(server.is_failed && server.attribute("error.type") == "INTERNAL", "{server:?}");
        let failed: Vec<_> = statements.iter().filter(|statement| statement.is_failed).collect();
        assert!(!failed.is_empty());
        assert!(failed.iter().all(|statement| ["1", "42P01"].contains(&statement.attribute("error.type"))), "{failed:?}");
    }

    async fn a_trace_that_the_caller_does_not_sample_is_not_exported(traced: Traced) {
        let alice = traced.app.caller(traced.app.issuer.claims(access::UserId::new(&traced.app.clock), "alice"));
        get_profile(traced.app.channel.clone(), &alice.bearer, "00").await.unwrap();
        assert_eq!(traced.spans().await, []);
    }
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_nothing() {
    let database = TestDatabase::new(Engine::Sqlite).await;
    let db = database.open();
    migrate::migrate(&db, &MIGRATIONS).await.unwrap();
    // The connection is established, and nobody reads from it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    let app = App::with_traces(database, db, &TraceArgs { otlp_endpoint: endpoint, ..TraceArgs::default() }).await;
    let alice = app.user("alice").await;
    // More spans than the queue holds.
    for _ in 0..1500 {
        get_profile(app.channel.clone(), &alice.bearer, "01").await.unwrap();
    }
    app.stop().await;
}
