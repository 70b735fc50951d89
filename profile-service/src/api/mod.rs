//! The handlers: one struct for each service of the proto, with the one mapping of its rows to messages. A handler is reached
//! by whoever may call it, with a request that keeps the rules of the proto.

mod export;
mod friends;
mod notes;
mod profile_message;
mod profiles;
mod sync;

use access::{
    Caller, Error, Result, UserId,
    error::{Reason, Violation},
};
use store::{Db, Tx};

pub(crate) use self::{friends::FriendApi, notes::NoteApi, profiles::ProfileApi, sync::SyncApi};

/// Begins what the caller changes of `owner`'s. A user who does is still there when it is durable: a token says nothing of a user who
/// was deleted after it was issued. What the caller owns goes with them, so of that nothing has to be asked.
///
/// # Errors
///
/// UNAUTHENTICATED where the caller is a user who is gone, and those of the database.
async fn begin(db: &Db, caller: &Caller, owner: UserId) -> Result<Tx> {
    let mut tx = db.begin().await?;
    match caller.user_id() {
        Ok(user_id) if user_id != owner && !crate::profiles::lock_shared(&mut tx, user_id).await? => {
            Err(Error::access_token_invalid())
        }
        _ => Ok(tx),
    }
}

/// Who reads: nobody in particular where the caller is a service.
fn reader(caller: &Caller) -> Option<UserId> {
    caller.user_id().ok()
}

/// Refuses a request whose fields break rules: with every violation, not only the first.
fn refuse(broken: impl IntoIterator<Item = Option<Violation>>) -> Result<()> {
    let violations: Vec<_> = broken.into_iter().flatten().collect();
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(Reason::FieldInvalid, violations)) }
}
