//! Serves the greeter on port 50053, with the keys of the auth service on port 50051.

use std::{error::Error, sync::Arc, time::Duration};

use shared::{
    Clock, server,
    token::{Verifier, auth_channel, follow_auth_service},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let auth = "http://127.0.0.1:50051";
    let verifier = Arc::new(Verifier::new(auth, greeter::NAME, Clock::system()));
    tokio::spawn(follow_auth_service(Arc::clone(&verifier), Duration::from_mins(1), auth_channel(auth)?));

    let listener = TcpListener::bind("127.0.0.1:50053").await?;
    let stop = server::stop_signal();
    greeter::server(Arc::clone(&verifier))?.serve(listener, || async { verifier.has_keys() }, stop).await?;
    Ok(())
}
