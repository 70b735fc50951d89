//! After a user is deleted, an access token of that user that has not expired cannot write any data. This holds even if a write
//! and the deletion run at the same time.

use std::time::Duration;

use profile_service::proto::{AddFriendRequest, CreateNoteRequest, Note, UpdateProfileRequest};
use store::Executor;
use testing::on_both_engines;
use testing::{assert_refused, rounds};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{
    cascade::{delete, note},
    pair::{self, Pair, User},
};

/// Creates a note for another user.
async fn note_for(clerk: &User, owner: &str) -> Result<(), tonic::Status> {
    let note = Note { title: "by a clerk".to_owned(), ..Note::default() };
    let request = CreateNoteRequest { user_id: owner.to_owned(), note_id: String::new(), note: Some(note) };
    clerk.notes().create_note(request).await.map(drop)
}

async fn rows_of(app: &Pair, user: &User) -> i64 {
    let user_id = access::UserId::parse("user_id", &user.id).unwrap();
    let db = app.profile_database.open();
    let query = db.query(
        "SELECT (SELECT COUNT(*) FROM profiles WHERE user_id = $1) + (SELECT COUNT(*) FROM notes WHERE user_id = $1)
             + (SELECT COUNT(*) FROM friendships WHERE user_id = $1 OR friend_id = $1)
             + (SELECT COUNT(*) FROM favorites WHERE user_id = $1 OR note_user_id = $1)",
    );
    query.bind(user_id).one::<(i64,)>().await.unwrap().0
}

on_both_engines! {
    async fn whichever_comes_first(app: Pair) {
        // This replica does not follow the revocation feed. It can learn about deleted users only from the database.
        let deaf = pair::profile(app.profile_database.url(), app.clock.clock(), app.auth.channel(), None, Duration::from_secs(15)).await;
        let bob = app.user("bob").await.at(&deaf);
        note(&bob, "hello").await.unwrap();
        for round in 0..rounds(12) {
            let alice = app.user(&format!("alice{round}")).await.at(&deaf);
            if round % 3 == 1 {
                // The user is deleted, and the events are applied, before the first call of the user.
                delete(&app, &alice.id).await;
                app.assert_equal().await;
            } else if round % 3 == 2 {
                // The replica has already created a profile for this user.
                note(&alice, "first").await.unwrap();
            }
            let mut writers = JoinSet::new();
            for number in 0..8 {
                let (alice, bob) = (alice.clone(), bob.id.clone());
                writers.spawn(async move {
                    for _ in 0..number * 40 {
                        tokio::task::yield_now().await;
                    }
                    let profile = profile_service::proto::Profile { user_id: "me".to_owned(), bio: format!("{number}"), ..Default::default() };
                    let _ = note(&alice, "another").await;
                    let _ = alice.profiles().update_profile(UpdateProfileRequest { profile: Some(profile), update_mask: None }).await;
                    let _ = alice.friends().add_friend(AddFriendRequest { user_id: "me".to_owned(), friend_id: bob }).await;
                });
            }
            if round % 3 != 1 {
                delete(&app, &alice.id).await;
            }
            writers.join_all().await;
            app.assert_equal().await;
            assert_eq!(rows_of(&app, &alice).await, 0, "round {round}");
            let status = note(&alice, "too late").await.unwrap_err();
            assert!(matches!(status.code(), Code::Unauthenticated | Code::NotFound), "{status:?}");
            assert_eq!(rows_of(&app, &alice).await, 0, "round {round}");
        }
        // A deleted user who had permissions cannot change the data of other users either.
        for round in 0..rounds(12) {
            let clerk = app.superuser(&format!("clerk{round}")).await.at(&deaf);
            note_for(&clerk, &bob.id).await.unwrap();
            let mut writers = JoinSet::new();
            for _ in 0..6 {
                let (clerk, bob) = (clerk.clone(), bob.id.clone());
                writers.spawn(async move {
                    loop {
                        if let Err(status) = note_for(&clerk, &bob).await {
                            return status;
                        }
                    }
                });
            }
            delete(&app, &clerk.id).await;
            let db = app.profile_database.open();
            let count = async |sql: &'static str, user: &User| {
                let user_id = access::UserId::parse("user_id", &user.id).unwrap();
                db.query(sql).bind(user_id).one::<(i64,)>().await.unwrap().0
            };
            pair::eventually(async || count("SELECT COUNT(*) FROM tombstones WHERE user_id = $1", &clerk).await == 1).await;
            // From now on no note is created, not even by a call that started earlier.
            let notes = count("SELECT COUNT(*) FROM notes WHERE user_id = $1", &bob).await;
            for status in writers.join_all().await {
                assert_refused(Err::<(), _>(status), Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
            }
            assert_eq!(count("SELECT COUNT(*) FROM notes WHERE user_id = $1", &bob).await, notes, "round {round}");
        }
        // The replica also rejects a deleted user who has never called it.
        let carol = app.user("carol").await;
        delete(&app, &carol.id).await;
        app.assert_equal().await;
        assert_refused(note(&carol.at(&deaf), "no").await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }
}
