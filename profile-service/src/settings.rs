//! The settings of `profile-service serve`. Each field is a flag, an environment variable and a key of the configuration file.

use std::{path::PathBuf, time::Duration};

use access::token::{AuthUrlError, ClientTlsFiles, auth_channel, auth_channel_with_tls_files};
use clap::Args;
use django::tokens::TokenArgs;
use server::{ServerSettings, config};
use tonic::transport::Channel;

use crate::{NAME, quotas::Quotas};

/// The issuer of a service that only this machine reaches.
pub(crate) const DEFAULT_ISSUER: &str = "http://127.0.0.1:50051";

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
}

impl Settings {
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
