//! `auth.v1.GroupService`.

use std::sync::Arc;

use access::{AuditRecorder, Caller, Clock, Error, Result, UserId, validate::Violations};
use store::{
    Db,
    page::Page,
    update::{UpdateMask, check_etag, etag},
};

use super::{begin, timestamp};
use crate::{
    delegation::Delegator,
    events::EventLog,
    groups::{self, Group, GroupId},
    permissions::{self, Catalogue, Holder},
    proto::{
        self, AddMemberRequest, CreateGroupRequest, DeleteGroupRequest, GetGroupRequest, ListGroupsRequest, ListGroupsResponse,
        ListMembersRequest, ListMembersResponse, RemoveMemberRequest, UpdateGroupRequest, group_service,
    },
    users,
};

/// The permission of `GetGroup` and `ListGroups`.
pub(super) const VIEW_GROUPS: &str = "auth.view_group";

pub(crate) struct GroupApi {
    pub(crate) db: Db,
    pub(crate) event_log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) catalogue: Catalogue,
}

impl group_service::Handlers for GroupApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        self.event_log.recorder()
    }

    fn check_create_group(&self, request: &CreateGroupRequest, violations: &mut Violations) {
        if let Some(group) = &request.group {
            violations.check("group.name", || groups::check_name("group.name", &group.name));
        }
    }

    async fn create_group(&self, caller: Caller, request: CreateGroupRequest) -> Result<proto::Group> {
        let proto::Group { name, description, .. } = request.group.unwrap_or_default();
        let mut change = begin(&self.event_log, &caller, None).await?;
        let group = groups::create(&mut change, &self.clock, &name, &description).await?;
        change.commit().await?;
        Ok(group_message(group, Vec::new()))
    }

    async fn get_group(&self, _: Caller, request: GetGroupRequest) -> Result<proto::Group> {
        let group_id = GroupId::parse("group_id", &request.group_id)?;
        let group = groups::find(&self.db, group_id).await?.ok_or_else(|| Error::not_found("group_id"))?;
        let permissions = permissions::given(&self.db, Holder::Group(group_id)).await?;
        Ok(group_message(group, permissions))
    }

    async fn list_groups(&self, _: Caller, request: ListGroupsRequest) -> Result<ListGroupsResponse> {
        let page: Page<String> = Page::new(request.page_size, &request.page_token, "ListGroups")?;
        let found = groups::list(&self.db, page.after(), page.limit()).await?;
        let group_ids: Vec<_> = found.iter().map(|group| group.group_id).collect();
        let mut permissions = groups::permissions(&self.db, &group_ids).await?;
        let message = |group: Group| {
            let permissions = permissions.remove(&group.group_id).unwrap_or_default();
            group_message(group, permissions)
        };
        let (groups, next_page_token) = page.truncate_messages(found, |group| group.name.clone(), message)?;
        Ok(ListGroupsResponse { groups, next_page_token })
    }

    fn check_update_group(&self, request: &UpdateGroupRequest, violations: &mut Violations) {
        let mask = violations.check("update_mask", || UpdateMask::new::<proto::Group>(request.update_mask.as_ref()));
        let (Some(given), mask) = (&request.group, mask.unwrap_or(UpdateMask::SetFields)) else { return };
        violations.check("group.group_id", || GroupId::parse("group.group_id", &given.group_id));
        if mask.writes("name", !given.name.is_empty()) {
            violations.check("group.name", || groups::check_name("group.name", &given.name));
        }
    }

    async fn update_group(&self, caller: Caller, request: UpdateGroupRequest) -> Result<proto::Group> {
        let mask = UpdateMask::new::<proto::Group>(request.update_mask.as_ref())?;
        let given = request.group.unwrap_or_default();
        let group_id = GroupId::parse("group.group_id", &given.group_id)?;
        let mut change = begin(&self.event_log, &caller, None).await?;
        let group = groups::lock(&mut change, group_id).await?.ok_or_else(|| Error::not_found("group.group_id"))?;
        check_etag("group.etag", &given.etag, group.version)?;
        let pick = |path, given: String, old: &str| if mask.writes(path, !given.is_empty()) { given } else { old.to_owned() };
        let name = pick("name", given.name, &group.name);
        let description = pick("description", given.description, &group.description);
        let group = groups::update(&mut change, &self.clock, group, &name, &description).await?;
        let permissions = permissions::given(&mut *change, Holder::Group(group_id)).await?;
        change.commit().await?;
        Ok(group_message(group, permissions))
    }

    async fn delete_group(&self, caller: Caller, request: DeleteGroupRequest) -> Result<()> {
        let group_id = GroupId::parse("group_id", &request.group_id)?;
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, &caller, None).await?;
        let group = groups::lock(&mut change, group_id).await?.ok_or_else(|| Error::not_found("group_id"))?;
        delegator.require_permissions_of(&permissions::given(&mut *change, Holder::Group(group_id)).await?, VIEW_GROUPS)?;
        check_etag("etag", &request.etag, group.version)?;
        groups::delete(&mut change, group_id).await?;
        change.commit().await
    }

    async fn add_member(&self, caller: Caller, request: AddMemberRequest) -> Result<()> {
        self.set_member(&caller, &request.group_id, &request.user_id, true).await
    }

    async fn remove_member(&self, caller: Caller, request: RemoveMemberRequest) -> Result<()> {
        self.set_member(&caller, &request.group_id, &request.user_id, false).await
    }

    async fn list_members(&self, _: Caller, request: ListMembersRequest) -> Result<ListMembersResponse> {
        let group_id = GroupId::parse("group_id", &request.group_id)?;
        let page: Page<String> = Page::new(request.page_size, &request.page_token, ("ListMembers", group_id))?;
        let found = groups::members(&self.db, group_id, page.after(), page.limit()).await?;
        if found.is_empty() {
            groups::find(&self.db, group_id).await?.ok_or_else(|| Error::not_found("group_id"))?;
        }
        let message = |member: groups::Member| proto::Member { user_id: member.user_id.to_string(), username: member.username };
        let (members, next_page_token) = page.truncate_messages(found, groups::Member::key, message)?;
        Ok(ListMembersResponse { members, next_page_token })
    }
}

impl GroupApi {
    async fn set_member(&self, caller: &Caller, group_id: &str, user_id: &str, is_member: bool) -> Result<()> {
        let (group_id, user_id) = (GroupId::parse("group_id", group_id)?, UserId::parse("user_id", user_id)?);
        let delegator = Delegator::load(&self.db, caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, caller, Some(user_id)).await?;
        groups::lock(&mut change, group_id).await?.ok_or_else(|| Error::not_found("group_id"))?;
        let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        delegator.require_superuser_for(&user)?;
        delegator.require_permissions_of(&permissions::given(&mut *change, Holder::Group(group_id)).await?, VIEW_GROUPS)?;
        groups::set_member(&mut change, group_id, user_id, is_member).await?;
        change.commit().await
    }
}

pub(crate) fn group_message(group: Group, permissions: Vec<String>) -> proto::Group {
    proto::Group {
        group_id: group.group_id.to_string(),
        name: group.name,
        description: group.description,
        permissions,
        create_time: Some(timestamp(group.create_time)),
        update_time: Some(timestamp(group.update_time)),
        etag: etag(group.version),
    }
}
