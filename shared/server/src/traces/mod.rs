//! Distributed traces by OpenTelemetry: the settings, the tracer, and the export to a collector.

mod exporter;
mod tracer;

use std::{fmt, fs, future::Future, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use access::trace;
use clap::{Args, ValueEnum};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use self::{exporter::ReportingExporter, tracer::OpenTelemetryTracer};
use crate::config;

/// The longest time that the end of the process waits for the collector.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// The time limit for a connection to the collector, and for one export.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of the traces. The environment variables are those of OpenTelemetry.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// The URL of the OpenTelemetry collector that gets the traces, by OTLP over gRPC, for example `http://127.0.0.1:4317`. Without it
    /// no traces are recorded.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = config::http_url)]
    pub otlp_endpoint: Option<String>,
    /// A PEM file with the certificates of the authorities that issued the certificate of the collector. By default those of the system
    /// are trusted.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
    /// A PEM file with the certificate that this service presents to the collector.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", value_name = "FILE", requires = "otlp_client_key")]
    pub otlp_client_cert: Option<PathBuf>,
    /// A PEM file with the private key of that certificate.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CLIENT_KEY", value_name = "FILE", requires = "otlp_client_cert")]
    pub otlp_client_key: Option<PathBuf>,
    /// The traces that are recorded.
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_enum, default_value = "parentbased_traceidratio")]
    pub trace_sampler: TraceSampler,
    /// The share of the traces that is recorded, from 0 to 1, for the samplers with a ratio.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "RATIO", default_value = "1")]
    pub trace_ratio: TraceRatio,
    /// The name of this service in the traces, if it is not the name of the program.
    #[arg(long, env = "OTEL_SERVICE_NAME", value_name = "NAME")]
    pub trace_service_name: Option<String>,
}

impl Default for TraceArgs {
    fn default() -> Self {
        config::defaults()
    }
}

/// Selects the traces that are recorded. The names are those of OpenTelemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum TraceSampler {
    /// As the caller has decided. Of the traces that begin here, the ratio.
    #[value(name = "parentbased_traceidratio")]
    ParentBasedRatio,
    /// As the caller has decided. All traces that begin here.
    #[value(name = "parentbased_always_on")]
    ParentBasedAlwaysOn,
    /// As the caller has decided. No trace that begins here.
    #[value(name = "parentbased_always_off")]
    ParentBasedAlwaysOff,
    /// The ratio, whatever the caller has decided.
    #[value(name = "traceidratio")]
    Ratio,
    /// Every trace.
    AlwaysOn,
    /// No trace.
    AlwaysOff,
}

impl TraceSampler {
    fn sampler(self, TraceRatio(ratio): TraceRatio) -> Sampler {
        let parent_based = |root| Sampler::ParentBased(Box::new(root));
        match self {
            Self::ParentBasedRatio => parent_based(Sampler::TraceIdRatioBased(ratio)),
            Self::ParentBasedAlwaysOn => parent_based(Sampler::AlwaysOn),
            Self::ParentBasedAlwaysOff => parent_based(Sampler::AlwaysOff),
            Self::Ratio => Sampler::TraceIdRatioBased(ratio),
            Self::AlwaysOn => Sampler::AlwaysOn,
            Self::AlwaysOff => Sampler::AlwaysOff,
        }
    }
}

/// A share of traces, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TraceRatio(f64);

impl FromStr for TraceRatio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or("must be a number from 0 to 1, for example 0.01")
    }
}

impl fmt::Display for TraceRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The reason why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The URL of the collector is not valid.
    #[error("--otlp-endpoint must be like http://127.0.0.1:4317 or https://collector.example.com:4317")]
    Endpoint,
    /// A certificate or a key cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A certificate or a key is not valid.
    #[error("the certificates for the connection to the collector cannot be used: {0}")]
    Certificate(#[source] tonic::transport::Error),
    /// The exporter refuses a variable of OpenTelemetry.
    #[error("a variable of OpenTelemetry is wrong: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl TraceArgs {
    /// Starts to record traces, if an endpoint is set. `service` is the name of the service.
    ///
    /// # Errors
    ///
    /// Returns an error if the endpoint or a certificate cannot be used.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside a tokio runtime.
    pub fn start(&self, service: &str) -> Result<Traces, TraceError> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(Traces(None)) };
        let exporter = SpanExporter::builder().with_tonic().with_channel(self.channel(endpoint)?).build()?;
        let name = self.trace_service_name.clone().unwrap_or_else(|| service.to_owned());
        // The attributes of `OTEL_RESOURCE_ATTRIBUTES` are a part of it.
        let resource = Resource::builder().with_service_name(name).build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(self.trace_sampler.sampler(self.trace_ratio))
            .with_resource(resource)
            .with_span_processor(BatchSpanProcessor::builder(ReportingExporter::new(exporter)).build())
            .build();
        Ok(Traces(Some(provider)))
    }

    fn channel(&self, url: &str) -> Result<Channel, TraceError> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| TraceError::Endpoint)?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(EXPORT_TIMEOUT);
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint.connect_lazy());
        }
        let read = |file: &PathBuf| fs::read(file).map_err(|source| TraceError::Unreadable { file: file.clone(), source });
        let mut tls = ClientTlsConfig::new();
        tls = match &self.otlp_ca {
            Some(file) => tls.ca_certificate(Certificate::from_pem(read(file)?)),
            None => tls.ca_certificates(system_authorities()),
        };
        if let (Some(certificate), Some(key)) = (&self.otlp_client_cert, &self.otlp_client_key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(endpoint.tls_config(tls).map_err(TraceError::Certificate)?.connect_lazy())
    }
}

/// Returns the certificates of the authorities that the system trusts. Those that cannot be read are left out.
fn system_authorities() -> Vec<Certificate> {
    let found = rustls_native_certs::load_native_certs().certs;
    found.into_iter().map(|der| Certificate::from_pem(pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec())))).collect()
}

/// The traces of a process.
#[derive(Debug)]
#[must_use = "nothing is recorded outside of `record`"]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Runs `work` and records its traces. A [`Server`](crate::Server) in it records the calls that it serves, and a
    /// [`TracedChannel`](access::trace::TracedChannel) those that it makes. The spans are exported in the background, and dropped while
    /// the collector does not keep up. After `work`, the last ones have 3 seconds to reach the collector.
    pub async fn record<F: Future>(self, work: F) -> F::Output {
        let Some(provider) = self.0 else { return work.await };
        let tracer = OpenTelemetryTracer::new(provider.tracer(env!("CARGO_PKG_NAME")));
        let output = trace::scope(Arc::new(tracer), work).await;
        // The exporter has already reported a failure.
        let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_LIMIT)).await;
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_number_from_0_to_1() {
        for (text, expected) in
            [("0", Some(0.0)), ("0.01", Some(0.01)), ("1", Some(1.0)), ("1.1", None), ("-1", None), ("NaN", None), ("", None)]
        {
            assert_eq!(text.parse().ok(), expected.map(TraceRatio), "{text}");
        }
        assert_eq!(TraceArgs::default().trace_ratio.to_string(), "1");
    }

    #[test]
    fn samplers_have_the_names_of_opentelemetry() {
        let names: Vec<_> = TraceSampler::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
        let names: Vec<_> = names.iter().map(clap::builder::PossibleValue::get_name).collect();
        let expected = [
            "parentbased_traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "traceidratio",
            "always_on",
            "always_off",
        ];
        assert_eq!(names, expected);
    }

    #[tokio::test]
    async fn without_an_endpoint_nothing_is_recorded() {
        let traces = TraceArgs::default().start("test").expect("no traces");
        assert!(traces.record(async { trace::tracer().is_none() }).await);
    }
}
