//! The profile service's command line.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match profile_service::cli::run(shared::config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profile-service: {}", shared::error::sentence(&error));
            ExitCode::FAILURE
        }
    }
}
