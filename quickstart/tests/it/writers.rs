//! Sixteen writers change users, and at the same time four clients call two replicas of the auth service. No event is lost,
//! duplicated or out of order.

use std::collections::HashMap;

use access::UserId;
use store::Executor;
use testing::on_both_engines;
use testing::rounds;
use tokio::task::JoinSet;

use crate::{
    load::{self, Writer},
    pair::{self, Pair},
};

on_both_engines! {
    async fn what_sixteen_writers_tell_is_applied_without_loss_gap_or_inversion(app: Pair) {
        let replica = pair::auth(app.auth_database.url(), &app.master_key, app.clock.clock()).await;
        // The profile service also has two replicas. Each follows a different replica of the auth service.
        let source = pair::source(app.auth_database.url(), &app.master_key, app.clock.clock(), replica.channel());
        let bound = std::time::Duration::from_secs(15);
        let _other = pair::profile(app.profile_database.url(), app.clock.clock(), replica.channel(), Some(source), bound).await;

        let logs = [app.event_log(), app.event_log()];
        // The events of this user are committed before the writers start, so that the test counts only the events of the writers.
        let root = app.superuser("root").await;
        let before = last(&app).await;
        let mut writers = JoinSet::new();
        for (number, event_log) in (1..=16).zip(logs.iter().cycle()) {
            let writer = Writer::new(event_log.clone(), app.clock.clock(), number);
            writers.spawn(writer.run(rounds(25)));
        }
        let call = |number, auth| load::call(root.at_auth(auth).users(), number, rounds(25) / 5);
        let [one, other] = [&app.auth, &replica];
        let called = tokio::join!(call(0, one), call(1, other), call(2, one), call(3, other));
        let called = called.0.unwrap() + called.1.unwrap() + called.2.unwrap() + called.3.unwrap();
        let written: i64 = writers.join_all().await.into_iter().map(|writer| writer.unwrap().told).sum();
        let told = called + written;
        assert_eq!(last(&app).await - before, told, "a position for each event that was committed, and for no other");

        let db = app.auth_database.open();
        let events: Vec<(i64, Option<UserId>, Option<i64>)> =
            db.query("SELECT pos, user_id, user_version FROM outbox ORDER BY pos").all().await.unwrap();
        assert!(events.iter().zip(1..).all(|((pos, ..), expected)| *pos == expected), "a gap");
        let mut versions = HashMap::new();
        for (_, user_id, version) in &events {
            let (Some(user_id), Some(version)) = (user_id, version) else { continue };
            assert!(versions.insert(*user_id, *version).is_none_or(|before| before + 1 == *version), "an inversion");
        }
        app.assert_equal().await;
    }
}

async fn last(app: &Pair) -> i64 {
    app.auth_database.open().query("SELECT last FROM feed").optional::<(i64,)>().await.unwrap().map_or(0, |(last,)| last)
}
