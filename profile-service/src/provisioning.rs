//! Creates profiles for users whose first call arrives before the event about their creation. Until the event arrives, the username
//! and the version come from the access token. A token never brings back a deleted user.

use access::{Caller, Clock, CurrentCall, Error, Result, UserId};
use quick_cache::sync::Cache;
use store::Db;

use crate::profiles::{self, UserSnapshot};

/// The number of users whose version is cached. For other users the database is read.
const CACHE_SIZE: usize = 100_000;

/// Ensures that every user who calls has a profile.
pub(crate) struct Provisioning {
    db: Db,
    clock: Clock,
    /// The version of each user that the profile is known to have reached.
    versions: Cache<UserId, i64>,
}

impl Provisioning {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, versions: Cache::new(CACHE_SIZE) }
    }

    /// Creates the caller's profile if there is none, or updates its username if no event has arrived for it yet. Does nothing for a
    /// service, and for a token without a username.
    ///
    /// # Errors
    ///
    /// Returns UNAUTHENTICATED if the user was deleted.
    pub(crate) async fn ensure_profile(&self, caller: &Caller) -> Result<()> {
        let (Ok(user_id), Some(username)) = (caller.user_id(), caller.username()) else { return Ok(()) };
        let version = caller.version();
        if self.versions.get(&user_id).is_some_and(|cached| cached >= version) {
            return Ok(());
        }
        // Most users who are new to this process have a profile already, and reads do not wait for one another.
        if profiles::user_version(&self.db, user_id).await?.is_none_or(|stored| stored < version) {
            self.write(user_id, username.to_owned(), version).await?;
        }
        self.versions.insert(user_id, version);
        Ok(())
    }

    /// Runs to completion even if the caller disconnects.
    async fn write(&self, user_id: UserId, username: String, version: i64) -> Result<()> {
        let (db, now) = (self.db.clone(), self.clock.now());
        let write = async move {
            let mut tx = db.begin().await?;
            let user = UserSnapshot { user_id, username: &username, version, is_active: true, generation: 0 };
            if !profiles::ensure_profile(&mut tx, &user, now).await? {
                return Err(Error::access_token_invalid());
            }
            Ok(tx.commit().await?)
        };
        CurrentCall::spawn(write).await.map_err(Error::internal)?
    }
}
