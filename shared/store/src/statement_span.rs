//! The span of a statement: its text with the placeholders of its parameters, and its outcome. It never contains a value.

use access::{
    CurrentCall,
    trace::{Span, SpanKind},
};

/// Starts the span of a statement, if the call that it belongs to is recorded.
pub(crate) fn start(system: &'static str, sql: &'static str) -> Option<Span> {
    let operation = || sql.split_ascii_whitespace().next().unwrap_or_default();
    let mut span = CurrentCall::start_span(SpanKind::Client, operation)?;
    span.set("db.system.name", system);
    span.set("db.operation.name", operation());
    span.set("db.query.text", sql);
    Some(span)
}

/// Marks the statement as failed. The message of the database can contain values, so that only its code is recorded.
pub(crate) fn fail(span: &mut Span, error: &sqlx::Error) {
    let class = match error {
        // It is an answer to a query that expects a row.
        sqlx::Error::RowNotFound => return,
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => {
                span.set("db.response.status_code", code.clone().into_owned());
                return span.fail(code.into_owned());
            }
            None => "database",
        },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => "connection",
        _ => "client",
    };
    span.fail(class);
}
