//! One file a proto service: its handlers, and the messages that rows become.

mod events;
mod identity;
mod keys;
mod sessions;
mod tokens;
mod users;

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

pub(crate) use events::EventApi;
pub(crate) use identity::IdentityApi;
pub(crate) use keys::KeyApi;
pub(crate) use sessions::SessionApi;
pub(crate) use tokens::TokenApi;
pub(crate) use users::UserApi;

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    SystemTime::from(time).into()
}
