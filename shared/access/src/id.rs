//! Typed ids: `UUIDv7` (RFC 9562), so that they sort by the time they were made. Imported rows have ids of another version, which
//! the crate `django` computes.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
};

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{ContextV7, Timestamp, Uuid};

use crate::{Clock, Error, Result};

/// The id of a user: the `sub` of an access token.
pub type UserId = Id<User>;
/// The id of a session: the `sid` of an access token.
pub type SessionId = Id<Session>;

/// The type parameter of [`UserId`]. It has no values.
#[derive(Debug)]
pub enum User {}
/// The type parameter of [`SessionId`]. It has no values.
#[derive(Debug)]
pub enum Session {}

/// The id of a `T`: a UUID (RFC 9562). Ids of different kinds have different types, so that one cannot take the place of another.
///
/// An id is displayed and serialized in the hyphenated form in lower case.
pub struct Id<T>(Uuid, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// Creates a `UUIDv7` with the clock's time. Ids sort by the millisecond in which they were created. Ids of the same
    /// millisecond are in no particular order; [`IdSequence`] creates ordered ones.
    #[expect(clippy::disallowed_methods, reason = "this is the only place that creates ids")]
    pub fn new(clock: &Clock) -> Self {
        let now = clock.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        Self(Uuid::new_v7(Timestamp::from_unix(uuid::NoContext, seconds, now.timestamp_subsec_nanos())), PhantomData)
    }

    /// Parses the id in the request field `field`.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT that names the field if the text is not a UUID, with or without hyphens.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        Uuid::try_parse(text).map(Self::from).map_err(|_| Error::invalid(field, "string.uuid", "must be a UUID"))
    }
}

/// Creates ids whose order is the order in which they were created, also within one millisecond.
#[derive(Debug, Default)]
pub struct IdSequence(Mutex<ContextV7>);

impl IdSequence {
    /// Creates the next id, a `UUIDv7` with the clock's time. It is greater than the ids that this sequence has created before.
    #[expect(clippy::disallowed_methods, reason = "the clock determines the time of the id")]
    pub fn next<T>(&self, clock: &Clock) -> Id<T> {
        let now = clock.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        let context = self.0.lock();
        Uuid::new_v7(Timestamp::from_unix(&*context, seconds, now.timestamp_subsec_nanos())).into()
    }
}

impl<T> From<Uuid> for Id<T> {
    fn from(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }
}

impl<T> From<Id<T>> for Uuid {
    fn from(id: Id<T>) -> Self {
        id.0
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Uuid::try_parse(&text).map(Self::from).map_err(serde::de::Error::custom)
    }
}

/// The same as a value of a database column.
#[cfg(feature = "sqlx")]
mod column {
    use sqlx::{Database, Decode, Encode, Type, encode::IsNull, error::BoxDynError};
    use uuid::Uuid;

    use super::Id;

    impl<T, Db: Database> Type<Db> for Id<T>
    where
        Uuid: Type<Db>,
    {
        fn type_info() -> Db::TypeInfo {
            Uuid::type_info()
        }

        fn compatible(type_info: &Db::TypeInfo) -> bool {
            Uuid::compatible(type_info)
        }
    }

    impl<'q, T, Db: Database> Encode<'q, Db> for Id<T>
    where
        Uuid: Encode<'q, Db>,
    {
        fn encode_by_ref(&self, buffer: &mut Db::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
            self.0.encode_by_ref(buffer)
        }
    }

    impl<'r, T, Db: Database> Decode<'r, Db> for Id<T>
    where
        Uuid: Decode<'r, Db>,
    {
        fn decode(value: Db::ValueRef<'r>) -> Result<Self, BoxDynError> {
            Uuid::decode(value).map(Self::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_sequence_is_in_order_within_a_millisecond() {
        let clock = Clock::from_fn(|| DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
        let sequence = IdSequence::default();
        let ids: Vec<UserId> = (0..10_000).map(|_| sequence.next(&clock)).collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
