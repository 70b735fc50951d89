//! Repeatedly kills the profile service and a writing replica of the auth service with SIGKILL. Afterwards both databases contain
//! the same users.

use access::Clock;
use auth_service::{events::EventLog, keys::MasterKey};
use store::Executor;
use testing::on_both_engines;
use testing::{Engine, TestDatabase, rounds};

use crate::{
    load::Writer,
    pair::{self, databases},
    process::{Places, Process},
};

struct Mortals {
    auth_database: TestDatabase,
    profile_database: TestDatabase,
    places: Places,
}

impl Mortals {
    async fn start(engine: Engine) -> Self {
        let (auth_database, profile_database) = databases(engine).await;
        let places = Places {
            auth_database: auth_database.url().to_owned(),
            profile_database: profile_database.url().to_owned(),
            master_key: MasterKey::generate(),
        };
        // The users fill more than one page of a snapshot, so that a kill can interrupt the first snapshot.
        let writer = Writer::new(EventLog::new(auth_database.open(), Clock::system()), Clock::system(), 99);
        writer.run(50).await.unwrap();
        Self { auth_database, profile_database, places }
    }

    /// Waits until the number that `sql` selects has increased by `by`.
    async fn changes(database: &TestDatabase, sql: &'static str, by: i64) {
        let db = database.open();
        let count = async || db.query(sql).optional::<(i64,)>().await.unwrap_or_default().map_or(0, |(count,)| count);
        let before = count().await;
        pair::eventually(async || count().await >= before + by).await;
        db.close().await;
    }
}

on_both_engines! {
    async fn whoever_is_killed_both_are_equal_in_the_end(app: Mortals) {
        let mut auth = Process::auth(&app.places, "127.0.0.1:0").await;
        let address = auth.address.to_string();
        let mut profile = Process::profile(&app.places, auth.address).await;
        for round in 0..rounds(4) {
            // Each round kills the process after a different number of events, so that the kill interrupts different work.
            let by = i64::try_from(round * 7 % 23 + 1).unwrap();
            if round % 2 == 0 {
                Mortals::changes(&app.auth_database, "SELECT last FROM feed", by).await;
                profile.kill();
                Mortals::changes(&app.auth_database, "SELECT last FROM feed", by).await;
                profile = Process::profile(&app.places, auth.address).await;
            } else {
                Mortals::changes(&app.profile_database, "SELECT pos FROM feed_cursor", by).await;
                auth.kill();
                auth = Process::auth(&app.places, &address).await;
            }
        }
        // The writers stop. A replica of the auth service without writers sends the remaining events.
        auth.kill();
        let clock = Clock::system();
        let last = pair::auth(app.auth_database.url(), &app.places.master_key, clock).await;
        profile.kill();
        let _profile = Process::profile(&app.places, last.address).await;
        pair::assert_equal(app.auth_database.url(), app.profile_database.url()).await;
    }
}
