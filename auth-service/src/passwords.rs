//! Passwords: which are accepted, and the bounded pool that hashes them.
//!
//! A hash takes tens of milliseconds of one core and 19 MiB on purpose. At most one is computed per core at once, and a
//! bounded number wait, so that a flood of logins costs the other calls neither the processor nor the memory.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use precis_profiles::{OpaqueString, precis_core::profile::PrecisFastInvocation};
use shared::{Error, Result};
use tokio::{sync::Semaphore, task};

/// The longest password, in code points.
const LONGEST: usize = 1024;
/// How many hashes may wait for a core.
const QUEUE: usize = 64;
/// When whoever found the queue full should come back.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The strength that zxcvbn has to see, of 4, and in how much of a password it looks for it: its time grows with the cube.
const STRENGTH: zxcvbn::Score = zxcvbn::Score::Three;
const LOOKED_AT: usize = 64;

/// Hashes passwords and checks them.
#[derive(Debug, Clone)]
pub struct Passwords(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    shortest: usize,
    cores: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// What an unknown user's password is checked against, so that it takes as long as a known user's.
    nobody: String,
}

impl Passwords {
    /// Accepts passwords of `shortest` code points or more.
    ///
    /// # Panics
    ///
    /// Where the machine has no randomness.
    pub fn new(shortest: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Pool {
            shortest,
            cores: Arc::new(Semaphore::new(cores)),
            waiting: AtomicUsize::new(0),
            nobody: hash("nobody has this password").expect("a machine with randomness"),
        }))
    }

    /// A password that nobody guesses: 24 characters, of 18 random bytes.
    ///
    /// # Panics
    ///
    /// Where the machine has no randomness.
    pub fn generate() -> String {
        let mut bytes = [0; 18];
        rand::fill(&mut bytes).expect("a machine with randomness");
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Hashes the new password that the request has in `field`. It must not follow from `names`: the user's own.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for a password that is too short or too easily guessed, RESOURCE_EXHAUSTED where too many wait.
    pub async fn hash_new(&self, field: &'static str, password: &str, names: Vec<String>) -> Result<String> {
        let shortest = self.0.shortest;
        let password = OpaqueString::enforce(password)
            .map_err(|_| Error::invalid(field, "password.rfc8265", "must not hold control characters (RFC 8265)"))?
            .into_owned();
        let length = password.chars().count();
        if length < shortest {
            return Err(Error::invalid(field, "password.min_len", format!("must have at least {shortest} characters")));
        }
        if length > LONGEST {
            return Err(Error::invalid(field, "password.max_len", format!("must have at most {LONGEST} characters")));
        }
        self.run(move || {
            if is_easily_guessed(&password, &names) {
                return Err(Error::invalid(
                    field,
                    "password.not_common",
                    "is too easily guessed: a longer one of several words is better",
                ));
            }
            hash(&password)
        })
        .await?
    }

    /// True where the password is the one that was hashed. Without a hash it takes as long, and is false.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED where too many wait.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool> {
        let password = OpaqueString::enforce(password).unwrap_or(Cow::Borrowed(password)).into_owned();
        let known = hash.filter(|hash| PasswordHash::new(hash).is_ok());
        let (hash, is_known) = (known.unwrap_or(&self.0.nobody).to_owned(), known.is_some());
        self.run(move || {
            let hash = PasswordHash::new(&hash).map_err(|error| Error::internal(error.to_string()))?;
            Ok(argon2().verify_password(password.as_bytes(), &hash).is_ok() && is_known)
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let waiting = Waiting::join(&self.0).ok_or(Error::Overloaded { retry_after: RETRY_AFTER })?;
        let core = Arc::clone(&self.0.cores).acquire_owned().await.map_err(Error::internal)?;
        drop(waiting);
        // The core is given back when the work is done, whether or not anybody still waits for it.
        task::spawn_blocking(move || {
            let _core = core;
            work()
        })
        .await
        .map_err(Error::internal)
    }
}

/// A place among those who wait for a core.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn join(pool: &'a Pool) -> Option<Self> {
        let joined = pool.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < QUEUE || pool.cores.available_permits() > 0).then_some(waiting + 1)
        });
        joined.is_ok().then(|| Self(pool))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Argon2id, 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("parameters within Argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> Result<String> {
    let hash = argon2().hash_password(password.as_bytes()).map_err(|error| Error::internal(error.to_string()))?;
    Ok(hash.to_string())
}

fn is_easily_guessed(password: &str, names: &[String]) -> bool {
    let begin: String = password.chars().take(LOOKED_AT).collect();
    let names: Vec<_> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    zxcvbn::zxcvbn(&begin, &names).score() < STRENGTH
}

#[cfg(test)]
mod tests {
    use shared::error::Reason;

    use super::*;

    async fn refusal(passwords: &Passwords, password: &str, name: &str) -> String {
        match passwords.hash_new("password", password, vec![name.to_owned()]).await {
            Err(Error::Invalid(Reason::FieldInvalid, violations)) => violations[0].rule.to_owned(),
            other => panic!("{password:?}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_password_is_long_and_not_easily_guessed() {
        let passwords = Passwords::new(15);
        assert_eq!(refusal(&passwords, "short", "").await, "password.min_len");
        assert_eq!(refusal(&passwords, &"é".repeat(14), "").await, "password.min_len");
        assert_eq!(refusal(&passwords, &"x1".repeat(600), "").await, "password.max_len");
        assert_eq!(refusal(&passwords, "passwordpassword", "").await, "password.not_common");
        assert_eq!(refusal(&passwords, "bartholomew.simpson", "bartholomew.simpson").await, "password.not_common");
        assert_eq!(refusal(&passwords, "with a\ttab inside it", "").await, "password.rfc8265");
    }

    #[tokio::test]
    async fn only_the_password_that_was_hashed_is_right_in_any_normal_form() {
        let passwords = Passwords::new(15);
        let hash = passwords.hash_new("password", "seven blue caf\u{e9}s of tin", Vec::new()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("seven blue cafe\u{301}s of tin", Some(&hash)).await.expect("an answer"));
        assert!(!passwords.verify("seven blue cafes of tin", Some(&hash)).await.expect("an answer"));
        for unusable in [None, Some("!"), Some("")] {
            assert!(!passwords.verify("nobody has this password", unusable).await.expect("an answer"));
        }
    }

    #[tokio::test]
    async fn whoever_finds_the_queue_full_is_told_when_to_come_back() {
        let passwords = Passwords::new(15);
        let pool = &passwords.0;
        let cores = pool.cores.available_permits();
        let taken = pool.cores.acquire_many(u32::try_from(cores).expect("few cores")).await.expect("the cores");
        let queue: Vec<_> = (0..QUEUE).map(|_| Waiting::join(pool).expect("a place")).collect();
        let refused = passwords.verify("anything", None).await;
        assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
        drop((taken, queue));
        assert!(!passwords.verify("anything", None).await.expect("an answer"));
    }
}
