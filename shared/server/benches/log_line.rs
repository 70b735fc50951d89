//! Measures the cost of one line of the access log in text: `cargo bench -p server --bench log_line 2>log.txt`.
//!
//! Each line has the fields of a call over HTTP by a user. The lines go to standard error, as in a service. One thread and two threads write
//! in turn, five times each; the median of each is printed.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "what it measures is what it prints")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::Instant,
};

use server::telemetry::{self, LogFormat};

/// The number of lines of each run.
const LINES: u32 = 100_000;
const RUNS: usize = 5;

fn write_lines() {
    let method = "GET /v1/profiles/me";
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request_id = "0199c2f5-7a61-7c44-9d0e-2f7e3ac1b001";
    for number in 0..LINES {
        let ms = black_box(f64::from(number % 1000) / 1e3);
        tracing::info!(
            target: "access_log",
            protocol = "http",
            %method,
            code = 200_u16,
            ms,
            client = Some(tracing::field::display(client)),
            user_agent = Some("grpc-node-js/1.13.4"),
            caller = Some("0199c2f4-1111-7c44-9d0e-2f7e3ac1b001"),
            certificate = None::<&str>,
            request_id,
            trace_id = None::<&str>,
            "answered"
        );
    }
}

/// Returns the microseconds of one line.
fn measure(threads: u32) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(write_lines);
        }
    });
    began.elapsed().as_secs_f64() * 1e6 / f64::from(LINES * threads)
}

fn main() {
    let _log = telemetry::log(LogFormat::Text, "info").expect("a filter");
    for threads in [1, 2] {
        let mut runs: Vec<_> = (0..RUNS).map(|_| measure(threads)).collect();
        runs.sort_by(f64::total_cmp);
        println!("{threads} threads: {:.2} µs a line (from {:.2} to {:.2})", runs[RUNS / 2], runs[0], runs[RUNS - 1]);
    }
}
