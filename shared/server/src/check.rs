//! The report of the command `check`, and the checks that every service makes.

use std::{fmt, io::Write, net::SocketAddr};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    REVOCATIONS, WRITES,
    command::escape,
    health::{self, HealthError, HealthTls},
    tls::TlsArgs,
};

/// The largest difference between two clocks that is no problem. A verifier accepts a token that was issued at most 30 seconds in
/// the future.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(5);
/// How long before the end of a certificate a warning begins.
const EXPIRY_WARNING: TimeDelta = TimeDelta::days(14);

/// The output of `check`, and the service that it asks.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Prints a JSON array of objects with the members `check`, `state` and `detail`.
    #[arg(long)]
    pub json: bool,
    /// The TLS of the running service.
    #[command(flatten)]
    pub tls: HealthTls,
}

/// The outcome of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is wrong.
    Ok,
    /// Something will be wrong, or may be.
    Warning,
    /// The service cannot work, or clients cannot use it.
    Failed,
}

#[derive(Debug, Serialize)]
struct Row {
    check: &'static str,
    state: State,
    detail: String,
}

/// The error of a report in which at least one check has failed.
#[derive(Debug, thiserror::Error)]
#[error("{0} of the checks failed")]
pub struct ChecksFailed(usize);

/// The outcomes of the checks, in their order.
#[derive(Debug, Default)]
pub struct CheckReport(Vec<Row>);

impl CheckReport {
    /// Adds the outcome of a check.
    pub fn add(&mut self, check: &'static str, state: State, detail: impl Into<String>) {
        self.0.push(Row { check, state, detail: detail.into() });
    }

    /// Adds a check that succeeds with a detail or fails with a reason.
    pub fn add_result<E: fmt::Display>(&mut self, check: &'static str, outcome: Result<String, E>) {
        match outcome {
            Ok(detail) => self.add(check, State::Ok, detail),
            Err(reason) => self.add(check, State::Failed, reason.to_string()),
        }
    }

    /// Prints the report: a table, or JSON.
    ///
    /// # Errors
    ///
    /// The inner result is an error if a check failed; a warning is not a failure. The outer one is an error if `output` cannot
    /// be written.
    pub fn finish(self, output: &mut impl Write, json: bool) -> Result<Result<(), ChecksFailed>, std::io::Error> {
        if json {
            serde_json::to_writer_pretty(&mut *output, &self.0)?;
            writeln!(output)?;
        } else {
            write!(output, "{self}")?;
        }
        let failed = self.0.iter().filter(|row| row.state == State::Failed).count();
        Ok(if failed == 0 { Ok(()) } else { Err(ChecksFailed(failed)) })
    }

    /// Compares another clock with the one of this machine.
    pub fn compare_clock(&mut self, check: &'static str, other: DateTime<Utc>, now: DateTime<Utc>) {
        let difference = other - now;
        let state = if difference.abs() <= CLOCK_TOLERANCE { State::Ok } else { State::Warning };
        let seconds = difference.abs().to_std().unwrap_or_default().as_secs_f64();
        let direction = if difference < TimeDelta::zero() { "behind" } else { "ahead of" };
        self.add(check, state, format!("{seconds:.1} s {direction} the clock of this machine"));
    }

    /// Checks the certificate of the service.
    pub fn check_certificate(&mut self, tls: &TlsArgs, address: SocketAddr, now: DateTime<Utc>) {
        let expires = match tls.expire_time(address) {
            Ok(Some(expires)) => expires,
            Ok(None) => return self.add("certificate", State::Ok, "the service does not encrypt connections itself"),
            Err(error) => return self.add("certificate", State::Failed, error.to_string()),
        };
        let (state, verb) = match expires - now {
            left if left <= TimeDelta::zero() => (State::Failed, "expired"),
            left if left < EXPIRY_WARNING => (State::Warning, "expires"),
            _ => (State::Ok, "expires"),
        };
        self.add("certificate", state, format!("{verb} at {}", expires.format("%Y-%m-%d %H:%M UTC")));
    }

    /// Asks the service that listens at `address`, if one does, for its health.
    pub async fn check_running(&mut self, address: SocketAddr, tls: &HealthTls) {
        for (check, name) in [("running service", ""), ("writes", WRITES), ("revocations", REVOCATIONS)] {
            match health::status(address, tls, name).await {
                Ok(ServingStatus::Serving) => self.add(check, State::Ok, format!("{address} answers SERVING")),
                Ok(status) => {
                    self.add(check, State::Failed, format!("{address} answers {}; /readyz says why", status.as_str_name()));
                }
                Err(HealthError::Unreachable(..)) => {
                    return self.add(check, State::Warning, format!("nothing answers at {address}"));
                }
                Err(error) => self.add(check, State::Failed, error.to_string()),
            }
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.check.len()).max().unwrap_or_default();
        for Row { check, state, detail } in &self.0 {
            let state = match state {
                State::Ok => "ok",
                State::Warning => "WARNING",
                State::Failed => "FAILED",
            };
            writeln!(f, "{check:width$}  {state:7}  {}", escape(detail))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table_or_json_and_fails_with_a_failed_check() {
        let report = || {
            let mut report = CheckReport::default();
            let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
            report.add_result("schema", Ok::<_, ChecksFailed>("all migrations are applied".to_owned()));
            report.compare_clock("clock of the database", now - TimeDelta::milliseconds(7_250), now);
            report
        };
        let mut text = Vec::new();
        assert!(report().finish(&mut text, false).expect("a write").is_ok());
        let expected = "schema                 ok       all migrations are applied\n\
                        clock of the database  WARNING  7.2 s behind the clock of this machine\n";
        assert_eq!(String::from_utf8(text).expect("text"), expected);

        let mut failed = report();
        failed.add("certificate", State::Failed, "expired \u{1b}[0m");
        assert!(failed.to_string().ends_with("FAILED   expired \\u{1b}[0m\n"), "{failed}");
        let mut json = Vec::new();
        let outcome = failed.finish(&mut json, true).expect("a write");
        assert_eq!(outcome.expect_err("a failed check").to_string(), "1 of the checks failed");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json[2]["state"], "failed");
    }
}
