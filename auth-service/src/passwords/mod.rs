//! Passwords: which are accepted, and the bounded pool that hashes them.
//!
//! A hash takes tens of milliseconds of one core and 19 MiB on purpose. At most one is computed per core at once, and a
//! bounded number wait, so that a flood of logins costs the other calls neither the processor nor the memory.

pub mod django;
mod pool;

use std::{borrow::Cow, sync::Arc};

use access::{Error, Result};
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use aws_lc_rs::{constant_time, rand};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use django::DjangoHash;
use pool::{Place, Pool};
use precis_profiles::{OpaqueString, precis_core::profile::PrecisFastInvocation};
use server::config;

/// The longest password, in code points.
const LONGEST: usize = 1024;
/// The strength that zxcvbn has to see, of 4, and in how much of a password it looks for it: its time grows with the cube.
const STRENGTH: zxcvbn::Score = zxcvbn::Score::Three;
const LOOKED_AT: usize = 64;

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

/// Hashes passwords and checks them.
#[derive(Debug, Clone)]
pub struct Passwords {
    policy: Policy,
    pool: Arc<Pool>,
    /// What an unknown user's password is checked against, so that it takes as long as a known user's.
    nobody: Arc<str>,
}

/// What a password turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Not the one that was hashed.
    Wrong,
    /// The one that was hashed.
    Right,
    /// The same, and its hash was Django's, or cheaper than those that are made today: the new one, to be stored in its place.
    Rehashed(String),
}

impl Passwords {
    /// Accepts passwords as `policy` has it.
    ///
    /// # Panics
    ///
    /// Where the machine has no randomness, or the policy none that Argon2 knows: it fills 8 KiB at least, and once at least.
    pub fn new(policy: Policy) -> Self {
        let nobody = policy.hash("nobody has this password", &mut Vec::new()).expect("a machine with randomness");
        Self { policy, pool: Arc::new(Pool::start()), nobody: nobody.into() }
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
        Ok(Turn { place: self.pool.place()?, policy: self.policy, nobody: Arc::clone(&self.nobody) })
    }

    /// Hashes the new password that the request has in `field`. It must not follow from `names`: the user's own.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for a password that is too short or too easily guessed, RESOURCE_EXHAUSTED where too many wait.
    pub async fn hash_new(&self, field: &'static str, password: &str, names: Vec<String>) -> Result<String> {
        let policy = self.policy;
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
        let place = self.pool.place()?;
        let hash = move |memory: &mut Vec<Block>| {
            if is_easily_guessed(&password, &names) {
                return Err(Error::invalid(
                    field,
                    "password.not_common",
                    "is too easily guessed: a longer one of several words is better",
                ));
            }
            policy.hash(&password, memory)
        };
        place.run(hash).await?
    }
}

/// A place among those who wait for a core, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    place: Place,
    policy: Policy,
    nobody: Arc<str>,
}

impl Turn {
    /// Checks whether the password is the one that was hashed. Without a hash it takes as long, and it is not.
    ///
    /// # Errors
    ///
    /// INTERNAL where the machine can't.
    pub async fn verify(self, password: &str, hash: Option<&str>) -> Result<Checked> {
        let Self { place, policy, nobody } = self;
        let typed = password.to_owned();
        let password = OpaqueString::enforce(password).unwrap_or(Cow::Borrowed(password)).into_owned();
        if let Some(django) = hash.and_then(|hash| DjangoHash::read(hash).ok()) {
            let check = move |memory: &mut Vec<Block>| {
                // Django hashes what was typed.
                let is_right = django.is_of(&typed, memory)?;
                // A wrong password takes as long as the right one, whose hash is made anew.
                let anew = policy.hash(&password, memory)?;
                Ok(if is_right { Checked::Rehashed(anew) } else { Checked::Wrong })
            };
            return place.run(check).await?;
        }
        let known = hash.and_then(Stored::read);
        let check = move |memory: &mut Vec<Block>| {
            let is_known = known.is_some();
            let stored = known.or_else(|| Stored::read(&nobody)).ok_or_else(|| Error::internal("nobody's hash is none"))?;
            let is_right = stored.is_of(&password, memory)? && is_known;
            match (is_right, stored.is_cheaper_than(policy)) {
                (true, true) => policy.hash(&password, memory).map(Checked::Rehashed),
                (true, false) => Ok(Checked::Right),
                (false, _) => {
                    policy.spend_what_is_left(&stored, &password, memory)?;
                    Ok(Checked::Wrong)
                }
            }
        };
        place.run(check).await?
    }
}

impl Policy {
    /// Hashes with Argon2id and a fresh salt, to a PHC string.
    fn hash(self, password: &str, memory: &mut Vec<Block>) -> Result<String> {
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| Error::internal("the machine has no randomness"))?;
        let params = Params::new(self.memory, self.passes, 1, None).map_err(invalid)?;
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let fields = ParamsString::try_from(&params).map_err(invalid)?;
        fill(Algorithm::Argon2id, params, password, &salt, &mut output, memory)?;
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: fields,
            salt: Some(Salt::new(&salt).map_err(invalid)?),
            hash: Some(Output::new(&output).map_err(invalid)?),
        };
        Ok(hash.to_string())
    }

    /// A wrong password takes as long for a hash of earlier days as for one of today.
    fn spend_what_is_left(self, stored: &Stored, password: &str, memory: &mut Vec<Block>) -> Result<()> {
        let work = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
        let left = work(self.memory, self.passes).saturating_sub(work(stored.params.m_cost(), stored.params.t_cost()));
        match u32::try_from(left).unwrap_or(u32::MAX) / self.passes {
            // Argon2 fills no less.
            ..8 => Ok(()),
            left => Self { memory: left, ..self }.hash(password, memory).map(drop),
        }
    }
}

/// A hash as it is stored, taken apart.
struct Stored {
    algorithm: Algorithm,
    params: Params,
    salt: Salt,
    output: Output,
}

impl Stored {
    /// None for what no password fits.
    fn read(hash: &str) -> Option<Self> {
        let hash = PasswordHash::new(hash).ok()?;
        let is_current = hash.version == Some(Version::V0x13.into());
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok().filter(|_| is_current)?;
        Some(Self { algorithm, params: Params::try_from(&hash).ok()?, salt: hash.salt?, output: hash.hash? })
    }

    fn is_of(&self, password: &str, memory: &mut Vec<Block>) -> Result<bool> {
        let mut output = vec![0; self.output.len()];
        fill(self.algorithm, self.params.clone(), password, &self.salt, &mut output, memory)?;
        Ok(constant_time::verify_slices_are_equal(&output, self.output.as_bytes()).is_ok())
    }

    fn is_cheaper_than(&self, policy: Policy) -> bool {
        self.algorithm != Algorithm::Argon2id || self.params.m_cost() < policy.memory || self.params.t_cost() < policy.passes
    }
}

/// Hashes in memory that is already there: asking the system for it each time takes a twelfth of the whole.
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

fn is_easily_guessed(password: &str, names: &[String]) -> bool {
    let begin: String = password.chars().take(LOOKED_AT).collect();
    let names: Vec<_> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    zxcvbn::zxcvbn(&begin, &names).score() < STRENGTH
}

#[cfg(test)]
mod tests {
    use access::error::Reason;

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
            let hash = Policy { memory, passes, ..today }.hash(password, &mut Vec::new()).expect("a hash");
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
        let mut turns: Vec<_> = std::iter::from_fn(|| passwords.turn().ok()).collect();
        assert_eq!(turns.len(), pool::QUEUE + pool::threads());
        let refused = passwords.turn();
        assert!(matches!(refused, Err(Error::Exhausted { .. })), "{refused:?}");
        let turn = turns.pop().expect("a turn");
        assert_eq!(turn.verify("anything", None).await.expect("an answer"), Checked::Wrong);
        assert!(passwords.turn().is_ok(), "the place is given back");
    }

    #[tokio::test]
    async fn as_many_hash_at_once_as_there_are_threads_and_a_panic_takes_none_away() {
        let passwords = Passwords::new(Policy::default());
        let threads = pool::threads();
        for _ in 0..threads {
            let outcome = passwords.pool.place().expect("a place").run(|_| panic!("in a hash")).await;
            assert!(matches!(outcome, Err::<(), _>(Error::Internal(_))));
        }
        let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        // Each waits until all the others that can run do.
        let barrier = Arc::new(std::sync::Barrier::new(threads));
        let work = (0..threads * 4).map(|_| {
            let (running, barrier) = (Arc::clone(&running), Arc::clone(&barrier));
            passwords.pool.place().expect("a place").run(move |_| {
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
