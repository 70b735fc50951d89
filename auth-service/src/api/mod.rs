//! One file a proto service: its handlers, and the messages that rows become.

mod clients;
mod events;
mod groups;
mod identity;
mod keys;
mod permissions;
mod sessions;
mod tokens;
mod users;

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

pub(crate) use clients::ClientApi;
pub(crate) use events::EventApi;
pub(crate) use groups::GroupApi;
pub(crate) use identity::IdentityApi;
pub(crate) use keys::KeyApi;
pub(crate) use permissions::PermissionApi;
pub(crate) use sessions::SessionApi;
pub(crate) use tokens::TokenApi;
pub(crate) use users::UserApi;

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    SystemTime::from(time).into()
}
