//! The kinds of events.
//!
//! [`event_kinds!`] declares each kind once: its data, its message in `auth.v1.Event`, and its effect on token verifiers. A new kind
//! is an entry here, and an enum value and a field of `Event.what` in `auth/v1/event.proto`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, Result, SessionId, UserId,
    proto::auth::v1::{ClientVersion, EventKind, KeyId, Nothing, SessionsEnded, Username, event::What},
    token::Revocation,
};

/// Something that happened in the auth service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The user that it happened to, and the version of the user after it. None if it is not about one user.
    pub user: Option<(UserId, i64)>,
    /// The kind of event, with its data.
    pub payload: EventPayload,
}

/// The effect of an event on a token verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifierEffect {
    /// These tokens are revoked.
    Revoke(Revocation),
    /// The set of public keys has changed.
    RefreshKeys,
}

/// Declares the kinds, each as `Kind { data } = Message { field: data } => effect`.
///
/// The name of the kind is also its value in `auth.v1.EventKind` and its field in `auth.v1.Event.what`. The effect is a function of
/// the event's user, in which the data are in scope. A kind without an effect does not concern token verifiers.
macro_rules! event_kinds {
    ($(
        $(#[$comment:meta])*
        $kind:ident $({ $($field:ident: $type:ty),+ })? = $message:ident { $($wire:ident: $data:ident),* } $(=> $effect:expr)?;
    )+) => {
        /// The kind of an event, with its data. It is stored as the columns `kind` and `payload` of the outbox.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
        #[expect(missing_docs, reason = "the names of the fields say everything")]
        pub enum EventPayload {
            $($(#[$comment])* $kind $({ $($field: $type),+ })?,)+
        }

        impl EventPayload {
            /// Returns the kind.
            pub fn kind(&self) -> EventKind {
                match self {
                    $(Self::$kind { .. } => EventKind::$kind,)+
                }
            }
        }

        impl From<EventPayload> for What {
            fn from(payload: EventPayload) -> Self {
                match payload {
                    $(EventPayload::$kind { $($($field),+)? } => Self::$kind($message { $($wire: $data.into_wire()),* }),)+
                }
            }
        }

        impl TryFrom<What> for EventPayload {
            type Error = Error;

            fn try_from(what: What) -> Result<Self> {
                Ok(match what {
                    $(What::$kind($message { $($wire: $data),* }) => {
                        Self::$kind { $($($field: <$type as WireField>::from_wire(stringify!($field), $field)?),+)? }
                    })+
                })
            }
        }

        impl Event {
            /// Returns the effect on token verifiers. None if there is none.
            #[allow(unused_variables, reason = "not every effect depends on the data")]
            pub fn verifier_effect(&self) -> Option<VerifierEffect> {
                match &self.payload {
                    $(EventPayload::$kind { $($($field),+)? } => event_kinds!(@effect self.user $(, $effect)?),)+
                }
            }
        }

        /// The kinds that have an effect on token verifiers.
        pub(super) const VERIFIER_KINDS: &[EventKind] = &[$($(event_kinds!(@kind $kind, $effect),)?)+];
    };
    (@effect $user:expr) => { None };
    (@effect $user:expr, $effect:expr) => { ($effect)($user) };
    (@kind $kind:ident, $effect:expr) => { EventKind::$kind };
}

event_kinds! {
    /// The user was created and is active.
    UserCreated { username: String } = Username { username: username };
    /// The user has a new username.
    UserRenamed { username: String } = Username { username: username };
    /// Data of the user changed that no other kind describes.
    UserUpdated = Nothing {};
    /// The user may sign in again.
    UserActivated = Nothing {};
    /// The user may not sign in any more.
    UserDeactivated = Nothing {} => revoke_older_tokens;
    /// The user was deleted.
    UserDeleted = Nothing {} => revoke_all_tokens;
    /// These sessions ended: at most [`MAX_SESSIONS`].
    SessionsEnded { session_ids: Vec<SessionId> } = SessionsEnded { session_ids: session_ids }
        => |_| Some(revoke(Revocation::Sessions(session_ids.clone())));
    /// The permissions of the user changed.
    PermissionsChanged = Nothing {} => revoke_older_tokens;
    /// The key was published, and does not sign yet.
    KeyCreated { kid: String } = KeyId { key_id: kid } => |_| Some(VerifierEffect::RefreshKeys);
    /// The key signs from now on.
    KeyActivated { kid: String } = KeyId { key_id: kid } => |_| Some(VerifierEffect::RefreshKeys);
    /// The key no longer signs. It verifies until its last token has expired.
    KeyRetired { kid: String } = KeyId { key_id: kid };
    /// The key was withdrawn. No token that it signed is valid.
    KeyWithdrawn { kid: String } = KeyId { key_id: kid } => |_| Some(revoke(Revocation::Key(kid.clone())));
    /// The client lost a permission or a credential.
    ClientRestricted { client_id: String, version: i64 } = ClientVersion { client_id: client_id, version: version }
        => |_| Some(revoke(Revocation::Client(client_id.clone(), *version)));
}

/// The number of sessions that one event names at most. Readers hold an event in memory.
pub const MAX_SESSIONS: usize = 500;

fn revoke(revocation: Revocation) -> VerifierEffect {
    VerifierEffect::Revoke(revocation)
}

fn revoke_older_tokens(user: Option<(UserId, i64)>) -> Option<VerifierEffect> {
    user.map(|(user_id, version)| revoke(Revocation::OlderThan(user_id, version)))
}

fn revoke_all_tokens(user: Option<(UserId, i64)>) -> Option<VerifierEffect> {
    user.map(|(user_id, _)| revoke(Revocation::User(user_id)))
}

impl EventPayload {
    /// Returns the columns `kind` and `payload`. The payload is JSON, and `null` if the kind has no data.
    pub fn to_columns(&self) -> Result<(String, String)> {
        let mut value = serde_json::to_value(self).map_err(Error::internal)?;
        let payload = value.get_mut("payload").map_or(Value::Null, Value::take);
        Ok((value["kind"].as_str().unwrap_or_default().to_owned(), payload.to_string()))
    }

    /// Parses the columns `kind` and `payload`.
    pub fn from_columns(kind: &str, payload: &str) -> Result<Self> {
        let payload: Value = serde_json::from_str(payload).map_err(Error::internal)?;
        let value = if payload.is_null() { json!({ "kind": kind }) } else { json!({ "kind": kind, "payload": payload }) };
        serde_json::from_value(value).map_err(Error::internal)
    }
}

/// A value that has another type in a message.
trait WireField: Sized {
    type Wire;

    fn into_wire(self) -> Self::Wire;

    /// Parses the value of the field `name`.
    fn from_wire(name: &str, wire: Self::Wire) -> Result<Self>;
}

impl WireField for String {
    type Wire = Self;

    fn into_wire(self) -> Self {
        self
    }

    fn from_wire(_: &str, wire: Self) -> Result<Self> {
        Ok(wire)
    }
}

impl WireField for i64 {
    type Wire = Self;

    fn into_wire(self) -> Self {
        self
    }

    fn from_wire(_: &str, wire: Self) -> Result<Self> {
        Ok(wire)
    }
}

impl WireField for Vec<SessionId> {
    type Wire = Vec<String>;

    fn into_wire(self) -> Vec<String> {
        self.iter().map(ToString::to_string).collect()
    }

    fn from_wire(name: &str, wire: Vec<String>) -> Result<Self> {
        wire.iter().map(|session_id| SessionId::parse(name, session_id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    /// Returns an event of every kind, with its columns and its effect on the tokens of user 7 in version 3.
    fn examples() -> Vec<(EventPayload, &'static str, &'static str, Option<VerifierEffect>)> {
        let username = || "alice \"o'\u{1F600}\"".to_owned();
        let name = r#"{"username":"alice \"o'😀\""}"#;
        let (kid, key) = (|| "k".to_owned(), r#"{"kid":"k"}"#);
        let session_id = SessionId::from(Uuid::from_u128(7));
        let sessions = r#"{"session_ids":["00000000-0000-0000-0000-000000000007"]}"#;
        let user_id = UserId::from(Uuid::from_u128(7));
        let older = || Some(revoke(Revocation::OlderThan(user_id, 3)));
        vec![
            (EventPayload::UserCreated { username: username() }, "USER_CREATED", name, None),
            (EventPayload::UserRenamed { username: username() }, "USER_RENAMED", name, None),
            (EventPayload::UserUpdated, "USER_UPDATED", "null", None),
            (EventPayload::UserActivated, "USER_ACTIVATED", "null", None),
            (EventPayload::UserDeactivated, "USER_DEACTIVATED", "null", older()),
            (EventPayload::UserDeleted, "USER_DELETED", "null", Some(revoke(Revocation::User(user_id)))),
            (
                EventPayload::SessionsEnded { session_ids: vec![session_id] },
                "SESSIONS_ENDED",
                sessions,
                Some(revoke(Revocation::Sessions(vec![session_id]))),
            ),
            (EventPayload::PermissionsChanged, "PERMISSIONS_CHANGED", "null", older()),
            (EventPayload::KeyCreated { kid: kid() }, "KEY_CREATED", key, Some(VerifierEffect::RefreshKeys)),
            (EventPayload::KeyActivated { kid: kid() }, "KEY_ACTIVATED", key, Some(VerifierEffect::RefreshKeys)),
            (EventPayload::KeyRetired { kid: kid() }, "KEY_RETIRED", key, None),
            (EventPayload::KeyWithdrawn { kid: kid() }, "KEY_WITHDRAWN", key, Some(revoke(Revocation::Key(kid())))),
            (
                EventPayload::ClientRestricted { client_id: kid(), version: 7 },
                "CLIENT_RESTRICTED",
                r#"{"client_id":"k","version":7}"#,
                Some(revoke(Revocation::Client(kid(), 7))),
            ),
        ]
    }

    #[test]
    fn every_kind_has_an_example() {
        let declared: BTreeSet<_> = (1..).map_while(|number| EventKind::try_from(number).ok()).collect();
        assert_eq!(examples().iter().map(|(payload, ..)| payload.kind()).collect::<BTreeSet<_>>(), declared);
    }

    #[test]
    fn every_kind_survives_storage_and_transport() {
        for (payload, kind, json, effect) in examples() {
            assert_eq!(payload.to_columns().expect("columns"), (kind.to_owned(), json.to_owned()));
            assert_eq!(EventPayload::from_columns(kind, json).expect("a payload"), payload);
            assert_eq!(payload.kind().as_str_name(), format!("EVENT_KIND_{kind}"));
            assert_eq!(EventPayload::try_from(What::from(payload.clone())).expect("a payload"), payload);
            assert_eq!(VERIFIER_KINDS.contains(&payload.kind()), effect.is_some(), "{kind}");
            let event = Event { user: Some((Uuid::from_u128(7).into(), 3)), payload };
            assert_eq!(event.verifier_effect(), effect, "{kind}");
        }
    }
}
