//! Who may change what others may do: nobody gives what they don't have, and nobody changes whom they do not outrank.
//!
//! The permission to change users, groups, permissions or clients would otherwise be every permission.

use access::{Actor, Caller, Error, Result, UserId};
use store::{Db, Executor};

use crate::{
    clients,
    permissions::{self, CATALOGUE, Catalogue},
    users::{self, User},
};

/// What a caller may do: as their token says, and as the database still has it.
#[derive(Debug)]
pub struct Rank<'a> {
    caller: &'a Caller,
    catalogue: &'a Catalogue,
    is_superuser: bool,
    permissions: Vec<String>,
}

impl<'a> Rank<'a> {
    /// The rank of the caller now.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn of(db: &Db, caller: &'a Caller, catalogue: &'a Catalogue) -> Result<Self> {
        let mut rank = Self { caller, catalogue, is_superuser: false, permissions: Vec::new() };
        match caller.actor() {
            Actor::User => {
                if let Some(user) = users::find(db, caller.user_id()?).await?.filter(|user| user.is_active) {
                    rank.is_superuser = user.is_superuser;
                    rank.permissions = permissions::of_user(db, catalogue, &user).await?.permissions;
                }
            }
            Actor::Service => {
                let client = clients::find(db, caller.subject()).await?.filter(|client| client.is_active);
                rank.permissions = client.map(|client| client.permissions()).unwrap_or_default();
            }
        }
        Ok(rank)
    }

    /// Checks that the caller holds each of these permissions. What no service asks for any more, a superuser holds.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED that names one that is missing.
    pub fn check_holds<'p>(&self, permissions: impl IntoIterator<Item = &'p String>) -> Result<()> {
        match permissions.into_iter().find(|permission| !self.holds(permission)) {
            Some(missing) => {
                Err(Error::PermissionMissing(CATALOGUE.iter().copied().find(|known| known == missing).map(Into::into)))
            }
            None => Ok(()),
        }
    }

    /// Checks that the caller is the user, or may do whatever the user may.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED.
    pub async fn check_outranks(&self, on: impl Executor<'_>, user: &User) -> Result<()> {
        if self.is(user.user_id) {
            return Ok(());
        }
        self.check_superuser(user)?;
        self.check_holds(&permissions::of_user(on, self.catalogue, user).await?.permissions)
    }

    /// Checks that only a superuser changes another superuser.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED.
    pub fn check_superuser(&self, user: &User) -> Result<()> {
        let may = !user.is_superuser || self.is_superuser || self.is(user.user_id);
        if may { Ok(()) } else { Err(Error::PermissionMissing(None)) }
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
