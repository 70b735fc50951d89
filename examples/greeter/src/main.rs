//! Serves the greeter with tonic's own server: `greeter [ADDRESS [ISSUER [AUTH_URL]]]`.

use std::{env, error::Error, sync::Arc, time::Duration};

use access::{
    Clock,
    token::{Verifier, auth_channel, follow_auth_service},
};
use tonic::transport::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let argument = |index: usize, default: &str| arguments.get(index).cloned().unwrap_or_else(|| default.to_owned());
    let address = argument(0, "127.0.0.1:50053").parse().map_err(|_| "ADDRESS must be like 127.0.0.1:50053")?;
    let issuer = argument(1, "http://127.0.0.1:50051");
    let auth_url = argument(2, &issuer);

    let verifier = Arc::new(Verifier::new(issuer, greeter::NAME, Clock::system()));
    tokio::spawn(follow_auth_service(Arc::clone(&verifier), Duration::from_mins(1), auth_channel(&auth_url)?));
    Server::builder().serve(address, greeter::routes(verifier).into_service()).await?;
    Ok(())
}
