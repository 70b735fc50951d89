//! A new entry.

use std::{borrow::Cow, net::IpAddr};

use access::{AuditedCall, Caller, ClientInfo, CurrentCall, Error, Result, error::CODE_NAMES};
use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use store::Query;

use crate::event::{Event, EventId, columns, personal_digest};

/// The number of bytes of a salt.
const SALT_BYTES: usize = 16;

/// The digest of personal data and its salt.
type SaltedDigest = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The one who acted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Actor {
    /// A caller who is not known.
    #[default]
    Anonymous,
    /// A user.
    User {
        /// The id of the user.
        id: String,
        /// The username at that time, which is erased when the user is deleted.
        name: Option<String>,
    },
    /// A service account, by the id of its client.
    Service(String),
    /// An operating-system user, who ran a command.
    Command(String),
    /// The service itself.
    System,
}

impl Actor {
    /// Returns the actor for a caller with an access token.
    pub fn of_caller(caller: &Caller) -> Self {
        match caller.actor() {
            access::Actor::User => Self::User { id: caller.subject().to_owned(), name: caller.username().map(str::to_owned) },
            access::Actor::Service => Self::Service(caller.subject().to_owned()),
        }
    }

    /// Returns the type, the id and the name.
    fn into_columns(self) -> (&'static str, String, Option<String>) {
        match self {
            Self::Anonymous => ("anonymous", String::new(), None),
            Self::User { id, name } => ("user", id, name),
            Self::Service(id) => ("service", id, None),
            Self::Command(user) => ("cli", user, None),
            Self::System => ("system", String::new(), None),
        }
    }
}

/// The resource that was acted on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// The type, such as `user`.
    pub kind: Cow<'static, str>,
    /// The id.
    pub id: String,
    /// The name at that time. That of a user is erased when the user is deleted.
    pub name: Option<String>,
}

/// A new entry. It must contain no secret, no password and no token: ids and names of fields only, not the values of fields.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The one who acted.
    pub actor: Actor,
    /// The path of an RPC, such as `/auth.v1.UserService/DeleteUser`, or the name of a command, such as `users delete`.
    pub method: Cow<'static, str>,
    /// The resource that was acted on.
    pub target: Option<Target>,
    /// The name of the gRPC code, such as `OK`.
    pub outcome: Cow<'static, str>,
    /// The reason of the error, such as `PERMISSION_MISSING`. Empty without an error.
    pub reason: Cow<'static, str>,
    /// The names of the changed fields.
    pub fields: Vec<Cow<'static, str>>,
    /// The id of the request.
    pub request_id: String,
    /// The trace id of the request (W3C Trace Context).
    pub trace_id: Option<String>,
    /// The address of the client. For a counting entry it can be the first address of a network.
    pub address: Option<IpAddr>,
    /// The user agent of the client.
    pub user_agent: Option<String>,
    /// The number of calls that the entry counts, if it stands for more than one.
    pub occurrences: Option<i64>,
    /// True if the personal data of the actor must not be kept, because the entry describes the deletion of the actor.
    pub is_actor_erased: bool,
}

impl Entry {
    /// Returns the entry about a call or a command that succeeds. The service adds the names of the changed fields.
    pub fn of_call(call: &AuditedCall) -> Self {
        let actor = match (call.caller(), call.command_user()) {
            (Some(caller), _) => Actor::of_caller(caller),
            (None, Some(user)) => Actor::Command(user.to_owned()),
            (None, None) => Actor::Anonymous,
        };
        let target = call.target().map(|target| Target { kind: target.kind.into(), id: target.id, name: None });
        Self { actor, target, ..Self::by_client(call.method().clone(), call.client_info(), Some(call.request())) }
    }

    /// Returns an entry about a request of a client that succeeds.
    pub fn by_client(method: Cow<'static, str>, client: &ClientInfo, request: Option<&CurrentCall>) -> Self {
        Self {
            method,
            outcome: CODE_NAMES[0].into(),
            request_id: request.map(|request| request.request_id().to_owned()).unwrap_or_default(),
            trace_id: request.and_then(CurrentCall::trace_id).map(|trace_id| trace_id.to_string()),
            address: client.address(),
            user_agent: Some(client.user_agent()),
            ..Self::default()
        }
    }
}

/// The statement that inserts a new [`Event`].
pub(crate) const INSERT: &str = concat!(
    "INSERT INTO audit_new_event (",
    columns!(),
    ", sealed_columns)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)"
);

/// The statement that inserts a new [`Event`] where entries were written before the table `audit_new_event` existed.
pub(crate) const INSERT_MOVED: &str = concat!(
    "INSERT INTO audit_event (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
);

impl Event {
    /// Returns the row for an entry that is written at `time`.
    pub(crate) fn new(event_id: EventId, time: DateTime<Utc>, entry: Entry) -> Result<Self> {
        let (actor_type, actor_id, actor_name) = entry.actor.into_columns();
        let target = entry.target.unwrap_or_default();
        let address = entry.address.map(|address| address.to_string());
        let user_agent = entry.user_agent.filter(|text| !text.is_empty());
        let (actor_digest, actor_salt) = salted(&[actor_name.as_deref(), address.as_deref(), user_agent.as_deref()])?;
        let (target_digest, target_salt) = salted(&[target.name.as_deref()])?;
        let keeps_actor = !entry.is_actor_erased;
        // The name of the target can be that of the actor.
        let keeps_target = keeps_actor || actor_id != target.id;
        Ok(Self {
            event_id,
            seal_id: None,
            time,
            actor_type: actor_type.to_owned(),
            actor_id,
            method: entry.method.into_owned(),
            target_type: target.kind.into_owned(),
            target_id: target.id,
            outcome: entry.outcome.into_owned(),
            reason: entry.reason.into_owned(),
            fields: entry.fields.join(" "),
            request_id: entry.request_id,
            trace_id: entry.trace_id.unwrap_or_default(),
            occurrences: entry.occurrences.unwrap_or(1),
            actor_digest,
            target_digest,
            actor_salt: actor_salt.filter(|_| keeps_actor),
            actor_name: actor_name.filter(|_| keeps_actor),
            address: address.filter(|_| keeps_actor),
            user_agent: user_agent.filter(|_| keeps_actor),
            target_salt: target_salt.filter(|_| keeps_target),
            target_name: target.name.filter(|_| keeps_target),
        })
    }

    /// Binds the columns to the parameters of [`INSERT`].
    pub(crate) fn bind(self, query: Query<'_>) -> Query<'_> {
        let sealed_columns = self.encode();
        self.bind_moved(query).bind(sealed_columns)
    }

    /// Binds the columns to the parameters of [`INSERT_MOVED`].
    pub(crate) fn bind_moved(self, query: Query<'_>) -> Query<'_> {
        let query = query.bind(self.event_id).bind(self.time);
        let query = query.bind(self.actor_type).bind(self.actor_id).bind(self.method).bind(self.target_type).bind(self.target_id);
        let query = query.bind(self.outcome).bind(self.reason).bind(self.fields).bind(self.request_id).bind(self.trace_id);
        let query = query.bind(self.occurrences).bind(self.actor_digest).bind(self.target_digest);
        let query = query.bind(self.actor_salt).bind(self.actor_name).bind(self.address).bind(self.user_agent);
        query.bind(self.target_salt).bind(self.target_name)
    }
}

/// Returns the digest of personal data and its salt, or neither if there is none.
fn salted(values: &[Option<&str>]) -> Result<SaltedDigest> {
    if values.iter().all(Option::is_none) {
        return Ok((None, None));
    }
    let mut salt = vec![0; SALT_BYTES];
    rand::fill(&mut salt).map_err(|_| Error::internal("the operating system provides no randomness"))?;
    Ok((Some(personal_digest(&salt, values)), Some(salt)))
}
