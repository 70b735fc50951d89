//! Verifies entries against their seals.

use std::fmt;

use access::Result;
use serde_json::{Value, json};
use store::{Db, Executor};

use crate::{
    AuditKeys, Event, EventId, PublishedSeal, Seal,
    event::{PersonalData, columns},
    seal::{FIRST, batch_digest, newest_seal, seal_columns},
};

/// The number of seals that one query reads.
const PAGE_SIZE: i64 = 500;
/// How often the verification is repeated if retention deletes entries during it.
const ATTEMPTS: usize = 5;

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// The number of seals.
    pub seals: u64,
    /// The number of sealed entries.
    pub entries: u64,
    /// The number of entries that are not sealed yet, which the verification does not cover.
    pub unsealed: u64,
    /// The number of entries from which personal data was erased.
    pub erased: u64,
    /// The first batch whose entries are kept. Retention has deleted the batches before it.
    pub first_kept: i64,
    /// The newest seal.
    pub newest: Option<PublishedSeal>,
    /// The differences. Empty if everything is as it was sealed.
    pub findings: Vec<Finding>,
}

/// A difference between the log and its seals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The seal was altered or was not made with the key that it names.
    AlteredSeal(i64),
    /// No known key has the id that the seal names.
    UnknownKey {
        /// The number of the seal.
        seal_id: i64,
        /// The id of the key.
        key_id: String,
    },
    /// The seals from the first number to the last were removed.
    MissingSeals(i64, i64),
    /// The seal is older than every seal that is kept.
    ExtraSeal(i64),
    /// The seal does not continue the seal before it.
    BrokenChain(i64),
    /// Entries of the batch were altered, inserted or removed.
    AlteredBatch {
        /// The number of the seal.
        seal_id: i64,
        /// The number of entries that were sealed.
        sealed: i64,
        /// The number of entries that are there.
        found: i64,
    },
    /// The personal data of an entry was altered, or erased in part.
    AlteredPersonalData(EventId),
    /// Entries name a seal that does not exist or whose entries were deleted.
    ExtraEntries {
        /// The number of the seal.
        seal_id: i64,
        /// The number of entries.
        found: i64,
    },
    /// The log ends before the published seal.
    Truncated(i64),
    /// The published seal has another MAC than the seal with its number: the log was truncated and continued, or replaced.
    DiffersFromPublished(i64),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlteredSeal(seal_id) => write!(f, "the seal {seal_id} was altered"),
            Self::UnknownKey { seal_id, key_id } => write!(f, "the seal {seal_id} names the key {key_id}, which is not known"),
            Self::MissingSeals(first, last) if first == last => write!(f, "the seal {first} is missing"),
            Self::MissingSeals(first, last) => write!(f, "the seals {first} to {last} are missing"),
            Self::ExtraSeal(seal_id) => write!(f, "the seal {seal_id} was inserted"),
            Self::BrokenChain(seal_id) => write!(f, "the seal {seal_id} does not continue the seal before it"),
            Self::AlteredBatch { seal_id, sealed, found } if sealed == found => {
                write!(f, "an entry of the seal {seal_id} was altered")
            }
            Self::AlteredBatch { seal_id, sealed, found } => {
                write!(f, "the seal {seal_id} covers {sealed} entries, but there are {found}")
            }
            Self::AlteredPersonalData(event_id) => {
                write!(f, "the address, the user agent or a name of the entry {event_id} was altered")
            }
            Self::ExtraEntries { seal_id, found } => {
                write!(f, "{found} entries name the seal {seal_id}, which is missing or whose entries were deleted")
            }
            Self::Truncated(seal_id) => write!(f, "the log ends before the published seal {seal_id}"),
            Self::DiffersFromPublished(seal_id) => write!(f, "the seal {seal_id} differs from the published seal"),
        }
    }
}

impl Verification {
    /// Returns the result in JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "isIntact": self.is_intact(),
            "entries": self.entries,
            "unsealed": self.unsealed,
            "erased": self.erased,
            "seals": self.seals,
            "firstKept": self.first_kept,
            "newestSeal": self.newest.as_ref().map(ToString::to_string),
            "findings": self.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    /// Returns true if everything is as it was sealed.
    pub fn is_intact(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies every sealed entry, and that the log has not been truncated before the published seals. The service may run at the same time.
pub async fn verify(db: &Db, keys: &AuditKeys, published: &[PublishedSeal]) -> Result<Verification> {
    let mut verification = verify_once(db, keys, published).await?;
    for _ in 1..ATTEMPTS {
        let first_kept = newest_seal(db).await?.map_or(1, |seal| seal.first_kept);
        // Retention has deleted entries in the meantime.
        if verification.is_intact() || first_kept == verification.first_kept {
            break;
        }
        verification = verify_once(db, keys, published).await?;
    }
    Ok(verification)
}

async fn verify_once(db: &Db, keys: &AuditKeys, published: &[PublishedSeal]) -> Result<Verification> {
    let mut verification = Verification { first_kept: 1, ..Verification::default() };
    if let Some(newest) = newest_seal(db).await? {
        verification.first_kept = newest.first_kept;
        verification.newest = Some(newest.published());
        verification.check_chain(db, keys, newest.seal_id).await?;
    }
    for seal in published {
        verification.check_published(db, seal).await?;
    }
    let query = db.query(
        "SELECT seal_id, COUNT(*) FROM audit_event AS event
         WHERE seal_id IS NOT NULL AND (seal_id < $1 OR NOT EXISTS (SELECT 1 FROM audit_seal AS seal WHERE seal.seal_id = event.seal_id))
         GROUP BY seal_id ORDER BY seal_id",
    );
    for (seal_id, found) in query.bind(verification.first_kept).all::<(i64, i64)>().await? {
        verification.findings.push(Finding::ExtraEntries { seal_id, found });
    }
    // Entries that were sealed in the meantime are not verified either.
    let newest = verification.newest.as_ref().map_or(0, PublishedSeal::seal_id);
    let query = db.query(
        "SELECT (SELECT COUNT(*) FROM audit_event WHERE seal_id IS NULL OR seal_id > $1) + (SELECT COUNT(*) FROM audit_new_event)",
    );
    let query = query.bind(newest);
    let (unsealed,): (i64,) = query.one().await?;
    verification.unsealed = unsealed.unsigned_abs();
    Ok(verification)
}

impl Verification {
    /// Verifies the seals through `last`, and their entries.
    async fn check_chain(&mut self, db: &Db, keys: &AuditKeys, last: i64) -> Result<()> {
        // The seal before the first batch that is kept stays without its entries.
        let first = (self.first_kept - 1).max(1);
        let mut before: Option<Seal> = None;
        let mut after = i64::MIN;
        loop {
            let query = db.query(concat!(
                "SELECT ",
                seal_columns!(),
                " FROM audit_seal WHERE seal_id > $1 AND seal_id <= $2 ORDER BY seal_id LIMIT $3"
            ));
            let seals: Vec<Seal> = query.bind(after).bind(last).bind(PAGE_SIZE).all().await?;
            let Some(end) = seals.last() else { break };
            after = end.seal_id;
            for seal in seals {
                self.seals += 1;
                self.check_seal(keys, &seal, before.as_ref(), first);
                if seal.seal_id >= self.first_kept {
                    self.check_batch(db, &seal).await?;
                }
                before = Some(seal);
            }
        }
        Ok(())
    }

    fn check_seal(&mut self, keys: &AuditKeys, seal: &Seal, before: Option<&Seal>, first: i64) {
        let seal_id = seal.seal_id;
        if seal_id < first {
            self.findings.push(Finding::ExtraSeal(seal_id));
        }
        match keys.find(&seal.key_id) {
            Some(key) if seal.is_signed_by(key) => {}
            Some(_) => self.findings.push(Finding::AlteredSeal(seal_id)),
            None => self.findings.push(Finding::UnknownKey { seal_id, key_id: seal.key_id.clone() }),
        }
        let expected = before.map_or(first, |before| before.seal_id + 1).max(first);
        if expected < seal_id {
            self.findings.push(Finding::MissingSeals(expected, seal_id - 1));
        }
        let continues = match before {
            Some(before) if before.seal_id + 1 == seal_id => seal.previous == before.mac,
            Some(_) => true,
            None => seal_id != 1 || seal.previous == FIRST,
        };
        if !continues {
            self.findings.push(Finding::BrokenChain(seal_id));
        }
    }

    async fn check_batch(&mut self, db: &Db, seal: &Seal) -> Result<()> {
        let query = db.query(concat!("SELECT seal_id, ", columns!(), " FROM audit_event WHERE seal_id = $1"));
        let events: Vec<Event> = query.bind(seal.seal_id).all().await?;
        let found = i64::try_from(events.len()).unwrap_or(i64::MAX);
        self.entries += found.unsigned_abs();
        for event in &events {
            if [event.actor_data(), event.target_data()].contains(&PersonalData::Altered) {
                self.findings.push(Finding::AlteredPersonalData(event.event_id));
            }
            self.erased += u64::from(event.is_erased());
        }
        if found != seal.entries || batch_digest(events.iter().map(Event::sealed_columns).collect()) != seal.digest {
            self.findings.push(Finding::AlteredBatch { seal_id: seal.seal_id, sealed: seal.entries, found });
        }
        Ok(())
    }

    async fn check_published(&mut self, db: &Db, published: &PublishedSeal) -> Result<()> {
        let seal_id = published.seal_id;
        let newest = self.newest.as_ref().map_or(0, PublishedSeal::seal_id);
        let query = db.query("SELECT mac FROM audit_seal WHERE seal_id = $1").bind(seal_id);
        match query.optional::<(Vec<u8>,)>().await? {
            Some((mac,)) if mac == published.mac => {}
            Some(_) => self.findings.push(Finding::DiffersFromPublished(seal_id)),
            // Retention deletes the seals of old batches.
            None if seal_id < newest => {}
            None => self.findings.push(Finding::Truncated(seal_id)),
        }
        Ok(())
    }
}
