//! Streams all data about one user. At most one page is in memory.

use std::time::{Duration, SystemTime};

use access::{Error, Result, guard::Streaming};
use store::Db;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tracing::Instrument;

use crate::{
    friends::{self, Friend},
    note_lists::{self, NEWEST_FIRST, NoteFilter},
    profiles::Profile,
    proto::{ExportProfileResponse, ExportedFriend, export_profile_response::Item},
};

/// The number of items that wait for a slow client.
const QUEUE_LENGTH: usize = 16;
/// The time after which the export ends if the client reads nothing.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);
/// The number of notes that one query reads.
const NOTE_PAGE_SIZE: i64 = 50;
/// The number of friends that one query reads.
const FRIEND_PAGE_SIZE: i64 = 500;

type Items = Sender<Result<ExportProfileResponse>>;

/// Streams the profile and all data of its user. It is not a snapshot: a change during the export may be included or not.
pub(super) fn stream(db: Db, profile: Profile) -> Streaming<ExportProfileResponse> {
    let (items, stream) = mpsc::channel(QUEUE_LENGTH);
    let work = async move {
        if let Err(Stop::Failed(error)) = export(&db, profile, &items).await {
            // The client may have disconnected.
            let _ = items.send(Err(error)).await;
        }
    };
    tokio::spawn(work.in_current_span());
    Box::pin(ReceiverStream::new(stream))
}

/// The reason why an export stops early.
enum Stop {
    /// The client no longer reads.
    ClientGone,
    /// The database failed.
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

    let (filter, mut after) = (NoteFilter::all(Some(user_id), user_id), None);
    loop {
        let page = note_lists::list(db, &filter, NEWEST_FIRST, after.as_ref(), NOTE_PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.cursor(NEWEST_FIRST.field));
        send(items, page.into_iter().map(|listed| Item::Note(super::notes::message(listed.note)))).await?;
    }
    let mut after = None;
    loop {
        let page = friends::export_friends(db, user_id, after.as_ref(), FRIEND_PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = Some(Friend::cursor(last));
        send(items, page.into_iter().map(message).map(Item::Friend)).await?;
    }
    let mut after = None;
    loop {
        let page = friends::export_friend_of(db, user_id, after.as_ref(), FRIEND_PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = Some(Friend::cursor(last));
        send(items, page.into_iter().map(message).map(Item::FriendOf)).await?;
    }
    Ok(())
}

async fn send(items: &Items, page: impl IntoIterator<Item = Item>) -> Result<(), Stop> {
    for item in page {
        let sent = items.send(Ok(ExportProfileResponse { item: Some(item) }));
        match tokio::time::timeout(SEND_TIMEOUT, sent).await {
            Ok(Ok(())) => {}
            _ => return Err(Stop::ClientGone),
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
