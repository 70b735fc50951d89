//! Everything that is held about one user, as a stream that holds no more than a page at a time.

use std::time::{Duration, SystemTime};

use access::{Error, Result, guard::Streaming};
use store::Db;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;

use crate::{
    friends::{self, Friend},
    notes::{self, Note},
    profiles::Profile,
    proto::{ExportProfileResponse, ExportedFriend, export_profile_response::Item},
};

/// How many items wait for a client that reads slowly.
const WAITING: usize = 16;
/// How long a client that has stopped reading is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many notes are read at a time.
const NOTES: i64 = 50;
/// How many friends are read at a time.
const FRIENDS: i64 = 500;

type Items = Sender<Result<ExportProfileResponse>>;

/// Streams what is held about the user of the profile. It is no snapshot: what changes meanwhile may be in it or not.
pub(super) fn stream(db: Db, profile: Profile) -> Streaming<ExportProfileResponse> {
    let (items, stream) = mpsc::channel(WAITING);
    let work = async move {
        if let Err(Stop::Failed(error)) = export(&db, profile, &items).await {
            // A client that has left meanwhile can't be told.
            let _ = items.send(Err(error)).await;
        }
    };
    tokio::spawn(work.in_current_span());
    Box::pin(ReceiverStream::new(stream))
}

/// Why an export ends before its end.
enum Stop {
    /// Nobody reads any more.
    Unwanted,
    Failed(Error),
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

async fn export(db: &Db, profile: Profile, items: &Items) -> Result<(), Stop> {
    let user_id = profile.user_id;
    send(items, [Item::Profile(super::profile_message::message(profile))]).await?;

    let mut after = None;
    loop {
        let page = notes::list(db, Some(user_id), user_id, after, NOTES).await?;
        let Some(last) = page.last() else { break };
        after = Some(Note::place(last));
        send(items, page.into_iter().map(super::notes::message).map(Item::Note)).await?;
    }
    let mut after = None;
    loop {
        let page = friends::export_friends(db, user_id, after.as_ref(), FRIENDS).await?;
        let Some(last) = page.last() else { break };
        after = Some(Friend::place(last));
        send(items, page.into_iter().map(message).map(Item::Friend)).await?;
    }
    let mut after = None;
    loop {
        let page = friends::export_friend_of(db, user_id, after.as_ref(), FRIENDS).await?;
        let Some(last) = page.last() else { break };
        after = Some(Friend::place(last));
        send(items, page.into_iter().map(message).map(Item::FriendOf)).await?;
    }
    Ok(())
}

async fn send(items: &Items, page: impl IntoIterator<Item = Item>) -> Result<(), Stop> {
    for item in page {
        let sent = items.send(Ok(ExportProfileResponse { item: Some(item) }));
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(())) => {}
            _ => return Err(Stop::Unwanted),
        }
    }
    Ok(())
}

fn message(friend: Friend) -> ExportedFriend {
    ExportedFriend {
        user_id: friend.user_id.to_string(),
        display_name: friend.username,
        create_time: Some(SystemTime::from(friend.create_time).into()),
    }
}
