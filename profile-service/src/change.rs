//! The transaction of a handler that changes data of a user. An act of another caller is recorded in the audit log.

use std::{
    borrow::Cow,
    future::Future,
    iter,
    ops::{Deref, DerefMut},
    pin::Pin,
};

use access::{AuditRecorder, AuditedCall, Caller, CurrentCall, Error, Result, UserId};
use audit::{Actor, AuditLog, Entry, Target};
use store::{Db, Tx};

use crate::profiles;

/// A transaction that changes data of its owner. It runs queries as a [`Tx`] does. Without a commit, nothing happens.
#[must_use]
pub(crate) struct Change {
    tx: Tx,
    audit_log: AuditLog,
    /// Absent if the owner acts, and after it was recorded.
    entry: Option<Entry>,
}

impl Change {
    /// Begins a transaction that changes data of `owner`.
    ///
    /// A caller who is another user must still exist when the transaction commits, because their token may be older than their deletion.
    /// Neither the caller nor the owner is deleted before it commits. A caller who is the owner needs no check: their data is deleted with
    /// them.
    ///
    /// # Errors
    ///
    /// Returns UNAUTHENTICATED if the caller is a deleted user.
    pub(crate) async fn begin(db: &Db, audit_log: &AuditLog, caller: &Caller, owner: UserId) -> Result<Self> {
        let mut tx = db.begin().await?;
        let user_id = caller.user_id().ok();
        if let Some(user_id) = user_id.filter(|user_id| *user_id != owner)
            && !profiles::lock_shared(&mut tx, user_id, owner).await?
        {
            return Err(Error::access_token_invalid());
        }
        let call = AuditedCall::get().filter(|_| user_id != Some(owner));
        Ok(Self { tx, audit_log: audit_log.clone(), entry: call.as_ref().map(Entry::of_call) })
    }

    /// Writes the entry in the audit log, unless the owner acts, with the names of the fields that the transaction changes. Called before the
    /// last statement that changes something, it costs no round trip, because the entry is sent with that statement.
    pub(crate) async fn record(&mut self, fields: impl IntoIterator<Item = impl Into<Cow<'static, str>>>) -> Result<()> {
        if let Some(mut entry) = self.entry.take() {
            entry.fields.extend(fields.into_iter().map(Into::into));
            self.audit_log.record(&mut self.tx, entry).await?;
        }
        Ok(())
    }

    /// Commits the changes with the entry in the audit log. If [`record`](Self::record) was not called, the entry names no field.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.record(iter::empty::<&str>()).await?;
        self.tx.commit().await?;
        if let Some(call) = AuditedCall::get() {
            call.mark_recorded();
        }
        Ok(())
    }
}

impl Deref for Change {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for Change {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

/// Records that a caller reads all data of another user. The owner's own call is not recorded.
pub(crate) async fn record_read(audit_log: &AuditLog, method: &'static str, caller: &Caller, owner: UserId) -> Result<()> {
    if caller.user_id().ok() == Some(owner) {
        return Ok(());
    }
    let entry = Entry {
        actor: Actor::of_caller(caller),
        target: Some(Target { kind: "user".into(), id: owner.to_string(), name: None }),
        ..Entry::by_client(method.into(), caller.client_info(), CurrentCall::get().as_ref())
    };
    audit_log.record_alone(entry).await
}

/// The audit log as the guards of this service use it: refused calls of users about their own data are not recorded.
pub(crate) struct RefusalRecorder(pub(crate) AuditLog);

impl AuditRecorder for RefusalRecorder {
    fn record_refusal<'a>(&'a self, call: &'a AuditedCall, error: &'a Error) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let is_own = call.caller().zip(call.target()).is_some_and(|(caller, target)| caller.subject() == target.id);
        if is_own { Box::pin(std::future::ready(())) } else { self.0.record_refusal(call, error) }
    }
}
