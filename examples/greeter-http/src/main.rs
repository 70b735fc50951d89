//! Serves the greeter over gRPC and HTTP: `greeter-http [ADDRESS [ISSUER [AUTH_URL]]]`.

use std::{env, error::Error, sync::Arc, time::Duration};

use access::{
    Clock,
    token::{Verifier, auth_channel, follow_auth_service},
};
use server::Health;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let argument = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_owned());
    let (address, issuer) = (argument(0, "127.0.0.1:50053"), argument(1, "http://127.0.0.1:50051"));
    let auth_url = argument(2, &issuer);

    let verifier = Arc::new(Verifier::new(issuer, greeter::NAME, Clock::system()));
    tokio::spawn(follow_auth_service(Arc::clone(&verifier), Duration::from_mins(1), auth_channel(&auth_url)?));
    let listener = TcpListener::bind(address).await?;
    let server = greeter_http::server(Arc::clone(&verifier), &auth_url)?;
    let check_health = || async { Health::new().require(verifier.has_keys(), "the keys of the auth service were never fetched") };
    server.serve(listener, check_health, server::stop_signal()).await?;
    Ok(())
}
