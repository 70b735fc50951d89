//! `/metrics`, in the text format of Prometheus: how well this replica follows the auth service. It holds nothing of any user.

use std::{fmt::Write, sync::Arc};

use access::{Clock, events::WatchProgress, token::Verifier};
use axum::{Router, http::header::CONTENT_TYPE, routing::get};

/// The route. Whoever reaches the port may ask, as for health.
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
    metric("events_at_end", "gauge", "Whether every event that was told of is applied.", flag(state.is_at_end));
    if let Some(position) = &state.position {
        metric("events_position", "gauge", "The position of the last event that is applied.", position.pos.to_string());
    }
    if let Some(time) = state.time {
        let lag = (clock.now() - time).to_std().unwrap_or_default().as_secs_f64();
        metric("events_lag_seconds", "gauge", "How long ago the auth service said what is applied.", lag.to_string());
    }
    metric("events_connects_total", "counter", "How often a stream of events was opened.", state.connects.to_string());
    metric("events_snapshots_total", "counter", "How often the users were read anew.", state.resyncs.to_string());
    let hears = flag(verifier.revocations().are_fresh());
    metric("revocations_heard", "gauge", "Whether news of revocations are as fresh as they have to be.", hears);
    metric("revocations", "gauge", "How many revocations are remembered.", verifier.revocations().len().to_string());
    text
}
