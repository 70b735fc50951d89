//! The profile service's command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match profile_service::cli::run(server::config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profile-service: {}", access::error::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}
