//! Creates spans with OpenTelemetry.

use std::borrow::Cow;

use access::trace::{Span, SpanKind, SpanRecorder, SpanValue, TraceContext, TraceId, Tracer};
use opentelemetry::{
    Context, KeyValue, Value,
    trace::{
        self as otel, Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceState, Tracer as _,
    },
};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

/// Creates the spans of a process.
#[derive(Debug)]
pub(super) struct OpenTelemetryTracer(SdkTracer);

impl OpenTelemetryTracer {
    pub(super) fn new(tracer: SdkTracer) -> Self {
        Self(tracer)
    }
}

impl Tracer for OpenTelemetryTracer {
    fn start(&self, parent: Option<TraceContext>, kind: SpanKind, name: Cow<'static, str>) -> Option<Span> {
        let (is_remote, kind) = match kind {
            SpanKind::Server => (true, otel::SpanKind::Server),
            SpanKind::Client => (false, otel::SpanKind::Client),
        };
        // The context of the thread is not used.
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(span_context(&parent, is_remote)),
            None => Context::new(),
        };
        let span = self.0.build_with_context(SpanBuilder::from_name(name).with_kind(kind), &context);
        let context = trace_context(span.span_context())?;
        let recorder = span.is_recording().then(|| Box::new(Recorder(span)) as Box<dyn SpanRecorder>);
        Some(Span::new(context, recorder))
    }
}

fn span_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    let TraceContext { trace_id: TraceId(trace_id), span_id, is_sampled } = *context;
    let flags = TraceFlags::default().with_sampled(is_sampled);
    let (trace_id, span_id) = (otel::TraceId::from_bytes(trace_id), SpanId::from_bytes(span_id));
    SpanContext::new(trace_id, span_id, flags, is_remote, TraceState::NONE)
}

fn trace_context(context: &SpanContext) -> Option<TraceContext> {
    context.is_valid().then(|| TraceContext {
        trace_id: TraceId(context.trace_id().to_bytes()),
        span_id: context.span_id().to_bytes(),
        is_sampled: context.is_sampled(),
    })
}

struct Recorder(SdkSpan);

impl SpanRecorder for Recorder {
    fn rename(&mut self, name: Cow<'static, str>) {
        self.0.update_name(name);
    }

    fn set(&mut self, key: &'static str, value: SpanValue) {
        let value = match value {
            SpanValue::Text(Cow::Borrowed(text)) => Value::from(text),
            SpanValue::Text(Cow::Owned(text)) => Value::from(text),
            SpanValue::Number(number) => Value::from(number),
        };
        self.0.set_attribute(KeyValue::new(key, value));
    }

    fn fail(&mut self) {
        self.0.set_status(Status::error(""));
    }
}
