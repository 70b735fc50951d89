//! Measures the time from the response of a revocation until the profile service rejects the access token. Both services run in
//! this process, on `sqlite` (the default) or `postgres`: `cargo bench -p quickstart --bench revocation -- postgres`.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/it/pair.rs"]
#[allow(dead_code, unreachable_pub)]
mod pair;

use auth_service::proto::RevokeAllSessionsRequest;
use pair::Pair;
use profile_service::proto::GetProfileRequest;
use testing::Engine;
use tokio::time::Instant;

const SAMPLES: usize = 500;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is what a benchmark is for")]
async fn main() {
    let engine = if std::env::args().any(|argument| argument == "postgres") { Engine::Postgres } else { Engine::Sqlite };
    let pair = Pair::start(engine).await;
    pair.register("alice").await;
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let alice = pair.login("alice").await;
        let read = || GetProfileRequest { user_id: "me".to_owned() };
        alice.profiles().get_profile(read()).await.unwrap();
        let all = RevokeAllSessionsRequest { user_id: "me".to_owned(), keep_current: false };
        let mut profiles = alice.profiles();
        alice.sessions().revoke_all_sessions(all).await.unwrap();
        let began = Instant::now();
        while profiles.get_profile(read()).await.is_ok() {}
        samples.push(began.elapsed());
    }
    samples.sort();
    let at = |percent: usize| samples[(SAMPLES - 1) * percent / 100];
    println!("{engine:?}: from the answer of a revocation to the first refusal at the other service, {SAMPLES} times");
    for (name, percent) in [("median", 50), ("p90", 90), ("p99", 99), ("longest", 100)] {
        println!("{name:>8} {:>8.2} ms", at(percent).as_secs_f64() * 1e3);
    }
}
