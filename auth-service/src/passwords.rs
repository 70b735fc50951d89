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

/// Which passwords are accepted, and what a hash of one costs.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The shortest password, in code points.
    pub shortest: usize,
    /// The memory that Argon2id fills, in KiB.
    pub memory: u32,
    /// How often it does so.
    pub passes: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { shortest: 15, memory: 19 * 1024, passes: 2 }
    }
}

/// Hashes passwords and checks them.
#[derive(Debug, Clone)]
pub struct Passwords(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    policy: Policy,
    cores: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// What an unknown user's password is checked against, so that it takes as long as a known user's.
    nobody: String,
}

/// What a password turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Not the one that was hashed.
    Wrong,
    /// The one that was hashed.
    Right,
    /// The same, and its hash was cheaper than those that are made today: the new one, to be stored in its place.
    Rehashed(String),
}

impl Passwords {
    /// Accepts passwords as `policy` has it.
    ///
    /// # Panics
    ///
    /// Where the machine has no randomness, or the policy none that Argon2 knows: it fills 8 KiB at least, and once at least.
    pub fn new(policy: Policy) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Pool {
            policy,
            cores: Arc::new(Semaphore::new(cores)),
            waiting: AtomicUsize::new(0),
            nobody: policy.hash("nobody has this password").expect("a machine with randomness"),
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

    /// A place among those who wait for a core.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED where too many wait.
    pub fn turn(&self) -> Result<Turn> {
        let joined = self.0.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < QUEUE || self.0.cores.available_permits() > 0).then_some(waiting + 1)
        });
        match joined {
            Ok(_) => Ok(Turn(Arc::clone(&self.0))),
            Err(_) => Err(Error::Overloaded { retry_after: RETRY_AFTER }),
        }
    }

    /// Hashes the new password that the request has in `field`. It must not follow from `names`: the user's own.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for a password that is too short or too easily guessed, RESOURCE_EXHAUSTED where too many wait.
    pub async fn hash_new(&self, field: &'static str, password: &str, names: Vec<String>) -> Result<String> {
        let policy = self.0.policy;
        let shortest = policy.shortest;
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
        let turn = self.turn()?;
        turn.run(move |_| {
            if is_easily_guessed(&password, &names) {
                return Err(Error::invalid(
                    field,
                    "password.not_common",
                    "is too easily guessed: a longer one of several words is better",
                ));
            }
            policy.hash(&password)
        })
        .await?
    }
}

/// A place among those who wait for a core, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Turn(Arc<Pool>);

impl Turn {
    /// Checks whether the password is the one that was hashed. Without a hash it takes as long, and it is not.
    ///
    /// # Errors
    ///
    /// INTERNAL where the machine can't.
    pub async fn verify(self, password: &str, hash: Option<&str>) -> Result<Checked> {
        let password = OpaqueString::enforce(password).unwrap_or(Cow::Borrowed(password)).into_owned();
        let hash = hash.filter(|hash| PasswordHash::new(hash).is_ok()).map(str::to_owned);
        self.run(move |pool| {
            let known = PasswordHash::new(hash.as_deref().unwrap_or(&pool.nobody)).map_err(invalid)?;
            let cost = Cost::of(&known);
            let is_right = Argon2::default().verify_password(password.as_bytes(), &known).is_ok() && hash.is_some();
            let is_cheap = cost.memory < pool.policy.memory || cost.passes < pool.policy.passes;
            match (is_right, is_cheap) {
                (true, true) => pool.policy.hash(&password).map(Checked::Rehashed),
                (true, false) => Ok(Checked::Right),
                (false, _) => {
                    pool.policy.spend_what_is_left(cost, &password)?;
                    Ok(Checked::Wrong)
                }
            }
        })
        .await?
    }

    async fn run<T: Send + 'static>(self, work: impl FnOnce(&Pool) -> T + Send + 'static) -> Result<T> {
        let pool = Arc::clone(&self.0);
        let core = Arc::clone(&pool.cores).acquire_owned().await.map_err(Error::internal)?;
        drop(self);
        // The core is given back when the work is done, whether or not anybody still waits for it.
        task::spawn_blocking(move || {
            let _core = core;
            work(&pool)
        })
        .await
        .map_err(Error::internal)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Policy {
    /// Argon2id, one lane.
    fn argon2(self) -> Argon2<'static> {
        let params = Params::new(self.memory, self.passes, 1, None).expect("parameters within Argon2's limits");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }

    fn hash(self, password: &str) -> Result<String> {
        Ok(self.argon2().hash_password(password.as_bytes()).map_err(invalid)?.to_string())
    }

    /// A wrong password takes as long for a hash of earlier days as for one of today.
    fn spend_what_is_left(self, spent: Cost, password: &str) -> Result<()> {
        let work = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
        let left = work(self.memory, self.passes).saturating_sub(work(spent.memory, spent.passes));
        match u32::try_from(left).unwrap_or(u32::MAX) {
            // Argon2 fills no less.
            ..8 => Ok(()),
            memory => Self { memory: (memory / self.passes).max(8), ..self }.hash(password).map(drop),
        }
    }
}

/// What a hash has cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    memory: u32,
    passes: u32,
}

impl Cost {
    fn of(hash: &PasswordHash) -> Self {
        let parameter = |name| hash.params.get_decimal(name).unwrap_or_default();
        Self { memory: parameter("m"), passes: parameter("t") }
    }
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
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
        let passwords = Passwords::new(Policy::default());
        assert_eq!(refusal(&passwords, "short", "").await, "password.min_len");
        assert_eq!(refusal(&passwords, &"é".repeat(14), "").await, "password.min_len");
        assert_eq!(refusal(&passwords, &"x1".repeat(600), "").await, "password.max_len");
        assert_eq!(refusal(&passwords, "passwordpassword", "").await, "password.not_common");
        assert_eq!(refusal(&passwords, "bartholomew.simpson", "bartholomew.simpson").await, "password.not_common");
        assert_eq!(refusal(&passwords, "with a\ttab inside it", "").await, "password.rfc8265");
    }

    #[tokio::test]
    async fn only_the_password_that_was_hashed_is_right_in_any_normal_form() {
        let passwords = Passwords::new(Policy::default());
        let hash = passwords.hash_new("password", "seven blue caf\u{e9}s of tin", Vec::new()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let check = async |password, hash| passwords.turn().expect("a turn").verify(password, hash).await.expect("an answer");
        assert_eq!(check("seven blue cafe\u{301}s of tin", Some(&*hash)).await, Checked::Right);
        assert_eq!(check("seven blue cafes of tin", Some(&*hash)).await, Checked::Wrong);
        for unusable in [None, Some("!"), Some("")] {
            assert_eq!(check("nobody has this password", unusable).await, Checked::Wrong);
        }
    }

    #[tokio::test]
    async fn a_hash_that_costs_less_than_those_of_today_is_made_anew() {
        let password = "seven blue cafes of tin";
        let today = Policy { memory: 64, passes: 3, ..Policy::default() };
        let passwords = Passwords::new(today);
        for (memory, passes, is_cheap) in [(64, 3, false), (128, 4, false), (32, 3, true), (64, 2, true), (512, 1, true)] {
            let hash = Policy { memory, passes, ..today }.hash(password).expect("a hash");
            let check =
                async |password| passwords.turn().expect("a turn").verify(password, Some(&*hash)).await.expect("an answer");
            match check(password).await {
                Checked::Rehashed(new) => assert!(is_cheap && new.starts_with("$argon2id$v=19$m=64,t=3,p=1$"), "{new}"),
                other => assert_eq!((other, is_cheap), (Checked::Right, false), "{hash}"),
            }
            assert_eq!(check("another password").await, Checked::Wrong);
        }
    }

    #[tokio::test]
    async fn whoever_finds_the_queue_full_is_told_when_to_come_back() {
        let passwords = Passwords::new(Policy::default());
        let cores = passwords.0.cores.available_permits();
        let taken = passwords.0.cores.acquire_many(u32::try_from(cores).expect("few cores")).await.expect("the cores");
        let queue: Vec<_> = (0..QUEUE).map(|_| passwords.turn().expect("a place")).collect();
        let refused = passwords.turn();
        assert!(matches!(refused, Err(Error::Overloaded { .. })), "{refused:?}");
        drop((taken, queue));
        assert_eq!(passwords.turn().expect("a turn").verify("anything", None).await.expect("an answer"), Checked::Wrong);
    }
}
