//! Friendships: their rule and their SQL. A friendship has a direction: a user adds another user as a friend.

use access::{Error, Result, UserId, error::Violation};
use chrono::{DateTime, Utc};
use store::{self, Executor, Tx};

use crate::{
    profiles::{NameCursor, Profile, cursor_columns, select_profiles, username_key},
    quotas::{self, Quotas},
};

/// A relation between users, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The users whom this user has added as friends.
    Friends,
    /// The users who have added this user as a friend.
    FriendOf,
    /// The users whom this user has added as friends, and who have added this user as a friend.
    Mutual,
}

impl Relation {
    /// Returns the method that lists the relation. Page tokens contain it, so that a token is valid for one method only.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Friends => "ListFriends",
            Self::FriendOf => "ListFriendOf",
            Self::Mutual => "ListMutualFriends",
        }
    }
}

/// The other user of a friendship.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Friend {
    pub(crate) user_id: UserId,
    pub(crate) username: String,
    pub(crate) create_time: DateTime<Utc>,
}

impl Friend {
    pub(crate) fn cursor(&self) -> NameCursor {
        (username_key(&self.username), self.user_id)
    }
}

/// Checks that users do not add themselves.
pub(crate) fn friend(field: &str, user_id: UserId, friend_id: UserId) -> Option<Violation> {
    (user_id == friend_id).then(|| Violation::new(field, "friend.not_self", "must not be the user"))
}

/// Adds a friend. Returns the time when the friendship began, which is earlier than `now` if it existed already.
///
/// # Errors
///
/// Returns NOT_FOUND, with the name of the request's field, if the friend's profile was deleted meanwhile, and RESOURCE_EXHAUSTED if the
/// user has as many friends as the quota allows.
pub(crate) async fn add(
    tx: &mut Tx,
    user_id: UserId,
    field: &str,
    friend_id: UserId,
    now: DateTime<Utc>,
    quotas: &Quotas,
) -> Result<DateTime<Utc>> {
    if quotas.friends > 0 {
        let query = tx.query("SELECT create_time FROM friendships WHERE user_id = $1 AND friend_id = $2");
        if let Some((since,)) = query.bind(user_id).bind(friend_id).optional().await? {
            return Ok(since);
        }
        quotas::check_friends(tx, user_id, quotas).await?;
    }
    // The update changes nothing. It makes the statement return the existing row.
    let query = tx.query(
        "INSERT INTO friendships (user_id, friend_id, create_time) VALUES ($1, $2, $3)
         ON CONFLICT (user_id, friend_id) DO UPDATE SET create_time = friendships.create_time RETURNING create_time",
    );
    match query.bind(user_id).bind(friend_id).bind(now).one::<(DateTime<Utc>,)>().await {
        Err(error) if error.is_foreign_key_violation() => Err(Error::not_found(field)),
        since => Ok(since?.0),
    }
}

/// Removes a friend.
pub(crate) async fn remove(tx: &mut Tx, user_id: UserId, friend_id: UserId) -> store::Result<()> {
    let query = tx.query("DELETE FROM friendships WHERE user_id = $1 AND friend_id = $2");
    query.bind(user_id).bind(friend_id).execute().await?;
    Ok(())
}

/// Returns at most `limit` active profiles of the users in the relation, sorted by username.
pub(crate) async fn list(
    on: impl Executor<'_>,
    reader: Option<UserId>,
    relation: Relation,
    user_id: UserId,
    after: Option<&NameCursor>,
    limit: i64,
) -> store::Result<Vec<Profile>> {
    let sql = match relation {
        Relation::Friends => select_profiles!(
            "JOIN friendships s ON s.user_id = $2 AND s.friend_id = p.user_id
             WHERE p.is_active AND p.user_is_active AND (p.username_key, p.user_id) > ($3, $4) ORDER BY p.username_key, p.user_id LIMIT $5"
        ),
        Relation::FriendOf => select_profiles!(
            "JOIN friendships s ON s.friend_id = $2 AND s.user_id = p.user_id
             WHERE p.is_active AND p.user_is_active AND (p.username_key, p.user_id) > ($3, $4) ORDER BY p.username_key, p.user_id LIMIT $5"
        ),
        Relation::Mutual => select_profiles!(
            "JOIN friendships s ON s.user_id = $2 AND s.friend_id = p.user_id
             JOIN friendships r ON r.friend_id = $2 AND r.user_id = p.user_id
             WHERE p.is_active AND p.user_is_active AND (p.username_key, p.user_id) > ($3, $4) ORDER BY p.username_key, p.user_id LIMIT $5"
        ),
    };
    let (key, after) = cursor_columns(after);
    on.query(sql).bind(reader).bind(user_id).bind(key).bind(after).bind(limit).all().await
}

/// Returns at most `limit` users whom the user has added as friends, sorted by username, including inactive profiles.
pub(crate) async fn export_friends(
    on: impl Executor<'_>,
    user_id: UserId,
    after: Option<&NameCursor>,
    limit: i64,
) -> store::Result<Vec<Friend>> {
    let (key, after) = cursor_columns(after);
    let query = on.query(
        "SELECT p.user_id, p.username, s.create_time FROM friendships s JOIN profiles p ON p.user_id = s.friend_id
         WHERE s.user_id = $1 AND (p.username_key, p.user_id) > ($2, $3) ORDER BY p.username_key, p.user_id LIMIT $4",
    );
    query.bind(user_id).bind(key).bind(after).bind(limit).all().await
}

/// Returns at most `limit` users who have added the user as a friend, sorted by username, including inactive profiles.
pub(crate) async fn export_friend_of(
    on: impl Executor<'_>,
    user_id: UserId,
    after: Option<&NameCursor>,
    limit: i64,
) -> store::Result<Vec<Friend>> {
    let (key, after) = cursor_columns(after);
    let query = on.query(
        "SELECT p.user_id, p.username, s.create_time FROM friendships s JOIN profiles p ON p.user_id = s.user_id
         WHERE s.friend_id = $1 AND (p.username_key, p.user_id) > ($2, $3) ORDER BY p.username_key, p.user_id LIMIT $4",
    );
    query.bind(user_id).bind(key).bind(after).bind(limit).all().await
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_friend_is_somebody_else() {
        let (one, other) = (UserId::from(Uuid::from_u128(1)), UserId::from(Uuid::from_u128(2)));
        assert_eq!(friend("friend_id", one, other), None);
        assert_eq!(friend("friend_id", one, one).expect("a violation").rule, "friend.not_self");
    }
}
