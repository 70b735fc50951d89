//! The table of users.

use std::sync::LazyLock;

use access::{Clock, Error, Result, SessionId, UserId, error::Violation};
use chrono::{DateTime, Utc};
use store::{self, Db, Executor, Query, Tx, batch};

use crate::{
    events::{EventPayload, OutboxTransaction},
    groups::GroupId,
    proto::Reason,
    sessions::{self, EndReason},
    user_lists,
    usernames::{self, Email, Username},
};

/// A row of the table.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "the proto documents the columns")]
pub struct User {
    pub user_id: UserId,
    pub username: String,
    pub username_key: Vec<u8>,
    pub email: Option<String>,
    pub first_name: String,
    pub last_name: String,
    /// A PHC string, or a hash that Django wrote until the next Login, or a text that begins with `!` if the user has no password.
    pub password_hash: String,
    pub is_active: bool,
    pub is_superuser: bool,
    pub create_time: DateTime<Utc>,
    pub update_time: DateTime<Utc>,
    pub last_login_time: Option<DateTime<Utc>>,
    /// Incremented by every change except a Login.
    pub version: i64,
}

/// The hash of a user without a password. No password matches it.
pub const NO_PASSWORD: &str = "!";

impl User {
    /// Returns true if the username is an e-mail address, but not that of the user. Only an import creates such users.
    pub fn has_imported_username(&self) -> bool {
        let email = self.email.as_deref().and_then(Email::new);
        Username::new("username", &self.username, email.as_ref()).is_err()
    }
}

/// The fields that users may change themselves.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the proto documents the columns")]
pub struct UserNames {
    pub username: Username,
    pub email: Option<Email>,
    pub first_name: String,
    pub last_name: String,
}

impl UserNames {
    /// Checks the names of a new user. `prefix` is the path of the message in the request that holds them, such as `user.`.
    pub fn new(prefix: &str, username: &str, email: &str, first_name: String, last_name: String) -> Result<Self> {
        let email = Email::new(email);
        let username = Username::of_new_user(&format!("{prefix}username"), username, email.as_ref())?;
        Ok(Self { username, email, first_name, last_name })
    }

    /// Returns the texts that do not add to the strength of the user's password.
    pub fn weak_password_texts(&self) -> Vec<String> {
        let email = self.email.as_ref().map(|email| email.display.clone()).unwrap_or_default();
        vec![self.username.display.clone(), email, self.first_name.clone(), self.last_name.clone()]
    }

    /// Returns true if the user has exactly these names and this e-mail address.
    fn are_those_of(&self, user: &User) -> bool {
        self.changed_fields(user).next().is_none()
    }

    /// Returns the names of the fields in which the user differs.
    fn changed_fields(&self, user: &User) -> impl Iterator<Item = &'static str> {
        let fields = [
            ("username", self.username.display != user.username),
            ("email", self.email.as_ref().map(|email| &email.display) != user.email.as_ref()),
            ("first_name", self.first_name != user.first_name),
            ("last_name", self.last_name != user.last_name),
        ];
        fields.into_iter().filter(|(_, is_changed)| *is_changed).map(|(field, _)| field)
    }

    /// Binds the values of the six columns in the order of the statements.
    fn bind<'c>(&self, query: Query<'c>) -> Query<'c> {
        let email = self.email.as_ref();
        query
            .bind(&self.username.display)
            .bind(self.username.key.as_bytes())
            .bind(email.map(|email| &email.display))
            .bind(email.and_then(|email| email.key.as_ref()))
            .bind(&self.first_name)
            .bind(&self.last_name)
    }
}

/// The data for a new user.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the proto documents the columns")]
pub struct NewUser {
    pub names: UserNames,
    pub password_hash: String,
    pub is_superuser: bool,
}

/// The data for a new row.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the proto documents the columns")]
pub struct NewRow<'a> {
    pub user_id: UserId,
    pub names: &'a UserNames,
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
pub(crate) use columns;

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

/// Creates a user and records an event. `prefix` is the path of the message in the request that holds the names, such as `user.`.
///
/// # Errors
///
/// Returns ALREADY_EXISTS if the username or the e-mail address is taken.
pub async fn create(change: &mut OutboxTransaction, clock: &Clock, prefix: &str, new: &NewUser) -> Result<User> {
    let now = change.now(clock).await?;
    require_unused_as_username(change, None, new.names.email.as_ref(), "email").await?;
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
        change.set_target("user", user.user_id, Some(&user.username));
        return Ok(user);
    }
    let found = find_by_key(&mut **change, &new.names.username.key).await?;
    Err(if found.is_some() { username_taken(&format!("{prefix}username")) } else { email_taken(&format!("{prefix}email")) })
}

/// Inserts a row and records events. Returns `None` if the username or the e-mail address is taken.
pub async fn insert(change: &mut OutboxTransaction, now: DateTime<Utc>, new: &NewRow<'_>) -> Result<Option<User>> {
    let query = change
        .query(returning!(
            "INSERT INTO users (user_id, username, username_key, email, email_key, first_name, last_name, password_hash,
                 is_active, is_superuser, create_time, update_time, last_login_time, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT DO NOTHING"
        ))
        .bind(new.user_id);
    // An inactive user is recorded as two changes: created, then deactivated.
    let version: i64 = if new.is_active { 1 } else { 2 };
    let query = new.names.bind(query).bind(new.password_hash).bind(new.is_active).bind(new.is_superuser);
    let user: Option<User> = query.bind(new.create_time).bind(now).bind(new.last_login_time).bind(version).optional().await?;
    if let Some(user) = &user {
        user_lists::write_search_keys(change, user).await?;
        change.record(user.user_id, 1, EventPayload::UserCreated { username: user.username.clone() });
        if !user.is_active {
            change.record(user.user_id, user.version, EventPayload::UserDeactivated);
        }
    }
    Ok(user)
}

/// Returns the user with this id.
pub async fn find(on: impl Executor<'_>, user_id: UserId) -> Result<Option<User>> {
    Ok(on.query(select!("WHERE user_id = $1")).bind(user_id).optional().await?)
}

/// Returns whether the user is active, and takes a shared lock on the user until the transaction ends so that this does not change.
pub async fn lock_active(tx: &mut Tx, user_id: UserId) -> Result<bool> {
    tx.lock_shared(&lock_name(user_id)).await?;
    let query = tx.query("SELECT is_active FROM users WHERE user_id = $1").bind(user_id);
    Ok(query.optional::<(bool,)>().await?.is_some_and(|(is_active,)| is_active))
}

/// Returns the user with this id, and locks the user and the row for update until the transaction ends.
pub async fn lock(tx: &mut Tx, user_id: UserId) -> Result<Option<User>> {
    tx.lock_exclusive(&lock_name(user_id)).await?;
    Ok(tx.query(select!("WHERE user_id = $1")).bind(user_id).for_update().optional().await?)
}

fn lock_name(user_id: UserId) -> String {
    format!("user {user_id}")
}

/// Returns the user with the username `login` or, if there is none, the user with this e-mail address.
pub async fn find_by_login(on: impl Executor<'_>, login: &str) -> Result<Option<User>> {
    let username_key = usernames::key(login).unwrap_or_default();
    let email_key = login.to_lowercase();
    let query = on.query(select!("WHERE username_key = $1 OR email_key = $2 ORDER BY username_key = $1 DESC LIMIT 1"));
    Ok(query.bind(username_key.into_bytes()).bind(email_key).optional().await?)
}

/// Updates the names and the e-mail address of a locked user and records an event. If they are the same already, it writes nothing.
///
/// # Errors
///
/// Returns ALREADY_EXISTS if the username or the e-mail address is taken.
pub async fn update(change: &mut OutboxTransaction, clock: &Clock, old: &User, new: &UserNames) -> Result<User> {
    change.set_target("user", old.user_id, Some(&old.username));
    if new.are_those_of(old) {
        return Ok(old.clone());
    }
    for field in new.changed_fields(old) {
        change.add_field(field);
    }
    let now = change.now(clock).await?;
    let is_renamed = old.username_key != new.username.key.as_bytes();
    if is_renamed && find_by_key(&mut **change, &new.username.key).await?.is_some() {
        return Err(username_taken("user.username"));
    }
    let email_changed = old.email.as_ref() != new.email.as_ref().map(|email| &email.display);
    if email_changed {
        require_unused_as_username(change, Some(old.user_id), new.email.as_ref(), "user.email").await?;
    }
    let query = change
        .query(returning!(
            // An imported address that signs in another user stays as it is.
            "UPDATE users SET username = $2, username_key = $3, email = $4,
                 email_key = CASE WHEN email = $4 THEN email_key ELSE $5 END, first_name = $6, last_name = $7,
                 update_time = $8, version = version + 1
             WHERE user_id = $1"
        ))
        .bind(old.user_id);
    let updated = new.bind(query).bind(now).one::<User>().await;
    // The database does not say which field is taken. Another transaction may have taken the username since the query above; if both
    // fields change, the error then names the e-mail address.
    let user = updated.map_err(|error| match (error.is_unique_violation(), email_changed) {
        (false, _) => error.into(),
        (true, true) => email_taken("user.email"),
        (true, false) => username_taken("user.username"),
    })?;
    user_lists::write_search_keys(change, &user).await?;
    let payload = if user.username == old.username {
        EventPayload::UserUpdated
    } else {
        EventPayload::UserRenamed { username: user.username.clone() }
    };
    change.record(user.user_id, user.version, payload);
    Ok(user)
}

/// Returns an error if an e-mail address is the username of a user other than `user_id`. Such usernames come from imports, and Login
/// prefers the username.
async fn require_unused_as_username(tx: &mut Tx, user_id: Option<UserId>, email: Option<&Email>, field: &str) -> Result<()> {
    let Some(key) = email.and_then(|email| usernames::key(&email.display)) else { return Ok(()) };
    match find_by_key(tx, &key).await? {
        Some(user) if Some(user.user_id) != user_id => Err(email_taken(field)),
        _ => Ok(()),
    }
}

/// Returns the users with an id greater than `after`, in the order of the ids.
pub async fn list_by_id(on: impl Executor<'_>, after: UserId, limit: i64) -> Result<Vec<User>> {
    Ok(on.query(select!("WHERE user_id > $1 ORDER BY user_id LIMIT $2")).bind(after).bind(limit).all().await?)
}

/// Returns the users with these ids that exist, in no particular order.
pub async fn find_many(db: &Db, user_ids: &[UserId]) -> Result<Vec<User>> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!(concat!("SELECT ", columns!(), " FROM users WHERE user_id IN ({})"), batch::parameters(1)));
    let mut users = Vec::new();
    for chunk in user_ids.chunks(batch::SIZE) {
        users.extend(batch::bind(db.query(&SQL), chunk).all::<User>().await?);
    }
    Ok(users)
}

/// Increments the version of a locked user whose permissions have changed, and records an event that revokes the user's access tokens.
pub async fn record_permissions_changed(change: &mut OutboxTransaction, user_id: UserId) -> Result<()> {
    let query = change.query("UPDATE users SET version = version + 1 WHERE user_id = $1 RETURNING version").bind(user_id);
    let (version,) = query.one::<(i64,)>().await?;
    change.record(user_id, version, EventPayload::PermissionsChanged);
    Ok(())
}

/// Increments the version of every member of a locked group whose permissions change, and records an event for each.
pub async fn record_member_permissions_changed(change: &mut OutboxTransaction, group_id: GroupId) -> Result<()> {
    let query = change.query(
        "UPDATE users SET version = version + 1 WHERE user_id IN (SELECT user_id FROM group_members WHERE group_id = $1)
         RETURNING user_id, version",
    );
    for (user_id, version) in query.bind(group_id).all::<(UserId, i64)>().await? {
        change.record(user_id, version, EventPayload::PermissionsChanged);
    }
    Ok(())
}

/// Deletes a locked user with all dependent rows, erases their personal data from the audit log, and records an event. The id is kept in
/// `deleted_users`, so that no import reuses it.
pub async fn delete(change: &mut OutboxTransaction, clock: &Clock, user: &User) -> Result<()> {
    change.set_deleted_user(user.user_id);
    let now = change.now(clock).await?;
    change.query("DELETE FROM users WHERE user_id = $1").bind(user.user_id).execute().await?;
    let query = change.query("INSERT INTO deleted_users (user_id, delete_time) VALUES ($1, $2)");
    query.bind(user.user_id).bind(now).execute().await?;
    audit::erase(change, user.user_id).await?;
    change.record(user.user_id, user.version + 1, EventPayload::UserDeleted);
    Ok(())
}

/// Returns the users who were deleted since a time.
pub async fn deleted_since(on: impl Executor<'_>, time: DateTime<Utc>) -> Result<Vec<UserId>> {
    let query = on.query("SELECT user_id FROM deleted_users WHERE delete_time >= $1").bind(time);
    Ok(query.all::<(UserId,)>().await?.into_iter().map(|(user_id,)| user_id).collect())
}

/// Returns whether a user with this id was deleted.
pub async fn was_deleted(on: impl Executor<'_>, user_id: UserId) -> Result<bool> {
    let query = on.query("SELECT user_id FROM deleted_users WHERE user_id = $1").bind(user_id);
    Ok(query.optional::<(UserId,)>().await?.is_some())
}

/// Returns whether there is an active superuser.
pub async fn has_superuser(on: impl Executor<'_>) -> Result<bool> {
    Ok(on.query(select!("WHERE is_superuser AND is_active LIMIT 1")).optional::<User>().await?.is_some())
}

/// Sets the hash of a locked user's new password, ends every session of the user except `kept`, and records the events.
pub async fn set_password(
    change: &mut OutboxTransaction,
    clock: &Clock,
    user_id: UserId,
    password_hash: &str,
    kept: Option<SessionId>,
) -> Result<()> {
    let now = change.now(clock).await?;
    let query = change.query(
        "UPDATE users SET password_hash = $2, update_time = $3, version = version + 1 WHERE user_id = $1 RETURNING version",
    );
    let (version,) = query.bind(user_id).bind(password_hash).bind(now).one::<(i64,)>().await?;
    change.add_field("password");
    change.record(user_id, version, EventPayload::UserUpdated);
    sessions::end_others(change, user_id, kept, EndReason::PasswordChanged).await
}

/// Activates or deactivates a locked user. Records an event if that changes the user. A deactivation ends every session of the user.
pub async fn set_active(change: &mut OutboxTransaction, clock: &Clock, user: User, is_active: bool) -> Result<User> {
    change.set_target("user", user.user_id, Some(&user.username));
    if !is_active {
        sessions::end_others(change, user.user_id, None, EndReason::UserInactive).await?;
    }
    if user.is_active == is_active {
        return Ok(user);
    }
    change.add_field("is_active");
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

/// Takes the lock under which superusers become ordinary users, so that one of them remains.
pub async fn lock_superusers(tx: &mut Tx) -> Result<()> {
    Ok(tx.lock_exclusive("superusers").await?)
}

/// Makes a locked user a superuser, or an ordinary user again. Records an event that revokes the user's access tokens if that changes the
/// user.
///
/// # Errors
///
/// Returns FAILED_PRECONDITION if no other active superuser would remain.
pub async fn set_superuser(change: &mut OutboxTransaction, clock: &Clock, user: User, is_superuser: bool) -> Result<User> {
    change.set_target("user", user.user_id, Some(&user.username));
    if user.is_superuser == is_superuser {
        return Ok(user);
    }
    change.add_field("is_superuser");
    if !is_superuser {
        // Two transactions that each revoke one of the last two superusers would otherwise both succeed.
        lock_superusers(change).await?;
        let query = change.query(select!("WHERE is_superuser AND is_active AND user_id <> $1 LIMIT 1")).bind(user.user_id);
        if query.optional::<User>().await?.is_none() {
            let description = "no other active superuser would remain: make another user a superuser first";
            let violation = Violation::new("user_id", "user.other_superuser", description);
            return Err(Error::precondition(Reason::LastSuperuser, violation));
        }
    }
    let now = change.now(clock).await?;
    let query = change
        .query(returning!("UPDATE users SET is_superuser = $2, update_time = $3, version = version + 1 WHERE user_id = $1"));
    let user: User = query.bind(user.user_id).bind(is_superuser).bind(now).one().await?;
    change.record(user.user_id, user.version, EventPayload::PermissionsChanged);
    Ok(user)
}

/// Replaces the hash of an unchanged password.
pub async fn replace_hash(tx: &mut Tx, user_id: UserId, password_hash: &str) -> Result<()> {
    let query = tx.query("UPDATE users SET password_hash = $2 WHERE user_id = $1");
    query.bind(user_id).bind(password_hash).execute().await?;
    Ok(())
}

/// Stores the time of a Login.
pub async fn set_last_login(tx: &mut Tx, user_id: UserId, at: DateTime<Utc>) -> Result<()> {
    tx.query("UPDATE users SET last_login_time = $2 WHERE user_id = $1").bind(user_id).bind(at).execute().await?;
    Ok(())
}

pub(crate) async fn find_by_key(on: impl Executor<'_>, username_key: &str) -> Result<Option<User>> {
    Ok(on.query(select!("WHERE username_key = $1")).bind(username_key.as_bytes()).optional().await?)
}

fn username_taken(field: &str) -> Error {
    Error::already_exists(
        Reason::UsernameTaken,
        Violation::new(field, "username.unique", "the username is taken, in this or in another spelling"),
    )
}

fn email_taken(field: &str) -> Error {
    Error::already_exists(Reason::EmailTaken, Violation::new(field, "email.unique", "the e-mail address belongs to another user"))
}
