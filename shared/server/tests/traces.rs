//! The connection to a collector with TLS.
#![allow(missing_docs)]

use std::{fs, path::PathBuf};

use access::trace::{self, SpanKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use server::traces::{TraceArgs, TraceError};
use tempfile::TempDir;
use testing::Collector;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// Returns a certificate of 127.0.0.1 and its key.
fn issue(authority: &Authority) -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, authority).expect("a certificate").pem(), key.serialize_pem())
}

fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a write");
    path
}

/// Records one span.
async fn record(traces: &TraceArgs) {
    let traces = traces.start("test").expect("traces");
    let work = async { drop(trace::tracer().expect("a tracer").start(None, SpanKind::Server, "work".into())) };
    traces.record(work).await;
}

#[tokio::test]
async fn a_collector_with_a_certificate_gets_the_spans_of_services_that_trust_it_and_have_one() {
    let (ours, foreign) = (authority(), authority());
    let (certificate, key) = issue(&ours);
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let tls =
        ServerTlsConfig::new().identity(Identity::from_pem(&certificate, &key)).client_ca_root(Certificate::from_pem(ours.pem()));
    let server = Server::builder().tls_config(tls).expect("TLS").add_service(collector.service());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let folder = tempfile::tempdir().expect("a folder");
    let (client, client_key) = issue(&ours);
    let (client, client_key) = (file(&folder, "client.pem", &client), file(&folder, "client.key", &client_key));
    let trusting = |authority: &Authority, name| TraceArgs {
        otlp_endpoint: Some(format!("https://{address}")),
        otlp_ca: Some(file(&folder, name, &authority.pem())),
        ..TraceArgs::default()
    };
    let presenting =
        |traces| TraceArgs { otlp_client_cert: Some(client.clone()), otlp_client_key: Some(client_key.clone()), ..traces };
    record(&trusting(&ours, "ca.pem")).await;
    record(&presenting(trusting(&foreign, "foreign.pem"))).await;
    assert_eq!(collector.spans(), [], "one has no certificate, and the other does not trust the collector");
    record(&presenting(trusting(&ours, "ca.pem"))).await;
    let names: Vec<_> = collector.spans().into_iter().map(|span| (span.service, span.name)).collect();
    assert_eq!(names, [("test".to_owned(), "work".to_owned())]);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = || Some("https://127.0.0.1:4317".to_owned());
    let missing =
        TraceArgs { otlp_endpoint: endpoint(), otlp_ca: Some(folder.path().join("missing.pem")), ..TraceArgs::default() };
    let error = missing.start("test").expect_err("no file");
    assert!(matches!(error, TraceError::Unreadable { .. }) && error.to_string().contains("missing.pem"), "{error}");
}
