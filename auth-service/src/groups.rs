//! Groups of users: their row, their members, and what is asked of the tables.

use std::{collections::HashMap, sync::LazyLock};

use access::{Clock, Error, Id, Result, UserId, error::Violation};
use chrono::{DateTime, Utc};
use store::{self, Db, Executor, Tx, batch};

use crate::proto::Reason;

/// The id of a group.
pub type GroupId = Id<Group>;

/// A group's row.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, as the proto documents them")]
pub struct Group {
    pub group_id: GroupId,
    pub name: String,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    /// One more with every change of its name or its permissions.
    pub version: i64,
}

/// A user in a group.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, as the proto documents them")]
pub struct Member {
    pub user_id: UserId,
    pub username: String,
    pub username_key: Vec<u8>,
}

/// Checks the name that the request has in `field`: any text that shows.
///
/// # Errors
///
/// INVALID_ARGUMENT that names the field.
pub fn check_name(field: &str, name: &str) -> Result<()> {
    let shows = !name.trim().is_empty() && !name.chars().any(char::is_control);
    if shows { Ok(()) } else { Err(Error::invalid(field, "group.name", "must not be blank, nor hold control characters")) }
}

/// Adds a group.
///
/// # Errors
///
/// ALREADY_EXISTS where the name is taken.
pub async fn create(tx: &mut Tx, clock: &Clock, name: &str) -> Result<Group> {
    let now = tx.now(clock).await?;
    insert(tx, now, GroupId::new(clock), name).await?.ok_or_else(name_taken)
}

/// Adds a group's row. None where the name is taken.
///
/// # Errors
///
/// Those of the database.
pub async fn insert(tx: &mut Tx, now: DateTime<Utc>, group_id: GroupId, name: &str) -> Result<Option<Group>> {
    let query = tx.query(
        "INSERT INTO groups (group_id, name, name_key, create_time, update_time, version) VALUES ($1, $2, $3, $4, $4, 1)
         ON CONFLICT DO NOTHING RETURNING group_id, name, create_time, update_time, version",
    );
    Ok(query.bind(group_id).bind(name).bind(name.as_bytes()).bind(now).optional().await?)
}

/// The group with this id.
///
/// # Errors
///
/// Those of the database.
pub async fn find(on: impl Executor<'_>, group_id: GroupId) -> Result<Option<Group>> {
    let query = on.query("SELECT group_id, name, create_time, update_time, version FROM groups WHERE group_id = $1");
    Ok(query.bind(group_id).optional().await?)
}

/// The group with this id, which nobody else changes until the transaction ends. Whoever locks a user too locks the group first.
///
/// # Errors
///
/// Those of the database.
pub async fn lock(tx: &mut Tx, group_id: GroupId) -> Result<Option<Group>> {
    let query = tx.query("SELECT group_id, name, create_time, update_time, version FROM groups WHERE group_id = $1");
    Ok(query.bind(group_id).for_update().optional().await?)
}

/// The groups by name, after the given one.
///
/// # Errors
///
/// Those of the database.
pub async fn list(on: impl Executor<'_>, after: Option<&String>, limit: i64) -> Result<Vec<Group>> {
    let query = on.query(
        "SELECT group_id, name, create_time, update_time, version FROM groups WHERE name_key > $1 ORDER BY name_key LIMIT $2",
    );
    Ok(query.bind(after.map_or(&[][..], |after| after.as_bytes())).bind(limit).all().await?)
}

/// Writes the name of a group that was locked.
///
/// # Errors
///
/// ALREADY_EXISTS where it is taken.
pub async fn rename(tx: &mut Tx, clock: &Clock, group: Group, name: &str) -> Result<Group> {
    if group.name == name {
        return Ok(group);
    }
    let now = tx.now(clock).await?;
    let query = tx.query(
        "UPDATE groups SET name = $2, name_key = $3, update_time = $4, version = version + 1 WHERE group_id = $1
         RETURNING group_id, name, create_time, update_time, version",
    );
    let renamed = query.bind(group.group_id).bind(name).bind(name.as_bytes()).bind(now).one().await;
    renamed.map_err(|error| if error.is_unique_violation() { name_taken() } else { error.into() })
}

/// Marks a group as changed, since its permissions have.
///
/// # Errors
///
/// Those of the database.
pub async fn touch(tx: &mut Tx, clock: &Clock, group_id: GroupId) -> Result<()> {
    let now = tx.now(clock).await?;
    let query = tx.query("UPDATE groups SET update_time = $2, version = version + 1 WHERE group_id = $1");
    query.bind(group_id).bind(now).execute().await?;
    Ok(())
}

/// Deletes a group that was locked, with its memberships and its permissions.
///
/// # Errors
///
/// Those of the database.
pub async fn delete(tx: &mut Tx, group_id: GroupId) -> Result<()> {
    tx.query("DELETE FROM groups WHERE group_id = $1").bind(group_id).execute().await?;
    Ok(())
}

/// Puts a user into a group, both of whom were locked. False where they are in it already.
///
/// # Errors
///
/// Those of the database.
pub async fn add_member(tx: &mut Tx, group_id: GroupId, user_id: UserId) -> Result<bool> {
    let query = tx.query("INSERT INTO group_members (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING");
    Ok(query.bind(group_id).bind(user_id).execute().await? > 0)
}

/// Takes a user out of a group. False where they are not in it.
///
/// # Errors
///
/// Those of the database.
pub async fn remove_member(tx: &mut Tx, group_id: GroupId, user_id: UserId) -> Result<bool> {
    let query = tx.query("DELETE FROM group_members WHERE group_id = $1 AND user_id = $2");
    Ok(query.bind(group_id).bind(user_id).execute().await? > 0)
}

/// The members of a group by username, after the given one.
///
/// # Errors
///
/// Those of the database.
pub async fn members(on: impl Executor<'_>, group_id: GroupId, after: Option<&String>, limit: i64) -> Result<Vec<Member>> {
    let query = on.query(
        "SELECT users.user_id, username, username_key FROM group_members JOIN users ON users.user_id = group_members.user_id
         WHERE group_id = $1 AND username_key > $2 ORDER BY username_key LIMIT $3",
    );
    let after = after.map_or(&[][..], |after| after.as_bytes());
    Ok(query.bind(group_id).bind(after).bind(limit).all().await?)
}

/// The permissions of each of the groups, sorted. A group without any is not among them.
///
/// # Errors
///
/// Those of the database.
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
