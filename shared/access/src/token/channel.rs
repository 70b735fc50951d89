//! The channel to the auth service.

#[cfg(feature = "tls")]
use std::{fs, time::SystemTime};
use std::{path::PathBuf, time::Duration};

#[cfg(feature = "tls")]
use tonic::transport::{Certificate, ClientTlsConfig, Identity, channel::Change};
use tonic::transport::{Channel, Endpoint};

#[cfg(feature = "tls")]
use crate::error::error_chain;

/// The time limit for a connection to the auth service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit for a call to the auth service.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of HTTP/2 keepalive pings.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The time within which the auth service must answer a keepalive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval at which the files of certificates are checked for changes.
#[cfg(feature = "tls")]
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The error for a URL or a certificate with which the auth service cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum AuthUrlError {
    /// The URL is not valid.
    #[error("the URL of the auth service must be like http://127.0.0.1:50051 or https://auth.example.com")]
    Malformed,
    /// The Cargo feature `tls` is off.
    #[error("an https URL of the auth service needs the Cargo feature `tls` of the crate `access`")]
    WithoutTls,
    /// A certificate or a key cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A certificate or a key is not valid.
    #[error("the certificates for the connection to the auth service cannot be used: {0}")]
    Certificate(#[source] tonic::transport::Error),
}

/// The certificates with which a channel uses TLS.
#[cfg(feature = "tls")]
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// The certificates, in PEM format, of the authorities that are trusted. `None` trusts those of the system.
    pub ca: Option<Vec<u8>>,
    /// The certificate of this client and its private key, in PEM format.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Returns a channel to the auth service. It connects when it is first used, and again after it has lost the connection. With the Cargo
/// feature `tls`, an https URL is accepted, and the authorities of the system are trusted.
///
/// A connection attempt fails after 5 seconds, and a call whose response has not begun fails after 10 seconds. A connection whose
/// other end does not answer a keepalive ping, sent every 30 seconds, is closed after 10 seconds.
///
/// # Errors
///
/// Returns an error if the URL is not valid, or if it is an https URL and the Cargo feature `tls` is off.
///
/// # Panics
///
/// Panics if it is called outside a tokio runtime.
pub fn auth_channel(url: &str) -> Result<Channel, AuthUrlError> {
    let endpoint = endpoint(url)?;
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint.connect_lazy()),
        #[cfg(feature = "tls")]
        Some("https") => auth_channel_with_tls(url, &ClientTls::default()),
        #[cfg(not(feature = "tls"))]
        Some("https") => Err(AuthUrlError::WithoutTls),
        _ => Err(AuthUrlError::Malformed),
    }
}

/// Returns a channel to the auth service at an https URL. Its time limits are those of [`auth_channel`].
///
/// # Errors
///
/// Returns an error if the URL is not an https URL, or if a certificate cannot be used.
///
/// # Panics
///
/// Panics if it is called outside a tokio runtime.
#[cfg(feature = "tls")]
pub fn auth_channel_with_tls(url: &str, tls: &ClientTls) -> Result<Channel, AuthUrlError> {
    Ok(tls_endpoint(url, tls)?.connect_lazy())
}

#[cfg(feature = "tls")]
fn tls_endpoint(url: &str, tls: &ClientTls) -> Result<Endpoint, AuthUrlError> {
    let endpoint = endpoint(url)?;
    if endpoint.uri().scheme_str() != Some("https") {
        return Err(AuthUrlError::Malformed);
    }
    let mut config = match &tls.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    endpoint.tls_config(config).map_err(AuthUrlError::Certificate)
}

/// The files with the certificates with which a channel uses TLS. All are in PEM format.
#[cfg(feature = "tls")]
#[derive(Debug, Clone, Default)]
pub struct ClientTlsFiles {
    /// The certificates of the authorities that are trusted. `None` trusts those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate of this client, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

#[cfg(feature = "tls")]
impl ClientTlsFiles {
    fn read(&self) -> Result<ClientTls, AuthUrlError> {
        let read = |file: &PathBuf| fs::read(file).map_err(|source| AuthUrlError::Unreadable { file: file.clone(), source });
        let identity = match &self.identity {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        Ok(ClientTls { ca: self.ca.as_ref().map(read).transpose()?, identity })
    }

    /// Returns the times of the last changes. A file that cannot be read has none.
    fn modified(&self) -> Vec<Option<SystemTime>> {
        let files = self.ca.iter().chain(self.identity.iter().flat_map(|(certificate, key)| [certificate, key]));
        files.map(|file| fs::metadata(file).and_then(|metadata| metadata.modified()).ok()).collect()
    }
}

/// Returns a channel to the auth service at an https URL. The files are checked for changes every second. After a change, later
/// calls use a connection with the new certificates; calls in flight complete on the old one. Files that cannot be used are
/// reported in the log, and change nothing.
///
/// # Errors
///
/// Returns an error if the URL is not an https URL, or if a file cannot be used.
///
/// # Panics
///
/// Panics if it is called outside a tokio runtime.
#[cfg(feature = "tls")]
pub fn auth_channel_with_tls_files(url: &str, files: ClientTlsFiles) -> Result<Channel, AuthUrlError> {
    let mut modified = files.modified();
    let first = tls_endpoint(url, &files.read()?)?;
    let (channel, changes) = Channel::balance_channel(1);
    // The capacity of the new queue is 1, so that this cannot fail.
    let _ = changes.try_send(Change::Insert((), first));
    let url = url.to_owned();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = changes.closed() => return,
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
            let now = files.modified();
            if now == modified {
                continue;
            }
            modified = now;
            match files.read().and_then(|tls| tls_endpoint(&url, &tls)) {
                Ok(endpoint) => {
                    tracing::info!("the certificates for the auth service were read again");
                    let _ = changes.send(Change::Insert((), endpoint)).await;
                }
                // Files that are replaced one after the other do not fit together for a moment.
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), "the certificates for the auth service are not replaced");
                }
            }
        }
    });
    Ok(channel)
}

fn endpoint(url: &str) -> Result<Endpoint, AuthUrlError> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| AuthUrlError::Malformed)?;
    if endpoint.uri().host().is_none() {
        return Err(AuthUrlError::Malformed);
    }
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT);
    // Without keep-alive, a connection that a network partition has cut would seem open for ever.
    let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE_INTERVAL).keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    Ok(endpoint.keep_alive_while_idle(true))
}
