//! `auth.v1.UserService`.

use std::sync::Arc;

use access::{AuditRecorder, Caller, ClientInfo, Clock, Error, Result, UserId, validate::Violations};
use store::{
    Db,
    batch::order_by_keys,
    page::{Page, total_size},
    update::{UpdateMask, check_etag, etag},
};

use super::{begin, groups::VIEW_GROUPS, lock_caller, timestamp};
use crate::{
    delegation::Delegator,
    events::{EventLog, OutboxTransaction},
    groups::{self, GroupId},
    login_throttle::{self, Limits, Subject},
    passwords::{Checked, HashPurpose, Passwords},
    permissions::Catalogue,
    proto::{
        self, ActivateUserRequest, BatchGetUsersRequest, BatchGetUsersResponse, ChangePasswordRequest, CreateUserRequest,
        DeactivateUserRequest, DeleteUserRequest, GetUserRequest, GrantSuperuserRequest, ListUsersRequest, ListUsersResponse,
        Reason, RegisterRequest, RevokeSuperuserRequest, SetPasswordRequest, UpdateUserRequest, user_service,
    },
    user_lists::{self, UserCursor, UserFilter},
    usernames::{self, Email, Username},
    users::{self, NewUser, User, UserNames},
};

pub(crate) struct UserApi {
    pub(crate) db: Db,
    pub(crate) event_log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    pub(crate) catalogue: Catalogue,
    /// Whether the operator allows Register.
    pub(crate) registration: bool,
    /// The group that new users join.
    pub(crate) default_group: Option<GroupId>,
}

impl user_service::Handlers for UserApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        self.event_log.recorder()
    }

    fn check_register(&self, request: &RegisterRequest, violations: &mut Violations) {
        violations
            .check("username", || Username::of_new_user("username", &request.username, Email::new(&request.email).as_ref()));
        let texts = [&request.username, &request.email, &request.first_name, &request.last_name];
        self.check_password(&request.password, texts, violations);
    }

    async fn register(&self, client: ClientInfo, request: RegisterRequest) -> Result<proto::User> {
        if !self.registration {
            return Err(Error::denied(
                Reason::RegistrationClosed,
                "registration is closed; ask an administrator to create an account",
            ));
        }
        let RegisterRequest { username, email, password, first_name, last_name } = request;
        let names = UserNames::new("", &username, &email, first_name, last_name)?;
        let password = self.passwords.check_new("password", &password)?;
        let permit = self.passwords.acquire(HashPurpose::Registration, &client)?;
        if let Some(source) = Subject::registration(client.address(), self.limits) {
            let mut tx = self.db.begin().await?;
            login_throttle::count(&mut tx, &self.clock, [source]).await?;
            tx.commit().await?;
        }
        let password_hash = permit.hash(password, names.weak_password_texts()).await?;
        self.create(self.event_log.begin().await?, "", NewUser { names, password_hash, is_superuser: false }).await
    }

    fn check_create_user(&self, request: &CreateUserRequest, violations: &mut Violations) {
        if let Some(user) = &request.user {
            violations.check("user.username", || {
                Username::of_new_user("user.username", &user.username, Email::new(&user.email).as_ref())
            });
        }
        if !request.password.is_empty() {
            let user = request.user.clone().unwrap_or_default();
            let texts = [&user.username, &user.email, &user.first_name, &user.last_name];
            self.check_password(&request.password, texts, violations);
        }
    }

    async fn create_user(&self, caller: Caller, request: CreateUserRequest) -> Result<proto::User> {
        let proto::User { username, email, first_name, last_name, .. } = request.user.unwrap_or_default();
        let names = UserNames::new("user.", &username, &email, first_name, last_name)?;
        let password_hash = match request.password.as_str() {
            "" => users::NO_PASSWORD.to_owned(),
            password => {
                let password = self.passwords.check_new("password", password)?;
                let permit = self.passwords.acquire(HashPurpose::PasswordChange, caller.client_info())?;
                permit.hash(password, names.weak_password_texts()).await?
            }
        };
        let change = begin(&self.event_log, &caller, None).await?;
        self.create(change, "user.", NewUser { names, password_hash, is_superuser: false }).await
    }

    async fn get_user(&self, _: Caller, request: GetUserRequest) -> Result<proto::User> {
        let user = users::find(&self.db, UserId::parse("user_id", &request.user_id)?).await?;
        Ok(user_message(user.ok_or_else(|| Error::not_found("user_id"))?))
    }

    async fn batch_get_users(&self, _: Caller, request: BatchGetUsersRequest) -> Result<BatchGetUsersResponse> {
        let user_ids = request.user_ids.iter().map(|id| UserId::parse("user_ids", id)).collect::<Result<Vec<_>>>()?;
        let found = users::find_many(&self.db, &user_ids).await?;
        let users = order_by_keys("user_ids", &user_ids, found, |user| user.user_id)?;
        Ok(BatchGetUsersResponse { users: users.into_iter().map(user_message).collect() })
    }

    fn check_list_users(&self, request: &ListUsersRequest, violations: &mut Violations) {
        violations.check("order_by", || user_lists::order(&request.order_by));
        if !request.username_prefix.is_empty() {
            let check = || usernames::key(&request.username_prefix).ok_or_else(|| usernames::invalid_username("username_prefix"));
            violations.check("username_prefix", check);
        }
    }

    async fn list_users(&self, caller: Caller, request: ListUsersRequest) -> Result<ListUsersResponse> {
        let group_id = match request.group_id.as_str() {
            "" => None,
            // The filter shows who the members of the group are, as ListMembers does.
            _ if !caller.may(VIEW_GROUPS) => {
                return Err(Error::PermissionMissing(Some(VIEW_GROUPS.into())));
            }
            group_id => Some(GroupId::parse("group_id", group_id)?),
        };
        let username_prefix = match request.username_prefix.as_str() {
            "" => String::new(),
            prefix => usernames::key(prefix).ok_or_else(|| usernames::invalid_username("username_prefix"))?,
        };
        let filter = UserFilter {
            username_prefix,
            includes_active: request.is_active.unwrap_or(true),
            includes_inactive: request.is_active.map_or(request.show_inactive, |is_active| !is_active),
            search: request.search,
            group_id,
        };
        let order = user_lists::order(&request.order_by)?;
        let page = Page::new(request.page_size, &request.page_token, ("ListUsers", &filter, order))?;
        let rows = user_lists::list(&self.db, &filter, order, page.after(), page.limit()).await?;
        let (users, next_page_token) = page.truncate_messages(rows, |user| UserCursor::of(user, order.field), user_message)?;
        let total_size =
            if request.with_total_size { Some(total_size(user_lists::count(&self.db, &filter).await?)) } else { None };
        Ok(ListUsersResponse { users, next_page_token, total_size })
    }

    fn check_update_user(&self, request: &UpdateUserRequest, violations: &mut Violations) {
        let mask = violations.check("update_mask", || UpdateMask::new::<proto::User>(request.update_mask.as_ref()));
        let (Some(given), mask) = (&request.user, mask.unwrap_or(UpdateMask::SetFields)) else { return };
        violations.check("user.user_id", || UserId::parse("user.user_id", &given.user_id));
        if mask.writes("username", !given.username.is_empty()) {
            let email = Email::new(&given.email);
            // An absent address stays as it is stored, so the username cannot be compared with it yet.
            let check = || match &email {
                None if !mask.writes("email", false) => Username::imported("user.username", &given.username),
                email => Username::new("user.username", &given.username, email.as_ref()),
            };
            violations.check("user.username", check);
        }
    }

    async fn update_user(&self, caller: Caller, request: UpdateUserRequest) -> Result<proto::User> {
        let mask = UpdateMask::new::<proto::User>(request.update_mask.as_ref())?;
        let given = request.user.unwrap_or_default();
        let user_id = UserId::parse("user.user_id", &given.user_id)?;
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, &caller, Some(user_id)).await?;
        let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user.user_id"))?;
        delegator.require_superset_of(&mut *change, &user).await?;
        check_etag("user.etag", &given.etag, user.version)?;

        let pick = |path, given: String, old: &str| if mask.writes(path, !given.is_empty()) { given } else { old.to_owned() };
        let email = Email::new(&pick("email", given.email, user.email.as_deref().unwrap_or_default()));
        let username = pick("username", given.username, &user.username);
        // An imported username may break the rules for new ones until it is changed.
        let username = if username == user.username && user.has_imported_username() {
            Username::imported("user.username", &username)?
        } else {
            Username::new("user.username", &username, email.as_ref())?
        };
        if username.key.as_bytes() != user.username_key {
            usernames::check_new(&username, "user.username")?;
        }
        let first_name = pick("first_name", given.first_name, &user.first_name);
        let last_name = pick("last_name", given.last_name, &user.last_name);
        let new = UserNames { username, email, first_name, last_name };
        let user = users::update(&mut change, &self.clock, &user, &new).await?;
        change.commit().await?;
        Ok(user_message(user))
    }

    async fn delete_user(&self, caller: Caller, request: DeleteUserRequest) -> Result<()> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, &caller, Some(user_id)).await?;
        let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        delegator.require_superset_of(&mut *change, &user).await?;
        check_etag("etag", &request.etag, user.version)?;
        users::delete(&mut change, &self.clock, &user).await?;
        change.commit().await
    }

    async fn activate_user(&self, caller: Caller, request: ActivateUserRequest) -> Result<proto::User> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, &caller, Some(user_id)).await?;
        let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        delegator.require_superset_of(&mut *change, &user).await?;
        let user = users::set_active(&mut change, &self.clock, user, true).await?;
        change.commit().await?;
        Ok(user_message(user))
    }

    async fn deactivate_user(&self, caller: Caller, request: DeactivateUserRequest) -> Result<proto::User> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, &caller, Some(user_id)).await?;
        let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        delegator.require_superset_of(&mut *change, &user).await?;
        let user = users::set_active(&mut change, &self.clock, user, false).await?;
        change.commit().await?;
        Ok(user_message(user))
    }

    async fn grant_superuser(&self, caller: Caller, request: GrantSuperuserRequest) -> Result<proto::User> {
        self.set_superuser(&caller, &request.user_id, true).await
    }

    async fn revoke_superuser(&self, caller: Caller, request: RevokeSuperuserRequest) -> Result<proto::User> {
        self.set_superuser(&caller, &request.user_id, false).await
    }

    fn check_set_password(&self, request: &SetPasswordRequest, violations: &mut Violations) {
        violations.check("new_password", || self.passwords.check_new("new_password", &request.new_password));
    }

    async fn set_password(&self, caller: Caller, request: SetPasswordRequest) -> Result<()> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let user = users::find(&self.db, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        Delegator::load(&self.db, &caller, &self.catalogue).await?.require_superset_of(&self.db, &user).await?;
        let names = vec![user.username, user.email.unwrap_or_default(), user.first_name, user.last_name];
        let password = self.passwords.check_new("new_password", &request.new_password)?;
        let permit = self.passwords.acquire(HashPurpose::PasswordChange, caller.client_info())?;
        let password_hash = permit.hash(password, names).await?;
        let mut change = begin(&self.event_log, &caller, Some(user_id)).await?;
        let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        change.set_target("user", user_id, Some(&user.username));
        users::set_password(&mut change, &self.clock, user_id, &password_hash, None).await?;
        change.commit().await
    }

    fn check_change_password(&self, request: &ChangePasswordRequest, violations: &mut Violations) {
        violations.check("new_password", || self.passwords.check_new("new_password", &request.new_password));
    }

    async fn change_password(&self, caller: Caller, request: ChangePasswordRequest) -> Result<()> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let user = users::find(&self.db, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        let wrong_password = || Error::invalid("old_password", "password.current", "is not the current password");
        let permit = self.passwords.acquire(HashPurpose::PasswordChange, caller.client_info())?;
        let mut tx = self.db.begin().await?;
        let attempt = login_throttle::count(&mut tx, &self.clock, [Subject::password_change(user_id, self.limits)]).await?;
        tx.commit().await?;
        if permit.verify(&request.old_password, Some(&user.password_hash)).await? == Checked::Wrong {
            return Err(wrong_password());
        }
        let names = vec![user.username, user.email.unwrap_or_default(), user.first_name, user.last_name];
        let password = self.passwords.check_new("new_password", &request.new_password)?;
        let permit = self.passwords.acquire(HashPurpose::PasswordChange, caller.client_info())?;
        let password_hash = permit.hash(password, names).await?;
        let mut change = self.event_log.begin().await?;
        // Another call may have changed the password or deactivated the user while the old password was being verified.
        let is_unchanged = |current: &User| current.is_active && current.password_hash == user.password_hash;
        users::lock(&mut change, user_id).await?.filter(is_unchanged).ok_or_else(wrong_password)?;
        users::set_password(&mut change, &self.clock, user_id, &password_hash, caller.session_id()).await?;
        login_throttle::refund(&mut change, &attempt).await?;
        change.commit().await
    }
}

impl UserApi {
    /// Checks the password of a new user.
    fn check_password(&self, password: &str, user_texts: [&String; 4], violations: &mut Violations) {
        let has_violations = !violations.is_empty();
        violations.check("password", || {
            let password = self.passwords.check_new("password", password)?;
            // The strength of the password of a valid request is checked on a thread of the hashing queue, because that takes long.
            if has_violations { password.check_strength(&user_texts.map(String::clone)) } else { Ok(()) }
        });
    }

    /// Creates a user from a request. `prefix` is the path of the message that holds the names, such as `user.`.
    async fn create(&self, mut change: OutboxTransaction, prefix: &str, new: NewUser) -> Result<proto::User> {
        let user = users::create(&mut change, &self.clock, prefix, &new).await?;
        if let Some(group_id) = self.default_group
            && !groups::add_new_user(&mut change, group_id, user.user_id).await?
        {
            tracing::warn!(%group_id, user_id = %user.user_id, "the default group was deleted; the new user is not a member of it");
        }
        change.commit().await?;
        Ok(user_message(user))
    }

    async fn set_superuser(&self, caller: &Caller, user_id: &str, is_superuser: bool) -> Result<proto::User> {
        let user_id = UserId::parse("user_id", user_id)?;
        Delegator::load(&self.db, caller, &self.catalogue).await?.require_superuser()?;
        let mut change = self.event_log.begin().await?;
        // This lock comes first, because two superusers who change one another would otherwise wait for each other's row.
        users::lock_superusers(&mut change).await?;
        lock_caller(&mut change, caller, Some(user_id)).await?;
        let user = users::lock(&mut change, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        let user = users::set_superuser(&mut change, &self.clock, user, is_superuser).await?;
        change.commit().await?;
        Ok(user_message(user))
    }
}

pub(crate) fn user_message(user: User) -> proto::User {
    proto::User {
        user_id: user.user_id.to_string(),
        username: user.username,
        email: user.email.unwrap_or_default(),
        first_name: user.first_name,
        last_name: user.last_name,
        is_active: user.is_active,
        is_superuser: user.is_superuser,
        create_time: Some(timestamp(user.create_time)),
        update_time: Some(timestamp(user.update_time)),
        last_login_time: user.last_login_time.map(timestamp),
        etag: etag(user.version),
    }
}
