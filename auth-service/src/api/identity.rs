//! `auth.v1.IdentityService`.

use shared::{Caller, Db, Error, Result, error::Reason};

use super::{timestamp, users::user_message};
use crate::{
    proto::{self, WhoAmIRequest, WhoAmIResponse, identity_service},
    sessions::{self, Session},
    users,
};

pub(crate) struct IdentityApi {
    pub(crate) db: Db,
}

impl identity_service::Handlers for IdentityApi {
    async fn who_am_i(&self, caller: Caller, _: WhoAmIRequest) -> Result<WhoAmIResponse> {
        // A token outlives its user by minutes.
        let user = users::find(&self.db, caller.user_id()?).await?.ok_or(Error::Unauthenticated(Reason::AccessTokenInvalid))?;
        let session = match caller.session_id() {
            Some(session_id) => sessions::find(&self.db, session_id).await?,
            None => None,
        };
        Ok(WhoAmIResponse {
            user: Some(user_message(user)),
            session: session.map(session_message),
            groups: caller.groups().to_vec(),
            permissions: caller.scope().split_ascii_whitespace().map(str::to_owned).collect(),
        })
    }
}

fn session_message(session: Session) -> proto::Session {
    proto::Session {
        session_id: session.session_id.to_string(),
        user_agent: session.user_agent,
        address: session.address,
        create_time: Some(timestamp(session.create_time)),
        last_use_time: Some(timestamp(session.rotated_at)),
        expire_time: Some(timestamp(session.idle_expires_at)),
    }
}
