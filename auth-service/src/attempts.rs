//! Guessing passwords: how many wrong ones of any hour reach the hash, for one account and from one place.
//!
//! An attempt is counted before its password is looked at, and taken back where the password is right: of any number at once,
//! on any number of replicas, no more than the limit get through. Nobody is signed out by it.

use std::{net::IpAddr, time::Duration};

use access::{Clock, Error, Result, UserId};
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, TimeDelta, Utc};
use server::config;
use store::{Executor, Tx};

use crate::{proto::Reason, usernames};

/// How long a failed attempt counts, in seconds.
const WINDOW: u32 = 3600;

/// The maximum numbers of wrong passwords per hour.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Limits {
    /// The maximum number of wrong passwords per hour for one account: half of them by its username, half by its e-mail address.
    // One counter for both would reveal which address belongs to which username.
    #[arg(long = "attempts-per-account", env = "ATTEMPTS_PER_ACCOUNT", value_name = "N", default_value = "100", value_parser = config::count(2..=1000))]
    pub per_account: usize,
    /// The maximum number of wrong passwords per hour from one IPv4 address, or one /64 network of IPv6 addresses. 0 means no
    /// limit.
    #[arg(long = "attempts-per-source", env = "ATTEMPTS_PER_SOURCE", value_name = "N", default_value = "500", value_parser = config::count(0..=1000))]
    pub per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        config::defaults()
    }
}

/// What attempts are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    hash: [u8; 32],
    limit: usize,
}

impl Subject {
    /// Who signs in as `login`, whether or not there is such a user.
    pub fn login(login: &str, limits: Limits) -> Self {
        // Whatever finds the same user by name, or by e-mail address, is the same.
        let lower = login.to_lowercase();
        let name = usernames::key(&lower).unwrap_or(lower);
        Self::new("login", name.as_bytes(), (limits.per_account / 2).max(1))
    }

    /// The place that attempts come from. None where it is not counted.
    pub fn source(address: Option<IpAddr>, limits: Limits) -> Option<Self> {
        let address = address.filter(|_| limits.per_source > 0)?;
        Some(Self::new("source", access::rate_limit_key(address).to_string().as_bytes(), limits.per_source))
    }

    /// A user who says their old password to change it. Apart from Login, so that strangers who guess don't hinder them.
    pub fn change(user_id: UserId, limits: Limits) -> Self {
        Self::new("change", user_id.to_string().as_bytes(), limits.per_account)
    }

    /// A service that shows a credential, from one place: strangers elsewhere, whose guesses at 256 bits are all in vain, don't
    /// hinder it.
    pub fn client(client_id: &str, address: Option<IpAddr>, limits: Limits) -> Self {
        let place = address.map(|address| access::rate_limit_key(address).to_string()).unwrap_or_default();
        Self::new("client", format!("{client_id} {place}").as_bytes(), limits.per_account)
    }

    fn new(kind: &str, value: &[u8], limit: usize) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &[kind.as_bytes(), &[0], value].concat()).as_ref());
        Self { hash, limit }
    }
}

/// An attempt that was counted.
#[derive(Debug)]
#[must_use = "it is taken back where the password is right"]
pub struct Attempt {
    subjects: Vec<Subject>,
    second: u32,
}

/// Counts an attempt for each of the subjects, which are locked in this order.
///
/// # Errors
///
/// RESOURCE_EXHAUSTED where one of them has had enough. Then the transaction must not be committed.
pub async fn count(tx: &mut Tx, clock: &Clock, subjects: impl IntoIterator<Item = Subject>) -> Result<Attempt> {
    let second = seconds(tx.now(clock).await?);
    let subjects: Vec<_> = subjects.into_iter().collect();
    for subject in &subjects {
        let mut times = lock(tx, subject, second).await?;
        times.add(second, subject.limit)?;
        write(tx, subject, &times).await?;
    }
    Ok(Attempt { subjects, second })
}

/// Takes back an attempt whose password was right.
///
/// # Errors
///
/// Those of the database.
pub async fn take_back(tx: &mut Tx, attempt: &Attempt) -> Result<()> {
    for subject in &attempt.subjects {
        let mut times = lock(tx, subject, attempt.second).await?;
        times.remove(attempt.second);
        write(tx, subject, &times).await?;
    }
    Ok(())
}

/// Forgets what counts no more.
///
/// # Errors
///
/// Those of the database.
pub async fn forget(tx: &mut Tx, clock: &Clock) -> Result<()> {
    let now = tx.now(clock).await?;
    tx.query("DELETE FROM attempts WHERE expire_time < $1").bind(now).execute().await?;
    Ok(())
}

/// The attempts of a subject, which nobody else counts until the transaction ends.
async fn lock(tx: &mut Tx, subject: &Subject, second: u32) -> Result<Times> {
    let query = tx.query(
        "INSERT INTO attempts (subject, times, expire_time) VALUES ($1, $2, $3)
         ON CONFLICT (subject) DO UPDATE SET subject = excluded.subject RETURNING times",
    );
    let (times,): (Vec<u8>,) = query.bind(subject.hash.to_vec()).bind(Vec::<u8>::new()).bind(time(second)).one().await?;
    Ok(Times::read(&times))
}

async fn write(tx: &mut Tx, subject: &Subject, times: &Times) -> Result<()> {
    let query = tx.query("UPDATE attempts SET times = $2, expire_time = $3 WHERE subject = $1");
    query.bind(subject.hash.to_vec()).bind(times.bytes()).bind(times.expire_time()).execute().await?;
    Ok(())
}

/// Seconds since 1970 at which an attempt failed, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Times(Vec<u32>);

impl Times {
    fn read(bytes: &[u8]) -> Self {
        Self(bytes.as_chunks().0.iter().copied().map(u32::from_be_bytes).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().copied().flat_map(u32::to_be_bytes).collect()
    }

    /// Adds one at `now`, where any hour then has no more than `limit`.
    fn add(&mut self, now: u32, limit: usize) -> Result<()> {
        self.0.retain(|&time| counts_until(time) > now);
        if let Some(index) = self.0.len().checked_sub(limit) {
            // When so many have passed that one is free.
            let wait = counts_until(self.0[index]) - now;
            let retry_after = Duration::from_secs(wait.into());
            let message = format!("too many attempts have failed; try again in {wait} s");
            return Err(Error::Exhausted { reason: Reason::TooManyAttempts.into(), message, retry_after });
        }
        // Another replica's clock may be a little ahead.
        let place = self.0.partition_point(|&time| time <= now);
        self.0.insert(place, now);
        Ok(())
    }

    fn remove(&mut self, second: u32) {
        if let Some(index) = self.0.iter().rposition(|&time| time == second) {
            self.0.remove(index);
        }
    }

    fn expire_time(&self) -> DateTime<Utc> {
        time(self.0.last().map_or(0, |&last| counts_until(last)))
    }
}

/// The second from which on an attempt counts no more: one later than an hour, since it may have been made at its second's end.
fn counts_until(second: u32) -> u32 {
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

    #[test]
    fn who_finds_the_limit_reached_is_told_when_one_is_free() {
        let mut times = Times(Vec::new());
        for second in [10, 20, 30] {
            times.add(second, 3).expect("one more");
        }
        let waits = |times: &Times, now| match times.clone().add(now, 3) {
            Err(Error::Exhausted { retry_after, .. }) => Some(retry_after.as_secs()),
            _ => None,
        };
        assert_eq!((waits(&times, 30), waits(&times, 3610)), (Some(3581), Some(1)));
        times.add(3611, 3).expect("the first counts no more");
        assert_eq!(waits(&times, 3611), Some(10));
        times.remove(3611);
        assert_eq!(times, Times(vec![20, 30]));
        times.remove(3611);
        assert_eq!(times, Times(vec![20, 30]));
        assert_eq!(Times::read(&times.bytes()), times);
    }

    #[test]
    fn a_lower_limit_waits_for_more_than_one() {
        let mut times = Times(vec![10, 20, 30]);
        let refused = times.add(40, 1);
        assert!(matches!(refused, Err(Error::Exhausted { retry_after, .. }) if retry_after.as_secs() == 3591), "{refused:?}");
    }

    #[test]
    fn every_spelling_that_finds_one_user_is_one_subject() {
        let subject = |login| Subject::login(login, Limits::default());
        assert_eq!(subject("Ångström"), subject("a\u{30a}NGSTRO\u{308}M"));
        assert_eq!(subject("Alice@Example.com"), subject("alice@example.COM"));
        assert_eq!(subject("ａｌｉｃｅ"), subject("alice"));
        assert_eq!(subject("not a username"), subject("Not A Username"));
        assert_ne!(subject("alice"), subject("alice@example.com"));
    }

    proptest! {
        #[test]
        fn no_hour_has_more_than_the_limit(steps in prop::collection::vec((0..900_u32, any::<bool>()), 1..200), limit in 1..20_usize) {
            let (mut times, mut now, mut failed) = (Times(Vec::new()), 0, Vec::new());
            for (step, is_right) in steps {
                now += step;
                if times.add(now, limit).is_ok() {
                    if is_right {
                        times.remove(now);
                    } else {
                        failed.push(now);
                    }
                }
                let hour = failed.iter().filter(|&&second| second + WINDOW >= now).count();
                assert!(hour <= limit, "{hour} in an hour");
            }
        }
    }
}
