//! The auth service's command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match auth_service::cli::run(shared::config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("auth-service: {}", shared::error::sentence(&error));
            ExitCode::FAILURE
        }
    }
}
