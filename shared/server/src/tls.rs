//! TLS of the listener: its certificate, the certificates of clients, and their reload.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use parking_lot::RwLock;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The interval at which the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The protocols that are offered in ALPN (RFC 7301), the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The settings of TLS.
#[derive(Debug, Clone, Args)]
pub struct TlsArgs {
    /// A PEM file with the certificate of this service and its intermediate certificates. With it, the service accepts TLS 1.2 and 1.3
    /// only. The service reads all files of TLS again when they change, and on SIGHUP.
    #[arg(long, env = "TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the private key of the certificate.
    #[arg(long, env = "TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A PEM file with the certificates of the authorities that issue client certificates. With it, clients present a certificate.
    #[arg(long, env = "TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is accepted. A client with an invalid certificate never is.
    #[arg(long, env = "TLS_CLIENT_AUTH", value_enum, default_value = "required")]
    pub tls_client_auth: ClientAuth,
    /// Names the program that encrypts connections from other machines. `service`: this service, which therefore needs a certificate unless
    /// it listens on a loopback address. `external`: a proxy or a service mesh.
    #[arg(long, env = "TLS", value_enum, default_value = "service")]
    pub tls: Encryption,
}

/// The program that encrypts connections from other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encryption {
    /// This service.
    Service,
    /// A proxy or a service mesh.
    External,
}

/// Whether a client needs a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientAuth {
    /// A client without a certificate is accepted.
    Optional,
    /// A client without a certificate is refused.
    Required,
}

/// The reason why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// A file is not PEM, or contains nothing of the kind that it must contain.
    #[error("{0} contains no valid {1} in PEM format")]
    Malformed(PathBuf, &'static str),
    /// The key does not belong to the certificate, or one of them is not supported.
    #[error("the certificate {0} cannot be used with the key {1}: {2}")]
    Mismatch(PathBuf, PathBuf, #[source] rustls::Error),
    /// The certificates of the authorities cannot be used.
    #[error("the certificates in {0} cannot be used to verify clients: {1}")]
    ClientCa(PathBuf, #[source] VerifierBuilderError),
    /// Other machines could read the traffic.
    #[error(
        "{0} can be reached from other machines, and nothing would encrypt the connections: set --tls-cert and --tls-key, or \
         --tls external if a proxy or a service mesh encrypts them"
    )]
    Unencrypted(SocketAddr),
}

impl TlsArgs {
    /// Reads the files, and returns the configuration of the listener, or `None` if the service does not encrypt.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file if one cannot be used, and `Unencrypted` if `address` is not a loopback address and nothing
    /// encrypts.
    pub(crate) fn load(&self, address: SocketAddr) -> Result<Option<Arc<ReloadingTls>>, TlsError> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            let is_safe = address.ip().to_canonical().is_loopback() || self.tls == Encryption::External;
            return if is_safe { Ok(None) } else { Err(TlsError::Unencrypted(address)) };
        };
        let client_ca = self.tls_client_ca.clone().map(|file| (file, self.tls_client_auth));
        let files = TlsFiles { cert: cert.clone(), key: key.clone(), client_ca };
        let modified = files.modified();
        let config = RwLock::new(files.read()?);
        Ok(Some(Arc::new(ReloadingTls { files, config, modified: parking_lot::Mutex::new(modified) })))
    }
}

impl TlsArgs {
    /// Returns the end of the first certificate of the chain to end, after all files were checked as at the start of the service. It is
    /// `None` without TLS.
    ///
    /// # Errors
    ///
    /// Returns an error if a service with these settings would not start at this address.
    pub(crate) fn expire_time(&self, address: SocketAddr) -> Result<Option<DateTime<Utc>>, TlsError> {
        let (Some(_), Some(file)) = (self.load(address)?, &self.tls_cert) else { return Ok(None) };
        let ends = certificates(file)?.into_iter().map(|certificate| {
            let (_, certificate) =
                X509Certificate::from_der(&certificate).map_err(|_| TlsError::Malformed(file.clone(), "certificate"))?;
            let end = DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0);
            end.ok_or_else(|| TlsError::Malformed(file.clone(), "certificate"))
        });
        Ok(ends.collect::<Result<Vec<_>, _>>()?.into_iter().min())
    }
}

/// The files of TLS.
#[derive(Debug)]
struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<(PathBuf, ClientAuth)>,
}

impl TlsFiles {
    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("aws-lc-rs supports TLS 1.2 and 1.3");
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some((file, client_auth)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(file)? {
                    roots.add(certificate).map_err(|_| TlsError::Malformed(file.clone(), "certificate"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match client_auth {
                    ClientAuth::Optional => verifier.allow_unauthenticated(),
                    ClientAuth::Required => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::ClientCa(file.clone(), error))?)
            }
        };
        let pem = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Malformed(self.key.clone(), "private key"))?;
        let config = builder.with_single_cert(certificates(&self.cert)?, key);
        let mut config = config.map_err(|error| TlsError::Mismatch(self.cert.clone(), self.key.clone(), error))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }

    /// Returns the times of the last changes. A file that cannot be read has none.
    fn modified(&self) -> Vec<Option<SystemTime>> {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref().map(|(file, _)| file)];
        let modified = |file: &PathBuf| fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
        files.into_iter().flatten().map(modified).collect()
    }
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| TlsError::Unreadable(file.to_owned(), error))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = certificates.ok().filter(|certificates| !certificates.is_empty());
    found.ok_or_else(|| TlsError::Malformed(file.to_owned(), "certificate"))
}

/// The TLS of a listener. All files are replaced together, and only by files that can be used.
#[derive(Debug)]
pub(crate) struct ReloadingTls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
    modified: parking_lot::Mutex<Vec<Option<SystemTime>>>,
}

impl ReloadingTls {
    /// Returns an acceptor with the current files, for one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read()))
    }

    /// Reads the files again when they change, and on SIGHUP. It never returns.
    pub(crate) async fn keep_reloading(&self) {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = hung_up => self.reload(),
                () = tokio::time::sleep(CHECK_INTERVAL) => {
                    let modified = self.files.modified();
                    if *self.modified.lock() != modified {
                        *self.modified.lock() = modified;
                        self.reload();
                    }
                }
            }
        }
    }

    fn reload(&self) {
        match self.files.read() {
            Ok(config) => {
                *self.config.write() = config;
                tracing::info!("the TLS certificates were read again");
            }
            // Files that are replaced one after the other do not fit together for a moment.
            Err(error) => tracing::warn!(%error, "the TLS certificates are not replaced"),
        }
    }
}

/// Returns the subject alternative names of a certificate: DNS names, URIs, e-mail addresses and IP addresses.
pub(crate) fn certificate_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            v4.or(v6).ok().map(|address| format!("IP:{address}"))
        }
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}
