//! Restores databases from older copies. Afterwards both services have the same users again.

use access::Clock;
use auth_service::keys::MasterKey;
use chrono::{SubsecRound, TimeDelta};
use profile_service::proto::{GetProfileRequest, GetSyncStateRequest};
use store::Executor;
use testing::on_both_engines;
use testing::{Engine, TestClock, assert_refused};
use tonic::Code;

use crate::{
    cascade::{delete, note},
    load::Writer,
    pair::{self, Pair},
};

/// Makes changes in the auth service, before or after a test copies a database.
async fn changes(app: &Pair, number: u64) {
    Writer::new(app.event_log(), app.clock.clock(), number).run(40).await.unwrap();
}

/// Both services, with a clock that only the test advances.
struct Standing(Pair);

impl Standing {
    async fn start(engine: Engine) -> Self {
        let (auth, profile) = pair::databases(engine).await;
        let clock = TestClock::new(Clock::system().now().trunc_subsecs(0));
        Self(Pair::on(auth, profile, MasterKey::generate(), clock).await)
    }
}

/// Restarts both services, and replaces their databases with the given copies.
macro_rules! again {
    ($app:ident, $auth:expr, $profile:expr) => {{
        let Pair { clock, master_key, auth_database, profile_database, auth, profile } = $app;
        profile.stop().await;
        auth.stop().await;
        let (auth, profile) = ($auth, $profile);
        Pair::on(auth.unwrap_or(auth_database), profile.unwrap_or(profile_database), master_key, clock).await
    }};
}

on_both_engines! {
    async fn an_older_copy_of_the_consumer_catches_up(app: Pair) {
        let alice = app.user("alice").await;
        note(&alice, "kept").await.unwrap();
        changes(&app, 1).await;
        app.assert_equal().await;
        let backup = app.profile_database.copy().await;
        changes(&app, 2).await;
        delete(&app, &alice.id).await;
        app.assert_equal().await;
        let app = again!(app, None, Some(backup));
        app.assert_equal().await;
        // The profile service continued from its cursor, and read no snapshot after the first one.
        let root = app.superuser("root").await;
        assert_eq!(root.sync().get_sync_state(GetSyncStateRequest {}).await.unwrap().into_inner().generation, 1);
    }

    async fn an_older_copy_of_the_producer_is_recognised(app: Pair) {
        changes(&app, 1).await;
        let (alice, bob) = (app.user("alice").await, app.user("bob").await);
        app.assert_equal().await;
        let backup = app.auth_database.copy().await;
        // The restore loses these changes: new users, a new username and a deletion.
        changes(&app, 2).await;
        let lost = app.user("lost").await;
        note(&lost, "lost too").await.unwrap();
        delete(&app, &bob.id).await;
        app.assert_equal().await;
        let app = again!(app, Some(backup), None);
        app.assert_equal().await;
        // More events are added than were lost, so the stored position exists again. Only its event id shows that the history
        // differs.
        changes(&app, 3).await;
        app.assert_equal().await;
        let root = app.superuser("root").await;
        assert_eq!(root.sync().get_sync_state(GetSyncStateRequest {}).await.unwrap().into_inner().generation, 2);
        for user in [&alice, &bob] {
            let request = GetProfileRequest { user_id: user.id.clone() };
            root.profiles().get_profile(request).await.unwrap();
        }
        // A token of a user who no longer exists does not create the user's profile again.
        assert_refused(note(&lost.at(&app.profile), "again").await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }

    async fn a_producer_that_was_restored_and_went_on_while_nobody_watched_is_recognised(app: Pair) {
        changes(&app, 1).await;
        app.assert_equal().await;
        let backup = app.auth_database.copy().await;
        changes(&app, 2).await;
        app.assert_equal().await;
        let event_log = auth_service::events::EventLog::new(backup.open(), app.clock.clock());
        for number in 3..6 {
            Writer::new(event_log.clone(), app.clock.clock(), number).run(40).await.unwrap();
        }
        let app = again!(app, Some(backup), None);
        app.assert_equal().await;
        let root = app.superuser("root").await;
        assert_eq!(root.sync().get_sync_state(GetSyncStateRequest {}).await.unwrap().into_inner().generation, 2);
    }

    async fn a_dump_that_is_restored_elsewhere_goes_on(app: Pair) {
        changes(&app, 1).await;
        app.assert_equal().await;
        let (auth, profile) = (app.auth_database.copy().await, app.profile_database.copy().await);
        let app = again!(app, Some(auth), Some(profile));
        changes(&app, 2).await;
        app.assert_equal().await;
        let root = app.superuser("root").await;
        assert_eq!(root.sync().get_sync_state(GetSyncStateRequest {}).await.unwrap().into_inner().generation, 1);
    }
}

on_both_engines! {
    async fn a_profile_whose_user_a_restore_has_taken_away_is_removed(app: Standing) {
        let Standing(app) = app;
        let alice = app.user("alice").await;
        note(&alice, "kept").await.unwrap();
        app.assert_equal().await;
        // This user has a valid token, but does not exist in the auth service.
        let lost = app.lost("lost").await;
        note(&lost, "gone").await.unwrap();
        app.clock.advance(TimeDelta::minutes(2));
        let db = app.profile_database.open();
        let count = async || db.query("SELECT COUNT(*) FROM notes").one::<(i64,)>().await.unwrap().0;
        pair::eventually(async || count().await == 1).await;
        app.assert_equal().await;
        assert_refused(note(&lost, "again").await.map(drop), Code::NotFound, "NOT_FOUND", &[("user_id", "EXISTS")]);
        note(&alice, "goes on").await.unwrap();
    }
}
