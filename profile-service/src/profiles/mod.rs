//! Profiles: the row, its rules, its SQL. A reader sees the favorite note of a profile only if they can see the note.

mod user_snapshot;

use std::sync::LazyLock;

use access::{Error, Result, UserId, error::Violation};
use chrono::{DateTime, NaiveDate, Utc};
use store::{Db, Executor, Tx, batch};
use url::Url;
use uuid::Uuid;

use crate::notes::NoteId;

pub(crate) use user_snapshot::{
    UserSnapshot, create_or_confirm, delete_missing, deleted_since, ensure_profile, insert_tombstone, lock_shared, rename,
    replace, set_user_active, set_user_version,
};

/// A profile as one reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Profile {
    pub(crate) user_id: UserId,
    pub(crate) username: String,
    pub(crate) bio: String,
    pub(crate) birth_date: Option<NaiveDate>,
    pub(crate) website: String,
    pub(crate) is_active: bool,
    /// True if the user may sign in.
    pub(crate) user_is_active: bool,
    pub(crate) create_time: DateTime<Utc>,
    pub(crate) update_time: DateTime<Utc>,
    /// Incremented with every update of the profile, but not when the user is renamed or the favorite note is deleted.
    pub(crate) version: i64,
    pub(crate) favorite_user_id: Option<UserId>,
    pub(crate) favorite_note_id: Option<NoteId>,
}

/// The position of a profile in a list by username.
pub(crate) type NameCursor = (String, UserId);

impl Profile {
    pub(crate) fn cursor(&self) -> NameCursor {
        (username_key(&self.username), self.user_id)
    }
}

/// Returns the form of a username by which lists are sorted and prefixes are compared. It maps each letter by itself, so that the
/// key of a prefix is a prefix of the key.
pub(crate) fn username_key(username: &str) -> String {
    username.chars().flat_map(char::to_lowercase).collect()
}

/// Parses a date of birth from a year, a month and a day. It must exist and must not be in the future.
pub(crate) fn birth_date(field: &str, (year, month, day): (i32, i32, i32), today: NaiveDate) -> Result<NaiveDate, Violation> {
    let part = |part| u32::try_from(part).ok();
    let date = part(month).zip(part(day)).and_then(|(month, day)| NaiveDate::from_ymd_opt(year, month, day));
    match date.filter(|_| (1..=9999).contains(&year)) {
        None => {
            Err(Violation::new(field, "date.real", "must be an existing date with year, month and day, for example 1990-02-28"))
        }
        Some(date) if date > today => Err(Violation::new(field, "date.past", "must not be in the future")),
        Some(date) => Ok(date),
    }
}

/// Checks that a website is empty, or an http or https URL with a host and without credentials.
pub(crate) fn website(field: &str, website: &str) -> Option<Violation> {
    if website.is_empty() {
        return None;
    }
    // The URL parser ignores white space, backslashes and a missing `//`. A program that displays the URL may interpret them
    // differently.
    let is_exact = !website.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    let url = Url::parse(website).ok().filter(|url| is_exact && matches!(url.scheme(), "http" | "https") && url.has_host());
    let after_scheme = website.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    let authority = after_scheme.and_then(|rest| rest.split(['/', '?', '#']).next()).filter(|authority| !authority.is_empty());
    match url.and(authority) {
        None => Some(Violation::new(field, "website.http_url", "must be an http or https URL, for example https://example.com/")),
        Some(authority) if authority.contains('@') => {
            Some(Violation::new(field, "website.no_credentials", "must not contain a username or a password"))
        }
        Some(_) => None,
    }
}

/// Selects the columns of [`Profile`] for the reader `$1`.
macro_rules! select_profiles {
    ($rest:literal) => {
        concat!(
            "SELECT p.user_id, p.username, p.bio, p.birth_date, p.website, p.is_active, p.user_is_active, p.create_time, p.update_time, p.version,
                 n.user_id AS favorite_user_id, n.note_id AS favorite_note_id
             FROM profiles p
             LEFT JOIN favorites f ON f.user_id = p.user_id
             LEFT JOIN notes n ON n.user_id = f.note_user_id AND n.note_id = f.note_id AND ",
            $crate::notes::is_visible!(),
            " ",
            $rest
        )
    };
}
pub(crate) use select_profiles;

/// Returns the profile of the user, if there is one.
pub(crate) async fn find(on: impl Executor<'_>, reader: Option<UserId>, user_id: UserId) -> store::Result<Option<Profile>> {
    on.query(select_profiles!("WHERE p.user_id = $2")).bind(reader).bind(user_id).optional().await
}

/// Returns the ids of the users with this username, in any case. There can be several for a short time, while renames are not applied yet.
pub(crate) async fn find_by_username(on: impl Executor<'_>, username: &str) -> store::Result<Vec<UserId>> {
    let query = on.query("SELECT user_id FROM profiles WHERE username_key = $1").bind(username_key(username).into_bytes());
    Ok(query.all::<(UserId,)>().await?.into_iter().map(|(user_id,)| user_id).collect())
}

/// Returns the profiles that exist, in any order.
pub(crate) async fn find_many(db: &Db, reader: Option<UserId>, user_ids: &[UserId]) -> store::Result<Vec<Profile>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!(select_profiles!("WHERE p.user_id IN ({})"), batch::parameters(2)));
    let mut profiles = Vec::new();
    for chunk in user_ids.chunks(batch::SIZE) {
        profiles.extend(batch::bind(db.query(&SQL).bind(reader), chunk).all::<Profile>().await?);
    }
    Ok(profiles)
}

/// Returns NOT_FOUND, with the name of the request's field, if the user has no profile.
pub(crate) async fn must_exist(on: impl Executor<'_>, field: &str, user_id: UserId) -> Result<()> {
    let found: Option<(UserId,)> = on.query("SELECT user_id FROM profiles WHERE user_id = $1").bind(user_id).optional().await?;
    found.map(|_| ()).ok_or_else(|| Error::not_found(field))
}

/// Returns at most `limit` profiles whose usernames begin with `prefix`, sorted by username.
pub(crate) async fn list(
    on: impl Executor<'_>,
    reader: Option<UserId>,
    prefix: &str,
    include_inactive: bool,
    after: Option<&NameCursor>,
    limit: i64,
) -> store::Result<Vec<Profile>> {
    let prefix = username_key(prefix);
    // UTF-8 never contains the byte 0xFF, so every key that begins with the prefix is less than this.
    let end = [prefix.as_bytes(), &[0xFF]].concat();
    let (key, user_id) = after.cloned().unwrap_or((prefix, Uuid::nil().into()));
    let query = on.query(select_profiles!(
        "WHERE (p.username_key, p.user_id) > ($2, $3) AND p.username_key < $4 AND (p.is_active AND p.user_is_active OR $5)
         ORDER BY p.username_key, p.user_id LIMIT $6"
    ));
    query.bind(reader).bind(key.into_bytes()).bind(user_id).bind(end).bind(include_inactive).bind(limit).all().await
}

/// Returns the cursor as values of the columns. Without a cursor it returns values that sort before every row.
pub(crate) fn cursor_columns(after: Option<&NameCursor>) -> (Vec<u8>, UserId) {
    let (key, user_id) = after.cloned().unwrap_or((String::new(), Uuid::nil().into()));
    (key.into_bytes(), user_id)
}

/// Returns the version of the user that the profile has reached, if there is a profile.
pub(crate) async fn user_version(on: impl Executor<'_>, user_id: UserId) -> store::Result<Option<i64>> {
    let found: Option<(i64,)> = on.query("SELECT user_version FROM profiles WHERE user_id = $1").bind(user_id).optional().await?;
    Ok(found.map(|(version,)| version))
}

/// Returns the profile, if there is one, and locks it until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, reader: Option<UserId>, user_id: UserId) -> store::Result<Option<Profile>> {
    // The lock needs a separate statement, because PostgreSQL cannot lock the rows of an outer join.
    let query = tx.query("SELECT user_id FROM profiles WHERE user_id = $1").bind(user_id);
    match query.for_update().optional::<(UserId,)>().await? {
        Some(_) => find(tx, reader, user_id).await,
        None => Ok(None),
    }
}

/// Locks the profile, if there is one, until the transaction ends.
pub(crate) async fn lock_for_quota(tx: &mut Tx, user_id: UserId) -> store::Result<()> {
    let query = tx.query("SELECT user_id FROM profiles WHERE user_id = $1").bind(user_id);
    query.for_update().optional::<(UserId,)>().await?;
    Ok(())
}

/// Writes a changed profile. The row must be locked.
pub(crate) async fn update(tx: &mut Tx, profile: &mut Profile, now: DateTime<Utc>) -> store::Result<()> {
    profile.version += 1;
    profile.update_time = now;
    let query = tx.query(
        "UPDATE profiles SET bio = $2, birth_date = $3, website = $4, is_active = $5, update_time = $6, version = $7
         WHERE user_id = $1",
    );
    let query = query.bind(profile.user_id).bind(&profile.bio).bind(profile.birth_date).bind(&profile.website);
    query.bind(profile.is_active).bind(profile.update_time).bind(profile.version).execute().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i32, month: u32, day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(year, month, day).expect("a day")
    }

    #[test]
    fn a_birth_date_is_a_day_that_has_begun() {
        let today = day(2026, 3, 1);
        for good in [(2026, 3, 1), (2024, 2, 29), (1900, 1, 1), (1, 1, 1)] {
            let (year, month, date) = good;
            assert_eq!(birth_date("profile.birth_date", good, today), Ok(day(year, month.unsigned_abs(), date.unsigned_abs())));
        }
        for (bad, rule) in [
            ((2026, 3, 2), "date.past"),
            ((9999, 12, 31), "date.past"),
            ((2026, 2, 30), "date.real"),
            ((2025, 2, 29), "date.real"),
            ((2000, 13, 1), "date.real"),
            ((2000, -1, 1), "date.real"),
            ((0, 2, 3), "date.real"),
            ((2000, 0, 3), "date.real"),
            ((2000, 2, 0), "date.real"),
            ((0, 0, 0), "date.real"),
            ((-1, 1, 1), "date.real"),
            ((10000, 1, 1), "date.real"),
        ] {
            assert_eq!(birth_date("profile.birth_date", bad, today).expect_err("a violation").rule, rule, "{bad:?}");
        }
    }

    #[test]
    fn a_website_is_an_http_url_without_credentials() {
        for good in [
            "",
            "https://example.com",
            "http://example.com:8080/a?b=c#d",
            "HTTPS://EXAMPLE.COM/@alice",
            "https://bücher.example/straße",
            "http://[2001:db8::1]/",
        ] {
            assert_eq!(website("profile.website", good), None, "{good}");
        }
        for (bad, rule) in [
            ("javascript:alert(1)", "website.http_url"),
            ("ftp://example.com/", "website.http_url"),
            ("example.com", "website.http_url"),
            ("//example.com", "website.http_url"),
            ("http:example.com", "website.http_url"),
            ("http:///example.com", "website.http_url"),
            ("https://", "website.http_url"),
            ("https://:80/", "website.http_url"),
            (" https://example.com", "website.http_url"),
            ("https://exam\nple.com", "website.http_url"),
            ("https://example.com/a b", "website.http_url"),
            ("https:\\\\example.com", "website.http_url"),
            ("https://example.com\0", "website.http_url"),
            ("java\tscript:alert(1)", "website.http_url"),
            ("https://alice:secret@example.com/", "website.no_credentials"),
            ("https://alice@example.com/", "website.no_credentials"),
            ("https://:@example.com/", "website.no_credentials"),
        ] {
            assert_eq!(website("profile.website", bad).expect(bad).rule, rule, "{bad}");
        }
    }

    #[test]
    fn the_key_of_a_prefix_is_a_prefix_of_the_key() {
        for (username, prefix) in [("Alice", "aL"), ("ΟΔΥΣΣΕΥΣ", "οΔΥΣ"), ("İstanbul", "İ"), ("ÅSA", "å")] {
            assert!(username_key(username).starts_with(&username_key(prefix)), "{username}");
        }
    }
}
