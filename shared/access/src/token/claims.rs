//! The claims of an access token (RFC 9068).

use std::collections::HashSet;

use contract::Actor;
use serde::{Deserialize, Serialize};

use crate::SessionId;

/// The claims of an access token (RFC 9068 section 2.2). `sid`, `actor` and `ver` are claims of the auth service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The user's or the client's id.
    pub sub: String,
    /// The audience: the services that accept the token.
    #[serde(deserialize_with = "one_or_more")]
    pub aud: Vec<String>,
    /// The time of expiry, in whole seconds since 1970.
    #[serde(deserialize_with = "whole_seconds")]
    pub exp: i64,
    /// The time of issue, in whole seconds since 1970.
    #[serde(deserialize_with = "whole_seconds")]
    pub iat: i64,
    /// The id of the token.
    pub jti: String,
    /// The client to which the token was issued.
    pub client_id: String,
    /// The session to which the token belongs. None if there is no session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<SessionId>,
    /// The effective permissions, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// The groups of the user.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The username.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// The kind of caller.
    pub actor: Actor,
    /// The version of the user or the client that the claims were read from.
    #[serde(default)]
    pub ver: i64,
}

/// A token whose signature and claims have been verified.
#[derive(Debug)]
pub struct VerifiedToken {
    /// The claims of the token.
    pub claims: Claims,
    permissions: HashSet<String>,
    /// The time of expiry, in seconds since 1970, with its fraction.
    pub(super) expires: f64,
}

impl VerifiedToken {
    pub(super) fn new(claims: Claims, expires: f64) -> Self {
        let permissions = claims.scope.split(' ').filter(|permission| !permission.is_empty()).map(str::to_owned).collect();
        Self { claims, permissions, expires }
    }

    /// Returns true if the token's scope holds the permission.
    pub fn may(&self, permission: &str) -> bool {
        self.permissions.contains(permission)
    }
}

/// Deserializes one string or an array of strings. RFC 7519 section 4.1.3 permits a single audience without an array.
fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        More(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::More(audiences) => audiences,
    })
}

/// Deserializes a time in whole seconds. RFC 7519 section 2 permits a fraction.
#[expect(clippy::cast_possible_truncation, reason = "times before the year 2100 fit")]
fn whole_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    f64::deserialize(deserializer).map(|seconds| seconds.floor() as i64)
}
