//! The auth service's command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match auth_service::cli::run(server::config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("auth-service: {}", access::error::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}
