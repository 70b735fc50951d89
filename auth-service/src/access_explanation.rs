//! Explains whether the access rule of a method allows a user to call it, and which changes would make it allow that.

use std::{fmt, sync::Arc};

use access::{AccessRulesFile, Actor, MethodEntry, MethodPolicy, Result, UserId};
use serde::Serialize;
use store::Db;

use crate::{
    groups::GroupId,
    permissions::{self, GroupGrant, SUPERUSER_PERMISSION},
    users::User,
};

/// The maximum number of groups that one explanation suggests.
const GROUP_LIMIT: usize = 20;

/// The methods of this service and of the services whose access rules the operator has configured.
#[derive(Debug, Clone)]
pub struct KnownMethods(Arc<[KnownMethod]>);

/// A method with the name of its service.
#[derive(Debug, Clone)]
pub struct KnownMethod {
    service: String,
    entry: MethodEntry,
}

/// The reason why a name does not name one method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodNameError {
    /// No known service has such a method.
    #[error("no known service has the method {0:?}; --access-rules adds the methods of a service")]
    Unknown(String),
    /// Several methods have a name that ends like this.
    #[error("several methods have a name that ends with {name:?}: {}", paths.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The paths of the methods.
        paths: Vec<String>,
    },
}

impl KnownMethods {
    /// Returns the methods of this service and of the files.
    pub fn new(files: &[AccessRulesFile]) -> Self {
        let mut methods: Vec<KnownMethod> = Vec::new();
        for file in std::iter::once(&crate::access_rules()).chain(files) {
            for entry in &file.methods {
                if !methods.iter().any(|method| method.entry.path == entry.path) {
                    methods.push(KnownMethod { service: file.service.clone(), entry: entry.clone() });
                }
            }
        }
        Self(methods.into())
    }

    /// Returns the method with this name: `/package.Service/Method`, with or without the first slash and with `/` or `.` before the
    /// method, or an end of it that only one method has, such as `Service.Method`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such method, or more than one.
    pub fn find(&self, name: &str) -> Result<&KnownMethod, MethodNameError> {
        let dotted = |path: &str| path.trim_start_matches('/').replace('/', ".");
        let wanted = dotted(name);
        let ends_so = |method: &&KnownMethod| {
            let path = dotted(&method.entry.path);
            path.strip_suffix(&wanted).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let found: Vec<_> = self.0.iter().filter(ends_so).collect();
        let exact = found.iter().find(|method| dotted(&method.entry.path) == wanted);
        match (exact, found.as_slice()) {
            (Some(method), _) | (None, [method]) => Ok(method),
            (None, []) => Err(MethodNameError::Unknown(name.to_owned())),
            (None, several) => Err(MethodNameError::Ambiguous {
                name: name.to_owned(),
                paths: several.iter().map(|method| method.entry.path.clone()).collect(),
            }),
        }
    }
}

/// Whether the access rule of a method allows a user to call it, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The path of the method.
    pub method: String,
    /// The service that has the method.
    pub service: String,
    /// The access rule, in English.
    pub rule: String,
    /// Whether every condition holds.
    pub is_allowed: bool,
    /// The conditions of the rule. A public method has none.
    pub conditions: Vec<Condition>,
}

/// A condition of an access rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The condition, in English.
    pub requirement: String,
    /// Whether it holds.
    pub holds: bool,
    /// The reason why it holds or fails, in English.
    pub finding: String,
    /// Changes that each make it hold.
    pub remedies: Vec<Remedy>,
}

/// A change that makes a condition hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The user is activated.
    Activate,
    /// The permission is granted to the user.
    Grant(String),
    /// The user becomes a superuser.
    GrantSuperuser,
    /// The user is added to a group that has the permission.
    Join {
        /// The id of the group.
        group_id: GroupId,
        /// The name of the group.
        name: String,
    },
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activate => f.write_str("Activate the user."),
            Self::Grant(permission) => write!(f, "Grant {permission} to the user."),
            Self::GrantSuperuser => f.write_str("Make the user a superuser."),
            Self::Join { name, .. } => write!(f, "Add the user to the group {name:?}."),
        }
    }
}

/// The groups that an explanation may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisibleGroups {
    /// Every group.
    All,
    /// The groups of the user.
    OfUser,
    /// No group.
    None,
}

impl KnownMethod {
    /// Explains whether `user` may call the method for a resource of `owner`. Without an owner, the resource belongs to another user.
    pub async fn explain(&self, db: &Db, user: &User, owner: Option<UserId>, visible: VisibleGroups) -> Result<Explanation> {
        let KnownMethod { service, entry } = self;
        let groups = match &entry.permission {
            Some(permission) if permission != SUPERUSER_PERMISSION => permissions::grants(db, user.user_id, permission).await?,
            _ => permissions::Grants::default(),
        };
        let is_owner = owner == Some(user.user_id);
        let ownership = match owner {
            _ if is_owner => "The user owns the resource.",
            Some(_) => "The resource belongs to another user.",
            None => "No owner is given, so the resource belongs to another user.",
        };
        let mut conditions = Vec::new();
        if entry.policy != MethodPolicy::Anyone {
            conditions.push(is_active(user));
        }
        match (entry.policy, &entry.permission) {
            (MethodPolicy::Owner, _) => conditions.push(Condition {
                requirement: "The user owns the resource.".to_owned(),
                holds: is_owner,
                finding: ownership.to_owned(),
                remedies: Vec::new(),
            }),
            (MethodPolicy::PermissionHolder, Some(permission)) => {
                conditions.push(has_permission(user, permission, groups, visible));
            }
            (MethodPolicy::OwnerOrPermissionHolder, Some(permission)) => {
                let held = has_permission(user, permission, groups, visible);
                conditions.push(Condition {
                    requirement: format!("The user owns the resource, or has the permission {permission}."),
                    holds: is_owner || held.holds,
                    finding: if is_owner { ownership.to_owned() } else { format!("{ownership} {}", held.finding) },
                    remedies: if is_owner { Vec::new() } else { held.remedies },
                });
            }
            _ => {}
        }
        if !entry.actors.is_empty() {
            let holds = entry.actors.contains(&Actor::User);
            conditions.push(Condition {
                requirement: format!("The caller is a {}.", if holds { "user" } else { "service account" }),
                holds,
                finding: if holds { "The caller is a user." } else { "The caller is a user. No permission changes this." }
                    .to_owned(),
                remedies: Vec::new(),
            });
        }
        let is_allowed = conditions.iter().all(|condition| condition.holds);
        Ok(Explanation { method: entry.path.clone(), service: service.clone(), rule: rule(entry), is_allowed, conditions })
    }
}

/// Returns the access rule as a sentence.
pub fn rule(entry: &MethodEntry) -> String {
    let callers = match entry.actors.as_slice() {
        [Actor::User] => "users",
        [Actor::Service] => "service accounts",
        _ => "users and service accounts",
    };
    let permission = entry.permission.as_deref().unwrap_or_default();
    let mut sentence = match entry.policy {
        MethodPolicy::Anyone => "Anyone may call this method, also without an access token.".to_owned(),
        MethodPolicy::Authenticated => format!("All {callers} with a valid access token may call this method."),
        MethodPolicy::PermissionHolder => format!("Only {callers} with the permission {permission} may call this method."),
        MethodPolicy::OwnerOrPermissionHolder => {
            format!("Only the owner of the resource, and {callers} with the permission {permission}, may call this method.")
        }
        MethodPolicy::Owner => "Only the owner of the resource may call this method.".to_owned(),
    };
    if entry.strict_revocation {
        sentence += " The call fails with UNAVAILABLE while the service cannot check whether the access token was revoked.";
    }
    sentence
}

fn is_active(user: &User) -> Condition {
    let finding = if user.is_active { "The user is active." } else { "The user is not active, so they have no access token." };
    Condition {
        requirement: "The user is active.".to_owned(),
        holds: user.is_active,
        finding: finding.to_owned(),
        remedies: if user.is_active { Vec::new() } else { vec![Remedy::Activate] },
    }
}

fn has_permission(user: &User, permission: &str, grants: permissions::Grants, visible: VisibleGroups) -> Condition {
    let permissions::Grants { is_direct, groups } = grants;
    let is_member = groups.iter().any(|group| group.is_member);
    let is_visible = |group: &GroupGrant| match visible {
        VisibleGroups::All => true,
        VisibleGroups::OfUser => group.is_member,
        VisibleGroups::None => false,
    };
    let (own, others): (Vec<_>, Vec<_>) = groups.into_iter().filter(is_visible).partition(|group| group.is_member);
    let holds = user.is_superuser || is_direct || is_member;
    let mut findings = Vec::new();
    if user.is_superuser {
        findings.push("The user is a superuser, and has every permission.".to_owned());
    }
    if is_direct {
        findings.push(format!("{permission} is granted to the user."));
    }
    findings.extend(own.iter().map(|group| format!("The group {:?} gives {permission} to the user.", group.name)));
    if is_member && own.is_empty() {
        findings.push(format!("A group gives {permission} to the user."));
    }
    if !holds {
        findings.push(format!("The user does not have the permission {permission}."));
    }
    let mut remedies = Vec::new();
    if !holds && permission == SUPERUSER_PERMISSION {
        remedies.push(Remedy::GrantSuperuser);
    } else if !holds {
        remedies.push(Remedy::Grant(permission.to_owned()));
        let join = |GroupGrant { group_id, name, .. }| Remedy::Join { group_id, name };
        remedies.extend(others.into_iter().take(GROUP_LIMIT).map(join));
    }
    Condition { requirement: format!("The user has the permission {permission}."), holds, finding: findings.join(" "), remedies }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_its_path_and_by_an_end_that_only_it_has() {
        let methods = KnownMethods::new(&[crate::access_rules()]);
        let path = "/auth.v1.UserService/GetUser";
        for name in [path, "auth.v1.UserService/GetUser", "auth.v1.UserService.GetUser", "UserService.GetUser", "GetUser"] {
            assert_eq!(methods.find(name).expect(name).entry.path, path);
        }
        for name in ["", "/", "tUser", "GetUser.", "auth.v1.UserService", "auth.v1.UserService/getuser"] {
            assert_eq!(methods.find(name).err(), Some(MethodNameError::Unknown(name.to_owned())), "{name:?}");
        }
        let mut other = crate::access_rules();
        other.service = "other".to_owned();
        for method in &mut other.methods {
            method.path = method.path.replace("auth.v1", "other.v1");
        }
        let methods = KnownMethods::new(&[other]);
        let paths = vec![path.to_owned(), "/other.v1.UserService/GetUser".to_owned()];
        let error = MethodNameError::Ambiguous { name: "GetUser".to_owned(), paths };
        assert_eq!(methods.find("GetUser").err(), Some(error));
        assert_eq!(methods.find("auth.v1.UserService/GetUser").expect("a method").service, crate::NAME);
    }
}
