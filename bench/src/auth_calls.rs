//! The calls of the auth service.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message;
use testing::Engine;

use crate::{
    Settings,
    connection::{Connection, Failure, Target},
    fixture::{Fixture, PASSWORD, register},
    load::{Load, Throughput},
    plot,
    proto::auth::{
        IntrospectRequest, IssueServiceTokenRequest, IssueServiceTokenResponse, LoginRequest, RefreshRequest, RefreshResponse,
        WhoAmIRequest, issue_service_token_request::Credential,
    },
    report::{Row, Section, median},
    signature,
};

const ISSUE: &str = "/auth.v1.TokenService/IssueServiceToken";

/// The calls at the same time, of one client.
const WORKERS: usize = 32;
/// The logins at the same time, which is the number of hashes at the same time and a few that wait.
const LOGINS: usize = 4;

/// Measures the calls of the auth service on PostgreSQL.
pub(crate) async fn measure(settings: &Settings) -> Result<Section, Failure> {
    let fixture = Fixture::start(Engine::Postgres, &settings.programs()?).await?;
    let service_token = issue_service_token(&fixture).await?;
    let introspect = IntrospectRequest { token: fixture.user.access_token.clone() };
    let introspect = Load::fixed(
        Target { token: Some(service_token), ..fixture.auth_grpc("/auth.v1.TokenService/Introspect") },
        introspect.encode_to_vec(),
        WORKERS,
    );
    let who_am_i = Load::fixed(fixture.auth_grpc("/auth.v1.IdentityService/WhoAmI"), WhoAmIRequest {}.encode_to_vec(), WORKERS);
    let issue = Load::fixed(public(&fixture, ISSUE), issue_request(&fixture).encode_to_vec(), WORKERS);
    let refresh = refresh(&fixture).await?;
    let login = LoginRequest { username: "alice".to_owned(), password: PASSWORD.to_owned() };
    let login = Load::fixed(public(&fixture, "/auth.v1.TokenService/Login"), login.encode_to_vec(), LOGINS);

    let loads = [&introspect, &who_am_i, &issue, &refresh, &login];
    let mut runs: [Vec<Throughput>; 5] = Default::default();
    let (mut signatures, mut hashes) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        for (load, runs) in loads.iter().zip(&mut runs) {
            runs.push(load.saturate(&fixture.auth, settings.duration()).await?);
        }
        signatures.push(signature::signature(settings.duration() / 10).await?);
        hashes.push(signature::password_hash(settings.duration() / 5).await?);
    }
    let [introspect, who_am_i, issue, refresh, login] = &runs;
    let share = |part: &[f64], times: f64, calls: &[Throughput]| {
        median(part.iter().zip(calls).map(|(part, call)| part * times / call.cpu))
    };
    let rows = vec![
        Row::new("Introspect", describe(introspect), "20,000 a second"),
        Row::new("WhoAmI", describe(who_am_i), "15,000 a second"),
        Row::new("IssueServiceToken, 32 calls at the same time", describe(issue), "limited by the processor"),
        Row::new("IssueServiceToken: CPU of one signature ÷ CPU a call", number(share(&signatures, 1.0, issue)), "at least 0.75"),
        Row::new("Refresh", describe(refresh), ""),
        Row::new("Refresh: CPU of two signatures ÷ CPU a call", number(share(&signatures, 2.0, refresh)), "at least 0.80"),
        Row::new("Login", describe(login), ""),
        Row::new("Login: CPU of Argon2id ÷ CPU a call", number(share(&hashes, 1.0, login)), "at least 0.92"),
        Row::new("CPU of one RSA-2048 signature", format!("{} µs", plot::rounded(median(signatures))), ""),
    ];
    let bars: Vec<_> = [("Introspect", introspect), ("WhoAmI", who_am_i), ("IssueServiceToken", issue), ("Refresh", refresh)]
        .map(|(name, runs)| (name.to_owned(), median(runs.iter().map(|run| run.cpu))))
        .into();
    let text = "On PostgreSQL, with the default access log and metrics. A signature is RS256 with a key of 2048 bits. Argon2id has the default\n\
                parameters: 19 MiB and 2 passes.";
    let plot = plot::bars("CPU a call of the auth service", "µs", &bars);
    Ok(Section { title: "Calls of the auth service", text: text.to_owned(), rows, plots: vec![("auth-cpu", plot)] })
}

/// Returns the medians of runs as text.
pub(crate) fn describe(runs: &[Throughput]) -> String {
    let of = |figure: fn(&Throughput) -> f64| median(runs.iter().map(figure));
    format!(
        "{:.0} a second, {} µs CPU, p50 {} ms",
        of(|run| run.per_second),
        plot::rounded(of(|run| run.cpu)),
        plot::rounded(of(|run| run.median))
    )
}

fn number(value: f64) -> String {
    format!("{value:.2}")
}

fn public(fixture: &Fixture, path: &'static str) -> Target {
    Target { token: None, ..fixture.auth_grpc(path) }
}

fn issue_request(fixture: &Fixture) -> IssueServiceTokenRequest {
    IssueServiceTokenRequest {
        client_id: "bench".to_owned(),
        credential: Some(Credential::ClientSecret(fixture.client_secret.clone())),
        ..IssueServiceTokenRequest::default()
    }
}

/// Returns an access token of the client that may introspect tokens.
pub(crate) async fn issue_service_token(fixture: &Fixture) -> Result<String, Failure> {
    let mut connection = Connection::open(&public(fixture, ISSUE)).await?;
    let response = connection.call(issue_request(fixture).encode_to_vec().into()).await?;
    Ok(IssueServiceTokenResponse::decode(response)?.access_token)
}

/// Returns the load in which each worker refreshes a session of its own.
pub(crate) async fn refresh(fixture: &Fixture) -> Result<Load, Failure> {
    let mut tokens = Vec::new();
    for number in 0..WORKERS {
        tokens.push(register(&fixture.auth, &format!("refresher{number}")).await?.refresh_token);
    }
    let tokens = Arc::new(Mutex::new(tokens));
    let bodies = Arc::new(move |worker: usize, last: Option<&[u8]>| {
        let mut tokens = tokens.lock().expect("no worker panics while it holds the lock");
        if let Some(response) = last.and_then(|last| RefreshResponse::decode(last).ok()) {
            tokens[worker] = response.refresh_token;
        }
        let request = RefreshRequest { refresh_token: tokens[worker].clone(), ..RefreshRequest::default() };
        Bytes::from(request.encode_to_vec())
    });
    Ok(Load { target: public(fixture, "/auth.v1.TokenService/Refresh"), bodies, workers: WORKERS })
}
