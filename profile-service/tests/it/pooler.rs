//! The service behind PgBouncer in transaction mode, where replicas share a few connections to PostgreSQL.

use profile_service::proto::{CreateNoteRequest, ListNotesRequest, Note, Visibility};
use store::{Db, DbOptions};
use testing::{Engine, PgBouncer, TestDatabase};
use tokio::task::JoinSet;

use crate::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_pgbouncer_serves_every_call() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let pooler = PgBouncer::start(database.url(), 3);
    let options = DbOptions { is_transaction_pooled: true, ..DbOptions::default() };
    let db = Db::with_options(&pooler.url, None, options).unwrap();
    migrate::migrate(&db, &profile_service::MIGRATIONS).await.unwrap();
    let app = App::on(database, db).await;
    let friend = app.user("friend").await;
    let mut users = JoinSet::new();
    for number in 0..12 {
        let user = app.user(&format!("user{number}")).await;
        user.calls_a_friend(&friend).await;
        users.spawn(async move {
            for title in ["one", "two", "three"] {
                let note = Note { title: title.to_owned(), visibility: Visibility::Friends.into(), ..Note::default() };
                let request = CreateNoteRequest { user_id: "me".to_owned(), note: Some(note), ..CreateNoteRequest::default() };
                user.notes().create_note(request).await.unwrap();
            }
            let request = ListNotesRequest { user_id: "me".to_owned(), ..ListNotesRequest::default() };
            assert_eq!(user.notes().list_notes(request).await.unwrap().into_inner().notes.len(), 3);
        });
    }
    users.join_all().await;
}
