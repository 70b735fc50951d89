//! `/metrics`: each family, from the call that it counts to the text.

use access::token::MAX_ACCESS_TOKEN_LIFETIME;
use auth_service::{
    Settings,
    login_throttle::Limits,
    proto::{GetUserRequest, LoginRequest, RefreshRequest},
};
use chrono::TimeDelta;
use server::{ServerSettings, tls::Encryption};
use testing::{Engine, Metrics, http, on_both_engines};
use tokio::net::TcpListener;
use tonic::Code;

use crate::app::App;

/// Allows two wrong passwords per account.
struct Throttled(App);

impl Throttled {
    async fn start(engine: Engine) -> Self {
        let limits = Limits { per_account: 2, per_source: 0, ..Limits::default() };
        Self(App::start_with(engine, Settings { limits, ..Settings::default() }).await)
    }
}

impl App {
    async fn metrics(&self) -> Metrics {
        Metrics::read(self.server.address).await
    }
}

on_both_engines! {
    async fn sign_ins_are_counted_by_their_outcome(app: Throttled) {
        let Throttled(app) = app;
        let alice = app.user("alice").await;
        for code in [Code::Unauthenticated, Code::Unauthenticated, Code::ResourceExhausted] {
            let request = LoginRequest { username: "alice".to_owned(), password: "wrong".to_owned() };
            assert_eq!(app.tokens().login(request).await.expect_err("a refusal").code(), code);
        }
        let spent = RefreshRequest { refresh_token: alice.login.refresh_token.clone(), ..RefreshRequest::default() };
        let rotated = app.tokens().refresh(spent.clone()).await.expect("a new token").into_inner();
        app.tokens().refresh(RefreshRequest { refresh_token: rotated.refresh_token, ..RefreshRequest::default() }).await.expect("a new token");
        app.clock.advance(TimeDelta::minutes(1));
        assert_eq!(app.tokens().refresh(spent).await.expect_err("a spent token").code(), Code::Unauthenticated);
        app.metrics().await.assert(&[
            ("auth_sign_ins_total{grant=\"password\",outcome=\"success\"}", 1.0),
            ("auth_sign_ins_total{grant=\"password\",outcome=\"rejected\"}", 2.0),
            ("auth_sign_ins_total{grant=\"password\",outcome=\"throttled\"}", 1.0),
            ("auth_sign_ins_total{grant=\"refresh_token\",outcome=\"success\"}", 2.0),
            ("auth_sign_ins_total{grant=\"refresh_token\",outcome=\"rejected\"}", 1.0),
            ("auth_refresh_token_reuses_total", 1.0),
            ("server_errors_total{reason=\"CREDENTIALS_INVALID\"}", 2.0),
            ("server_errors_total{reason=\"TOO_MANY_ATTEMPTS\"}", 1.0),
            ("grpc_server_duration_seconds_count{method=\"auth.v1.TokenService/Login\",code=\"UNAUTHENTICATED\"}", 2.0),
            ("grpc_server_duration_seconds_count{method=\"auth.v1.TokenService/Login\",code=\"OK\"}", 1.0),
            ("auth_password_hashes_waiting{purpose=\"login\"}", 0.0),
            ("auth_password_hashes_refused_total{purpose=\"login\"}", 0.0),
        ]);
    }

    async fn calls_are_counted_by_method_and_code(app: App) {
        for path in ["GET /v1/users/me", "GET /v1/users/other", "GET /livez", "GET /no/such/path", "BREW /v1/users/me"] {
            http::send(app.server.address, path, &[], &[]).await;
        }
        let large = "x".repeat(20_000);
        assert_eq!(http::send(app.server.address, "GET /livez", &[("x-large", &large)], &[]).await.status, 431);
        for method in ["Nothing", "Neither"] {
            let path = format!("POST /auth.v1.TokenService/{method}");
            http::send(app.server.address, &path, &[("content-type", "application/grpc")], &[]).await;
        }
        app.metrics().await.assert(&[
            ("http_server_duration_seconds_count{method=\"GET\",route=\"/v1/users/{user_id}\",code=\"401\"}", 2.0),
            ("http_server_duration_seconds_count{method=\"GET\",route=\"/livez\",code=\"200\"}", 1.0),
            ("http_server_duration_seconds_count{method=\"GET\",route=\"unknown\",code=\"404\"}", 1.0),
            ("http_server_duration_seconds_count{method=\"other\",route=\"unknown\",code=\"405\"}", 1.0),
            ("grpc_server_duration_seconds_count{method=\"unknown\",code=\"UNIMPLEMENTED\"}", 2.0),
            ("server_errors_total{reason=\"ACCESS_TOKEN_INVALID\"}", 2.0),
            ("server_calls_refused_total{limit=\"headers\"}", 1.0),
            ("server_calls_refused_total{limit=\"caller\"}", 0.0),
            ("server_calls_in_flight{share=\"general\"}", 0.0),
            // The call that reads the metrics.
            ("server_calls_in_flight{share=\"reserved\"}", 1.0),
        ]);
    }

    async fn tokens_are_counted_by_the_outcome_of_their_verification(app: App) {
        let alice = app.user("alice").await;
        let get = async || {
            let request = GetUserRequest { user_id: "me".to_owned() };
            alice.users().get_user(request).await.map(drop)
        };
        get().await.expect("the user");
        get().await.expect("the user");
        app.clock.advance(MAX_ACCESS_TOKEN_LIFETIME);
        get().await.expect_err("the token has expired");
        let metrics = app.metrics().await;
        metrics.assert(&[
            ("token_verifications_total{outcome=\"verified\"}", 1.0),
            ("token_verifications_total{outcome=\"cached\"}", 1.0),
            ("token_verifications_total{outcome=\"expired\"}", 1.0),
            ("token_keys", 1.0),
        ]);
        assert!(metrics.value("token_keys_age_seconds").is_some_and(f64::is_finite));
    }

    async fn the_state_of_keys_events_and_connections_is_read(app: App) {
        app.user("alice").await;
        app.clock.advance(TimeDelta::minutes(1));
        let metrics = app.metrics().await;
        metrics.assert(&[
            ("auth_signing_keys{state=\"active\"}", 1.0),
            ("auth_signing_keys{state=\"pending\"}", 0.0),
            ("auth_signing_key_age_seconds", 60.0),
            ("server_unread_response_limit_bytes", 33_554_432.0),
            ("server_connections_refused_total", 0.0),
        ]);
        let pool = if app.database.open().is_sqlite() { "write" } else { "shared" };
        let limit = if pool == "write" { 1.0 } else { 4.0 };
        for (series, minimum) in [
            ("auth_events_position", 1.0),
            ("server_connections", 1.0),
            ("server_connections_accepted_total", 2.0),
            ("process_resident_memory_bytes", 1e6),
            ("process_open_fds", 3.0),
            ("tokio_workers", 1.0),
            (&format!("database_connections{{pool=\"{pool}\"}}"), 1.0),
            (&format!("database_connections_limit{{pool=\"{pool}\"}}"), limit),
            (&format!("database_connection_wait_seconds_count{{pool=\"{pool}\"}}"), 2.0),
        ] {
            assert!(metrics.value(series).is_some_and(|value| value >= minimum), "{series}: {:?}", metrics.value(series));
        }
    }
}

#[tokio::test]
async fn metrics_are_not_served_on_an_address_that_other_machines_reach() {
    let database = testing::TestDatabase::new(Engine::Sqlite).await;
    migrate::migrate(&database.open(), &auth_service::MIGRATIONS).await.expect("a migrated database");
    let master_key = auth_service::keys::MasterKey::from_base64(&auth_service::keys::MasterKey::generate()).expect("a key");
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let mut server = ServerSettings::default();
    server.tls.tls = Encryption::External;
    let settings = Settings { server, ..Settings::default() };
    let serving =
        auth_service::serve(database.open(), access::Clock::system(), master_key, settings, listener, std::future::pending());
    tokio::select! {
        _ = serving => panic!("the service has stopped"),
        answer = http::send(([127, 0, 0, 1], port).into(), "GET /metrics", &[], &[]) => assert_eq!(answer.status, 404),
    }
}
