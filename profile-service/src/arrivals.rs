//! A profile exists while its user does, and a user shows up here with the first authenticated call: that is when the profile
//! is made, and a call with a newer version of the user brings a newer username.

use quick_cache::sync::Cache;
use shared::{Caller, Clock, Db, Error, Result, UserId};
use tracing::Instrument;

use crate::profiles;

/// How many users are remembered. Of the others the database is asked.
const REMEMBERED: usize = 100_000;

/// Sees to it that every user who calls has a profile.
pub(crate) struct Arrivals {
    db: Db,
    clock: Clock,
    /// The versions of users that the profiles are known to be up to.
    known: Cache<UserId, i64>,
}

impl Arrivals {
    pub(crate) fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, known: Cache::new(REMEMBERED) }
    }

    /// Makes the caller's profile, or renames it, where there is need. A service, and a user without a username, gets none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub(crate) async fn welcome(&self, caller: &Caller) -> Result<()> {
        let (Ok(user_id), Some(username)) = (caller.user_id(), caller.username()) else { return Ok(()) };
        let version = caller.user_version();
        if self.known.get(&user_id).is_some_and(|known| known >= version) {
            return Ok(());
        }
        // A user who is new to this process is seldom new to the database, and readers don't wait for one another.
        if profiles::user_version(&self.db, user_id).await?.is_none_or(|stored| stored < version) {
            self.write(user_id, username.to_owned(), version).await?;
        }
        self.known.insert(user_id, version);
        Ok(())
    }

    /// Comes to its end even when the caller leaves.
    async fn write(&self, user_id: UserId, username: String, version: i64) -> Result<()> {
        let (db, now) = (self.db.clone(), self.clock.now());
        let work = async move {
            let mut tx = db.begin().await?;
            profiles::welcome(&mut tx, user_id, &username, version, now).await?;
            tx.commit().await
        };
        tokio::spawn(work.in_current_span()).await.map_err(Error::internal)?
    }
}
