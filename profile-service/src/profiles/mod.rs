//! Profiles: the row, its rules, its SQL. The favourite note is part of what a reader gets of a profile, where they can see it.

mod user_snapshot;

use std::sync::LazyLock;

use access::{Error, Result, UserId, error::Violation};
use chrono::{DateTime, NaiveDate, Utc};
use store::{Db, Executor, Tx, batch};
use url::Url;
use uuid::Uuid;

use crate::notes::NoteId;

pub(crate) use user_snapshot::{
    UserSnapshot, create_or_confirm, delete_missing, ensure_profile, insert_tombstone, lock_shared, rename, replace,
    set_user_active, set_user_version,
};

/// What the profiles of one page weigh together at most, in bytes. Clients commonly refuse an answer of more than 4 MiB.
pub(crate) const PAGE_WEIGHT: usize = 1 << 20;

/// A profile, as one reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Profile {
    pub(crate) user_id: UserId,
    pub(crate) username: String,
    pub(crate) bio: String,
    pub(crate) birth_date: Option<NaiveDate>,
    pub(crate) website: String,
    pub(crate) is_active: bool,
    /// Whether the user may sign in.
    pub(crate) user_is_active: bool,
    pub(crate) create_time: DateTime<Utc>,
    pub(crate) update_time: DateTime<Utc>,
    /// One more with every change that somebody makes to the profile. That the user is renamed, or that the favourite goes
    /// with its note, is none.
    pub(crate) version: i64,
    pub(crate) favorite_user_id: Option<UserId>,
    pub(crate) favorite_note_id: Option<NoteId>,
}

/// Where a profile stands in a list by username.
pub(crate) type Place = (String, UserId);

impl Profile {
    pub(crate) fn place(&self) -> Place {
        (username_key(&self.username), self.user_id)
    }

    pub(crate) fn weight(&self) -> usize {
        self.username.len() + self.bio.len() + self.website.len()
    }
}

/// The form of a username that lists are ordered by and that prefixes are compared in. Letter by letter, so that the form of
/// a prefix is a prefix of the form.
pub(crate) fn username_key(username: &str) -> String {
    username.chars().flat_map(char::to_lowercase).collect()
}

/// The rule of a date of birth, which is given as a year, a month and a day: a day that exists, today at the latest.
///
/// # Errors
///
/// The violation.
pub(crate) fn birth_date(field: &str, (year, month, day): (i32, i32, i32), today: NaiveDate) -> Result<NaiveDate, Violation> {
    let part = |part| u32::try_from(part).ok();
    let date = part(month).zip(part(day)).and_then(|(month, day)| NaiveDate::from_ymd_opt(year, month, day));
    match date.filter(|_| (1..=9999).contains(&year)) {
        None => Err(Violation::new(field, "date.real", "must be a day that exists, with its year, month and day")),
        Some(date) if date > today => Err(Violation::new(field, "date.past", "must not be in the future")),
        Some(date) => Ok(date),
    }
}

/// The rule of a website: none, or an http or https URL of a host, without credentials.
pub(crate) fn website(field: &str, website: &str) -> Option<Violation> {
    if website.is_empty() {
        return None;
    }
    // A parser of URLs overlooks white space and backslashes, and a missing `//`. Those who show the URL may not.
    let is_exact = !website.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    let url = Url::parse(website).ok().filter(|url| is_exact && matches!(url.scheme(), "http" | "https") && url.has_host());
    let after_scheme = website.split_once(':').and_then(|(_, rest)| rest.strip_prefix("//"));
    let authority = after_scheme.and_then(|rest| rest.split(['/', '?', '#']).next()).filter(|authority| !authority.is_empty());
    match url.and(authority) {
        None => Some(Violation::new(field, "website.http_url", "must be an http or https URL, such as https://example.com/")),
        Some(authority) if authority.contains('@') => {
            Some(Violation::new(field, "website.no_credentials", "must not have a username or a password in it"))
        }
        Some(_) => None,
    }
}

/// The columns of [`Profile`], for the reader `$1`.
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

/// The profile of the user, if there is one.
pub(crate) async fn find(on: impl Executor<'_>, reader: Option<UserId>, user_id: UserId) -> store::Result<Option<Profile>> {
    on.query(select_profiles!("WHERE p.user_id = $2")).bind(reader).bind(user_id).optional().await
}

/// Those of the profiles that are there, in any order.
pub(crate) async fn find_many(db: &Db, reader: Option<UserId>, user_ids: &[UserId]) -> store::Result<Vec<Profile>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!(select_profiles!("WHERE p.user_id IN ({})"), batch::parameters(2)));
    let mut profiles = Vec::new();
    for chunk in user_ids.chunks(batch::SIZE) {
        profiles.extend(batch::bind(db.query(&SQL).bind(reader), chunk).all::<Profile>().await?);
    }
    Ok(profiles)
}

/// Checks that the user whom `field` names has a profile.
///
/// # Errors
///
/// `NOT_FOUND`.
pub(crate) async fn must_exist(on: impl Executor<'_>, field: &str, user_id: UserId) -> Result<()> {
    let found: Option<(UserId,)> = on.query("SELECT user_id FROM profiles WHERE user_id = $1").bind(user_id).optional().await?;
    found.map(|_| ()).ok_or_else(|| Error::not_found(field))
}

/// The profiles whose usernames begin with `prefix`, by username: at most `limit`.
pub(crate) async fn list(
    on: impl Executor<'_>,
    reader: Option<UserId>,
    prefix: &str,
    inactive_too: bool,
    after: Option<&Place>,
    limit: i64,
) -> store::Result<Vec<Profile>> {
    let prefix = username_key(prefix);
    // No UTF-8 has the byte 0xFF, so whatever begins with the prefix is less than this.
    let end = [prefix.as_bytes(), &[0xFF]].concat();
    let (key, user_id) = after.cloned().unwrap_or((prefix, Uuid::nil().into()));
    let query = on.query(select_profiles!(
        "WHERE (p.username_key, p.user_id) > ($2, $3) AND p.username_key < $4 AND (p.is_active AND p.user_is_active OR $5)
         ORDER BY p.username_key, p.user_id LIMIT $6"
    ));
    query.bind(reader).bind(key.into_bytes()).bind(user_id).bind(end).bind(inactive_too).bind(limit).all().await
}

/// The place that a list by username goes on after, as the columns have it.
pub(crate) fn after_or_first(after: Option<&Place>) -> (Vec<u8>, UserId) {
    let (key, user_id) = after.cloned().unwrap_or((String::new(), Uuid::nil().into()));
    (key.into_bytes(), user_id)
}

/// The version of the user that the profile has the username of, if there is a profile.
pub(crate) async fn user_version(on: impl Executor<'_>, user_id: UserId) -> store::Result<Option<i64>> {
    let found: Option<(i64,)> = on.query("SELECT user_version FROM profiles WHERE user_id = $1").bind(user_id).optional().await?;
    Ok(found.map(|(version,)| version))
}

/// The profile, if there is one, which nobody else changes until the transaction ends.
pub(crate) async fn lock(tx: &mut Tx, reader: Option<UserId>, user_id: UserId) -> store::Result<Option<Profile>> {
    // Apart from the read, because a row that is only joined can't be locked.
    let query = tx.query("SELECT user_id FROM profiles WHERE user_id = $1").bind(user_id);
    match query.for_update().optional::<(UserId,)>().await? {
        Some(_) => find(tx, reader, user_id).await,
        None => Ok(None),
    }
}

/// Writes a profile that is locked and was changed.
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
