//! The auth service's command line.

use std::process::ExitCode;

/// The allocator. It returns the memory of a burst of calls to the system, which the one of glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match auth_service::cli::run(server::config::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("auth-service: {}", access::error::error_chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
