//! Measures the cost of the HTTP gateway compared with gRPC: `cargo bench -p profile-service --bench gateway`.
//!
//! One client reads one note, in turn with gRPC, JSON and XML, each on one HTTP/2 connection. Everything is measured in one run; the
//! ratios matter, not the absolute numbers.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "what it measures is what it prints")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use access::{
    Clock, UserId,
    token::{KeySet, Verifier},
};
use clap::Parser;
use profile_service::{
    MIGRATIONS, Service,
    proto::{CreateNoteRequest, GetNoteRequest, Note, note_service_client::NoteServiceClient},
};
use testing::{Engine, Issuer, Running, TestDatabase, with_token};
use tonic::{body::Body, transport::Channel};
use tower::{Service as _, ServiceExt};

const ISSUER: &str = "http://issuer.test";

#[derive(Debug, Parser)]
struct Options {
    /// How many calls of each kind are timed.
    #[arg(long, default_value_t = 5000)]
    samples: usize,
    /// `cargo bench` passes this flag.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let database = TestDatabase::new(Engine::Sqlite).await;
    let db = database.open();
    migrate::migrate(&db, &MIGRATIONS).await.expect("a migrated database");
    let clock = Clock::system();
    let issuer = Issuer::new(ISSUER, profile_service::NAME, clock.clone());
    let verifier = Arc::new(Verifier::new(ISSUER, profile_service::NAME, clock.clone()));
    verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
    let token = issuer.token(&issuer.claims(UserId::new(&clock), "alice"));
    let service = Service {
        db,
        clock,
        verifier,
        events: None,
        server: server::ServerSettings::default(),
        page: None,
        quotas: profile_service::Quotas::default(),
        audit_key: None,
        audit_retention: None,
    };
    let running = Running::start(|listener, shutdown| async {
        profile_service::serve(service, listener, shutdown).await.expect("a service that serves");
    })
    .await;

    let mut grpc = NoteServiceClient::new(running.channel());
    let note = Note { title: "Hello".to_owned(), body: "Some words. ".repeat(20), ..Note::default() };
    let create = CreateNoteRequest { user_id: "me".to_owned(), note: Some(note), ..CreateNoteRequest::default() };
    let note = grpc.create_note(with_token(&token, create)).await.expect("a note").into_inner();
    let (mut json, mut xml) = (running.channel(), running.channel());

    let mut took: [Vec<Duration>; 3] = std::array::from_fn(|_| Vec::with_capacity(options.samples));
    for round in 0..options.samples + options.samples / 10 {
        let began = Instant::now();
        let request = GetNoteRequest { user_id: "me".to_owned(), note_id: note.note_id.clone() };
        grpc.get_note(with_token(&token, request)).await.expect("the note");
        let by_grpc = began.elapsed();
        let by_json = get(&mut json, &running, &note, &token, "application/json").await;
        let by_xml = get(&mut xml, &running, &note, &token, "application/xml").await;
        // The first of them warm everything up.
        if round >= options.samples / 10 {
            for (took, one) in took.iter_mut().zip([by_grpc, by_json, by_xml]) {
                took.push(one);
            }
        }
    }
    println!("GetNote, one client, one call at a time, {} calls of each kind:", options.samples);
    let base = percentile(&mut took[0], 50);
    for (name, took) in ["gRPC", "JSON", "XML"].into_iter().zip(&mut took) {
        let (median, late) = (percentile(took, 50), percentile(took, 99));
        println!("  {name:<5} median {median:7.1} µs, p99 {late:7.1} µs, ratio {:.2}, {:+.1} µs", median / base, median - base);
    }
}

async fn get(channel: &mut Channel, running: &Running, note: &Note, token: &str, accept: &str) -> Duration {
    let began = Instant::now();
    let request = http::Request::get(format!("http://{}/v1/profiles/me/notes/{}", running.address, note.note_id))
        .header("authorization", format!("Bearer {token}"))
        .header("accept", accept)
        .body(Body::empty())
        .expect("a request");
    let response = channel.ready().await.expect("a connection").call(request).await.expect("an answer");
    assert_eq!((response.status().as_u16(), response.headers()["content-type"].as_bytes()), (200, accept.as_bytes()));
    let body = http_body_util::BodyExt::collect(response.into_body()).await.expect("a body").to_bytes();
    assert!(body.len() > note.body.len());
    began.elapsed()
}

/// In microseconds.
fn percentile(samples: &mut [Duration], percent: usize) -> f64 {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100].as_secs_f64() * 1e6
}
