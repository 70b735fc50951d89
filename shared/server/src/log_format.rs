//! The formats of log lines: text and JSON. A line names the call that the current task handles.
//!
//! The call is read when a line is written. A span of `tracing` for each call would be formatted for every call, although few write a line
//! besides the one of the access log.

use std::fmt::{self, Write as _};

use access::CurrentCall;
use serde::{
    Serialize, Serializer as _,
    ser::{Error as _, SerializeMap},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// The usual length of a line, in bytes.
const USUAL_LENGTH: usize = 512;
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Writes a line for people, such as
/// `2026-11-27T09:30:00.000000Z  WARN call{method="/auth.v1.TokenService/Login" request_id="42"}: a message field="a value"`.
#[derive(Debug)]
pub(crate) struct TextLine;

impl<S, F> FormatEvent<S, F> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, F>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (level, color) = name_and_color(*event.metadata().level());
        let (dim, color, reset) = if line.has_ansi_escapes() { (DIM, color, RESET) } else { Default::default() };
        line.write_str(dim)?;
        SystemTime.format_time(&mut line)?;
        for part in [reset, " ", color, level, reset, " "] {
            line.write_str(part)?;
        }
        if let Some(call) = CurrentCall::get() {
            write!(line, "call{{method={:?} request_id={:?}", call.path(), call.request_id())?;
            if let Some(caller) = call.subject() {
                write!(line, " caller={caller:?}")?;
            }
            if let Some(trace_id) = call.trace_id() {
                write!(line, " trace_id={trace_id}")?;
            }
            line.write_str("}: ")?;
        }
        let mut fields = Fields { line: OneLine(line), is_first: true, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        fields.line.0.write_char('\n')
    }
}

/// Writes the message and the fields of an event: text in quotes, other values as they are displayed.
struct Fields<'a> {
    line: OneLine<'a>,
    is_first: bool,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        self.write_name(field)?;
        self.line.write_fmt(value)
    }

    /// Writes a text without characters that are escaped.
    fn write_plain(&mut self, field: &Field, value: &str) -> fmt::Result {
        self.write_name(field)?;
        for part in ["\"", value, "\""] {
            self.line.0.write_str(part)?;
        }
        Ok(())
    }

    fn write_name(&mut self, field: &Field) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.line.0.write_char(' ')?;
        }
        if field.name() != "message" {
            self.line.0.write_str(field.name())?;
            self.line.0.write_char('=')?;
        }
        Ok(())
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Most texts are written as they are. This costs a quarter of the general case.
        let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        if !is_plain || field.name() == "message" {
            self.record_debug(field, &value);
        } else if self.result.is_ok() {
            self.result = self.write_plain(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_ok() {
            self.result = self.write(field, format_args!("{value:?}"));
        }
    }
}

/// Escapes control characters, so that no value can begin a new line or change a terminal.
struct OneLine<'a>(Writer<'a>);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        for character in text.chars() {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default())?;
            } else {
                self.0.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Returns the name of a level, all of which have the same width, and the escape sequence of its color.
fn name_and_color(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::ERROR => ("ERROR", "\x1b[31m"),
        Level::WARN => (" WARN", "\x1b[33m"),
        Level::INFO => (" INFO", "\x1b[32m"),
        Level::DEBUG => ("DEBUG", "\x1b[34m"),
        Level::TRACE => ("TRACE", "\x1b[35m"),
    }
}

/// Writes a line as a JSON object. The fields of the event stand beside the time and the level, and the call is the object `call`.
#[derive(Debug)]
pub(crate) struct JsonLine;

impl<S, F> FormatEvent<S, F> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, F>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let json = to_json(event).map_err(|_| fmt::Error)?;
        line.write_str(str::from_utf8(&json).map_err(|_| fmt::Error)?)?;
        line.write_char('\n')
    }
}

fn to_json(event: &Event<'_>) -> serde_json::Result<Vec<u8>> {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time)).map_err(serde_json::Error::custom)?;
    let mut json = Vec::with_capacity(USUAL_LENGTH);
    let mut serializer = serde_json::Serializer::new(&mut json);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", &time)?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut fields = SerdeMapVisitor::new(map);
    event.record(&mut fields);
    let mut map = fields.take_serializer()?;
    map.serialize_entry("target", event.metadata().target())?;
    if let Some(call) = CurrentCall::get() {
        let trace_id = call.trace_id().map(|id| id.to_string());
        let call = CallFields { method: call.path(), request_id: call.request_id(), caller: call.subject(), trace_id };
        map.serialize_entry("call", &call)?;
    }
    map.end()?;
    Ok(json)
}

/// The call in a JSON line.
#[derive(Serialize)]
struct CallFields<'a> {
    method: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use access::Actor;
    use http::{HeaderValue, Uri};
    use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

    use super::*;
    use crate::telemetry::tests::{Lines, json, text};

    /// Writes a line outside of a call, and one inside.
    async fn write() {
        tracing::warn!(count = 2, "outside");
        tracing::warn!(cause = %"two\nlines \u{9b}1mé", "an \x1b[1m error");
        let call = CurrentCall::new(Uri::from_static("/a.B/C?secret"), Some(HeaderValue::from_static("42")), None, None);
        let work = async {
            CurrentCall::record_caller("alice", Actor::User);
            tracing::info!(target: "a_target", text = "a \"text\"", error = %"an error", "inside");
        };
        call.scope(work).await;
    }

    #[tokio::test]
    async fn a_text_line_names_its_call() {
        for (has_colors, expected) in [
            (
                false,
                [
                    " WARN outside count=2",
                    r" WARN an \u{1b}[1m error cause=two\nlines \u{9b}1mé",
                    r#" INFO call{method="/a.B/C" request_id="42" caller="alice"}: inside text="a \"text\"" error=an error"#,
                ],
            ),
            (true, ["\x1b[33m WARN\x1b[0m outside", "\x1b[33m WARN\x1b[0m an", "\x1b[32m INFO\x1b[0m call{method=\"/a.B/C\""]),
        ] {
            let lines = Lines::default();
            let _guard = text(lines.clone(), EnvFilter::new("info"), has_colors).set_default();
            write().await;
            let written = lines.text();
            assert_eq!(written.contains('\x1b'), has_colors, "{written}");
            for (line, expected) in written.lines().zip(expected) {
                assert!(line.contains(expected), "{line}");
            }
            assert_eq!(written.lines().count(), 3, "{written}");
        }
    }

    #[tokio::test]
    async fn a_json_line_names_its_call() {
        let lines = Lines::default();
        let _guard = json(lines.clone(), EnvFilter::new("info")).set_default();
        write().await;
        let written: Vec<serde_json::Value> =
            lines.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let [outside, _, inside] = &written[..] else { panic!("three lines: {written:?}") };
        assert_eq!((&outside["message"], &outside["count"]), (&"outside".into(), &2.into()));
        assert!(outside.get("call").is_none(), "{outside}");
        assert_eq!((&inside["level"], &inside["target"]), (&"INFO".into(), &"a_target".into()));
        assert_eq!((&inside["text"], &inside["error"]), (&"a \"text\"".into(), &"an error".into()));
        let expected = serde_json::json!({"method": "/a.B/C", "request_id": "42", "caller": "alice"});
        assert_eq!(inside["call"], expected);
        assert!(inside["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{inside}");
    }
}
