//! Users: their row, and what is asked of the table.

use std::sync::LazyLock;

use access::{Clock, Error, Result, UserId, error::Violation};
use chrono::{DateTime, Utc};
use store::{self, Db, Executor, Query, Tx, batch};

use crate::{
    events::{EventPayload, OutboxTransaction},
    groups::GroupId,
    proto::Reason,
    usernames::{Email, Username},
};

/// A user's row.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, as the proto documents them")]
pub struct User {
    pub user_id: UserId,
    pub username: String,
    pub username_key: Vec<u8>,
    pub email: Option<String>,
    pub first_name: String,
    pub last_name: String,
    /// A PHC string, or one of Django's until the next Login, or `!` and anything where no password is right.
    pub password_hash: String,
    pub is_active: bool,
    pub is_superuser: bool,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    pub last_login_time: Option<DateTime<Utc>>,
    /// One more with every change. Logins don't count.
    pub version: i64,
}

/// The hash of a user without a password: none is right.
pub const NO_PASSWORD: &str = "!";

/// What a user may change of oneself.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns, as the proto documents them")]
pub struct NewNames {
    pub username: Username,
    pub email: Option<Email>,
    pub first_name: String,
    pub last_name: String,
}

impl NewNames {
    /// What a password must not be made of.
    pub fn texts(&self) -> Vec<String> {
        let email = self.email.as_ref().map(|email| email.shown.clone()).unwrap_or_default();
        vec![self.username.shown.clone(), email, self.first_name.clone(), self.last_name.clone()]
    }

    /// Gives the parameters of the six columns their values.
    fn bind<'c>(&self, query: Query<'c>) -> Query<'c> {
        let email = self.email.as_ref();
        query
            .bind(&self.username.shown)
            .bind(self.username.key.as_bytes())
            .bind(email.map(|email| &email.shown))
            .bind(email.map(|email| &email.key))
            .bind(&self.first_name)
            .bind(&self.last_name)
    }
}

/// A user to be.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns, as the proto documents them")]
pub struct NewUser {
    pub names: NewNames,
    pub password_hash: String,
    pub is_superuser: bool,
}

/// A user's row to be.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns, as the proto documents them")]
pub struct NewRow<'a> {
    pub user_id: UserId,
    pub names: &'a NewNames,
    pub password_hash: &'a str,
    pub is_active: bool,
    pub is_superuser: bool,
    pub create_time: DateTime<Utc>,
    pub last_login_time: Option<DateTime<Utc>>,
}

/// The columns of [`User`].
macro_rules! columns {
    () => {
        "user_id, username, username_key, email, first_name, last_name, password_hash, is_active, is_superuser, create_time, \
         update_time, last_login_time, version"
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM users ", $rest)
    };
}

macro_rules! returning {
    ($statement:literal) => {
        concat!($statement, " RETURNING ", columns!())
    };
}

/// Adds a user, and tells.
///
/// # Errors
///
/// ALREADY_EXISTS where the username or the e-mail address is taken.
pub async fn create(change: &mut OutboxTransaction, clock: &Clock, new: &NewUser) -> Result<User> {
    let now = change.now(clock).await?;
    let row = NewRow {
        user_id: UserId::new(clock),
        names: &new.names,
        password_hash: &new.password_hash,
        is_active: true,
        is_superuser: new.is_superuser,
        create_time: now,
        last_login_time: None,
    };
    if let Some(user) = insert(change, now, &row).await? {
        return Ok(user);
    }
    let found = find_by_key(&mut **change, &new.names.username.key).await?;
    Err(if found.is_some() { username_taken("username") } else { email_taken("email") })
}

/// Adds a user's row, and tells. None where the username or the e-mail address is taken.
///
/// # Errors
///
/// Those of the database.
pub async fn insert(change: &mut OutboxTransaction, now: DateTime<Utc>, new: &NewRow<'_>) -> Result<Option<User>> {
    let query = change
        .query(returning!(
            "INSERT INTO users (user_id, username, username_key, email, email_key, first_name, last_name, password_hash,
                 is_active, is_superuser, create_time, update_time, last_login_time, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT DO NOTHING"
        ))
        .bind(new.user_id);
    // That a user is not active is told as a second change.
    let version: i64 = if new.is_active { 1 } else { 2 };
    let query = new.names.bind(query).bind(new.password_hash).bind(new.is_active).bind(new.is_superuser);
    let user: Option<User> = query.bind(new.create_time).bind(now).bind(new.last_login_time).bind(version).optional().await?;
    if let Some(user) = &user {
        change.record(user.user_id, 1, EventPayload::UserCreated { username: user.username.clone() });
        if !user.is_active {
            change.record(user.user_id, user.version, EventPayload::UserDeactivated);
        }
    }
    Ok(user)
}

/// The user with this id.
///
/// # Errors
///
/// Those of the database.
pub async fn find(on: impl Executor<'_>, user_id: UserId) -> Result<Option<User>> {
    Ok(on.query(select!("WHERE user_id = $1")).bind(user_id).optional().await?)
}

/// True where a user with this id is active, and stays so until the transaction ends.
///
/// # Errors
///
/// Those of the database.
pub async fn hold(tx: &mut Tx, user_id: UserId) -> Result<bool> {
    let query = tx.query("SELECT is_active FROM users WHERE user_id = $1").bind(user_id).for_key_share();
    Ok(query.optional::<(bool,)>().await?.is_some_and(|(is_active,)| is_active))
}

/// The user with this id, whom nobody else changes until the transaction ends.
///
/// # Errors
///
/// Those of the database.
pub async fn lock(tx: &mut Tx, user_id: UserId) -> Result<Option<User>> {
    Ok(tx.query(select!("WHERE user_id = $1")).bind(user_id).for_update().optional().await?)
}

/// The user who signs in as `login`: the one with this username, or else the one with this e-mail address.
///
/// # Errors
///
/// Those of the database.
pub async fn find_by_login(on: impl Executor<'_>, login: &str) -> Result<Option<User>> {
    let username_key = crate::usernames::key(login).unwrap_or_default();
    let email_key = login.to_lowercase();
    let query = on.query(select!("WHERE username_key = $1 OR email_key = $2 ORDER BY username_key = $1 DESC LIMIT 1"));
    Ok(query.bind(username_key.into_bytes()).bind(email_key).optional().await?)
}

/// The users by username, after the given one.
///
/// # Errors
///
/// Those of the database.
pub async fn list(
    on: impl Executor<'_>,
    prefix: &str,
    inactive_too: bool,
    after: Option<&String>,
    limit: i64,
) -> Result<Vec<User>> {
    let query = on.query(select!(
        "WHERE username_key >= $1 AND username_key < $2 AND username_key > $3 AND (is_active OR $4) ORDER BY username_key LIMIT $5"
    ));
    // No UTF-8 has the byte 0xFF, so whatever begins with the prefix is less than this.
    let end = [prefix.as_bytes(), &[0xFF]].concat();
    let after = after.map_or(&[][..], |after| after.as_bytes());
    Ok(query.bind(prefix.as_bytes()).bind(end).bind(after).bind(inactive_too).bind(limit).all().await?)
}

/// Writes the names and the e-mail address of a user who was locked, and tells.
///
/// # Errors
///
/// ALREADY_EXISTS where the username or the e-mail address is taken.
pub async fn update(change: &mut OutboxTransaction, clock: &Clock, old: &User, new: &NewNames) -> Result<User> {
    let now = change.now(clock).await?;
    let renamed = old.username_key != new.username.key.as_bytes();
    if renamed && find_by_key(&mut **change, &new.username.key).await?.is_some() {
        return Err(username_taken("user.username"));
    }
    let query = change
        .query(returning!(
            "UPDATE users SET username = $2, username_key = $3, email = $4, email_key = $5, first_name = $6, last_name = $7,
                 update_time = $8, version = version + 1
             WHERE user_id = $1"
        ))
        .bind(old.user_id);
    let updated = new.bind(query).bind(now).one::<User>().await;
    // Whoever takes the username between the question and the write leaves this doubt, where both fields change.
    let readdressed = old.email.as_ref() != new.email.as_ref().map(|email| &email.shown);
    let user = updated.map_err(|error| match (error.is_unique_violation(), readdressed) {
        (false, _) => error.into(),
        (true, true) => email_taken("user.email"),
        (true, false) => username_taken("user.username"),
    })?;
    let username = || user.username.clone();
    let what = if user.username == old.username {
        EventPayload::UserUpdated
    } else {
        EventPayload::UserRenamed { username: username() }
    };
    change.record(user.user_id, user.version, what);
    Ok(user)
}

/// Every user by id, after the given one.
///
/// # Errors
///
/// Those of the database.
pub async fn all(on: impl Executor<'_>, after: UserId, limit: i64) -> Result<Vec<User>> {
    Ok(on.query(select!("WHERE user_id > $1 ORDER BY user_id LIMIT $2")).bind(after).bind(limit).all().await?)
}

/// Those of the users that are there, in any order.
///
/// # Errors
///
/// Those of the database.
pub async fn find_many(db: &Db, user_ids: &[UserId]) -> Result<Vec<User>> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!(concat!("SELECT ", columns!(), " FROM users WHERE user_id IN ({})"), batch::parameters(1)));
    let mut users = Vec::new();
    for chunk in user_ids.chunks(batch::SIZE) {
        users.extend(batch::bind(db.query(&SQL), chunk).all::<User>().await?);
    }
    Ok(users)
}

/// Raises the version of a user who was locked, since what they may do has changed, and tells: their tokens say what they might
/// before.
///
/// # Errors
///
/// Those of the database.
pub async fn rights_changed(change: &mut OutboxTransaction, user_id: UserId) -> Result<()> {
    let query = change.query("UPDATE users SET version = version + 1 WHERE user_id = $1 RETURNING version").bind(user_id);
    let (version,) = query.one::<(i64,)>().await?;
    change.record(user_id, version, EventPayload::PermissionsChanged);
    Ok(())
}

/// Raises the version of every member of a group that was locked, since what its members may do has changed, or is about to, and
/// tells.
///
/// # Errors
///
/// Those of the database.
pub async fn rights_of_members_changed(change: &mut OutboxTransaction, group_id: GroupId) -> Result<()> {
    let query = change.query(
        "UPDATE users SET version = version + 1 WHERE user_id IN (SELECT user_id FROM group_members WHERE group_id = $1)
         RETURNING user_id, version",
    );
    for (user_id, version) in query.bind(group_id).all::<(UserId, i64)>().await? {
        change.record(user_id, version, EventPayload::PermissionsChanged);
    }
    Ok(())
}

/// Erases a user who was locked, and whatever belongs to them, and tells. Only the id is remembered, so that it never comes back.
///
/// # Errors
///
/// Those of the database.
pub async fn delete(change: &mut OutboxTransaction, clock: &Clock, user: &User) -> Result<()> {
    let now = change.now(clock).await?;
    change.query("DELETE FROM users WHERE user_id = $1").bind(user.user_id).execute().await?;
    let query = change.query("INSERT INTO deleted_users (user_id, delete_time) VALUES ($1, $2)");
    query.bind(user.user_id).bind(now).execute().await?;
    change.record(user.user_id, user.version + 1, EventPayload::UserDeleted);
    Ok(())
}

/// True where a user had this id and was deleted: nobody else may get it.
///
/// # Errors
///
/// Those of the database.
pub async fn was_deleted(on: impl Executor<'_>, user_id: UserId) -> Result<bool> {
    let query = on.query("SELECT user_id FROM deleted_users WHERE user_id = $1").bind(user_id);
    Ok(query.optional::<(UserId,)>().await?.is_some())
}

/// True where somebody may do everything.
///
/// # Errors
///
/// Those of the database.
pub async fn has_superuser(on: impl Executor<'_>) -> Result<bool> {
    Ok(on.query(select!("WHERE is_superuser AND is_active LIMIT 1")).optional::<User>().await?.is_some())
}

/// Writes another password, and tells.
///
/// # Errors
///
/// Those of the database.
pub async fn set_password(change: &mut OutboxTransaction, clock: &Clock, user_id: UserId, password_hash: &str) -> Result<()> {
    let now = change.now(clock).await?;
    let query = change.query(
        "UPDATE users SET password_hash = $2, update_time = $3, version = version + 1 WHERE user_id = $1 RETURNING version",
    );
    let (version,) = query.bind(user_id).bind(password_hash).bind(now).one::<(i64,)>().await?;
    change.record(user_id, version, EventPayload::UserUpdated);
    Ok(())
}

/// Lets a user who was locked sign in, or not, and tells.
///
/// # Errors
///
/// Those of the database.
pub async fn set_active(change: &mut OutboxTransaction, clock: &Clock, user: User, is_active: bool) -> Result<User> {
    if user.is_active == is_active {
        return Ok(user);
    }
    let now = change.now(clock).await?;
    let query =
        change.query(returning!("UPDATE users SET is_active = $2, update_time = $3, version = version + 1 WHERE user_id = $1"));
    let user: User = query.bind(user.user_id).bind(is_active).bind(now).one().await?;
    change.record(
        user.user_id,
        user.version,
        if is_active { EventPayload::UserActivated } else { EventPayload::UserDeactivated },
    );
    Ok(user)
}

/// Writes another hash of the same password.
///
/// # Errors
///
/// Those of the database.
pub async fn set_hash(tx: &mut Tx, user_id: UserId, password_hash: &str) -> Result<()> {
    let query = tx.query("UPDATE users SET password_hash = $2 WHERE user_id = $1");
    query.bind(user_id).bind(password_hash).execute().await?;
    Ok(())
}

/// Remembers a Login.
///
/// # Errors
///
/// Those of the database.
pub async fn logged_in(tx: &mut Tx, user_id: UserId, at: DateTime<Utc>) -> Result<()> {
    tx.query("UPDATE users SET last_login_time = $2 WHERE user_id = $1").bind(user_id).bind(at).execute().await?;
    Ok(())
}

pub(crate) async fn find_by_key(on: impl Executor<'_>, username_key: &str) -> Result<Option<User>> {
    Ok(on.query(select!("WHERE username_key = $1")).bind(username_key.as_bytes()).optional().await?)
}

fn username_taken(field: &str) -> Error {
    Error::already_exists(
        Reason::UsernameTaken,
        Violation::new(field, "username.unique", "this username is taken, in this or in another spelling"),
    )
}

fn email_taken(field: &str) -> Error {
    Error::already_exists(
        Reason::EmailTaken,
        Violation::new(field, "email.unique", "this e-mail address belongs to another user"),
    )
}
