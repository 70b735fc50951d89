//! Limits what a caller may delegate: a caller can grant only permissions they hold, and can change only users and clients whose
//! permissions are a subset of their own.
//!
//! Without this limit, the permission to change users, groups, permissions or clients would imply every other permission.

use access::{Actor, Caller, Error, Result, UserId};
use store::{Db, Executor};

use crate::{
    clients,
    permissions::{self, Catalogue},
    users::{self, User},
};

/// The permission to see the permissions of a user.
const VIEW_USER_PERMISSIONS: &str = "auth.view_permission";

/// A caller with the permissions they may delegate: those that both their token and the database grant.
#[derive(Debug)]
pub struct Delegator<'a> {
    caller: &'a Caller,
    catalogue: &'a Catalogue,
    is_superuser: bool,
    permissions: Vec<String>,
}

impl<'a> Delegator<'a> {
    /// Loads the current permissions of the caller. A caller who is not active has none.
    pub async fn load(db: &Db, caller: &'a Caller, catalogue: &'a Catalogue) -> Result<Self> {
        let mut delegator = Self { caller, catalogue, is_superuser: false, permissions: Vec::new() };
        match caller.actor() {
            Actor::User => {
                if let Some(user) = users::find(db, caller.user_id()?).await?.filter(|user| user.is_active) {
                    delegator.is_superuser = user.is_superuser;
                    delegator.permissions = permissions::of_user(db, catalogue, &user).await?.permissions;
                }
            }
            Actor::Service => {
                let client = clients::find(db, caller.subject()).await?.filter(|client| client.is_active);
                delegator.permissions = client.map(|client| client.permissions()).unwrap_or_default();
            }
        }
        Ok(delegator)
    }

    /// Checks that the caller holds each of these permissions, which the request itself names. Permissions outside the catalogue are
    /// held by superusers only.
    ///
    /// # Errors
    ///
    /// Returns PERMISSION_DENIED with the name of the first missing permission.
    pub fn require_permissions<'p>(&self, permissions: impl IntoIterator<Item = &'p String>) -> Result<()> {
        match permissions.into_iter().find(|permission| !self.holds(permission)) {
            Some(missing) => Err(Error::PermissionMissing(self.catalogue.contains(missing).then(|| missing.clone().into()))),
            None => Ok(()),
        }
    }

    /// Checks that the caller holds each of these permissions of a user, a group or a client.
    ///
    /// # Errors
    ///
    /// Returns PERMISSION_DENIED otherwise. It names the missing permission only if the caller holds `view`, the permission to see
    /// the permissions of such a holder: otherwise the error would reveal them.
    pub fn require_permissions_of<'p>(&self, permissions: impl IntoIterator<Item = &'p String>, view: &str) -> Result<()> {
        let checked = self.require_permissions(permissions);
        if self.caller.may(view) { checked } else { checked.map_err(|_| Error::PermissionMissing(None)) }
    }

    /// Checks that the caller is the user, or holds every permission that the user holds.
    ///
    /// # Errors
    ///
    /// Returns PERMISSION_DENIED otherwise.
    pub async fn require_superset_of(&self, on: impl Executor<'_>, user: &User) -> Result<()> {
        if self.is(user.user_id) {
            return Ok(());
        }
        self.require_superuser_for(user)?;
        self.require_permissions_of(&permissions::of_user(on, self.catalogue, user).await?.permissions, VIEW_USER_PERMISSIONS)
    }

    /// Checks that the caller is a superuser too if the user is one and not the caller.
    ///
    /// # Errors
    ///
    /// Returns PERMISSION_DENIED otherwise.
    pub fn require_superuser_for(&self, user: &User) -> Result<()> {
        let is_allowed = !user.is_superuser || self.is_superuser || self.is(user.user_id);
        if is_allowed { Ok(()) } else { Err(Error::PermissionMissing(None)) }
    }

    /// Checks that the caller still is a superuser. The access token alone does not prove that, because a revocation may not have
    /// reached this replica yet.
    ///
    /// # Errors
    ///
    /// Returns PERMISSION_DENIED otherwise.
    pub fn require_superuser(&self) -> Result<()> {
        if self.is_superuser { Ok(()) } else { Err(Error::PermissionMissing(Some(permissions::SUPERUSER_PERMISSION.into()))) }
    }

    fn is(&self, user_id: UserId) -> bool {
        self.caller.user_id().is_ok_and(|caller| caller == user_id)
    }

    fn holds(&self, permission: &String) -> bool {
        if !self.catalogue.contains(permission) {
            return self.is_superuser;
        }
        self.caller.may(permission) && self.permissions.contains(permission)
    }
}
