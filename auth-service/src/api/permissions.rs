//! `auth.v1.PermissionService`.

use std::sync::Arc;

use access::{AuditRecorder, AuditedCall, Caller, Clock, Error, Result, UserId, validate::Violations};
use store::{Db, page::Page};

use super::begin;
use crate::{
    delegation::Delegator,
    events::EventLog,
    groups::{self, GroupId},
    permissions::{self, Catalogue, Holder},
    proto::{
        GrantRequest, ListPermissionsRequest, ListPermissionsResponse, Permission, RevokeRequest, grant_request,
        list_permissions_request, permission_service, revoke_request,
    },
    users,
};

pub(crate) struct PermissionApi {
    pub(crate) db: Db,
    pub(crate) event_log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) catalogue: Catalogue,
}

impl permission_service::Handlers for PermissionApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        self.event_log.recorder()
    }

    async fn list_permissions(&self, _: Caller, request: ListPermissionsRequest) -> Result<ListPermissionsResponse> {
        use list_permissions_request::Holder as RequestHolder;
        let holder = match &request.holder {
            Some(RequestHolder::UserId(id)) => Some(parse_user(id)?),
            Some(RequestHolder::GroupId(id)) => Some(parse_group(id)?),
            None => None,
        };
        let list = match holder {
            Some(Holder::User(user_id)) => ("ListPermissions", "user", user_id.to_string()),
            Some(Holder::Group(group_id)) => ("ListPermissions", "group", group_id.to_string()),
            None => ("ListPermissions", "", String::new()),
        };
        let page: Page<String> = Page::new(request.page_size, &request.page_token, list)?;
        let mut found = match holder {
            Some(holder) => permissions::given(&self.db, holder).await?,
            None => self.catalogue.all().to_vec(),
        };
        match holder.filter(|_| found.is_empty()) {
            Some(Holder::User(user_id)) => {
                users::find(&self.db, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
            }
            Some(Holder::Group(group_id)) => {
                groups::find(&self.db, group_id).await?.ok_or_else(|| Error::not_found("group_id"))?;
            }
            None => {}
        }
        found.retain(|permission| page.after().is_none_or(|after| permission > after));
        let message = |permission: String| Permission { is_known: self.catalogue.contains(&permission), permission };
        let (permissions, next_page_token) = page.truncate_messages(found, String::clone, message)?;
        Ok(ListPermissionsResponse { permissions, next_page_token })
    }

    fn check_grant(&self, request: &GrantRequest, violations: &mut Violations) {
        violations.check("permission", || self.catalogue.check("permission", &request.permission));
    }

    async fn grant(&self, caller: Caller, request: GrantRequest) -> Result<()> {
        use grant_request::Holder as RequestHolder;
        let holder = match request.holder.ok_or_else(|| Error::not_found("holder"))? {
            RequestHolder::UserId(id) => parse_user(&id)?,
            RequestHolder::GroupId(id) => parse_group(&id)?,
        };
        self.set(&caller, holder, &request.permission, true).await
    }

    async fn revoke(&self, caller: Caller, request: RevokeRequest) -> Result<()> {
        use revoke_request::Holder as RequestHolder;
        let holder = match request.holder.ok_or_else(|| Error::not_found("holder"))? {
            RequestHolder::UserId(id) => parse_user(&id)?,
            RequestHolder::GroupId(id) => parse_group(&id)?,
        };
        self.set(&caller, holder, &request.permission, false).await
    }
}

impl PermissionApi {
    async fn set(&self, caller: &Caller, holder: Holder, permission: &String, is_given: bool) -> Result<()> {
        if let Some(call) = AuditedCall::get() {
            match holder {
                Holder::User(user_id) => call.set_target("user", user_id.to_string()),
                Holder::Group(group_id) => call.set_target("group", group_id.to_string()),
            }
        }
        let delegator = Delegator::load(&self.db, caller, &self.catalogue).await?;
        delegator.require_permissions([permission])?;
        let user_id = match holder {
            Holder::User(user_id) => Some(user_id),
            Holder::Group(_) => None,
        };
        let mut change = begin(&self.event_log, caller, user_id).await?;
        match holder {
            Holder::User(user_id) => {
                let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
                delegator.require_superuser_for(&user)?;
            }
            Holder::Group(group_id) => {
                groups::lock(&mut change, group_id).await?.ok_or_else(|| Error::not_found("group_id"))?;
            }
        }
        permissions::set(&mut change, &self.clock, holder, permission, is_given).await?;
        change.commit().await
    }
}

fn parse_user(user_id: &str) -> Result<Holder> {
    UserId::parse("user_id", user_id).map(Holder::User)
}

fn parse_group(group_id: &str) -> Result<Holder> {
    GroupId::parse("group_id", group_id).map(Holder::Group)
}
