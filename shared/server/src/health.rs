//! The client side of a container's health check.

use std::{net::SocketAddr, time::Duration};

use tonic::{Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// The time limit for the connection and for the response.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The reason why a service is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The connection failed.
    #[error("cannot reach {0}: {1}")]
    Unreachable(SocketAddr, tonic::transport::Error),
    /// The health check returned an error.
    #[error("the health check failed: {:?}", .0.code())]
    Failed(Status),
    /// The service answers, but it is not ready.
    #[error("the service is not ready")]
    NotReady,
}

/// Checks the health of the service that listens at `address` (`grpc.health.v1`).
///
/// # Errors
///
/// Returns an error unless the service answers SERVING.
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
