//! The access rule of a method. Generated code and descriptors create these types; the guards and the access layer evaluate them.

use std::borrow::Cow;

/// One method and its access rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodRule {
    /// The path of a gRPC request: `/package.Service/Method`.
    pub path: Cow<'static, str>,
    /// The access rule of the method.
    pub rule: AccessRule,
    /// The reasons with which the method can fail, in addition to those that follow from its rule and its request.
    pub reasons: Cow<'static, [Cow<'static, str>]>,
}

/// `access.v1.Rule`, checked for consistency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The callers that may call.
    pub policy: AccessPolicy,
    /// The kinds of caller that may call. Empty means every kind.
    pub actors: Cow<'static, [Actor]>,
    /// The handling of a call while the revocation feed is stale.
    pub revocation: RevocationMode,
}

/// Specifies how a call is handled while the revocation feed is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationMode {
    /// The call proceeds. A revoked token is accepted until it expires.
    Local,
    /// The call fails with UNAVAILABLE.
    Strict,
}

/// The callers that may call a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessPolicy {
    /// Anyone, without a token.
    Anyone,
    /// Anyone with a valid access token.
    Authenticated,
    /// Callers whose token holds the permission.
    PermissionHolder(Cow<'static, str>),
    /// The owner of the resource that the request names, and callers whose token holds the permission.
    OwnerOrPermissionHolder(Cow<'static, str>),
    /// The owner of the resource that the request names, and nobody else.
    Owner,
}

impl AccessPolicy {
    /// Returns the permission that the policy names.
    pub fn permission(&self) -> Option<&Cow<'static, str>> {
        match self {
            Self::PermissionHolder(permission) | Self::OwnerOrPermissionHolder(permission) => Some(permission),
            Self::Anyone | Self::Authenticated | Self::Owner => None,
        }
    }
}

/// Returns true if `text` has the form of a permission: `app.codename`, in lowercase letters and underscores.
pub fn is_permission(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.split_once('.').is_some_and(|(app, codename)| is_part(app) && is_part(codename))
}

/// A kind of caller: the `actor` claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Actor {
    /// A person, signed in with a session.
    User,
    /// A service that has its own credentials.
    Service,
}

impl Actor {
    /// Returns the value of the `actor` claim.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// The error for an `actor` claim that names no kind of caller.
#[derive(Debug, thiserror::Error)]
#[error("the actor must be `user` or `service`")]
pub struct UnknownActor;

// A derived implementation would also accept `{"user": null}`.
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
