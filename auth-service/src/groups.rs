//! The tables of groups and their members.

use std::{collections::HashMap, sync::LazyLock};

use access::{Clock, Error, Id, Result, UserId, error::Violation};
use chrono::{DateTime, Utc};
use store::{self, Db, Executor, Tx, batch};

use crate::{events::OutboxTransaction, proto::Reason, users};

/// The id of a group.
pub type GroupId = Id<Group>;

/// A row of the table of groups.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the proto documents the columns")]
pub struct Group {
    pub group_id: GroupId,
    pub name: String,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    /// Incremented by every change of the name, the description or the permissions.
    pub version: i64,
    pub description: String,
}

/// The columns of [`Group`].
macro_rules! columns {
    () => {
        "group_id, name, create_time, update_time, version, description"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM groups ", $rest)
    };
}

/// A user who is a member of a group.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the proto documents the columns")]
pub struct Member {
    pub user_id: UserId,
    pub username: String,
    pub username_key: Vec<u8>,
}

impl Member {
    /// Returns the position of the member in a list.
    pub fn key(&self) -> String {
        String::from_utf8_lossy(&self.username_key).into_owned()
    }
}

/// Checks the name in `field` of the request. It must have a visible character and no control characters.
pub fn check_name(field: &str, name: &str) -> Result<()> {
    let is_valid = !name.trim().is_empty() && !name.chars().any(char::is_control);
    if is_valid { Ok(()) } else { Err(Error::invalid(field, "group.name", "must not be blank or contain control characters")) }
}

/// Creates a group.
///
/// # Errors
///
/// Returns ALREADY_EXISTS if the name is taken.
pub async fn create(change: &mut OutboxTransaction, clock: &Clock, name: &str, description: &str) -> Result<Group> {
    let now = change.now(clock).await?;
    let group = insert(change, now, GroupId::new(clock), name, description).await?.ok_or_else(name_taken)?;
    change.set_target("group", group.group_id, Some(&group.name));
    Ok(group)
}

/// Inserts a row. Returns `None` if the name is taken.
pub async fn insert(tx: &mut Tx, now: DateTime<Utc>, group_id: GroupId, name: &str, description: &str) -> Result<Option<Group>> {
    let query = tx.query(concat!(
        "INSERT INTO groups (group_id, name, name_key, description, create_time, update_time, version)
         VALUES ($1, $2, $3, $4, $5, $5, 1) ON CONFLICT DO NOTHING RETURNING ",
        columns!()
    ));
    Ok(query.bind(group_id).bind(name).bind(name.as_bytes()).bind(description).bind(now).optional().await?)
}

/// Returns the group with this id.
pub async fn find(on: impl Executor<'_>, group_id: GroupId) -> Result<Option<Group>> {
    let query = on.query(select!("WHERE group_id = $1"));
    Ok(query.bind(group_id).optional().await?)
}

/// Returns the group with this name.
pub async fn find_by_name(on: impl Executor<'_>, name: &str) -> Result<Option<Group>> {
    let query = on.query(select!("WHERE name_key = $1"));
    Ok(query.bind(name.as_bytes()).optional().await?)
}

/// Returns the groups of a user, sorted by name.
pub async fn of_user(on: impl Executor<'_>, user_id: UserId) -> Result<Vec<Group>> {
    let query = on.query(select!("WHERE group_id IN (SELECT group_id FROM group_members WHERE user_id = $1) ORDER BY name_key"));
    Ok(query.bind(user_id).all().await?)
}

/// Returns the group with this id, and locks it for update until the transaction ends. To avoid deadlocks, a transaction that also
/// locks a user must lock the group first.
pub async fn lock(tx: &mut Tx, group_id: GroupId) -> Result<Option<Group>> {
    let query = tx.query(select!("WHERE group_id = $1"));
    Ok(query.bind(group_id).for_update().optional().await?)
}

/// Returns the groups with a name greater than `after`, in the order of the names.
pub async fn list(on: impl Executor<'_>, after: Option<&String>, limit: i64) -> Result<Vec<Group>> {
    let query = on.query(select!("WHERE name_key > $1 ORDER BY name_key LIMIT $2"));
    Ok(query.bind(after.map_or(&[][..], |after| after.as_bytes())).bind(limit).all().await?)
}

/// Updates the name and the description of a locked group. A new name revokes the access tokens of the members, which contain it. If both
/// are the same already, it writes nothing.
///
/// # Errors
///
/// Returns ALREADY_EXISTS if the name is taken.
pub async fn update(change: &mut OutboxTransaction, clock: &Clock, group: Group, name: &str, description: &str) -> Result<Group> {
    change.set_target("group", group.group_id, Some(&group.name));
    let is_renamed = group.name != name;
    if !is_renamed && group.description == description {
        return Ok(group);
    }
    for (field, is_changed) in [("name", is_renamed), ("description", group.description != description)] {
        if is_changed {
            change.add_field(field);
        }
    }
    let now = change.now(clock).await?;
    let query = change.query(concat!(
        "UPDATE groups SET name = $2, name_key = $3, description = $4, update_time = $5, version = version + 1 WHERE group_id = $1
         RETURNING ",
        columns!()
    ));
    let updated = query.bind(group.group_id).bind(name).bind(name.as_bytes()).bind(description).bind(now).one().await;
    let updated = updated.map_err(|error| if error.is_unique_violation() { name_taken() } else { error.into() })?;
    if is_renamed {
        users::record_member_permissions_changed(change, group.group_id).await?;
    }
    Ok(updated)
}

/// Increments the version of a group whose permissions have changed.
pub async fn touch(tx: &mut Tx, clock: &Clock, group_id: GroupId) -> Result<()> {
    let now = tx.now(clock).await?;
    let query = tx.query("UPDATE groups SET update_time = $2, version = version + 1 WHERE group_id = $1");
    query.bind(group_id).bind(now).execute().await?;
    Ok(())
}

/// Deletes a locked group with its memberships and permissions, and records the events that revoke the access tokens of its members.
pub async fn delete(change: &mut OutboxTransaction, group_id: GroupId) -> Result<()> {
    change.set_target("group", group_id, None);
    users::record_member_permissions_changed(change, group_id).await?;
    change.query("DELETE FROM groups WHERE group_id = $1").bind(group_id).execute().await?;
    Ok(())
}

/// Adds a locked user to a locked group. Returns `false` if the user is already a member.
pub async fn add_member(tx: &mut Tx, group_id: GroupId, user_id: UserId) -> Result<bool> {
    let query = tx.query("INSERT INTO group_members (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    Ok(query.bind(group_id).bind(user_id).execute().await? > 0)
}

/// Adds a new user, who has no access tokens yet, to a group. Returns `false` if the group does not exist.
pub async fn add_new_user(tx: &mut Tx, group_id: GroupId, user_id: UserId) -> Result<bool> {
    let query = tx.query("INSERT INTO group_members (group_id, user_id) SELECT group_id, $2 FROM groups WHERE group_id = $1");
    Ok(query.bind(group_id).bind(user_id).execute().await? > 0)
}

/// Removes a user from a group. Returns `false` if the user is not a member.
async fn remove_member(tx: &mut Tx, group_id: GroupId, user_id: UserId) -> Result<bool> {
    let query = tx.query("DELETE FROM group_members WHERE group_id = $1 AND user_id = $2");
    Ok(query.bind(group_id).bind(user_id).execute().await? > 0)
}

/// Makes a locked user a member of a locked group, or ends the membership, and records an event if that changes anything. Returns whether
/// it does.
pub async fn set_member(change: &mut OutboxTransaction, group_id: GroupId, user_id: UserId, is_member: bool) -> Result<bool> {
    let has_changed =
        if is_member { add_member(change, group_id, user_id).await? } else { remove_member(change, group_id, user_id).await? };
    change.set_target("group", group_id, None);
    change.add_field(format!("members.{user_id}"));
    if has_changed {
        users::record_permissions_changed(change, user_id).await?;
    }
    Ok(has_changed)
}

/// Returns the members of a group with a username key greater than `after`, in the order of the keys.
pub async fn members(on: impl Executor<'_>, group_id: GroupId, after: Option<&String>, limit: i64) -> Result<Vec<Member>> {
    let query = on.query(
        "SELECT users.user_id, username, username_key FROM group_members JOIN users ON users.user_id = group_members.user_id
         WHERE group_id = $1 AND username_key > $2 ORDER BY username_key LIMIT $3",
    );
    let after = after.map_or(&[][..], |after| after.as_bytes());
    Ok(query.bind(group_id).bind(after).bind(limit).all().await?)
}

/// Returns the sorted permissions of each group. A group without permissions has no entry.
pub async fn permissions(db: &Db, group_ids: &[GroupId]) -> Result<HashMap<GroupId, Vec<String>>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!("SELECT group_id, permission FROM group_permissions WHERE group_id IN ({})", batch::parameters(1))
    });
    let mut all: HashMap<GroupId, Vec<String>> = HashMap::new();
    for chunk in group_ids.chunks(batch::SIZE) {
        for (group_id, permission) in batch::bind(db.query(&SQL), chunk).all::<(GroupId, String)>().await? {
            all.entry(group_id).or_default().push(permission);
        }
    }
    for permissions in all.values_mut() {
        permissions.sort();
    }
    Ok(all)
}

fn name_taken() -> Error {
    Error::already_exists(Reason::AlreadyExists, Violation::new("group.name", "group.name_unique", "another group has this name"))
}
