//! `/metrics` in the text format of Prometheus: the state of the sync with the auth service. It contains no data of users.

use std::{fmt::Write, sync::Arc};

use access::{Clock, events::WatchProgress, token::Verifier};
use axum::{Router, http::header::CONTENT_TYPE, routing::get};

/// Returns the route. Like the health routes, it needs no token.
pub(crate) fn routes(clock: Clock, verifier: Arc<Verifier>, progress: WatchProgress) -> Router {
    let answer = move || {
        let text = text(&clock, &verifier, &progress);
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
    };
    Router::new().route("/metrics", get(answer))
}

fn text(clock: &Clock, verifier: &Verifier, progress: &WatchProgress) -> String {
    let state = progress.state();
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: String| {
        let _ = writeln!(text, "# HELP profile_{name} {help}\n# TYPE profile_{name} {kind}\nprofile_{name} {value}");
    };
    let flag = |holds: bool| u8::from(holds).to_string();
    metric("events_connected", "gauge", "Whether a stream of events is open.", flag(state.is_connected));
    metric("events_at_end", "gauge", "Whether all events are applied.", flag(state.is_at_end));
    if let Some(position) = &state.position {
        metric("events_position", "gauge", "The position of the last event that is applied.", position.pos.to_string());
    }
    if let Some(time) = state.time {
        let lag = (clock.now() - time).to_std().unwrap_or_default().as_secs_f64();
        metric("events_lag_seconds", "gauge", "The age of the last message of the event stream.", lag.to_string());
    }
    metric("events_connects_total", "counter", "The number of streams of events that were opened.", state.connects.to_string());
    metric(
        "events_snapshots_total",
        "counter",
        "The number of snapshots of the users that were started.",
        state.resyncs.to_string(),
    );
    let is_fresh = flag(verifier.revocations().are_fresh());
    metric("revocations_heard", "gauge", "Whether the list of revocations is up to date.", is_fresh);
    metric("revocations", "gauge", "The number of revocations that are kept.", verifier.revocations().len().to_string());
    text
}
