//! Distributed traces: the place of a call in its trace, and the spans that are recorded.
//!
//! This crate knows no exporter. A [`Tracer`] creates the spans; the crate `server` has one for OpenTelemetry. Without a tracer nothing is
//! recorded, and the trace of a call is still passed on to the services that it calls.

mod context;
mod outgoing;

use std::{borrow::Cow, fmt, future::Future, sync::Arc};

pub use self::{
    context::{TraceContext, TraceId},
    outgoing::TracedChannel,
};

tokio::task_local! {
    static TRACER: Arc<dyn Tracer>;
}

/// Creates spans.
pub trait Tracer: fmt::Debug + Send + Sync {
    /// Starts a span. Without a parent it begins a trace. Returns `None` after the tracer was shut down.
    fn start(&self, parent: Option<TraceContext>, kind: SpanKind, name: Cow<'static, str>) -> Option<Span>;
}

/// The side of a call that a span describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A call that this process handles. The parent is in another process.
    Server,
    /// A call that this process makes, for example to a database.
    Client,
}

/// A span that is recorded. It ends when it is dropped.
pub trait SpanRecorder: Send + Sync {
    /// Replaces the name.
    fn rename(&mut self, name: Cow<'static, str>);
    /// Adds an attribute.
    fn set(&mut self, key: &'static str, value: SpanValue);
    /// Marks what the span describes as failed.
    fn fail(&mut self);
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum SpanValue {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<&'static str> for SpanValue {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for SpanValue {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<i64> for SpanValue {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A part of a trace. It ends when it is dropped.
pub struct Span {
    context: TraceContext,
    /// None if the trace is not sampled.
    recorder: Option<Box<dyn SpanRecorder>>,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Span {
    /// Creates a span. Without a recorder it is not recorded, and its context only names the trace.
    pub fn new(context: TraceContext, recorder: Option<Box<dyn SpanRecorder>>) -> Self {
        Self { context, recorder }
    }

    /// Returns the parent of the spans inside of this one.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Returns true if the span is recorded. Otherwise its name and attributes are of no use.
    pub fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Replaces the name.
    pub fn rename(&mut self, name: impl Into<Cow<'static, str>>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.rename(name.into());
        }
    }

    /// Adds an attribute, whose key is one of the semantic conventions of OpenTelemetry where they have one.
    pub fn set(&mut self, key: &'static str, value: impl Into<SpanValue>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.set(key, value.into());
        }
    }

    /// Marks what the span describes as failed. `error` is the class of the error, never its message, which can contain data.
    pub fn fail(&mut self, error: impl Into<SpanValue>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.set("error.type", error.into());
            recorder.fail();
        }
    }
}

/// Runs `work`, in which [`tracer`] returns this tracer. Tasks that it spawns are not a part of it.
pub fn scope<F: Future>(tracer: Arc<dyn Tracer>, work: F) -> impl Future<Output = F::Output> {
    TRACER.scope(tracer, work)
}

/// Returns the tracer of the [`scope`] that the current task is in.
pub fn tracer() -> Option<Arc<dyn Tracer>> {
    TRACER.try_with(Arc::clone).ok()
}
