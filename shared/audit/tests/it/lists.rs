//! Lists of entries.

use audit::{Actor, Entry, Filter, list};
use testing::on_both_engines;

use crate::app::{App, entry, user_id};

impl App {
    async fn found(&self, filter: Filter) -> Vec<String> {
        let events = list(&self.db, &filter, None, 100).await.expect("entries");
        events.into_iter().map(|event| event.request_id).collect()
    }
}

on_both_engines! {
    async fn a_list_is_filtered_and_has_pages(app: App) {
        for number in 0..5 {
            app.record(&entry(number)).await;
            // Some of the entries are sealed.
            if number == 2 {
                app.seal().await.expect("a seal");
            }
        }
        let other = Entry {
            actor: Actor::Command("root".to_owned()),
            method: "users delete".into(),
            target: None,
            outcome: "OK".into(),
            request_id: "other".to_owned(),
            ..Entry::default()
        };
        app.record(&other).await;
        let all = ["other", "request-4", "request-3", "request-2", "request-1", "request-0"];
        assert_eq!(app.found(Filter::default()).await, all);
        assert_eq!(app.found(Filter { actor_id: user_id(3), ..Filter::default() }).await, ["request-3"]);
        assert_eq!(app.found(Filter { actor_id: "root".to_owned(), ..Filter::default() }).await, ["other"]);
        assert_eq!(app.found(Filter { target_id: user_id(102), ..Filter::default() }).await, ["request-2"]);
        assert_eq!(app.found(Filter { outcome: "OK".to_owned(), ..Filter::default() }).await, ["other"]);
        for method in ["/test.v1.TestService/Change", "Change", "TestService/Change"] {
            let found = app.found(Filter { method: method.to_owned(), ..Filter::default() }).await;
            assert_eq!(found.len(), if method == "TestService/Change" { 0 } else { 5 }, "{method}");
        }
        assert_eq!(app.found(Filter { method: "hange".to_owned(), ..Filter::default() }).await, [""; 0]);
        assert_eq!(app.found(Filter { method: "users delete".to_owned(), ..Filter::default() }).await, ["other"]);

        let events = list(&app.db, &Filter::default(), None, 3).await.expect("entries");
        let rest = list(&app.db, &Filter::default(), Some(events[2].event_id), 100).await.expect("entries");
        let ids: Vec<_> = events.iter().chain(&rest).map(|event| event.request_id.as_str()).collect();
        assert_eq!(ids, all);
        let (from, before) = (Some(events[2].time), Some(events[0].time));
        assert_eq!(app.found(Filter { from, before, ..Filter::default() }).await, ["request-4", "request-3"]);
        let json = events[1].to_json();
        assert_eq!((&json["actorName"], &json["fields"][1], &json["occurrences"]), (&"actor 4".into(), &"email".into(), &1.into()));
    }
}
