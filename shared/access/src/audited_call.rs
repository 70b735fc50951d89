//! Describes the call or the command that the current task works for, as an audit log records it.

use std::{
    borrow::Cow,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tonic::Request;

use crate::{Caller, ClientInfo, CurrentCall, Error, MethodRule};

tokio::task_local! {
    static CALL: AuditedCall;
}

/// The longest id of a target, in bytes. A longer text is not an id.
const ID_LIMIT: usize = 64;

/// The call of an audited method, or the command, that the current task works for.
///
/// The guard creates one for each call of a method whose access rule says `audit: true`. The handler finds it with [`AuditedCall::get`],
/// writes the entry in its transaction, and calls [`AuditedCall::mark_recorded`] after the commit.
#[derive(Debug, Clone)]
pub struct AuditedCall(Arc<Call>);

#[derive(Debug)]
struct Call {
    method: Cow<'static, str>,
    caller: Option<Caller>,
    command_user: Option<String>,
    client_info: ClientInfo,
    request: CurrentCall,
    target: Mutex<Option<CallTarget>>,
    is_recorded: AtomicBool,
}

/// The resource that a call acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallTarget {
    /// The type, such as `user`.
    pub kind: &'static str,
    /// The id.
    pub id: String,
}

/// Records the refused calls of audited methods. The guard calls it. The transaction of the call was rolled back, so it writes in one of its
/// own.
pub trait AuditRecorder: Send + Sync + 'static {
    /// Records that a call was refused. It logs the error if it fails, because the call has failed anyway.
    fn record_refusal<'a>(&'a self, call: &'a AuditedCall, error: &'a Error) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl AuditedCall {
    /// Describes the call of a method.
    pub fn new<T>(method: &'static MethodRule, request: &Request<T>) -> Self {
        let caller = request.extensions().get::<Caller>().cloned();
        let client_info = match &caller {
            Some(caller) => caller.client_info().clone(),
            None => request.extensions().get::<ClientInfo>().cloned().unwrap_or_default(),
        };
        Self::create(Cow::Borrowed(&method.path), caller, None, client_info)
    }

    /// Describes a command that an operating-system user has started.
    pub fn command(name: impl Into<Cow<'static, str>>, user: String) -> Self {
        Self::create(name.into(), None, Some(user), ClientInfo::default())
    }

    fn create(method: Cow<'static, str>, caller: Option<Caller>, command_user: Option<String>, client_info: ClientInfo) -> Self {
        let request = CurrentCall::get().unwrap_or_default();
        let (target, is_recorded) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Call { method, caller, command_user, client_info, request, target, is_recorded }))
    }

    /// Adds the resource that the request names. `me` stands for the caller. A text that cannot be an id is ignored.
    #[must_use]
    pub fn with_target(self, kind: &'static str, id: Option<&str>) -> Self {
        let is_id = |id: &&str| {
            (1..=ID_LIMIT).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        match (id.filter(is_id), &self.0.caller) {
            (Some("me"), Some(caller)) => self.set_target(kind, caller.subject()),
            (Some(id), _) => self.set_target(kind, id),
            (None, _) => {}
        }
        self
    }

    /// Returns the call that the current task works for.
    pub fn get() -> Option<Self> {
        CALL.try_with(Clone::clone).ok()
    }

    /// Runs `work` as a part of the call.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CALL.scope(self.clone(), work)
    }

    /// Returns the path of the method, or the name of the command.
    pub fn method(&self) -> &Cow<'static, str> {
        &self.0.method
    }

    /// Returns the caller. Absent for public methods and commands.
    pub fn caller(&self) -> Option<&Caller> {
        self.0.caller.as_ref()
    }

    /// Returns the operating-system user who started the command. Absent for the call of a method.
    pub fn command_user(&self) -> Option<&str> {
        self.0.command_user.as_deref()
    }

    /// Returns the address and the user agent of the client.
    pub fn client_info(&self) -> &ClientInfo {
        &self.0.client_info
    }

    /// Returns the request id and the trace id.
    pub fn request(&self) -> &CurrentCall {
        &self.0.request
    }

    /// Replaces the resource that the call acts on, for example when the handler has found out which user a username means.
    pub fn set_target(&self, kind: &'static str, id: impl Into<String>) {
        *self.0.target.lock() = Some(CallTarget { kind, id: id.into() });
    }

    /// Returns the resource that the call acts on.
    pub fn target(&self) -> Option<CallTarget> {
        self.0.target.lock().clone()
    }

    /// Notes that a transaction with an entry about this call was committed.
    pub fn mark_recorded(&self) {
        self.0.is_recorded.store(true, Ordering::Relaxed);
    }

    /// Returns true if an entry about this call was committed.
    pub fn is_recorded(&self) -> bool {
        self.0.is_recorded.load(Ordering::Relaxed)
    }
}
