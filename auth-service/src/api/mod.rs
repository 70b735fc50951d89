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

use access::{Actor, Caller, Error, Result, UserId};
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

use crate::events::{EventLog, OutboxTransaction};

/// Begins what the caller changes. They are still there, and active, when it is durable: what a token says that is not revoked here
/// yet is not enough. A handler that locks the user who is changed names them: those who change themselves are locked at once.
///
/// # Errors
///
/// UNAUTHENTICATED where the caller is gone or not active, and those of the database.
async fn begin(event_log: &EventLog, caller: &Caller, changed: Option<UserId>) -> Result<OutboxTransaction> {
    let mut change = event_log.begin().await?;
    let is_there = match caller.actor() {
        Actor::User => {
            let user_id = caller.user_id()?;
            if changed == Some(user_id) {
                crate::users::lock(&mut change, user_id).await?.is_some_and(|user| user.is_active)
            } else {
                crate::users::lock_active(&mut change, user_id).await?
            }
        }
        Actor::Service => crate::clients::hold(&mut change, caller.subject()).await?,
    };
    if is_there { Ok(change) } else { Err(Error::access_token_invalid()) }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    SystemTime::from(time).into()
}
