//! One file a proto service: its handlers, and the messages that rows become.

mod identity;
mod keys;
mod sessions;
mod tokens;
mod users;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

pub(crate) use identity::IdentityApi;
pub(crate) use keys::KeyApi;
pub(crate) use sessions::SessionApi;
pub(crate) use tokens::TokenApi;
pub(crate) use users::UserApi;

#[expect(clippy::cast_possible_wrap, reason = "nanoseconds of a second fit")]
fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 }
}
