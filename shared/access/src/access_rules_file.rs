//! The access rules of one service as a file: the service prints it, and the auth service reads which permissions exist.

use std::{borrow::Cow, fs};

use contract::{AccessPolicy, AccessRule, Actor, MethodRule, RevocationMode, is_permission};
use serde::{Deserialize, Serialize};

/// The access rules of one service, as `SERVICE access-rules` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRulesFile {
    /// The name of the service.
    pub service: String,
    /// The methods of the service and their rules.
    pub methods: Vec<MethodEntry>,
    /// Every permission that a rule names, sorted.
    pub permissions: Vec<String>,
}

/// One method and its access rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodEntry {
    /// The path of a gRPC request: `/package.Service/Method`.
    pub path: String,
    /// The callers that may call.
    pub policy: MethodPolicy,
    /// The permission that the policy names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// The kinds of caller that may call. Empty means every kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Actor>,
    /// Whether the method fails while revocations are stale.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_revocation: bool,
}

/// The callers that may call a method. See [`AccessPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodPolicy {
    /// Anyone, without a token.
    Anyone,
    /// Anyone with a valid access token.
    Authenticated,
    /// Callers whose token holds the permission.
    PermissionHolder,
    /// The owner of the resource, and callers whose token holds the permission.
    OwnerOrPermissionHolder,
    /// The owner of the resource.
    Owner,
}

impl MethodPolicy {
    fn needs_permission(self) -> bool {
        matches!(self, Self::PermissionHolder | Self::OwnerOrPermissionHolder)
    }
}

/// The reason why a file with access rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessRulesFileError {
    /// The file cannot be read.
    #[error("cannot read the access rules: {0}")]
    Read(#[from] std::io::Error),
    /// The file is not JSON of the expected form.
    #[error("the access rules are not what `SERVICE access-rules` prints: {0}")]
    Json(#[from] serde_json::Error),
    /// A rule is wrong.
    #[error("the rule of {path} {problem}")]
    Rule {
        /// The method that the rule belongs to.
        path: String,
        /// A clause that says what is wrong.
        problem: String,
    },
    /// A permission belongs to no rule.
    #[error("no rule names the permission {0:?} of the list `permissions`")]
    Permission(String),
}

impl AccessRulesFile {
    /// Creates the file of the service with this name and these methods.
    pub fn new(service: &str, methods: &[&[MethodRule]]) -> Self {
        let methods: Vec<_> = methods.iter().flat_map(|methods| methods.iter()).map(MethodEntry::new).collect();
        let permissions = named_permissions(&methods);
        Self { service: service.to_owned(), methods, permissions }
    }

    /// Reads a file and checks it.
    pub fn read(path: &str) -> Result<Self, AccessRulesFileError> {
        fs::read_to_string(path)?.parse()
    }

    /// Returns the text of the file.
    #[expect(clippy::missing_panics_doc, reason = "it cannot panic")]
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("every key of the file is a string");
        json + "\n"
    }

    fn check(self) -> Result<Self, AccessRulesFileError> {
        for MethodEntry { path, policy, permission, .. } in &self.methods {
            let problem = match permission {
                Some(permission) if !is_permission(permission) => {
                    format!("names the permission {permission:?}, which is not of the form `app.codename`")
                }
                Some(permission) if !self.permissions.contains(permission) => {
                    format!("names the permission {permission:?}, which is not in the list `permissions`")
                }
                None if policy.needs_permission() => "must name a permission".to_owned(),
                Some(_) if !policy.needs_permission() => "names a permission, but its policy needs none".to_owned(),
                _ => continue,
            };
            return Err(AccessRulesFileError::Rule { path: path.clone(), problem });
        }
        let named = named_permissions(&self.methods);
        match self.permissions.iter().find(|permission| !named.contains(permission)) {
            Some(permission) => Err(AccessRulesFileError::Permission(permission.clone())),
            None => Ok(self),
        }
    }
}

impl std::str::FromStr for AccessRulesFile {
    type Err = AccessRulesFileError;

    fn from_str(text: &str) -> Result<Self, AccessRulesFileError> {
        serde_json::from_str::<Self>(text)?.check()
    }
}

impl MethodEntry {
    fn new(method: &MethodRule) -> Self {
        let AccessRule { policy, actors, revocation } = &method.rule;
        Self {
            path: method.path.to_string(),
            permission: policy.permission().map(Cow::to_string),
            policy: match policy {
                AccessPolicy::Anyone => MethodPolicy::Anyone,
                AccessPolicy::Authenticated => MethodPolicy::Authenticated,
                AccessPolicy::PermissionHolder(_) => MethodPolicy::PermissionHolder,
                AccessPolicy::OwnerOrPermissionHolder(_) => MethodPolicy::OwnerOrPermissionHolder,
                AccessPolicy::Owner => MethodPolicy::Owner,
            },
            actors: actors.to_vec(),
            strict_revocation: *revocation == RevocationMode::Strict,
        }
    }
}

fn named_permissions(methods: &[MethodEntry]) -> Vec<String> {
    let mut permissions: Vec<_> = methods.iter().filter_map(|method| method.permission.clone()).collect();
    permissions.sort();
    permissions.dedup();
    permissions
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: &[MethodRule] = &[MethodRule {
        path: Cow::Borrowed("/greeter.v1.GreeterService/Greet"),
        rule: AccessRule {
            policy: AccessPolicy::PermissionHolder(Cow::Borrowed("greeter.greet_people")),
            actors: Cow::Borrowed(&[Actor::User]),
            revocation: RevocationMode::Strict,
        },
        reasons: Cow::Borrowed(&[]),
    }];

    #[test]
    fn a_printed_file_can_be_read() {
        let file = AccessRulesFile::new("greeter", &[METHODS]);
        assert_eq!(file.permissions, ["greeter.greet_people"]);
        assert_eq!(file.to_json().parse::<AccessRulesFile>().expect("a file"), file);
    }

    #[test]
    fn an_error_names_the_rule() {
        let json = AccessRulesFile::new("greeter", &[METHODS]).to_json();
        for (from, to, expected) in [
            (
                "permission_holder",
                "owner",
                "the rule of /greeter.v1.GreeterService/Greet names a permission, but its policy needs none",
            ),
            ("permission_holder", "holder", "unknown variant `holder`"),
            ("\"permission\":", "\"permissions\":", "unknown field `permissions`"),
            (
                "greeter.greet_people",
                "Greeter",
                "the rule of /greeter.v1.GreeterService/Greet names the permission \"Greeter\", which is not",
            ),
            ("\"permissions\": [", "\"permissions\": [\"a.b\",", "no rule names the permission \"a.b\""),
            ("{", "[", "not what `SERVICE access-rules` prints"),
        ] {
            let error = json.replacen(from, to, 2).parse::<AccessRulesFile>().expect_err(to).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
