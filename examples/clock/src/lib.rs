//! A service that plain tonic generates. The program `layer` puts `access::AccessLayer` before it, which enforces the access rules that
//! the proto declares. The program `interceptor` puts `access::Interceptor` before it, which verifies tokens and enforces no rules.

use access::Caller;
use proto::{
    GetStatusRequest, GetStatusResponse, GetZoneRequest, GetZoneResponse, SetZoneRequest, SetZoneResponse, SynchronizeRequest,
    SynchronizeResponse, clock_service_server::ClockService,
};
use tonic::{Request, Response, Status};

/// The descriptors of the protos, which contain the access rules.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The messages and the server that tonic generates.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("clock.v1");
}

/// The name of this service in the audience of tokens.
pub const NAME: &str = "clock";

/// The handlers. They find the caller in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Clocks;

#[tonic::async_trait]
impl ClockService for Clocks {
    async fn get_zone(&self, request: Request<GetZoneRequest>) -> Result<Response<GetZoneResponse>, Status> {
        let caller = request.extensions().get::<Caller>().and_then(Caller::username).unwrap_or("a service");
        Ok(Response::new(GetZoneResponse { zone: format!("UTC for {caller}") }))
    }

    async fn set_zone(&self, _: Request<SetZoneRequest>) -> Result<Response<SetZoneResponse>, Status> {
        Ok(Response::new(SetZoneResponse {}))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse { synchronized: true }))
    }

    async fn synchronize(&self, _: Request<SynchronizeRequest>) -> Result<Response<SynchronizeResponse>, Status> {
        Ok(Response::new(SynchronizeResponse {}))
    }
}
