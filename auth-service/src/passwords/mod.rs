//! Checks the strength of passwords, and hashes them in a bounded thread pool.
//!
//! Argon2id takes tens of milliseconds and 19 MiB per hash on purpose. The number of concurrent hashes and the length of the queue
//! are bounded, so that a flood of logins does not exhaust the processor and the memory that other calls need.

pub mod django;
mod pool;
mod queue;

use std::{borrow::Cow, sync::Arc};

use access::{ClientInfo, Error, Result};
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use aws_lc_rs::{constant_time, rand};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use django::DjangoHash;
use pool::{Pool, QueueSlot};
use precis_profiles::{OpaqueString, precis_core::profile::PrecisFastInvocation};
use server::config;

pub use queue::HashPurpose;
pub(crate) use queue::LaneUse;

/// The maximum length of a password, in code points.
const MAX_LENGTH: usize = 1024;
/// The lowest accepted zxcvbn score, of 4.
const MIN_SCORE: zxcvbn::Score = zxcvbn::Score::Three;
/// The number of leading characters that zxcvbn rates. Its running time grows with the cube of the length.
const SCORED_LENGTH: usize = 64;

/// The passwords that are accepted, and the cost of a password hash.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Policy {
    /// The minimum length of a password, in characters.
    #[arg(long = "shortest-password", env = "SHORTEST_PASSWORD", value_name = "N", default_value = "15", value_parser = config::count(8..=128))]
    pub shortest: usize,
    /// The memory of a password hash (Argon2id), in KiB. Login replaces a hash that was made with less.
    #[arg(long = "password-memory", env = "PASSWORD_MEMORY", value_name = "KIB", default_value = "19456", value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub memory: u32,
    /// The number of passes over that memory.
    #[arg(long = "password-passes", env = "PASSWORD_PASSES", value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub passes: u32,
}

impl Default for Policy {
    fn default() -> Self {
        config::defaults()
    }
}

/// Hashes and verifies passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    policy: Policy,
    pool: Arc<Pool>,
    /// The hash that stands in for the one of an unknown user, so that both take the same time to verify.
    dummy_hash: Arc<str>,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The password does not match the hash.
    Wrong,
    /// The password matches the hash.
    Right,
    /// The password matches a hash that Django wrote, or one below today's cost. Holds the new hash to store in its place.
    Rehashed(String),
}

impl Passwords {
    /// Starts the hashing threads.
    ///
    /// # Panics
    ///
    /// Panics if the system has no randomness, or if the policy is below the minimum of Argon2: 8 KiB of memory and one pass.
    pub fn new(policy: Policy) -> Self {
        let dummy_hash = policy.dummy_hash().expect("the system provides randomness and the policy is valid").into();
        Self { policy, pool: Arc::new(Pool::start()), dummy_hash }
    }

    /// Generates a password of 24 characters from 18 random bytes.
    ///
    /// # Panics
    ///
    /// Panics if the system has no randomness.
    pub fn generate() -> String {
        let mut bytes = [0; 18];
        rand::fill(&mut bytes).expect("the system provides randomness");
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reserves a slot in the hashing queue for the client of the current call. Each client address gets an equal part of the queue, and
    /// each purpose a share of the threads.
    ///
    /// # Errors
    ///
    /// Returns RESOURCE_EXHAUSTED with `RetryInfo` if no slot is free for this client.
    pub fn acquire(&self, purpose: HashPurpose, client: &ClientInfo) -> Result<HashPermit> {
        let slot = self.pool.acquire(purpose, client)?;
        Ok(HashPermit { slot, policy: self.policy, dummy_hash: Arc::clone(&self.dummy_hash) })
    }

    /// Returns the use of the hashing queue by each purpose.
    pub(crate) fn usage(&self) -> [(HashPurpose, LaneUse); 3] {
        self.pool.usage()
    }

    /// Checks the length and the characters of the new password in `field` of the request.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT if the password is too short or too long, or contains control characters.
    pub fn check_new(&self, field: &'static str, password: &str) -> Result<NewPassword> {
        let shortest = self.policy.shortest;
        let text = OpaqueString::enforce(password)
            .map_err(|_| {
                Error::invalid(field, "password.rfc8265", "must not contain control characters (RFC 8265, OpaqueString)")
            })?
            .into_owned();
        let length = text.chars().count();
        if length < shortest {
            return Err(Error::invalid(field, "password.min_len", format!("must have at least {shortest} characters")));
        }
        if length > MAX_LENGTH {
            return Err(Error::invalid(field, "password.max_len", format!("must have at most {MAX_LENGTH} characters")));
        }
        Ok(NewPassword { field, text })
    }
}

/// A new password whose length and characters are accepted.
#[derive(Clone)]
pub struct NewPassword {
    field: &'static str,
    text: String,
}

impl NewPassword {
    /// Checks that the password is not easily guessed. Words from `user_texts`, such as the username, do not add to its strength.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT if it is.
    pub fn check_strength(&self, user_texts: &[String]) -> Result<()> {
        if is_easily_guessed(&self.text, user_texts) {
            return Err(Error::invalid(self.field, "password.not_common", "is too easy to guess; use several unrelated words"));
        }
        Ok(())
    }
}

/// Permission to compute one hash. Dropping it releases its slot in the queue.
#[derive(Debug)]
#[must_use]
pub struct HashPermit {
    slot: QueueSlot,
    policy: Policy,
    dummy_hash: Arc<str>,
}

impl HashPermit {
    /// Hashes a new password. Words from `user_texts`, such as the username, do not add to its strength.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT if the password is too easily guessed.
    pub async fn hash(self, password: NewPassword, user_texts: Vec<String>) -> Result<String> {
        let Self { slot, policy, .. } = self;
        let hash = move |memory: &mut Vec<Block>| {
            password.check_strength(&user_texts)?;
            policy.hash(&password.text, memory)
        };
        slot.run(hash).await?
    }

    /// Verifies a password. Without a hash the result is [`Checked::Wrong`], after the same time.
    pub async fn verify(self, password: &str, hash: Option<&str>) -> Result<Checked> {
        let Self { slot, policy, dummy_hash } = self;
        let typed = password.to_owned();
        let password = OpaqueString::enforce(password).unwrap_or(Cow::Borrowed(password)).into_owned();
        if let Some(django) = hash.and_then(|hash| DjangoHash::parse(hash).ok()) {
            let check = move |memory: &mut Vec<Block>| {
                // Django hashes the password as typed, without OpaqueString.
                let is_right = django.matches(&typed, memory)?;
                // A right password is hashed again, so a wrong one is too: both take the same time.
                let new_hash = policy.hash(&password, memory)?;
                Ok(if is_right { Checked::Rehashed(new_hash) } else { Checked::Wrong })
            };
            return slot.run(check).await?;
        }
        let known = hash.and_then(Stored::parse);
        let check = move |memory: &mut Vec<Block>| {
            let is_known = known.is_some();
            let stored =
                known.or_else(|| Stored::parse(&dummy_hash)).ok_or_else(|| Error::internal("the dummy hash cannot be parsed"))?;
            let is_right = stored.matches(&password, memory)? && is_known;
            match (is_right, stored.is_cheaper_than(policy)) {
                (true, true) => policy.hash(&password, memory).map(Checked::Rehashed),
                (true, false) => Ok(Checked::Right),
                (false, _) => {
                    policy.equalize_timing(&stored, &password, memory)?;
                    Ok(Checked::Wrong)
                }
            }
        };
        slot.run(check).await?
    }
}

impl Policy {
    /// Hashes with Argon2id and a random salt, and returns a PHC string.
    fn hash(self, password: &str, memory: &mut Vec<Block>) -> Result<String> {
        let salt = random::<16>()?;
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        fill(Algorithm::Argon2id, self.params()?, password, &salt, &mut output, memory)?;
        self.phc_string(&salt, &output)
    }

    /// Returns a PHC string that no password matches: its hash is random. Nothing is hashed for it, because that would delay each start,
    /// and keep the memory of a hash.
    fn dummy_hash(self) -> Result<String> {
        self.phc_string(&random::<16>()?, &random::<{ Params::DEFAULT_OUTPUT_LEN }>()?)
    }

    fn params(self) -> Result<Params> {
        Params::new(self.memory, self.passes, 1, None).map_err(invalid)
    }

    fn phc_string(self, salt: &[u8], output: &[u8]) -> Result<String> {
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.params()?).map_err(invalid)?,
            salt: Some(Salt::new(salt).map_err(invalid)?),
            hash: Some(Output::new(output).map_err(invalid)?),
        };
        Ok(hash.to_string())
    }

    /// Spends the difference in cost between an old hash and a current one, so that a wrong password takes the same time for both.
    fn equalize_timing(self, stored: &Stored, password: &str, memory: &mut Vec<Block>) -> Result<()> {
        let work = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
        let difference = work(self.memory, self.passes).saturating_sub(work(stored.params.m_cost(), stored.params.t_cost()));
        match u32::try_from(difference).unwrap_or(u32::MAX) / self.passes {
            // Argon2 needs at least 8 KiB.
            ..8 => Ok(()),
            memory_cost => Self { memory: memory_cost, ..self }.hash(password, memory).map(drop),
        }
    }
}

/// A parsed PHC string of Argon2.
struct Stored {
    algorithm: Algorithm,
    params: Params,
    salt: Salt,
    output: Output,
}

impl Stored {
    /// Returns `None` if no password can match, for example because the user has none.
    fn parse(hash: &str) -> Option<Self> {
        let hash = PasswordHash::new(hash).ok()?;
        let is_current = hash.version == Some(Version::V0x13.into());
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok().filter(|_| is_current)?;
        Some(Self { algorithm, params: Params::try_from(&hash).ok()?, salt: hash.salt?, output: hash.hash? })
    }

    fn matches(&self, password: &str, memory: &mut Vec<Block>) -> Result<bool> {
        let mut output = vec![0; self.output.len()];
        fill(self.algorithm, self.params.clone(), password, &self.salt, &mut output, memory)?;
        Ok(constant_time::verify_slices_are_equal(&output, self.output.as_bytes()).is_ok())
    }

    fn is_cheaper_than(&self, policy: Policy) -> bool {
        self.algorithm != Algorithm::Argon2id || self.params.m_cost() < policy.memory || self.params.t_cost() < policy.passes
    }
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).map_err(|_| Error::internal("the system random number generator failed"))?;
    Ok(bytes)
}

/// Hashes into memory that is reused. Allocating it for each hash would take a twelfth of the total time.
fn fill(
    algorithm: Algorithm,
    params: Params,
    password: &str,
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Vec<Block>,
) -> Result<()> {
    if memory.len() < params.block_count() {
        memory.resize(params.block_count(), Block::default());
    }
    let argon2 = Argon2::new(algorithm, Version::V0x13, params);
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, memory).map_err(invalid)
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::internal(error.to_string())
}

fn is_easily_guessed(password: &str, user_texts: &[String]) -> bool {
    let scored: String = password.chars().take(SCORED_LENGTH).collect();
    let user_texts: Vec<_> = user_texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    zxcvbn::zxcvbn(&scored, &user_texts).score() < MIN_SCORE
}

#[cfg(test)]
mod tests {
    use access::{AccessPolicy, AccessRule, MethodRule, RevocationMode, error::Reason};

    use super::*;

    fn permit(passwords: &Passwords) -> HashPermit {
        passwords.acquire(HashPurpose::Login, &ClientInfo::default()).expect("a permit")
    }

    async fn hash_new(passwords: &Passwords, password: &str, user_texts: Vec<String>) -> Result<String> {
        permit(passwords).hash(passwords.check_new("password", password)?, user_texts).await
    }

    async fn violated_rule(passwords: &Passwords, password: &str, name: &str) -> String {
        match hash_new(passwords, password, vec![name.to_owned()]).await {
            Err(Error::Invalid(Reason::FieldInvalid, violations)) => violations[0].rule.to_string(),
            other => panic!("{password:?}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn new_passwords_are_long_enough_and_hard_to_guess() {
        let passwords = Passwords::new(Policy::default());
        assert_eq!(violated_rule(&passwords, "short", "").await, "password.min_len");
        assert_eq!(violated_rule(&passwords, &"é".repeat(14), "").await, "password.min_len");
        assert_eq!(violated_rule(&passwords, &"x1".repeat(600), "").await, "password.max_len");
        assert_eq!(violated_rule(&passwords, "passwordpassword", "").await, "password.not_common");
        assert_eq!(violated_rule(&passwords, "bartholomew.simpson", "bartholomew.simpson").await, "password.not_common");
        assert_eq!(violated_rule(&passwords, "with a\ttab inside it", "").await, "password.rfc8265");
    }

    #[tokio::test]
    async fn a_hash_matches_its_password_in_any_unicode_normal_form_only() {
        let passwords = Passwords::new(Policy::default());
        let hash = hash_new(&passwords, "seven blue caf\u{e9}s of tin", Vec::new()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let check = async |password, hash| permit(&passwords).verify(password, hash).await.expect("an answer");
        assert_eq!(check("seven blue cafe\u{301}s of tin", Some(&*hash)).await, Checked::Right);
        assert_eq!(check("seven blue cafes of tin", Some(&*hash)).await, Checked::Wrong);
        for unusable in [None, Some("!"), Some("")] {
            assert_eq!(check("nobody has this password", unusable).await, Checked::Wrong);
        }
    }

    #[tokio::test]
    async fn a_right_password_with_a_cheaper_hash_is_rehashed() {
        let password = "seven blue cafes of tin";
        let policy = Policy { memory: 64, passes: 3, ..Policy::default() };
        let passwords = Passwords::new(policy);
        for (memory, passes, is_cheap) in [(64, 3, false), (128, 4, false), (32, 3, true), (64, 2, true), (512, 1, true)] {
            let hash = Policy { memory, passes, ..policy }.hash(password, &mut Vec::new()).expect("a hash");
            let check = async |password| permit(&passwords).verify(password, Some(&*hash)).await.expect("an answer");
            match check(password).await {
                Checked::Rehashed(new) => assert!(is_cheap && new.starts_with("$argon2id$v=19$m=64,t=3,p=1$"), "{new}"),
                other => assert_eq!((other, is_cheap), (Checked::Right, false), "{hash}"),
            }
            assert_eq!(check("another password").await, Checked::Wrong);
        }
    }

    #[tokio::test]
    async fn a_full_queue_returns_resource_exhausted_until_a_permit_is_released() {
        let passwords = Passwords::new(Policy::default());
        let acquire = || passwords.acquire(HashPurpose::Login, &ClientInfo::default());
        let mut permits: Vec<_> = std::iter::from_fn(|| acquire().ok()).collect();
        // One client gets half of the queue.
        assert_eq!(permits.len(), (queue::QUEUE_LENGTH + pool::threads()).div_ceil(2));
        let outcome = acquire();
        assert!(matches!(outcome, Err(Error::Exhausted { .. })), "{outcome:?}");
        let permit = permits.pop().expect("a permit");
        assert_eq!(permit.verify("anything", None).await.expect("an answer"), Checked::Wrong);
        assert!(acquire().is_ok(), "the slot is released");
    }

    #[tokio::test]
    async fn a_job_whose_client_has_left_is_not_run() {
        static METHOD: MethodRule = MethodRule {
            path: Cow::Borrowed("/test.v1.Test/Call"),
            rule: AccessRule { policy: AccessPolicy::Anyone, actors: Cow::Borrowed(&[]), revocation: RevocationMode::Local },
            reasons: Cow::Borrowed(&[]),
        };
        let passwords = Passwords::new(Policy::default());
        let slot = |passwords: &Passwords| passwords.pool.acquire(HashPurpose::Login, &ClientInfo::default()).expect("a slot");
        let (running, is_running) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let busy: Vec<_> = (0..pool::threads())
            .map(|_| {
                let (running, released) = (running.clone(), Arc::clone(&released));
                let work = move |_: &mut Vec<Block>| {
                    running.send(()).expect("the test waits");
                    let _ = released.lock().map(|released| released.recv());
                };
                tokio::spawn(slot(&passwords).run(work))
            })
            .collect();
        let (passwords, is_running) = tokio::task::spawn_blocking(move || {
            (0..pool::threads()).for_each(|_| is_running.recv().expect("every thread is busy"));
            (passwords, is_running)
        })
        .await
        .expect("the threads are busy");

        // The handler tells when its job is in the queue, and what becomes of it.
        let (queued, mut is_queued) = tokio::sync::mpsc::unbounded_channel();
        let (outcome, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
        let handler = {
            let passwords = passwords.clone();
            move || {
                let (slot, queued, outcome) = (slot(&passwords), queued.clone(), outcome.clone());
                async move {
                    let mut job = Box::pin(slot.run(|_| "was run"));
                    assert!(
                        std::future::poll_fn(|context| std::task::Poll::Ready(job.as_mut().poll(context))).await.is_pending()
                    );
                    queued.send(()).expect("the test waits");
                    outcome.send(job.await.map_err(|error| error.code())).expect("the test waits");
                    Ok(())
                }
            }
        };
        let call = tokio::spawn(access::guard::run_to_completion(&METHOD, handler));
        is_queued.recv().await.expect("a job in the queue");
        call.abort();
        assert!(call.await.expect_err("the client has left").is_cancelled());
        drop((release, is_running));
        assert_eq!(outcomes.recv().await.expect("an outcome"), Err(tonic::Code::ResourceExhausted));
        for job in busy {
            job.await.expect("no panic").expect("an answer");
        }
    }

    #[tokio::test]
    async fn each_thread_runs_one_job_at_a_time_and_survives_a_panic() {
        let passwords = Passwords::new(Policy::default());
        let threads = pool::threads();
        for _ in 0..threads {
            let outcome = passwords
                .pool
                .acquire(HashPurpose::Login, &ClientInfo::default())
                .expect("a slot")
                .run(|_| panic!("in a hash"))
                .await;
            assert!(matches!(outcome, Err::<(), _>(Error::Internal(_))));
        }
        let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        // Each job waits until every thread runs one.
        let barrier = Arc::new(std::sync::Barrier::new(threads));
        let work = (0..threads * 4).map(|_| {
            let (running, barrier) = (Arc::clone(&running), Arc::clone(&barrier));
            passwords.pool.acquire(HashPurpose::Login, &ClientInfo::default()).expect("a slot").run(move |_| {
                let at_once = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                barrier.wait();
                running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                barrier.wait();
                at_once
            })
        });
        let all: tokio::task::JoinSet<_> = work.collect();
        for at_once in all.join_all().await {
            assert!(at_once.expect("an answer") <= threads);
        }
    }
}
