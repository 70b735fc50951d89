//! What the protos say of every method: who may call it. Generated code fills it in, the authentication layer reads it.

use std::collections::HashMap;

/// One method of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// As in a request: `/package.Service/Method`.
    pub path: &'static str,
    /// Who may call it.
    pub rule: Rule,
}

/// `access.v1.Rule`, checked when it was compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whom it lets in.
    pub who: Who,
    /// Which kinds of caller; every kind where empty.
    pub actors: &'static [Actor],
    /// What happens while the news of revocations are late.
    pub revocation: Revocation,
}

/// What happens to a call while the news of revocations are late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// It goes on: the token counts until it expires.
    Local,
    /// It is UNAVAILABLE.
    Strict,
}

/// Whom a rule lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anyone, without a token.
    Anyone,
    /// Anyone with a valid access token.
    Authenticated,
    /// Whose token holds the permission.
    PermissionHolder(&'static str),
    /// The owner of what the request names, and whose token holds the permission.
    OwnerOrPermissionHolder(&'static str),
    /// The owner of what the request names, and nobody else.
    Owner,
}

/// A kind of caller: the `actor` claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Actor {
    /// A person, signed in with a session.
    User,
    /// A service, with credentials of its own.
    Service,
}

/// An `actor` claim that names no kind of caller.
#[derive(Debug, thiserror::Error)]
#[error("neither `user` nor `service`")]
pub struct UnknownActor;

// Derived, it would take `{"user": null}` for a user too.
impl TryFrom<String> for Actor {
    type Error = UnknownActor;

    fn try_from(name: String) -> Result<Self, UnknownActor> {
        match name.as_str() {
            "user" => Ok(Self::User),
            "service" => Ok(Self::Service),
            _ => Err(UnknownActor),
        }
    }
}

/// The methods that a server answers.
#[derive(Debug, Clone, Default)]
pub struct Contract(HashMap<&'static str, Rule>);

impl Contract {
    /// The rule of the method at `path`. What is not in the contract is not there at all.
    pub fn rule(&self, path: &str) -> Option<&Rule> {
        self.0.get(path)
    }

    /// Adds the methods of one service.
    pub fn extend(&mut self, methods: &[Method]) {
        self.0.extend(methods.iter().map(|method| (method.path, method.rule)));
    }
}

/// Health and reflection: whoever can reach the port may ask.
pub(crate) const STANDARD: &[Method] = &[
    anyone("/grpc.health.v1.Health/Check"),
    anyone("/grpc.health.v1.Health/Watch"),
    anyone("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    anyone("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];

const fn anyone(path: &'static str) -> Method {
    Method { path, rule: Rule { who: Who::Anyone, actors: &[], revocation: Revocation::Local } }
}
