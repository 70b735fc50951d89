//! Limits how many failed attempts per hour reach the password hash, per account and per client address, and how many registrations per
//! client address.
//!
//! An attempt is counted before its password is hashed, and refunded if the password is right. So the limit holds for concurrent
//! attempts and across replicas. Existing sessions are not affected.

use std::{net::IpAddr, time::Duration};

use access::{Clock, Error, Result, UserId};
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use server::config;
use store::{Executor, Tx};

use crate::{proto::Reason, usernames, users::User};

/// The time for which a failed attempt counts, in seconds.
const WINDOW: u32 = 3600;

/// The maximum numbers of wrong passwords and of registrations per hour.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Limits {
    /// The maximum number of wrong passwords per hour for one account. If it has an e-mail address, half of them by its username and half
    /// by the address. A client address (IPv6: a /64 network) from which the user has had a session within 90 days has this many of its
    /// own instead, so that strangers cannot lock the user out.
    // One counter for username and e-mail address would reveal which address belongs to which username.
    #[arg(long = "attempts-per-account", env = "ATTEMPTS_PER_ACCOUNT", value_name = "N", default_value = "100", value_parser = config::count(2..=1000))]
    pub per_account: usize,
    /// The maximum number of wrong passwords per hour from one IPv4 address, or one /64 network of IPv6 addresses. 0 means no
    /// limit.
    #[arg(long = "attempts-per-source", env = "ATTEMPTS_PER_SOURCE", value_name = "N", default_value = "500", value_parser = config::count(0..=1000))]
    pub per_source: usize,
    /// The maximum number of calls of Register per hour from one IPv4 address, or one /64 network of IPv6 addresses. 0 means no
    /// limit.
    #[arg(long = "registrations-per-source", env = "REGISTRATIONS_PER_SOURCE", value_name = "N", default_value = "500", value_parser = config::count(0..=1000))]
    pub registrations_per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        config::defaults()
    }
}

/// An entity whose failed attempts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    hash: [u8; 32],
    limit: usize,
    attempts: &'static str,
}

const FAILED_ATTEMPTS: &str = "failed attempts";
const REGISTRATIONS: &str = "registrations from this address";

impl Subject {
    /// Returns the subject for sign-ins as `login` from an address that the user is not known to use. `user` is the user with this name, if
    /// there is one.
    pub fn login(login: &str, user: Option<&User>, limits: Limits) -> Self {
        // All spellings that find the same user share one counter.
        let lower = login.to_lowercase();
        let name = usernames::key(&lower).unwrap_or(lower);
        // A user with an e-mail address has two names, and one counter for each.
        let is_one_of_two = name.contains('@') || user.is_some_and(|user| user.email.is_some());
        let limit = if is_one_of_two { (limits.per_account / 2).max(1) } else { limits.per_account };
        Self::new("login", name.as_bytes(), limit)
    }

    /// Returns the subject for sign-ins as a user from a network from which the user has had a session.
    pub fn known_network(user_id: UserId, network: IpAddr, limits: Limits) -> Self {
        Self::new("known", format!("{user_id} {network}").as_bytes(), limits.per_account)
    }

    /// Returns the subject for registrations from the client address, or `None` if it is unknown or registrations are not limited.
    pub fn registration(address: Option<IpAddr>, limits: Limits) -> Option<Self> {
        let address = address.filter(|_| limits.registrations_per_source > 0)?;
        let network = access::rate_limit_key(address).to_string();
        let subject = Self::new("register", network.as_bytes(), limits.registrations_per_source);
        Some(Self { attempts: REGISTRATIONS, ..subject })
    }

    /// Returns the subject for the client address, or `None` if it is unknown or addresses are not limited.
    pub fn source(address: Option<IpAddr>, limits: Limits) -> Option<Self> {
        let address = address.filter(|_| limits.per_source > 0)?;
        Some(Self::new("source", access::rate_limit_key(address).to_string().as_bytes(), limits.per_source))
    }

    /// Returns the subject for password changes by a user. It is separate from Login, so that failed logins by others do not lock
    /// the user out of `ChangePassword`.
    pub fn password_change(user_id: UserId, limits: Limits) -> Self {
        Self::new("change", user_id.to_string().as_bytes(), limits.per_account)
    }

    fn new(kind: &str, value: &[u8], limit: usize) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &[kind.as_bytes(), &[0], value].concat()).as_ref());
        Self { hash, limit, attempts: FAILED_ATTEMPTS }
    }
}

/// A counted attempt. An attempt with the right password is refunded.
#[derive(Debug)]
pub struct Attempt {
    subjects: Vec<Subject>,
    second: u32,
}

/// Counts an attempt for each subject. Locks the subjects in the given order.
///
/// # Errors
///
/// Returns RESOURCE_EXHAUSTED if a subject has reached its limit. The transaction must then be rolled back.
pub async fn count(tx: &mut Tx, clock: &Clock, subjects: impl IntoIterator<Item = Subject>) -> Result<Attempt> {
    let second = seconds(tx.now(clock).await?);
    let subjects: Vec<_> = subjects.into_iter().collect();
    for subject in &subjects {
        let mut times = lock(tx, subject, second).await?;
        times.add(second, subject)?;
        write(tx, subject, &times).await?;
    }
    Ok(Attempt { subjects, second })
}

/// Removes an attempt from the counters, because its password was right.
pub async fn refund(tx: &mut Tx, attempt: &Attempt) -> Result<()> {
    for subject in &attempt.subjects {
        let mut times = lock(tx, subject, attempt.second).await?;
        times.remove(attempt.second);
        write(tx, subject, &times).await?;
    }
    Ok(())
}

/// Deletes the counters whose attempts have all expired.
pub async fn purge_expired(tx: &mut Tx, clock: &Clock) -> Result<()> {
    let now = tx.now(clock).await?;
    tx.query("DELETE FROM attempts WHERE expire_time < $1").bind(now).execute().await?;
    Ok(())
}

/// Reads the attempts of a subject and locks them until the transaction ends.
async fn lock(tx: &mut Tx, subject: &Subject, second: u32) -> Result<Times> {
    let query = tx.query(
        "INSERT INTO attempts (subject, times, expire_time) VALUES ($1, $2, $3)
         ON CONFLICT (subject) DO UPDATE SET subject = excluded.subject RETURNING times",
    );
    let (times,): (Vec<u8>,) = query.bind(subject.hash.to_vec()).bind(Vec::<u8>::new()).bind(time(second)).one().await?;
    Ok(Times::from_bytes(&times))
}

async fn write(tx: &mut Tx, subject: &Subject, times: &Times) -> Result<()> {
    let query = tx.query("UPDATE attempts SET times = $2, expire_time = $3 WHERE subject = $1");
    query.bind(subject.hash.to_vec()).bind(times.to_bytes()).bind(times.expire_time()).execute().await?;
    Ok(())
}

/// The times of the counted attempts in seconds since 1970, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Times(Vec<u32>);

impl Times {
    fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.as_chunks().0.iter().copied().map(u32::from_be_bytes).collect())
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().copied().flat_map(u32::to_be_bytes).collect()
    }

    /// Adds an attempt at `now`.
    ///
    /// # Errors
    ///
    /// Returns RESOURCE_EXHAUSTED if an hour would then have more attempts than the limit of the subject.
    fn add(&mut self, now: u32, &Subject { limit, attempts, .. }: &Subject) -> Result<()> {
        self.0.retain(|&time| expiry(time) > now);
        if let Some(index) = self.0.len().checked_sub(limit) {
            // `limit` may have been lowered: wait until so many attempts have expired that one more is allowed.
            let wait = expiry(self.0[index]) - now;
            let retry_after = Duration::from_secs(wait.into());
            let message = format!("too many {attempts}; try again in {wait} s");
            return Err(Error::Exhausted { reason: Reason::TooManyAttempts.into(), message, retry_after });
        }
        // The clock of another replica may be slightly ahead, so the last entry may be later than `now`.
        let index = self.0.partition_point(|&time| time <= now);
        self.0.insert(index, now);
        Ok(())
    }

    fn remove(&mut self, second: u32) {
        if let Some(index) = self.0.iter().rposition(|&time| time == second) {
            self.0.remove(index);
        }
    }

    fn expire_time(&self) -> DateTime<Utc> {
        time(self.0.last().map_or(0, |&last| expiry(last)))
    }
}

/// Returns the second in which an attempt expires. It is one more than an hour later, because the attempt may have been made at the
/// end of its second.
fn expiry(second: u32) -> u32 {
    second.saturating_add(WINDOW + 1)
}

fn seconds(time: DateTime<Utc>) -> u32 {
    u32::try_from(time.timestamp()).unwrap_or_default()
}

fn time(second: u32) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(second.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    /// Returns a subject with this limit.
    fn limited(limit: usize) -> Subject {
        Subject::new("test", b"", limit)
    }

    #[test]
    fn an_attempt_above_the_limit_fails_with_the_time_until_the_next_one() {
        let mut times = Times(Vec::new());
        for second in [10, 20, 30] {
            times.add(second, &limited(3)).expect("an attempt below the limit");
        }
        let waits = |times: &Times, now| match times.clone().add(now, &limited(3)) {
            Err(Error::Exhausted { retry_after, .. }) => Some(retry_after.as_secs()),
            _ => None,
        };
        assert_eq!((waits(&times, 30), waits(&times, 3610)), (Some(3581), Some(1)));
        times.add(3611, &limited(3)).expect("the first attempt has expired");
        assert_eq!(waits(&times, 3611), Some(10));
        times.remove(3611);
        assert_eq!(times, Times(vec![20, 30]));
        times.remove(3611);
        assert_eq!(times, Times(vec![20, 30]));
        assert_eq!(Times::from_bytes(&times.to_bytes()), times);
    }

    #[test]
    fn a_lowered_limit_waits_for_several_attempts_to_expire() {
        let mut times = Times(vec![10, 20, 30]);
        let outcome = times.add(40, &limited(1));
        assert!(matches!(outcome, Err(Error::Exhausted { retry_after, .. }) if retry_after.as_secs() == 3591), "{outcome:?}");
    }

    #[test]
    fn all_spellings_that_find_one_user_share_a_subject() {
        let subject = |login| Subject::login(login, None, Limits::default());
        assert_eq!(subject("Ångström"), subject("a\u{30a}NGSTRO\u{308}M"));
        assert_eq!(subject("Alice@Example.com"), subject("alice@example.COM"));
        assert_eq!(subject("ａｌｉｃｅ"), subject("alice"));
        assert_eq!(subject("not a username"), subject("Not A Username"));
        assert_ne!(subject("alice"), subject("alice@example.com"));
    }

    proptest! {
        #[test]
        fn no_hour_has_more_failed_attempts_than_the_limit(steps in prop::collection::vec((0..900_u32, any::<bool>()), 1..200), limit in 1..20_usize) {
            let (mut times, mut now, mut failed) = (Times(Vec::new()), 0, Vec::new());
            for (step, is_right) in steps {
                now += step;
                if times.add(now, &limited(limit)).is_ok() {
                    if is_right {
                        times.remove(now);
                    } else {
                        failed.push(now);
                    }
                }
                let hour = failed.iter().filter(|&&second| second + WINDOW >= now).count();
                assert!(hour <= limit, "{hour} failed attempts in an hour");
            }
        }
    }
}
