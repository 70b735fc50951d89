//! The processor time of one signature and of one password hash, without a service.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::RSA_PKCS1_SHA256,
};

use crate::{connection::Failure, fixture::PASSWORD, process::thread_cpu};

/// Returns the processor time of one RSA-2048 signature over a text as long as an access token, in microseconds. It uses two threads, as
/// the service does under load.
pub(crate) async fn signature(duration: Duration) -> Result<f64, Failure> {
    let pair = std::sync::Arc::new(KeyPair::generate(KeySize::Rsa2048)?);
    on_two_threads(duration, move || {
        let mut signature = [0; 256];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &[b'x'; 700], &mut signature).is_ok()
    })
    .await
}

/// Returns the processor time of one Argon2id hash with the default settings of the service, in microseconds.
pub(crate) async fn password_hash(duration: Duration) -> Result<f64, Failure> {
    let params = Params::new(19_456, 2, 1, None).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    on_two_threads(duration, move || {
        argon2.hash_password_into(PASSWORD.as_bytes(), b"a salt of a benchmark", &mut [0; 32]).is_ok()
    })
    .await
}

/// Repeats `work` on two threads, and returns its mean processor time in microseconds.
async fn on_two_threads(duration: Duration, work: impl Fn() -> bool + Clone + Send + 'static) -> Result<f64, Failure> {
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let work = work.clone();
            tokio::task::spawn_blocking(move || {
                let (began, mut times) = (thread_cpu(), 0_u32);
                loop {
                    if !work() {
                        return Err("the work failed");
                    }
                    times += 1;
                    let elapsed = thread_cpu().saturating_sub(began);
                    if elapsed >= duration {
                        return Ok(elapsed.as_secs_f64() * 1e6 / f64::from(times));
                    }
                }
            })
        })
        .collect();
    let mut sum = 0.0;
    for thread in threads {
        sum += thread.await??;
    }
    Ok(sum / 2.0)
}
