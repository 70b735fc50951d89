//! The listener with TLS: protocols, client certificates, wrong certificates, and their reload.
#![allow(missing_docs)]

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc};

use access::{
    Clock,
    token::{AuthUrlError, ClientTls, ClientTlsFiles, Verifier, auth_channel_with_tls, auth_channel_with_tls_files},
};
use axum::{Router, routing::get};
use gateway::InProcess;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use server::{
    Health, Server, ServerError, ServerSettings,
    tls::{ClientAuth, Encryption, TlsError},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// An authority that issues certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM format.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> Identity {
        self.issue_with(usage, |_| {})
    }

    fn issue_with(&self, usage: ExtendedKeyUsagePurpose, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.subject_alt_names.push(SanType::URI("spiffe://example/profile".try_into().expect("a URI")));
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

/// A server with TLS.
struct Running {
    address: SocketAddr,
    folder: TempDir,
    serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Running {
    async fn start(identity: &Identity, client_ca: Option<(String, ClientAuth)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(&folder, identity, client_ca);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            serve(listener, &settings).await.expect("a server that serves");
        });
        Self { address, folder, serving }
    }

    fn replace(&self, identity: &Identity) {
        fs::write(self.folder.path().join("key.pem"), &identity.key).expect("a write");
        fs::write(self.folder.path().join("cert.pem"), &identity.certificate).expect("a write");
    }

    /// Calls the health service over gRPC.
    async fn check(&self, tls: ClientTls) -> Result<(), String> {
        let channel = auth_channel_with_tls(&format!("https://{}", self.address), &tls).expect("valid certificates");
        let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
        answer.map(drop).map_err(|status| format!("{status:?}"))
    }

    /// Opens a connection, and returns it with the certificate of the server.
    async fn connect(&self, ca: &str) -> io::Result<(TlsStream<TcpStream>, CertificateDer<'static>)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(self.address.ip()), stream).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).expect("a certificate").clone();
        Ok((stream, certificate.into_owned()))
    }
}

fn settings(folder: &TempDir, identity: &Identity, client_ca: Option<(String, ClientAuth)>) -> ServerSettings {
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a write");
        path
    };
    let mut settings = ServerSettings::default();
    settings.tls.tls_cert = Some(file("cert.pem", &identity.certificate));
    settings.tls.tls_key = Some(file("key.pem", &identity.key));
    if let Some((ca, client_auth)) = client_ca {
        settings.tls.tls_client_ca = Some(file("ca.pem", &ca));
        settings.tls.tls_client_auth = client_auth;
    }
    settings
}

async fn serve(listener: TcpListener, settings: &ServerSettings) -> Result<(), ServerError> {
    let verifier = Arc::new(Verifier::new("https://auth.example.test", "test", Clock::system()));
    let names = get(async |call: InProcess| call.client_info().certificate_names().join(" "));
    let server = Server::new(verifier, access::proto::DESCRIPTORS).expect("valid descriptors");
    let server = server.configure(settings).merge_http(Router::new().route("/names", names));
    server.serve(listener, || async { Health::new() }, std::future::pending()).await
}

/// Sends a request over HTTP/1.1, and returns the response.
async fn request(stream: &mut TlsStream<TcpStream>, path: &str, connection: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    while !response.ends_with(b"ok\n") && stream.read_buf(&mut response).await? > 0 {}
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn trusting(authority: &Authority) -> ClientTls {
    ClientTls { ca: Some(authority.pem().into_bytes()), identity: None }
}

fn presenting(authority: &Authority, identity: &Identity) -> ClientTls {
    let identity = Some((identity.certificate.clone().into_bytes(), identity.key.clone().into_bytes()));
    ClientTls { identity, ..trusting(authority) }
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served() {
    let authority = Authority::new();
    let running = Running::start(&authority.issue(ExtendedKeyUsagePurpose::ServerAuth), None).await;
    running.check(trusting(&authority)).await.expect("an answer");
    let error = running.check(trusting(&Authority::new())).await.expect_err("another authority");
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    // A client without TLS gets no answer.
    let mut plain = TcpStream::connect(running.address).await.expect("a connection");
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("a write");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_server_with_an_expired_or_a_wrong_certificate_is_refused_by_its_clients() {
    let authority = Authority::new();
    let expired = authority.issue_with(ExtendedKeyUsagePurpose::ServerAuth, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    let running = Running::start(&expired, None).await;
    let error = running.check(trusting(&authority)).await.expect_err("an expired certificate");
    assert!(error.contains("Expired"), "{error}");
    let elsewhere = authority.issue_with(ExtendedKeyUsagePurpose::ServerAuth, |params| {
        params.subject_alt_names = vec![SanType::DnsName("elsewhere.example".try_into().expect("a name"))];
    });
    let running = Running::start(&elsewhere, None).await;
    let error = running.check(trusting(&authority)).await.expect_err("a certificate of another name");
    assert!(error.contains("NotValidForName"), "{error}");
}

#[tokio::test]
async fn client_certificates_are_verified_and_their_names_are_known() {
    let authority = Authority::new();
    let server = authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let client = authority.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let foreign = Authority::new().issue(ExtendedKeyUsagePurpose::ClientAuth);
    for (client_auth, accepts_none) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)] {
        let running = Running::start(&server, Some((authority.pem(), client_auth))).await;
        running.check(presenting(&authority, &client)).await.expect("a valid client certificate");
        assert_eq!(running.check(trusting(&authority)).await.is_ok(), accepts_none, "{client_auth:?}");
        running.check(presenting(&authority, &foreign)).await.expect_err("a client certificate of another authority");
        running.check(presenting(&authority, &server)).await.expect_err("a server certificate as client certificate");
        let names = call_names(&running, &authority, &client).await;
        assert!(names.ends_with("DNS:localhost IP:127.0.0.1 URI:spiffe://example/profile"), "{names}");
    }
}

/// Asks the server for the names in the client's certificate.
async fn call_names(running: &Running, authority: &Authority, client: &Identity) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let certificate = CertificateDer::from_pem_slice(client.certificate.as_bytes()).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(client.key.as_bytes()).expect("a key");
    let config = config.with_client_auth_cert(vec![certificate], key).expect("an identity");
    let stream = TcpStream::connect(running.address).await.expect("a connection");
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(ServerName::from(running.address.ip()), stream).await.expect("a handshake");
    request(&mut stream, "/names", "close").await.expect("an answer")
}

#[tokio::test]
async fn certificates_are_replaced_without_closing_connections() {
    let authority = Authority::new();
    let issue = || authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let running = Running::start(&issue(), None).await;
    let (mut held, first) = running.connect(&authority.pem()).await.expect("a connection");
    request(&mut held, "/livez", "keep-alive").await.expect("an answer");

    running.replace(&issue());
    let second = loop {
        let (_, certificate) = running.connect(&authority.pem()).await.expect("a connection");
        if certificate != first {
            break certificate;
        }
    };
    let answer = request(&mut held, "/livez", "keep-alive").await.expect("an answer on the old connection");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    // A key that does not belong to the certificate changes nothing. The valid pair after it is used.
    fs::write(running.folder.path().join("key.pem"), issue().key).expect("a write");
    let (_, still_second) = running.connect(&authority.pem()).await.expect("a connection");
    assert_eq!(still_second, second);
    running.replace(&issue());
    while running.connect(&authority.pem()).await.expect("a connection").1 == second {}
}

#[tokio::test]
async fn a_server_that_would_be_reachable_without_encryption_does_not_start() {
    let authority = Authority::new();
    let listener = || async { TcpListener::bind("0.0.0.0:0").await.expect("a free port") };
    let mut settings = ServerSettings::default();
    let error = serve(listener().await, &settings).await.expect_err("no encryption");
    assert!(matches!(error, ServerError::Tls(TlsError::Unencrypted(_))), "{error}");
    assert!(error.to_string().contains("--tls external"), "{error}");
    settings.tls.tls = Encryption::External;
    let listening = listener().await;
    tokio::select! {
        served = serve(listening, &settings) => panic!("the server stopped: {served:?}"),
        () = tokio::task::yield_now() => {}
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut identity = authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
    identity.key = authority.issue(ExtendedKeyUsagePurpose::ServerAuth).key;
    let error = serve(listener().await, &self::settings(&folder, &identity, None)).await.expect_err("another key");
    assert!(error.to_string().contains("cert.pem cannot be used with the key"), "{error}");
    identity.key = "nothing".to_owned();
    let error = serve(listener().await, &self::settings(&folder, &identity, None)).await.expect_err("no key");
    assert!(error.to_string().contains("key.pem contains no valid private key"), "{error}");
}

#[test]
fn a_channel_with_certificates_needs_an_https_url() {
    let error = auth_channel_with_tls("http://127.0.0.1:50051", &ClientTls::default()).expect_err("no TLS");
    assert!(matches!(error, AuthUrlError::Malformed), "{error}");
}

#[tokio::test]
async fn a_channel_uses_the_certificate_that_replaced_its_own() {
    let [servers, old, new] = [(); 3].map(|()| Authority::new());
    let running =
        Running::start(&servers.issue(ExtendedKeyUsagePurpose::ServerAuth), Some((new.pem(), ClientAuth::Required))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, certificate, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let write = |identity: &Identity| {
        fs::write(&certificate, &identity.certificate).expect("a write");
        fs::write(&key, &identity.key).expect("a write");
    };
    fs::write(&ca, servers.pem()).expect("a write");
    write(&old.issue(ExtendedKeyUsagePurpose::ClientAuth));
    let files = ClientTlsFiles { ca: Some(ca), identity: Some((certificate.clone(), key.clone())) };
    let channel = auth_channel_with_tls_files(&format!("https://{}", running.address), files).expect("valid certificates");
    let check = || async { HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await };
    check().await.expect_err("an authority that the server does not trust");
    // Files that cannot be used change nothing, and end nothing.
    fs::write(&certificate, "no certificate").expect("a write");
    check().await.expect_err("an authority that the server does not trust");
    write(&new.issue(ExtendedKeyUsagePurpose::ClientAuth));
    while check().await.is_err() {
        tokio::task::yield_now().await;
    }
}
