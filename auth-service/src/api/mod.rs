//! The handlers of the proto services, one file per service, with the conversion of rows to messages.

mod audit;
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

pub(crate) use audit::AuditApi;
pub(crate) use clients::{ClientApi, client_message};
pub(crate) use events::EventApi;
pub(crate) use groups::{GroupApi, group_message};
pub(crate) use identity::IdentityApi;
pub(crate) use keys::{KeyApi, key_message};
pub(crate) use permissions::PermissionApi;
pub(crate) use sessions::{SessionApi, session_message};
pub(crate) use tokens::TokenApi;
pub(crate) use users::{UserApi, user_message};

use crate::events::{EventLog, OutboxTransaction};

/// Begins a transaction for a change by the caller, and locks the caller's row, so that the caller is active until the commit. The
/// access token alone does not prove that, because a revocation may not have reached this replica yet.
///
/// A handler that locks a user for update passes the id as `target`. If the caller is the target, the row is locked for update at once,
/// because a later upgrade of the lock could deadlock.
///
/// # Errors
///
/// Returns UNAUTHENTICATED if the caller was deleted or deactivated.
async fn begin(event_log: &EventLog, caller: &Caller, target: Option<UserId>) -> Result<OutboxTransaction> {
    let mut change = event_log.begin().await?;
    lock_caller(&mut change, caller, target).await?;
    Ok(change)
}

/// Locks the caller's row in a transaction, as [`begin`] does.
async fn lock_caller(change: &mut OutboxTransaction, caller: &Caller, target: Option<UserId>) -> Result<()> {
    let is_active = match caller.actor() {
        Actor::User => {
            let user_id = caller.user_id()?;
            if target == Some(user_id) {
                crate::users::lock(change, user_id).await?.is_some_and(|user| user.is_active)
            } else {
                crate::users::lock_active(change, user_id).await?
            }
        }
        Actor::Service => crate::clients::lock_active(change, caller.subject()).await?,
    };
    if is_active { Ok(()) } else { Err(Error::access_token_invalid()) }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    SystemTime::from(time).into()
}
