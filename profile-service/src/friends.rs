//! Friendships: their one rule, their SQL. A friendship has a direction: the user calls the friend a friend.

use access::{Error, Result, UserId, error::Violation};
use chrono::{DateTime, Utc};
use store::{self, Executor, Tx};

use crate::profiles::{Place, Profile, after_or_first, select_profiles, username_key};

/// Whose profiles a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Those whom the user calls a friend.
    Friends,
    /// Those who call the user a friend.
    FriendOf,
    /// Those for whom both hold.
    Mutual,
}

impl Relation {
    /// The method that lists it, which tells the page tokens of the three apart.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Friends => "ListFriends",
            Self::FriendOf => "ListFriendOf",
            Self::Mutual => "ListMutualFriends",
        }
    }
}

/// One end of a friendship, as the other holds it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Friend {
    pub(crate) user_id: UserId,
    pub(crate) username: String,
    pub(crate) create_time: DateTime<Utc>,
}

impl Friend {
    pub(crate) fn place(&self) -> Place {
        (username_key(&self.username), self.user_id)
    }
}

/// The rule of a friend: somebody else.
pub(crate) fn friend(field: &str, user_id: UserId, friend_id: UserId) -> Option<Violation> {
    (user_id == friend_id).then(|| Violation::new(field, "friend.not_self", "must be somebody else"))
}

/// Makes the friend a friend of the user, both of whom have a profile. Answers since when that holds, which is before now
/// where it held already.
///
/// # Errors
///
/// `NOT_FOUND` where the profile of the friend, whom `field` names, goes at this moment.
pub(crate) async fn add(
    tx: &mut Tx,
    user_id: UserId,
    field: &str,
    friend_id: UserId,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>> {
    // The update that changes nothing makes the statement answer the row that exists.
    let query = tx.query(
        "INSERT INTO friendships (user_id, friend_id, create_time) VALUES ($1, $2, $3)
         ON CONFLICT (user_id, friend_id) DO UPDATE SET create_time = friendships.create_time RETURNING create_time",
    );
    match query.bind(user_id).bind(friend_id).bind(now).one::<(DateTime<Utc>,)>().await {
        Err(error) if error.is_foreign_key_violation() => Err(Error::not_found(field)),
        since => Ok(since?.0),
    }
}

/// The friend is no friend of the user any more.
pub(crate) async fn remove(tx: &mut Tx, user_id: UserId, friend_id: UserId) -> store::Result<()> {
    let query = tx.query("DELETE FROM friendships WHERE user_id = $1 AND friend_id = $2");
    query.bind(user_id).bind(friend_id).execute().await?;
    Ok(())
}

/// The profiles of those who stand in the relation to the user, by username: active ones only, at most `limit`.
pub(crate) async fn list(
    on: impl Executor<'_>,
    reader: Option<UserId>,
    relation: Relation,
    user_id: UserId,
    after: Option<&Place>,
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
    let (key, after) = after_or_first(after);
    on.query(sql).bind(reader).bind(user_id).bind(key).bind(after).bind(limit).all().await
}

/// Whom the user calls a friend, by username, with the profiles that are not active: at most `limit`.
pub(crate) async fn export_friends(
    on: impl Executor<'_>,
    user_id: UserId,
    after: Option<&Place>,
    limit: i64,
) -> store::Result<Vec<Friend>> {
    let (key, after) = after_or_first(after);
    let query = on.query(
        "SELECT p.user_id, p.username, s.create_time FROM friendships s JOIN profiles p ON p.user_id = s.friend_id
         WHERE s.user_id = $1 AND (p.username_key, p.user_id) > ($2, $3) ORDER BY p.username_key, p.user_id LIMIT $4",
    );
    query.bind(user_id).bind(key).bind(after).bind(limit).all().await
}

/// Who calls the user a friend, by username, with the profiles that are not active: at most `limit`.
pub(crate) async fn export_friend_of(
    on: impl Executor<'_>,
    user_id: UserId,
    after: Option<&Place>,
    limit: i64,
) -> store::Result<Vec<Friend>> {
    let (key, after) = after_or_first(after);
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
