//! The handlers: one struct for each service of the proto, and the mapping of its rows to messages. The generated guard has checked
//! the access rule and the request before a handler is called.

mod export;
mod friends;
mod notes;
mod profile_message;
mod profiles;
mod sync;

use access::{Caller, Error, Result, UserId};
use store::{Db, Tx};

pub(crate) use self::{
    export::ProfileExport, friends::FriendApi, notes::NoteApi, profile_message::message as profile_message, profiles::ProfileApi,
    sync::SyncApi,
};

/// Begins a transaction that changes data of `owner`.
///
/// A caller who is another user must still exist when the transaction commits, because their token may be older than their deletion.
/// Neither the caller nor the owner is deleted before it commits. A caller who is the owner needs no check: their data is deleted with
/// them.
///
/// # Errors
///
/// Returns UNAUTHENTICATED if the caller is a deleted user.
async fn begin(db: &Db, caller: &Caller, owner: UserId) -> Result<Tx> {
    let mut tx = db.begin().await?;
    match caller.user_id() {
        Ok(user_id) if user_id != owner && !crate::profiles::lock_shared(&mut tx, user_id, owner).await? => {
            Err(Error::access_token_invalid())
        }
        _ => Ok(tx),
    }
}

/// Returns the id of the user who reads, or None if the caller is a service.
fn reader(caller: &Caller) -> Option<UserId> {
    caller.user_id().ok()
}
