//! Permissions: the ones that exist, and the ones that a user holds.
//!
//! A permission is the text `app.codename`, as in Django. Users hold their own and those of their groups.

use std::sync::Arc;

use access::{AccessRulesFile, Clock, Error, Result, UserId};
use store::{Db, Executor, Tx};

use crate::{
    events::OutboxTransaction,
    groups::{self, GroupId},
    users::{self, User},
};

/// The maximum length of all permissions together, in bytes: the access token of a superuser holds them all.
const MAX_LENGTH: usize = 3072;

/// The permission that every superuser has, and that cannot be granted. The access rules of the methods for superusers name it.
pub const SUPERUSER_PERMISSION: &str = "auth.change_superuser";

/// Every permission that exists: those that the access rules of the auth service and of other services name, and those that the
/// operator adds.
#[derive(Debug, Clone)]
pub struct Catalogue(Arc<[String]>);

/// The reason why permissions cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// No access rule could name the permission.
    #[error("the permission {0:?} is not of the form `app.codename`, in lowercase letters and underscores")]
    Malformed(String),
    /// The access token of a superuser would be too long.
    #[error("all permissions together are longer than {MAX_LENGTH} bytes, the maximum that an access token has room for")]
    TooLong,
}

impl Catalogue {
    /// Creates the catalogue of the auth service's own permissions, those of the files, and `others`.
    pub fn new(files: &[AccessRulesFile], others: &[String]) -> Result<Self, CatalogueError> {
        others.iter().try_for_each(|permission| check_form(permission))?;
        let mut all = crate::access_rules().permissions;
        all.extend(files.iter().flat_map(|file| &file.permissions).chain(others).cloned());
        all.sort();
        all.dedup();
        if all.iter().map(|permission| permission.len() + 1).sum::<usize>() > MAX_LENGTH {
            return Err(CatalogueError::TooLong);
        }
        Ok(Self(all.into()))
    }

    /// Returns the permissions, sorted.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// Checks the permission that the request has in `field`.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT that names the field if there is no such permission, or if only superusers can have it.
    pub fn check(&self, field: impl Into<access::FieldPath>, permission: &str) -> Result<()> {
        if permission == SUPERUSER_PERMISSION {
            let description =
                "only superusers have this permission, and it cannot be granted: GrantSuperuser makes a user a superuser";
            return Err(Error::invalid(field, "permission.grantable", description));
        }
        if self.contains(permission) {
            return Ok(());
        }
        Err(Error::invalid(
            field,
            "permission.known",
            "no service asks for this permission: ListPermissions lists those that there are",
        ))
    }

    /// Returns true if a user or a client who is given the permission has it: if the catalogue contains it, and not only superusers can
    /// have it.
    pub fn has_effect(&self, permission: &str) -> bool {
        permission != SUPERUSER_PERMISSION && self.contains(permission)
    }

    /// Returns true if the permission exists.
    pub fn contains(&self, permission: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(permission)).is_ok()
    }
}

/// Checks that an access rule could name the permission.
pub fn check_form(permission: &str) -> Result<(), CatalogueError> {
    if access::is_permission(permission) { Ok(()) } else { Err(CatalogueError::Malformed(permission.to_owned())) }
}

/// The permissions and the groups of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// The effective permissions, sorted.
    pub permissions: Vec<String>,
    /// The names of the groups, sorted.
    pub groups: Vec<String>,
}

/// The separator of names in a column of [`RightsRow`].
const SEPARATOR: char = '\u{1F}';

/// The permissions and the groups of a user as one row has them, so that one statement can read a user together with their rights.
#[derive(Debug, Default, sqlx::FromRow)]
pub(crate) struct RightsRow {
    own_permissions: Option<String>,
    permissions_of_groups: Option<String>,
    group_names: Option<String>,
}

/// Joins the names that a query finds. A name cannot contain the separator, except for a permission from an import, which no rule uses.
macro_rules! joined {
    ($column:literal) => {
        concat!("SELECT string_agg(replace(", $column, ", '\u{1F}', '?'), '\u{1F}')")
    };
}
pub(crate) use joined;

/// The columns of [`RightsRow`] in a query of the table `users`.
macro_rules! rights_columns {
    () => {
        concat!(
            "(",
            $crate::permissions::joined!("permission"),
            " FROM user_permissions WHERE user_permissions.user_id = users.user_id) AS own_permissions, (",
            $crate::permissions::joined!("permission"),
            " FROM group_members JOIN group_permissions ON group_permissions.group_id = group_members.group_id
                 WHERE group_members.user_id = users.user_id) AS permissions_of_groups, (",
            $crate::permissions::joined!("name"),
            " FROM group_members JOIN groups ON groups.group_id = group_members.group_id
                 WHERE group_members.user_id = users.user_id) AS group_names"
        )
    };
}
pub(crate) use rights_columns;

impl RightsRow {
    /// Returns the effective permissions: those of the user and of their groups that are in the catalog. A superuser has all of them.
    pub(crate) fn rights(self, catalogue: &Catalogue, is_superuser: bool) -> Rights {
        let permissions = if is_superuser {
            catalogue.all().to_vec()
        } else {
            let own = names(self.own_permissions.as_deref());
            let mut all: Vec<_> = own.chain(names(self.permissions_of_groups.as_deref())).collect();
            all.retain(|permission| catalogue.has_effect(permission));
            all.sort_unstable();
            all.dedup();
            all.into_iter().map(str::to_owned).collect()
        };
        let mut groups: Vec<_> = names(self.group_names.as_deref()).map(str::to_owned).collect();
        groups.sort_unstable();
        Rights { permissions, groups }
    }
}

fn names(joined: Option<&str>) -> impl Iterator<Item = &str> {
    joined.unwrap_or_default().split(SEPARATOR).filter(|name| !name.is_empty())
}

/// Returns the effective permissions: those of the user and of their groups that are in the catalog. A superuser has all of them.
pub async fn of_user(on: impl Executor<'_>, catalogue: &Catalogue, user: &User) -> Result<Rights> {
    let query = on.query(concat!("SELECT ", rights_columns!(), " FROM users WHERE user_id = $1")).bind(user.user_id);
    let row = query.optional::<RightsRow>().await?.unwrap_or_default();
    Ok(row.rights(catalogue, user.is_superuser))
}

/// How a user has one permission, and the groups that have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Whether the permission is granted to the user directly.
    pub is_direct: bool,
    /// The groups that have the permission, sorted by name, those of the user first. At most 100.
    pub groups: Vec<GroupGrant>,
}

/// A group that has a permission.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct GroupGrant {
    /// The id of the group.
    pub group_id: GroupId,
    /// The name of the group.
    pub name: String,
    /// Whether the user is a member of the group.
    pub is_member: bool,
}

/// Returns how a user has a permission, and the groups that have it. It does not consider whether the user is active or a superuser.
pub async fn grants(db: &Db, user_id: UserId, permission: &str) -> Result<Grants> {
    let query = db.query("SELECT permission FROM user_permissions WHERE user_id = $1 AND permission = $2");
    let is_direct = query.bind(user_id).bind(permission).optional::<(String,)>().await?.is_some();
    let query = db.query(
        "SELECT groups.group_id, name, group_members.user_id IS NOT NULL AS is_member FROM group_permissions
             JOIN groups ON groups.group_id = group_permissions.group_id
             LEFT JOIN group_members ON group_members.group_id = groups.group_id AND group_members.user_id = $1
         WHERE permission = $2 ORDER BY 3 DESC, name_key LIMIT 100",
    );
    Ok(Grants { is_direct, groups: query.bind(user_id).bind(permission).all().await? })
}

/// The holder of a permission: a user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// One user.
    User(UserId),
    /// Every member of a group.
    Group(GroupId),
}

/// Returns the permissions that were granted, sorted. It includes those that are not in the catalogue.
pub async fn given(on: impl Executor<'_>, holder: Holder) -> Result<Vec<String>> {
    let query = match holder {
        Holder::User(user_id) => on.query("SELECT permission FROM user_permissions WHERE user_id = $1").bind(user_id),
        Holder::Group(group_id) => on.query("SELECT permission FROM group_permissions WHERE group_id = $1").bind(group_id),
    };
    // Sorted here, since no two collations agree.
    let mut permissions: Vec<String> = query.all::<(String,)>().await?.into_iter().map(|(permission,)| permission).collect();
    permissions.sort();
    Ok(permissions)
}

/// Grants a permission. Returns false if it was granted before.
pub async fn give(tx: &mut Tx, holder: Holder, permission: &str) -> Result<bool> {
    let query = match holder {
        Holder::User(user_id) => {
            tx.query("INSERT INTO user_permissions (user_id, permission) VALUES ($1, $2) ON CONFLICT DO NOTHING").bind(user_id)
        }
        Holder::Group(group_id) => {
            tx.query("INSERT INTO group_permissions (group_id, permission) VALUES ($1, $2) ON CONFLICT DO NOTHING").bind(group_id)
        }
    };
    Ok(query.bind(permission).execute().await? > 0)
}

/// Revokes a permission. Returns false if it was not granted.
async fn take(tx: &mut Tx, holder: Holder, permission: &str) -> Result<bool> {
    let query = match holder {
        Holder::User(user_id) => tx.query("DELETE FROM user_permissions WHERE user_id = $1 AND permission = $2").bind(user_id),
        Holder::Group(group_id) => {
            tx.query("DELETE FROM group_permissions WHERE group_id = $1 AND permission = $2").bind(group_id)
        }
    };
    Ok(query.bind(permission).execute().await? > 0)
}

/// Grants a permission to a locked holder, or revokes it, and records the events that revoke the access tokens of the users who
/// gain or lose it. Returns whether anything changes.
pub async fn set(
    change: &mut OutboxTransaction,
    clock: &Clock,
    holder: Holder,
    permission: &str,
    is_given: bool,
) -> Result<bool> {
    match holder {
        Holder::User(user_id) => change.set_target("user", user_id, None),
        Holder::Group(group_id) => change.set_target("group", group_id, None),
    }
    change.add_field(format!("permissions.{permission}"));
    let has_changed = if is_given { give(change, holder, permission).await? } else { take(change, holder, permission).await? };
    match holder {
        _ if !has_changed => {}
        Holder::User(user_id) => users::record_permissions_changed(change, user_id).await?,
        Holder::Group(group_id) => {
            groups::touch(change, clock, group_id).await?;
            users::record_member_permissions_changed(change, group_id).await?;
        }
    }
    Ok(has_changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_that_of_the_access_rules_and_the_operator() {
        let own = crate::access_rules().permissions;
        assert!(own.iter().all(|permission| permission.starts_with("auth.")), "{own:?}");
        let greeter = AccessRulesFile {
            service: "greeter".to_owned(),
            methods: vec![],
            permissions: vec!["greeter.greet_people".to_owned()],
        };
        let catalogue = Catalogue::new(&[greeter], &["clock.set".to_owned(), own[0].clone()]).expect("a catalogue");
        assert_eq!(catalogue.all().len(), own.len() + 2);
        assert!(catalogue.contains("greeter.greet_people") && !catalogue.contains("greeter.greet"));
        for malformed in ["greeter", ".greet", "greeter.", "Greeter.greet", "greeter.greet people", "a.b.c"] {
            assert_eq!(Catalogue::new(&[], &[malformed.to_owned()]).err(), Some(CatalogueError::Malformed(malformed.to_owned())));
        }
        let many: Vec<_> = (0..100).map(|n| format!("greeter.greet_{}", "x".repeat(n))).collect();
        assert_eq!(Catalogue::new(&[], &many).err(), Some(CatalogueError::TooLong));
    }
}
