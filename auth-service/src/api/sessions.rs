//! `auth.v1.SessionService`.

use std::sync::Arc;

use access::{AuditRecorder, Caller, Clock, Error, Result, SessionId, UserId};
use store::{Db, page::Page};

use super::{begin, timestamp};
use crate::{
    delegation::Delegator,
    events::EventLog,
    identity::SessionUse,
    permissions::Catalogue,
    proto::{self, ListSessionsRequest, ListSessionsResponse, RevokeAllSessionsRequest, RevokeSessionRequest, session_service},
    sessions::{self, EndReason, Session},
    users,
};

pub(crate) struct SessionApi {
    pub(crate) db: Db,
    pub(crate) event_log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) catalogue: Catalogue,
}

impl session_service::Handlers for SessionApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        self.event_log.recorder()
    }

    async fn list_sessions(&self, caller: Caller, request: ListSessionsRequest) -> Result<ListSessionsResponse> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let page = Page::new(request.page_size, &request.page_token, ("ListSessions", user_id))?;
        let found = sessions::list(&self.db, user_id, self.clock.now(), page.after().copied(), page.limit()).await?;
        if found.is_empty() {
            users::find(&self.db, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        }
        let (sessions, next_page_token) =
            page.truncate_messages(found, Session::cursor, |session| session_message(session, caller.session_id()))?;
        Ok(ListSessionsResponse { sessions, next_page_token })
    }

    async fn revoke_session(&self, caller: Caller, request: RevokeSessionRequest) -> Result<()> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let session_id = SessionId::parse("session_id", &request.session_id)?;
        self.require_superset_of(&caller, user_id).await?;
        let mut change = begin(&self.event_log, &caller, Some(user_id)).await?;
        sessions::revoke(&mut change, user_id, session_id).await?;
        change.commit().await
    }

    async fn revoke_all_sessions(&self, caller: Caller, request: RevokeAllSessionsRequest) -> Result<()> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let kept_session = caller.session_id().filter(|_| request.keep_current);
        self.require_superset_of(&caller, user_id).await?;
        let mut change = begin(&self.event_log, &caller, Some(user_id)).await?;
        // Login takes the same lock. So the session of a concurrent Login either exists already and ends here, or begins afterwards.
        users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        change.add_field("sessions");
        sessions::end_others(&mut change, user_id, kept_session, EndReason::Revoked).await?;
        change.commit().await
    }
}

impl SessionApi {
    /// Checks that the caller is the user, or holds every permission that the user holds.
    async fn require_superset_of(&self, caller: &Caller, user_id: UserId) -> Result<()> {
        if caller.user_id().is_ok_and(|caller| caller == user_id) {
            return Ok(());
        }
        let user = users::find(&self.db, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        Delegator::load(&self.db, caller, &self.catalogue).await?.require_superset_of(&self.db, &user).await
    }
}

/// Returns the message for a session, as the caller's session `current` sees it.
pub(crate) fn session_message(session: impl Into<SessionUse>, current: Option<SessionId>) -> proto::Session {
    let session = session.into();
    proto::Session {
        session_id: session.session_id.to_string(),
        user_agent: session.user_agent,
        address: session.address,
        create_time: Some(timestamp(session.create_time)),
        last_use_time: Some(timestamp(session.last_use_time)),
        expire_time: Some(timestamp(session.expire_time)),
        is_current: current == Some(session.session_id),
    }
}
