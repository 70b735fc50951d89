//! Serves the clock on 127.0.0.1:50055, with the keys of the auth service at 127.0.0.1:50051.

use std::{error::Error, sync::Arc, time::Duration};

use access::{
    Clock, Interceptor,
    token::{Verifier, auth_channel, follow_auth_service},
};
use clock::{Clocks, NAME, proto::clock_service_server::ClockServiceServer};
use tonic::transport::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let auth_url = "http://127.0.0.1:50051";
    let verifier = Arc::new(Verifier::new(auth_url, NAME, Clock::system()));
    tokio::spawn(follow_auth_service(Arc::clone(&verifier), Duration::from_mins(1), auth_channel(auth_url)?));
    let service = ClockServiceServer::with_interceptor(Clocks, Interceptor::new(verifier));
    Server::builder().add_service(service).serve("127.0.0.1:50055".parse()?).await?;
    Ok(())
}
