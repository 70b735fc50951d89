//! A collector of traces: it receives spans by OTLP over gRPC, and keeps them.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use parking_lot::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::Running;

/// A collector. Clones share the spans.
#[derive(Debug, Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<CollectedSpan>>>);

/// A span that a collector has received.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectedSpan {
    /// The service that has recorded it.
    pub service: String,
    /// The name.
    pub name: String,
    /// True for a call that the service has handled, and false for one that it has made.
    pub is_server: bool,
    /// The trace, the span and its parent in hexadecimal digits. The parent is empty where the trace begins.
    pub trace_id: String,
    /// The span.
    pub span_id: String,
    /// The parent.
    pub parent_id: String,
    /// True if what the span describes has failed.
    pub is_failed: bool,
    /// The attributes, as texts.
    pub attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Returns the collector as a service.
    pub fn service(&self) -> TraceServiceServer<Self> {
        TraceServiceServer::new(self.clone())
    }

    /// Serves on a free port.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub async fn serve(&self) -> Running {
        let service = self.service();
        Running::start(|listener, shutdown| async move {
            let incoming = TcpListenerStream::new(listener);
            Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, shutdown).await.expect("a server");
        })
        .await
    }

    /// Returns the spans that were received so far.
    pub fn spans(&self) -> Vec<CollectedSpan> {
        self.0.lock().clone()
    }
}

impl CollectedSpan {
    fn new(service: &str, span: Span) -> Self {
        Self {
            service: service.to_owned(),
            name: span.name,
            is_server: span.kind == SpanKind::Server as i32,
            trace_id: hexadecimal(&span.trace_id),
            span_id: hexadecimal(&span.span_id),
            parent_id: hexadecimal(&span.parent_span_id),
            is_failed: span.status.is_some_and(|status| status.code == StatusCode::Error as i32),
            attributes: texts(span.attributes),
        }
    }

    /// Returns an attribute, or an empty text.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map(String::as_str).unwrap_or_default()
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value.and_then(|value| value.value)))).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = texts(resource.resource.unwrap_or_default().attributes);
            let service = attributes.get("service.name").cloned().unwrap_or_default();
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().extend(spans.map(|span| CollectedSpan::new(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
