//! The handlers: one struct for each service of the proto, with the one mapping of its rows to messages. A handler is reached
//! by whoever may call it, with a request that keeps the rules of the proto.

mod export;
mod friends;
mod notes;
mod profiles;
mod sync;

use shared::{
    Caller, Error, Result, UserId,
    error::{Reason, Violation},
};

pub(crate) use self::{friends::FriendApi, notes::NoteApi, profiles::ProfileApi, sync::SyncApi};

/// Who reads: nobody in particular where the caller is a service.
fn reader(caller: &Caller) -> Option<UserId> {
    caller.user_id().ok()
}

/// Refuses a request whose fields break rules: with every violation, not only the first.
fn refuse(broken: impl IntoIterator<Item = Option<Violation>>) -> Result<()> {
    let violations: Vec<_> = broken.into_iter().flatten().collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(Reason::FieldInvalid, violations)) }
}
