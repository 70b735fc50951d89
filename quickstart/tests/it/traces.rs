//! A trace continues from the profile service to the auth service.

use std::fs;

use auth_service::{
    keys::MasterKey,
    proto::{Client, CreateClientRequest},
};
use server::traces::TraceArgs;
use testing::{Collector, Metrics, Running, on_both_engines};

use crate::pair::{self, Pair};

/// The calls that the profile service makes.
const CALLS: [&str; 3] =
    ["auth.v1.EventService/WatchEvents", "auth.v1.KeyService/GetJwks", "auth.v1.TokenService/IssueServiceToken"];

on_both_engines! {
    async fn the_calls_of_the_profile_service_carry_their_traces(app: Pair) {
        let root = app.superuser("root").await;
        let permissions = vec!["auth.watch_event".to_owned()];
        let client = Client { client_id: "profile".to_owned(), permissions, ..Client::default() };
        let secret = root.clients().create_client(CreateClientRequest { client: Some(client) }).await.unwrap().into_inner().client_secret;
        let folder = tempfile::tempdir().unwrap();
        let secret_file = folder.path().join("secret");
        fs::write(&secret_file, &secret).unwrap();

        let collector = Collector::default();
        let collecting = collector.serve().await;
        let traces = TraceArgs { otlp_endpoint: Some(format!("http://{}", collecting.address)), ..TraceArgs::default() };
        let (db, clock, master_key) = (app.auth_database.open(), app.clock.clock(), MasterKey::from_base64(&app.master_key).unwrap());
        let settings = auth_service::Settings {
            audience: vec![profile_service::NAME.to_owned()],
            access_rules: vec![profile_service::access_rules()],
            ..auth_service::Settings::default()
        };
        let recording = traces.start("auth-service").unwrap();
        let auth = Running::start(|listener, shutdown| async move {
            let serving = auth_service::serve(db, clock, master_key, settings, listener, shutdown);
            Box::pin(recording.record(serving)).await.unwrap();
        })
        .await;
        let settings = profile_service::Settings {
            auth_url: format!("http://{}", auth.address),
            client_id: Some("profile".to_owned()),
            client_secret_file: Some(secret_file),
            ..profile_service::Settings::default()
        };
        let (db, clock) = (app.profile_database.open(), app.clock.clock());
        let recording = traces.start("profile-service").unwrap();
        let profile = Running::start(|listener, shutdown| async move {
            let serving = profile_service::run(db, clock, settings, listener, shutdown);
            Box::pin(recording.record(serving)).await.unwrap();
        })
        .await;
        pair::eventually(async || Metrics::read(profile.address).await.value("events_at_end") == Some(1.0)).await;
        profile.stop().await;
        auth.stop().await;

        let spans = collector.spans();
        for call in CALLS {
            let made = spans.iter().find(|span| span.service == "profile-service" && span.name == call);
            let made = made.unwrap_or_else(|| panic!("{call}: {spans:?}"));
            assert!(!made.is_server && made.parent_id.is_empty(), "{made:?}");
            let handled = spans.iter().find(|span| span.service == "auth-service" && span.parent_id == made.span_id);
            let handled = handled.unwrap_or_else(|| panic!("{call}: {spans:?}"));
            assert!(handled.is_server && handled.trace_id == made.trace_id && handled.name == call, "{handled:?}");
            let caller = if call == CALLS[0] { "service" } else { "anonymous" };
            assert_eq!(handled.attribute("caller.kind"), caller);
        }
        let everything = format!("{spans:?}");
        assert!(!everything.contains(&secret) && !everything.contains("Bearer"), "{everything}");
    }
}
