//! `auth.v1.IdentityService`.

use access::{Caller, Error, Result};
use store::Db;

use super::{sessions::session_message, users::user_message};
use crate::{
    permissions::{self, Catalogue},
    proto::{WhoAmIRequest, WhoAmIResponse, identity_service},
    sessions, users,
};

pub(crate) struct IdentityApi {
    pub(crate) db: Db,
    pub(crate) catalogue: Catalogue,
}

impl identity_service::Handlers for IdentityApi {
    async fn who_am_i(&self, caller: Caller, _: WhoAmIRequest) -> Result<WhoAmIResponse> {
        // An access token can outlive its user until the revocation arrives.
        let user = users::find(&self.db, caller.user_id()?).await?.ok_or_else(Error::access_token_invalid)?;
        let session = match caller.session_id() {
            Some(session_id) => sessions::find(&self.db, session_id).await?.filter(sessions::Session::is_active),
            None => None,
        };
        let rights = permissions::of_user(&self.db, &self.catalogue, &user).await?;
        Ok(WhoAmIResponse {
            user: Some(user_message(user)),
            session: session.map(|session| session_message(session, &caller)),
            groups: rights.groups,
            permissions: rights.permissions,
        })
    }
}
