//! Erasure and retention leave a log that can be verified.

use access::UserId;
use audit::{Actor, Entry, Filter, Finding, erase, erase_users, list, prune};
use chrono::TimeDelta;
use testing::on_both_engines;

use crate::app::{App, copy_new_entries, entry, user_id};

impl App {
    async fn erase(&self, user: &str) -> u64 {
        let mut tx = self.db.begin().await.expect("a transaction");
        let user_id = UserId::parse("user_id", user).expect("an id");
        let erased = erase(&mut tx, user_id).await.expect("an erasure");
        tx.commit().await.expect("a commit");
        erased
    }

    async fn prune(&self) -> Option<i64> {
        let mut tx = self.db.begin().await.expect("a transaction");
        let before = self.clock.now() - TimeDelta::days(30);
        let seal = prune(&mut tx, &self.clock, &self.key, before).await.expect("a result");
        tx.commit().await.expect("a commit");
        seal.map(|seal| seal.first_kept)
    }
}

on_both_engines! {
    async fn the_personal_data_of_a_deleted_user_is_erased(app: App) {
        app.three_batches().await;
        let failed = Entry { actor: Actor::Anonymous, ..entry(0) };
        app.record(&failed).await;
        assert_eq!(app.erase(&user_id(4)).await, 1);
        assert_eq!(app.erase(&user_id(103)).await, 1);
        // The address of a refused sign-in may be that of the user, whose name stands in it too.
        assert_eq!(app.erase(&user_id(100)).await, 3);
        assert_eq!(app.erase(&user_id(100)).await, 0);
        let events = list(&app.db, &Filter::default(), None, 100).await.expect("entries");
        let texts = |event: &audit::Event| [&event.actor_name, &event.address, &event.user_agent, &event.target_name].map(Option::is_some);
        let find = |request: &str| events.iter().find(|event| event.request_id == request).expect("an entry");
        assert_eq!(texts(find("request-4")), [false, false, false, true]);
        // Another user acted on the deleted user, and their address stays.
        assert_eq!(texts(find("request-3")), [true, true, true, false]);
        assert_eq!(texts(find("request-5")), [true; 4]);
        assert_eq!(texts(&events[0]), [false; 4]);
        app.seal().await.expect("a seal");
        let verification = app.verify(&[]).await;
        assert_eq!((verification.findings, verification.entries, verification.erased), (vec![], 11, 4));

        // Only a part is erased.
        app.execute("UPDATE audit_event SET actor_salt = NULL, address = NULL WHERE request_id = 'request-5'").await;
        let findings = app.verify(&[]).await.findings;
        assert_eq!(findings, [Finding::AlteredPersonalData(find("request-5").event_id)]);
    }

    async fn an_entry_that_is_being_moved_is_erased(app: App) {
        app.record(&entry(1)).await;
        // The steps of the transaction that seals.
        let mut moving = app.db.begin().await.expect("a transaction");
        moving.lock_exclusive("audit seal").await.expect("a lock");
        moving.execute_raw(copy_new_entries()).await.expect("a copy");
        let (db, user_id) = (app.database.open(), UserId::parse("user_id", &user_id(1)).expect("an id"));
        let erasing = tokio::spawn(async move { erase_users(&db, vec![user_id]).await });
        // On SQLite, the transaction of the erasure does not begin before the other one ends.
        let waiting = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while !app.db.is_sqlite() && app.count(waiting).await == 0 {
            assert!(!erasing.is_finished(), "the erasure does not wait for the move");
            tokio::task::yield_now().await;
        }
        moving.execute_raw("DELETE FROM audit_new_event".to_owned()).await.expect("a deletion");
        moving.commit().await.expect("a commit");
        erasing.await.expect("no panic").expect("an erasure");
        assert_eq!(app.count("SELECT COUNT(*) FROM audit_event WHERE address IS NULL").await, 1);
    }

    async fn an_entry_can_be_erased_from_the_beginning(app: App) {
        app.record(&Entry { is_actor_erased: true, ..entry(1) }).await;
        app.seal().await.expect("a seal");
        let event = list(&app.db, &Filter::default(), None, 1).await.expect("entries").remove(0);
        assert!(event.is_erased() && event.address.is_none() && event.target_name.is_some());
        assert_eq!(app.verify(&[]).await.findings, []);
    }

    async fn retention_deletes_whole_batches_and_the_rest_verifies(app: App) {
        let published = app.three_batches().await;
        assert_eq!(app.prune().await, None);
        app.clock.advance(TimeDelta::days(20));
        app.seal().await.expect("a seal of the tenth entry");
        app.clock.advance(TimeDelta::days(20));
        // The three batches are old; the fourth is not.
        assert_eq!(app.prune().await, Some(4));
        assert_eq!(app.prune().await, None);
        assert_eq!(app.count("SELECT COUNT(*) FROM audit_event").await, 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM audit_seal").await, 3);
        let verification = app.verify(&published).await;
        assert_eq!((&verification.findings, verification.first_kept, verification.entries), (&vec![], 4, 1));

        app.record(&entry(10)).await;
        app.seal().await.expect("a seal");
        app.clock.advance(TimeDelta::days(31));
        // The newest seal is kept, however old it is.
        assert_eq!(app.prune().await, Some(6));
        assert_eq!(app.verify(&published).await.findings, []);
        assert_eq!(app.prune().await, Some(7));
        assert_eq!(app.verify(&published).await.findings, []);
        assert_eq!(app.count("SELECT COUNT(*) FROM audit_event").await, 0);
    }

    async fn the_service_seals_and_applies_the_retention(app: App) {
        app.three_batches().await;
        app.clock.advance(TimeDelta::days(40));
        // A full batch is sealed at once.
        app.record_1001().await;
        let (log, key) = (app.log.clone(), app.key.clone());
        let keeper = tokio::spawn(async move { log.keep(Some(key), Some(TimeDelta::days(30))).await });
        while app.count("SELECT COUNT(*) FROM audit_event WHERE seal_id <= 3 OR seal_id IS NULL").await > 0
            || app.count("SELECT COUNT(*) FROM audit_new_event").await > 0
        {
            tokio::task::yield_now().await;
        }
        keeper.abort();
        assert!(keeper.await.expect_err("an endless task").is_cancelled());
        let verification = app.verify(&[]).await;
        assert_eq!((verification.findings, verification.entries, verification.first_kept), (vec![], 1002, 4));
    }

    async fn a_deletion_that_retention_did_not_make_is_found(app: App) {
        app.three_batches().await;
        app.clock.advance(TimeDelta::days(40));
        app.seal().await.expect("a seal");
        app.record(&entry(10)).await;
        app.seal().await.expect("a seal");
        app.execute("DELETE FROM audit_event WHERE seal_id <= 2; DELETE FROM audit_seal WHERE seal_id < 2").await;
        assert!(!app.verify(&[]).await.is_intact());
        app.execute("UPDATE audit_seal SET first_kept = 3").await;
        assert!(!app.verify(&[]).await.is_intact());
        // Retention does not hide the altered seals.
        assert_eq!(app.prune().await, Some(4));
        assert!(!app.verify(&[]).await.is_intact());
    }
}
