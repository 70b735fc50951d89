//! `profiles.v1.FriendService`.

use std::{sync::Arc, time::SystemTime};

use access::{AuditRecorder, Caller, Clock, Result, UserId, validate::Violations};
use audit::AuditLog;
use store::{Db, page::Page};

use super::{profile_message::message, reader};
use crate::{
    change::{Change, RefusalRecorder},
    friends::{self, Relation},
    profiles::{self, Profile},
    proto::{
        self, AddFriendRequest, Friendship, ListFriendOfRequest, ListFriendOfResponse, ListFriendsRequest, ListFriendsResponse,
        ListMutualFriendsRequest, ListMutualFriendsResponse, RemoveFriendRequest, friend_service,
    },
    quotas::Quotas,
};

pub(crate) struct FriendApi {
    pub(crate) db: Db,
    pub(crate) audit_log: AuditLog,
    pub(crate) clock: Clock,
    pub(crate) quotas: Quotas,
}

impl friend_service::Handlers for FriendApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        Arc::new(RefusalRecorder(self.audit_log.clone()))
    }

    fn check_add_friend(&self, request: &AddFriendRequest, violations: &mut Violations) {
        let ids = [("user_id", &request.user_id), ("friend_id", &request.friend_id)];
        if let [Some(user_id), Some(friend_id)] = ids.map(|(field, id)| violations.check(field, || UserId::parse(field, id))) {
            violations.push(friends::friend("friend_id", user_id, friend_id));
        }
    }

    async fn add_friend(&self, caller: Caller, request: AddFriendRequest) -> Result<Friendship> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let friend_id = UserId::parse("friend_id", &request.friend_id)?;

        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        profiles::must_exist(&mut *tx, "user_id", user_id).await?;
        profiles::must_exist(&mut *tx, "friend_id", friend_id).await?;
        tx.record([format!("friends.{friend_id}")]).await?;
        let since = friends::add(&mut tx, user_id, "friend_id", friend_id, self.clock.now(), &self.quotas).await?;
        tx.commit().await?;
        Ok(Friendship {
            user_id: user_id.to_string(),
            friend_id: friend_id.to_string(),
            create_time: Some(SystemTime::from(since).into()),
        })
    }

    async fn remove_friend(&self, caller: Caller, request: RemoveFriendRequest) -> Result<()> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let friend_id = UserId::parse("friend_id", &request.friend_id)?;
        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        tx.record([format!("friends.{friend_id}")]).await?;
        friends::remove(&mut tx, user_id, friend_id).await?;
        tx.commit().await
    }

    async fn list_friends(&self, caller: Caller, request: ListFriendsRequest) -> Result<ListFriendsResponse> {
        let page = (request.page_size, request.page_token.as_str());
        let (profiles, next_page_token) = self.list(caller, Relation::Friends, &request.user_id, page).await?;
        Ok(ListFriendsResponse { profiles, next_page_token })
    }

    async fn list_friend_of(&self, caller: Caller, request: ListFriendOfRequest) -> Result<ListFriendOfResponse> {
        let page = (request.page_size, request.page_token.as_str());
        let (profiles, next_page_token) = self.list(caller, Relation::FriendOf, &request.user_id, page).await?;
        Ok(ListFriendOfResponse { profiles, next_page_token })
    }

    async fn list_mutual_friends(&self, caller: Caller, request: ListMutualFriendsRequest) -> Result<ListMutualFriendsResponse> {
        let page = (request.page_size, request.page_token.as_str());
        let (profiles, next_page_token) = self.list(caller, Relation::Mutual, &request.user_id, page).await?;
        Ok(ListMutualFriendsResponse { profiles, next_page_token })
    }
}

impl FriendApi {
    /// Returns a page of one of the three lists, and the token of the next page.
    async fn list(
        &self,
        caller: Caller,
        relation: Relation,
        user_id: &str,
        (size, token): (i32, &str),
    ) -> Result<(Vec<proto::Profile>, String)> {
        let user_id = UserId::parse("user_id", user_id)?;
        let page = Page::new(size, token, (relation.name(), user_id))?;
        let found = friends::list(&self.db, reader(&caller), relation, user_id, page.after(), page.limit()).await?;
        if found.is_empty() {
            profiles::must_exist(&self.db, "user_id", user_id).await?;
        }
        page.truncate_messages(found, Profile::cursor, message)
    }
}
