//! The settings of `profile-service serve`. Each field is a flag, an environment variable and a key of the configuration file.

use std::{path::PathBuf, time::Duration};

use access::{
    read_secret_file,
    token::{AuthUrlError, ClientTlsFiles, auth_channel, auth_channel_with_tls_files},
};
use audit::AuditKey;
use chrono::TimeDelta;
use clap::Args;
use django::tokens::TokenArgs;
use server::{ServerSettings, config};
use tonic::transport::Channel;

use crate::{NAME, ServeError, quotas::Quotas};

/// The issuer of a service that only this machine reaches.
pub(crate) const DEFAULT_ISSUER: &str = "http://127.0.0.1:50051";

/// The smallest length of the key of the audit log, in bytes.
const MIN_AUDIT_KEY: usize = 32;

/// The settings of the service.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The server.
    #[command(flatten)]
    pub server: ServerSettings,
    /// The URL at which this service reaches the auth service, for its keys and events.
    #[arg(long, env = "AUTH_URL", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    pub auth_url: String,
    /// A PEM file with the certificates of the authorities that issued the certificate of the auth service. By default those of the
    /// system are trusted.
    #[arg(long, env = "AUTH_CA", value_name = "FILE")]
    pub auth_ca: Option<PathBuf>,
    /// A PEM file with the certificate that this service presents to the auth service.
    #[arg(long, env = "AUTH_CLIENT_CERT", value_name = "FILE", requires = "auth_client_key")]
    pub auth_client_cert: Option<PathBuf>,
    /// A PEM file with the private key of that certificate.
    #[arg(long, env = "AUTH_CLIENT_KEY", value_name = "FILE", requires = "auth_client_cert")]
    pub auth_client_key: Option<PathBuf>,
    /// The issuer of the access tokens that are accepted: their `iss` claim. The API page signs in at this URL.
    #[arg(long, env = "ISSUER", value_name = "URL", default_value = DEFAULT_ISSUER, value_parser = config::http_url)]
    pub issuer: String,
    /// The name of this service in the `aud` claim of access tokens.
    #[arg(long, env = "AUDIENCE", value_name = "NAME", default_value = NAME)]
    pub audience: String,
    /// The interval at which the keys of the auth service are fetched, in seconds.
    #[arg(long, env = "KEY_INTERVAL", value_name = "SECONDS", default_value = "60", value_parser = config::duration_seconds(1..=3600))]
    pub key_interval: Duration,
    /// The tokens of Django projects.
    #[command(flatten)]
    pub django_tokens: TokenArgs,
    /// The amount of data that a user may store.
    #[command(flatten)]
    pub quotas: Quotas,
    /// The client (service account) with which this service follows the events of the auth service. `auth-service clients create`
    /// creates it. Without a client, revoked access tokens count until they expire, and deleted users keep their profiles.
    #[arg(long, env = "CLIENT_ID", value_name = "NAME", requires = "client_secret_file")]
    pub client_id: Option<String>,
    /// A file with the secret of that client.
    #[arg(long, env = "CLIENT_SECRET_FILE", value_name = "FILE", requires = "client_id")]
    pub client_secret_file: Option<PathBuf>,
    /// The maximum age of the list of revocations, in seconds. While the list is older, methods that require fresh revocations
    /// return UNAVAILABLE.
    #[arg(long, env = "REVOCATION_STALENESS", value_name = "SECONDS", default_value = "15", value_parser = config::duration_seconds(2..=3600))]
    pub revocation_staleness: Duration,
    /// The key of the audit log.
    #[command(flatten)]
    pub audit_key: AuditKeyArgs,
    /// How long entries of the audit log are kept, in days. 0 means for ever.
    #[arg(long, env = "AUDIT_RETENTION_DAYS", value_name = "N", default_value = "0", value_parser = config::count(0..=36_500))]
    pub audit_retention_days: usize,
}

/// The flag that names the key of the audit log.
#[derive(Debug, Clone, Args)]
pub struct AuditKeyArgs {
    /// A file with the key that seals the audit log: at least 32 characters, for example the output of `openssl rand -base64 32`. Without
    /// it, entries are written but not sealed, and `audit verify` cannot find changes.
    #[arg(long, env = "AUDIT_KEY_FILE", value_name = "FILE")]
    pub audit_key_file: Option<PathBuf>,
}

impl AuditKeyArgs {
    /// Reads the key.
    pub(crate) fn read(&self) -> Result<Option<AuditKey>, ServeError> {
        let Some(path) = &self.audit_key_file else { return Ok(None) };
        let secret = read_secret_file(path)?;
        if secret.len() < MIN_AUDIT_KEY {
            Err(ServeError::AuditKeyTooShort)
        } else {
            Ok(Some(AuditKey::derive(secret.as_bytes())))
        }
    }
}

impl Settings {
    /// Returns how long entries of the audit log are kept, unless for ever.
    pub(crate) fn audit_retention(&self) -> Option<TimeDelta> {
        i64::try_from(self.audit_retention_days).ok().filter(|days| *days > 0).map(TimeDelta::days)
    }

    /// Returns a channel to the auth service. It follows changes of the certificates.
    pub(crate) fn auth_channel(&self) -> Result<Channel, AuthUrlError> {
        if self.auth_ca.is_none() && self.auth_client_cert.is_none() {
            return auth_channel(&self.auth_url);
        }
        let identity = self.auth_client_cert.clone().zip(self.auth_client_key.clone());
        auth_channel_with_tls_files(&self.auth_url, ClientTlsFiles { ca: self.auth_ca.clone(), identity })
    }
}

impl Default for Settings {
    fn default() -> Self {
        config::defaults()
    }
}
