//! While the database is down, calls fail with UNAVAILABLE and the service is not ready. It recovers without a restart.

use std::{
    future::Future,
    task::{Context, Waker},
};

use profile_service::{MIGRATIONS, proto::Visibility};
use store::Db;
use testing::{Engine, ErrorLines, FaultProxy, TestDatabase, assert_refused};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::app::{App, create_note, note};

#[tokio::test]
async fn calls_are_unavailable_while_the_database_is_down_and_served_when_it_is_back() {
    let log = ErrorLines::watch();
    let database = TestDatabase::new(Engine::Postgres).await;
    migrate::migrate(&database.open(), &MIGRATIONS).await.unwrap();
    let wire = FaultProxy::to(database.url()).await;
    let app = App::on(database, Db::new(&wire.url, None, 8).unwrap()).await;
    let alice = app.user("alice").await;
    alice.writes("before", Visibility::Private).await;

    let request = HealthCheckRequest { service: "profiles.v1.NoteService".to_owned() };
    let mut health = HealthClient::new(app.channel.clone()).watch(request).await.unwrap().into_inner();
    let mut becomes = async |status| while health.message().await.unwrap().unwrap().status() != status {};
    becomes(ServingStatus::Serving).await;
    let ready = testing::http::send(app.address, "GET /readyz", &[], &[]).await;
    assert_eq!((ready.status, &ready.json()["overall"]), (200, &serde_json::json!({ "status": "SERVING" })));

    wire.cut();
    let refused = alice.notes().create_note(create_note("me", "", note("during", "", Visibility::Private))).await;
    assert_refused(refused, Code::Unavailable, "UNAVAILABLE", &[]);
    let over_http = alice.sends(&app, "GET /v1/profiles/me", &[], b"").await;
    assert_eq!((over_http.status, over_http.header("retry-after")), (503, "1"));
    becomes(ServingStatus::NotServing).await;
    let ready = testing::http::send(app.address, "GET /readyz", &[], &[]).await;
    let overall = serde_json::json!({ "status": "NOT_SERVING", "reason": "the database cannot be reached" });
    assert_eq!((ready.status, &ready.json()["overall"], &ready.json()["writes"]), (503, &overall, &overall));
    let live = testing::http::send(app.address, "GET /livez", &[], &[]).await;
    assert_eq!((live.status, live.text()), (200, "ok\n"));
    let mut client = HealthClient::new(app.channel.clone());
    let writes = client.check(HealthCheckRequest { service: server::WRITES.to_owned() }).await.unwrap().into_inner();
    assert_eq!(writes.status(), ServingStatus::NotServing);

    wire.mend();
    becomes(ServingStatus::Serving).await;
    // Each of the eight connections that were cut may still fail one call.
    let after = || create_note("me", "", note("after", "", Visibility::Private));
    let mut failures = 0;
    while let Err(status) = alice.notes().create_note(after()).await {
        assert_eq!(status.code(), Code::Unavailable);
        failures += 1;
        assert!(failures <= 8, "the service does not recover");
    }
    log.assert_none();
}

#[tokio::test]
async fn watching_an_unknown_service_answers_on_an_open_stream() {
    let app = App::start(Engine::Sqlite).await;
    let mut health = HealthClient::new(app.channel.clone());
    let request = || HealthCheckRequest { service: "nothing.v1.Nothing".to_owned() };
    let mut states = health.watch(request()).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    // The stream is still open after another answer on the same connection.
    health.check(HealthCheckRequest::default()).await.unwrap();
    let mut next = std::pin::pin!(states.message());
    assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(health.check(request()).await.unwrap_err().code(), Code::NotFound);
}
