//! Streams all data about one user. At most one page is in memory.

use std::time::{Duration, SystemTime};

use access::{CurrentCall, Error, Result, UserId, guard::Streaming};
use store::Db;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    friends::{self, Friend},
    note_lists::{self, NEWEST_FIRST, NoteCursor, NoteFilter},
    profiles::{NameCursor, Profile},
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
    CurrentCall::spawn(work);
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
    let mut export = ProfileExport::new(db.clone(), profile);
    while let Some(page) = export.next_page().await? {
        send(items, page).await?;
    }
    Ok(())
}

/// All data about one user, page by page.
pub(crate) struct ProfileExport {
    db: Db,
    user_id: UserId,
    next: Next,
}

/// The part of an export that the next page is read from.
enum Next {
    Profile(Box<Profile>),
    Notes(Option<NoteCursor>),
    Friends(Option<NameCursor>),
    FriendOf(Option<NameCursor>),
    Nothing,
}

impl ProfileExport {
    pub(crate) fn new(db: Db, profile: Profile) -> Self {
        Self { db, user_id: profile.user_id, next: Next::Profile(Box::new(profile)) }
    }

    /// Returns the number of items without the friends, of which there are few.
    pub(crate) async fn count(&self) -> store::Result<u64> {
        let notes = note_lists::count(&self.db, &NoteFilter::all(Some(self.user_id), self.user_id)).await?;
        Ok(u64::try_from(notes).unwrap_or_default() + 1)
    }

    /// Returns the next items, or `None` at the end.
    pub(crate) async fn next_page(&mut self) -> store::Result<Option<Vec<ExportProfileResponse>>> {
        loop {
            let (page, next) = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Profile(profile) => (vec![Item::Profile(super::profile_message::message(*profile))], Next::Notes(None)),
                Next::Notes(after) => {
                    let filter = NoteFilter::all(Some(self.user_id), self.user_id);
                    let page = note_lists::list(&self.db, &filter, NEWEST_FIRST, after.as_ref(), NOTE_PAGE_SIZE).await?;
                    let after = page.last().map(|last| last.cursor(NEWEST_FIRST.field));
                    let items = page.into_iter().map(|listed| Item::Note(super::notes::message(listed.note))).collect();
                    (items, after.map_or(Next::Friends(None), |after| Next::Notes(Some(after))))
                }
                Next::Friends(after) => {
                    let page = friends::export_friends(&self.db, self.user_id, after.as_ref(), FRIEND_PAGE_SIZE).await?;
                    let after = page.last().map(Friend::cursor);
                    let items = page.into_iter().map(message).map(Item::Friend).collect();
                    (items, after.map_or(Next::FriendOf(None), |after| Next::Friends(Some(after))))
                }
                Next::FriendOf(after) => {
                    let page = friends::export_friend_of(&self.db, self.user_id, after.as_ref(), FRIEND_PAGE_SIZE).await?;
                    let after = page.last().map(Friend::cursor);
                    let items = page.into_iter().map(message).map(Item::FriendOf).collect();
                    (items, after.map_or(Next::Nothing, |after| Next::FriendOf(Some(after))))
                }
                Next::Nothing => return Ok(None),
            };
            self.next = next;
            if !page.is_empty() {
                return Ok(Some(page.into_iter().map(|item| ExportProfileResponse { item: Some(item) }).collect()));
            }
        }
    }
}

async fn send(items: &Items, page: Vec<ExportProfileResponse>) -> Result<(), Stop> {
    for item in page {
        match tokio::time::timeout(SEND_TIMEOUT, items.send(Ok(item))).await {
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
