//! `auth.v1.IdentityService`.

use access::{Caller, Error, Result, UserId};
use store::Db;

use super::{groups::VIEW_GROUPS, sessions::session_message, users::user_message};
use crate::{
    access_explanation::{Condition, Explanation, KnownMethods, MethodNameError, Remedy, VisibleGroups},
    identity::{self, Identity},
    permissions::{self, Catalogue, Rights},
    proto::{
        AccessCondition, AccessRemedy, CheckPermissionsRequest, CheckPermissionsResponse, ExplainAccessRequest,
        ExplainAccessResponse, PermissionCheck, WhoAmIRequest, WhoAmIResponse, identity_service,
    },
    users::{self, User},
};

pub(crate) struct IdentityApi {
    pub(crate) db: Db,
    pub(crate) catalogue: Catalogue,
    pub(crate) known_methods: KnownMethods,
}

impl identity_service::Handlers for IdentityApi {
    async fn who_am_i(&self, caller: Caller, _: WhoAmIRequest) -> Result<WhoAmIResponse> {
        // An access token can outlive its user until the revocation arrives.
        let found = identity::find(&self.db, &self.catalogue, caller.user_id()?, caller.session_id()).await?;
        let (Identity { user, rights }, session) = found.ok_or_else(Error::access_token_invalid)?;
        Ok(WhoAmIResponse {
            user: Some(user_message(user)),
            session: session.map(|session| session_message(session, caller.session_id())),
            groups: rights.groups,
            permissions: rights.permissions,
        })
    }

    async fn check_permissions(&self, _: Caller, request: CheckPermissionsRequest) -> Result<CheckPermissionsResponse> {
        let user = self.user(&request.user_id).await?;
        let rights =
            if user.is_active { permissions::of_user(&self.db, &self.catalogue, &user).await? } else { Rights::default() };
        let check = |permission: String| PermissionCheck {
            is_held: rights.permissions.contains(&permission),
            is_known: self.catalogue.contains(&permission),
            permission,
        };
        Ok(CheckPermissionsResponse { results: request.permissions.into_iter().map(check).collect() })
    }

    async fn explain_access(&self, caller: Caller, request: ExplainAccessRequest) -> Result<ExplainAccessResponse> {
        let method = self.known_methods.find(&request.method).map_err(|error| match error {
            MethodNameError::Unknown(_) => Error::not_found("method"),
            MethodNameError::Ambiguous { .. } => {
                Error::invalid("method", "method.unique", "must name one method: several names end with it")
            }
        })?;
        let owner = match request.owner_id.as_str() {
            "" => None,
            owner_id => Some(UserId::parse("owner_id", owner_id)?),
        };
        let user = self.user(&request.user_id).await?;
        let visible = if caller.may(VIEW_GROUPS) {
            VisibleGroups::All
        } else if caller.user_id().is_ok_and(|caller| caller == user.user_id) {
            VisibleGroups::OfUser
        } else {
            VisibleGroups::None
        };
        let Explanation { method, service, rule, is_allowed, conditions } =
            method.explain(&self.db, &user, owner, visible).await?;
        let conditions = conditions.into_iter().map(condition_message).collect();
        Ok(ExplainAccessResponse { method, service, rule, is_allowed, conditions })
    }
}

impl IdentityApi {
    async fn user(&self, user_id: &str) -> Result<User> {
        let user = users::find(&self.db, UserId::parse("user_id", user_id)?).await?;
        user.ok_or_else(|| Error::not_found("user_id"))
    }
}

fn condition_message(condition: Condition) -> AccessCondition {
    let Condition { requirement, holds, finding, remedies } = condition;
    AccessCondition { requirement, holds, finding, remedies: remedies.into_iter().map(remedy_message).collect() }
}

fn remedy_message(remedy: Remedy) -> AccessRemedy {
    let description = remedy.to_string();
    let (permission, group_id) = match remedy {
        Remedy::Activate | Remedy::GrantSuperuser => (String::new(), String::new()),
        Remedy::Grant(permission) => (permission, String::new()),
        Remedy::Join { group_id, .. } => (String::new(), group_id.to_string()),
    };
    AccessRemedy { description, permission, group_id }
}
