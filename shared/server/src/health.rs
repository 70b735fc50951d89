//! The client side of a container's health check.

use std::{fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tonic::{
    Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// The time limit for the connection and for the response.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The reason why a service is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The connection failed.
    #[error("cannot reach {0}: {1}")]
    Unreachable(SocketAddr, tonic::transport::Error),
    /// The file of the authorities cannot be read.
    #[error("cannot read {path}: {1}", path = .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The health check returned an error.
    #[error("the health check failed: {:?}", .0.code())]
    Failed(Status),
    /// The service answers, but it is not ready.
    #[error("the service is not ready")]
    NotReady,
}

/// The TLS of a health check.
#[derive(Debug, Clone, Default, Args)]
pub struct HealthTls {
    /// A PEM file with the certificates of the authorities that issued the service's certificate. It makes the check use TLS.
    #[arg(long, env = "HEALTH_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The name that the service's certificate must have.
    #[arg(long, env = "HEALTH_NAME", value_name = "NAME", default_value = "localhost")]
    pub name: String,
}

/// Checks the health of the service that listens at `address` (`grpc.health.v1`). It waits at most 3 seconds for the connection,
/// and 3 seconds for the response.
///
/// # Errors
///
/// Returns an error unless the service answers SERVING.
pub async fn check(address: SocketAddr, tls: &HealthTls) -> Result<(), HealthError> {
    match status(address, tls, "").await? {
        ServingStatus::Serving => Ok(()),
        _ => Err(HealthError::NotReady),
    }
}

/// Returns the status of a health name of the service that listens at `address`. The empty name is the overall health.
pub(crate) async fn status(address: SocketAddr, tls: &HealthTls, name: &str) -> Result<ServingStatus, HealthError> {
    let unreachable = |error| HealthError::Unreachable(address, error);
    let scheme = if tls.ca.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).map_err(unreachable)?;
    if let Some(file) = &tls.ca {
        let ca = fs::read(file).map_err(|error| HealthError::Unreadable(file.clone(), error))?;
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name(&tls.name);
        endpoint = endpoint.tls_config(config).map_err(unreachable)?;
    }
    let channel = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect().await.map_err(unreachable)?;
    let request = HealthCheckRequest { service: name.to_owned() };
    let answer = HealthClient::new(channel).check(request).await.map_err(HealthError::Failed)?;
    Ok(answer.into_inner().status())
}
