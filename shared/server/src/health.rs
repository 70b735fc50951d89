//! Asks a service whether it is ready, as a container's health check does.

use std::{net::SocketAddr, time::Duration};

use tonic::{Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why a service does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Nobody answers.
    #[error("{0} can't be reached: {1}")]
    Unreachable(SocketAddr, tonic::transport::Error),
    /// The answer is an error.
    #[error("the health check failed: {:?}", .0.code())]
    Failed(Status),
    /// It serves, but it is not ready.
    #[error("the service is not ready")]
    NotReady,
}

/// Asks the service that listens at `address` (`grpc.health.v1`).
///
/// # Errors
///
/// Everything but SERVING.
pub async fn check(address: SocketAddr) -> Result<(), HealthError> {
    let unreachable = |error| HealthError::Unreachable(address, error);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
    let channel = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect().await.map_err(unreachable)?;
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.map_err(HealthError::Failed)?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        _ => Err(HealthError::NotReady),
    }
}
