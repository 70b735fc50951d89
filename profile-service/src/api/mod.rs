//! The handlers: one struct for each service of the proto, and the mapping of its rows to messages. The generated guard has checked
//! the access rule and the request before a handler is called.

mod audit;
mod export;
mod friends;
mod notes;
mod profile_message;
mod profiles;
mod sync;

use access::{Caller, UserId};

pub(crate) use self::{
    audit::AuditApi, export::ProfileExport, friends::FriendApi, notes::NoteApi, profile_message::message as profile_message,
    profiles::ProfileApi, sync::SyncApi,
};

/// Returns the id of the user who reads, or None if the caller is a service.
fn reader(caller: &Caller) -> Option<UserId> {
    caller.user_id().ok()
}
