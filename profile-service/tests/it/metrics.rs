//! `/metrics` of the profile service.

use profile_service::{MIGRATIONS, Quotas, proto::Visibility};
use testing::{Engine, Metrics, TestDatabase, on_both_engines};
use tonic::Code;

use crate::app::{App, create_note, note};

/// Allows one note.
struct OneNote(App);

impl OneNote {
    async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let db = database.open();
        migrate::migrate(&db, &MIGRATIONS).await.unwrap();
        Self(App::with_quotas(database, db, Quotas { notes: 1, ..Quotas::default() }).await)
    }
}

on_both_engines! {
    async fn calls_tokens_and_quotas_are_counted(app: OneNote) {
        let OneNote(app) = app;
        let alice = app.user("alice").await;
        for code in [Code::Ok, Code::ResourceExhausted, Code::ResourceExhausted] {
            let request = create_note("me", "", note("title", "body", Visibility::Private));
            let answer = alice.notes().create_note(request).await;
            assert_eq!(answer.map_or_else(|status| status.code(), |_| Code::Ok), code);
        }
        let mut claims = alice.claims.clone();
        claims.aud = vec!["another-service".to_owned()];
        app.caller(claims).profile("me").await.unwrap_err();
        let metrics = Metrics::read(app.address).await;
        metrics.assert(&[
            ("grpc_server_duration_seconds_count{method=\"profiles.v1.ProfileService/GetProfile\",code=\"OK\"}", 1.0),
            ("grpc_server_duration_seconds_count{method=\"profiles.v1.ProfileService/GetProfile\",code=\"UNAUTHENTICATED\"}", 1.0),
            ("grpc_server_duration_seconds_count{method=\"profiles.v1.NoteService/CreateNote\",code=\"OK\"}", 1.0),
            ("grpc_server_duration_seconds_count{method=\"profiles.v1.NoteService/CreateNote\",code=\"RESOURCE_EXHAUSTED\"}", 2.0),
            ("server_errors_total{reason=\"QUOTA_EXCEEDED\"}", 2.0),
            ("server_errors_total{reason=\"ACCESS_TOKEN_INVALID\"}", 1.0),
            ("token_verifications_total{outcome=\"audience\"}", 1.0),
            ("token_verifications_total{outcome=\"verified\"}", 1.0),
            ("token_verifications_total{outcome=\"cached\"}", 3.0),
            ("revocations_fresh", 1.0),
            ("revocations", 0.0),
            // No client is set, so the feed is not followed.
            ("events_connected", 0.0),
            ("events_lag_seconds", f64::INFINITY),
        ]);
        assert!(metrics.value("events_position").is_some());
    }
}
