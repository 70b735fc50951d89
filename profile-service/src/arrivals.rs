//! A profile exists while its user does, which the events of the auth service tell. A user may call before they have: then the
//! access token tells, until they do. It never brings back a user who was deleted.

use access::{Caller, Clock, Error, Result, UserId};
use quick_cache::sync::Cache;
use store::Db;
use tracing::Instrument;

use crate::profiles::{self, Known};

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

    /// Makes the caller's profile, or renames one that no event has told of, where there is need. A service, and a user without
    /// a username, gets none.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED where the user was deleted, and those of the database.
    pub(crate) async fn welcome(&self, caller: &Caller) -> Result<()> {
        let (Ok(user_id), Some(username)) = (caller.user_id(), caller.username()) else { return Ok(()) };
        let version = caller.version();
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
            let known = Known { user_id, username: &username, version, is_active: true, generation: 0 };
            if !profiles::welcome(&mut tx, &known, now).await? {
                return Err(Error::access_token_invalid());
            }
            Ok(tx.commit().await?)
        };
        tokio::spawn(work.in_current_span()).await.map_err(Error::internal)?
    }
}
