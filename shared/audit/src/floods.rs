//! Keeps a flood of refused calls from filling the disk: beyond a rate, calls are only counted, and one entry holds the count.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    mem,
};

use access::rate_limit_key;
use chrono::{DateTime, TimeDelta, Utc};

use crate::{Actor, Entry};

/// The length of a window.
const WINDOW: TimeDelta = TimeDelta::minutes(1);
/// The largest number of refused calls of one source that get an entry of their own in one window.
const PER_SOURCE: i64 = 10;
/// The largest number of refused calls that get an entry of their own in one window.
const TOTAL: i64 = 600;
/// The largest number of sources that are counted separately in one window.
const SOURCES: usize = 1000;

/// The refused calls that are counted together: those of one caller, or of one network, to one method for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Source {
    method: String,
    caller: String,
    outcome: String,
    reason: String,
}

/// Refused calls of one source in one window.
#[derive(Debug)]
struct Counted {
    /// The number of calls that got an entry of their own.
    written: i64,
    /// The entry with the count of the others.
    counting: Entry,
}

/// The refused calls of the current window.
#[derive(Debug, Default)]
pub(crate) struct Floods {
    began: Option<DateTime<Utc>>,
    written: i64,
    sources: HashMap<Source, Counted>,
    /// The counting entries of windows that have ended.
    ended: Vec<Entry>,
}

impl Floods {
    /// Counts a refused call. Returns true if it gets an entry of its own.
    pub(crate) fn admit(&mut self, now: DateTime<Utc>, entry: &Entry) -> bool {
        self.end_window(now, false);
        self.began.get_or_insert(now);
        let mut source = Source::of(entry);
        let mut counting = counting_entry(entry);
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            // The rest is counted together.
            source.caller.clear();
            (counting.actor, counting.address) = (Actor::Anonymous, None);
        }
        let counted = match self.sources.entry(source) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => slot.insert(Counted { written: 0, counting }),
        };
        if counted.written < PER_SOURCE && self.written < TOTAL {
            counted.written += 1;
            self.written += 1;
            return true;
        }
        counted.counting.occurrences = Some(counted.counting.occurrences.unwrap_or_default() + 1);
        false
    }

    /// Returns the counting entries of the windows that have ended, or of every window if `all`.
    pub(crate) fn take(&mut self, now: DateTime<Utc>, all: bool) -> Vec<Entry> {
        self.end_window(now, all);
        mem::take(&mut self.ended)
    }

    /// Puts counting entries back that could not be written.
    pub(crate) fn put_back(&mut self, entries: Vec<Entry>) {
        // While the database cannot be reached, the memory stays bounded.
        let free = SOURCES.saturating_sub(self.ended.len());
        self.ended.extend(entries.into_iter().take(free));
    }

    fn end_window(&mut self, now: DateTime<Utc>, all: bool) {
        // The clock may have been set back.
        let has_ended = self.began.is_some_and(|began| all || now >= began + WINDOW || now < began);
        if has_ended {
            (self.began, self.written) = (None, 0);
            let counted = mem::take(&mut self.sources).into_values().map(|counted| counted.counting);
            let mut counted: Vec<_> = counted.filter(|entry| entry.occurrences.is_some()).collect();
            counted.sort_by_key(|entry| entry.occurrences);
            self.put_back(counted);
        }
    }
}

impl Source {
    fn of(entry: &Entry) -> Self {
        let caller = match &entry.actor {
            Actor::User { id, .. } => format!("user {id}"),
            Actor::Service(id) => format!("service {id}"),
            Actor::Command(user) => format!("cli {user}"),
            Actor::System => "system".to_owned(),
            Actor::Anonymous => entry.address.map(|address| rate_limit_key(address).to_string()).unwrap_or_default(),
        };
        let (outcome, reason) = (entry.outcome.clone().into_owned(), entry.reason.clone().into_owned());
        Self { method: entry.method.clone().into_owned(), caller, outcome, reason }
    }
}

/// Returns the entry that counts calls like this one. It names no target and no request, because those of the calls differ.
fn counting_entry(entry: &Entry) -> Entry {
    Entry {
        actor: entry.actor.clone(),
        method: entry.method.clone(),
        outcome: entry.outcome.clone(),
        reason: entry.reason.clone(),
        address: entry.address.map(rate_limit_key),
        ..Entry::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn refused(address: [u8; 4]) -> Entry {
        let address = Some(IpAddr::from(address));
        Entry { method: "/auth.v1.TokenService/Login".into(), outcome: "UNAUTHENTICATED".into(), address, ..Entry::default() }
    }

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time")
    }

    #[test]
    fn a_flood_from_one_source_becomes_one_counting_entry() {
        let mut floods = Floods::default();
        let written = (0..5000).filter(|_| floods.admit(time(1), &refused([192, 0, 2, 1]))).count();
        // Another source still gets entries of its own.
        assert_eq!((written, floods.admit(time(2), &refused([192, 0, 2, 2]))), (10, true));
        assert!(floods.take(time(60), false).is_empty());
        let counted = floods.take(time(61), false);
        assert_eq!(counted.iter().map(|entry| entry.occurrences).collect::<Vec<_>>(), [Some(4990)]);
        assert_eq!(counted[0].address, Some(IpAddr::from([192, 0, 2, 1])));
        assert!(floods.take(time(1000), true).is_empty());
        assert!(floods.admit(time(1001), &refused([192, 0, 2, 1])));
    }

    #[test]
    fn a_flood_from_many_sources_stays_bounded() {
        let mut floods = Floods::default();
        let address = |number: u32| refused(number.to_be_bytes());
        let written = (0..100_000).filter(|number| floods.admit(time(1), &address(*number))).count();
        let counted = floods.take(time(61), false);
        assert_eq!(written, 600);
        assert!(counted.len() <= 1001, "{}", counted.len());
        let sum: i64 = counted.iter().filter_map(|entry| entry.occurrences).sum();
        assert_eq!(sum, 100_000 - 600);
    }
}
