//! Imports profiles, friends and favorite notes. A text over the limits of the API comes over whole. A website that is no URL and a birth
//! date in the future are left out.

use access::{Error, UserId};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use django::{ImportError, Row, RowImport, RowOutcome, Table};
use store::{Executor, Tx};
use uuid::Uuid;

use super::{Import, MESSAGE_LIMIT, ProfileSection, User};
use crate::{
    favorites, friends,
    profiles::{self, UserSnapshot},
    quotas::Quotas,
};

/// The columns of a profile, and the outcome of each part that can be left out.
#[derive(Default)]
struct ProfileRow {
    bio: String,
    birth_date: Option<NaiveDate>,
    website: String,
    is_active: bool,
    parts: Vec<(&'static str, RowOutcome)>,
}

impl Import {
    pub(super) async fn import_profiles(&mut self) -> Result<(), ImportError> {
        let section = &self.mapping.profiles;
        let ProfileSection { table, key, user, bio, birth_date, website, is_active, favorite_note } = section;
        let columns = [user, bio, birth_date, website, is_active, favorite_note].map(String::as_str);
        let import = async |row: &Row, profile: &mut RowImport<'_>| {
            let key = profile.key;
            if let Some(note) = row.key(favorite_note)? {
                self.favorites.push((key.to_owned(), note));
            }
            let now = profile.now().await?;
            let owner = row.key(user)?.and_then(|user| self.users.get(&user));
            if let Some(owner) = owner {
                profile.set_id(owner.id);
                profile.set_name(&*owner.username);
            }
            let (outcome, parts) = match (owner, read(section, row, now)) {
                (None, read) => {
                    let parts = read.map(|profile| profile.parts).unwrap_or_default();
                    (RowOutcome::skipped("the user was skipped or does not exist"), parts)
                }
                (Some(_), Err(reason)) => (RowOutcome::Skipped(reason), Vec::new()),
                (Some(owner), Ok(new)) => {
                    let insert = async |tx: &mut Tx| insert(tx, owner, &new, now).await;
                    let outcome = profile.import_once(profile.row_id("profile", key), insert).await?;
                    if !outcome.is_skipped() {
                        self.profiles.insert(key.to_owned(), owner.id);
                    }
                    (outcome, new.parts)
                }
            };
            for (name, part) in parts {
                profile.count(name, key, outcome.of_part(part, "the profile was skipped"));
            }
            Ok(outcome)
        };
        self.importer.import_table("profiles", Table::new(table, key, &columns), import).await
    }

    pub(super) async fn import_friends(&mut self) -> Result<(), ImportError> {
        let join = self.mapping.friends.resolve(&self.mapping.profiles.table, "friends", "profile_id", "user_id");
        let pairs = self.importer.pairs(join.join()).await?;
        let import = async |(profile, friend): (&str, &str), row: &mut RowImport<'_>| {
            let now = row.now().await?;
            row.set_name(self.users.get(friend).map_or("", |user| &user.username));
            let Some(user_id) = self.profiles.get(profile).copied() else {
                return Ok(RowOutcome::skipped("the profile was skipped or does not exist"));
            };
            let Some(friend_id) = self.users.get(friend).map(|user| user.id) else {
                return Ok(RowOutcome::skipped("the friend was skipped or does not exist"));
            };
            if friends::friend("", user_id, friend_id).is_some() {
                return Ok(RowOutcome::skipped("a user cannot be their own friend"));
            }
            if !have_profiles(row.tx, [user_id, friend_id]).await? {
                return Ok(RowOutcome::skipped("the friend has no profile, or the user has none any more"));
            }
            let add = async |tx: &mut Tx| {
                friends::add(tx, user_id, "friend_id", friend_id, now, &Quotas::UNLIMITED).await?;
                Ok(RowOutcome::Imported)
            };
            row.import_once(row.row_id("friend", row.key), add).await
        };
        self.importer.import_pairs("friends", pairs, |profile, friend| format!("{profile}/{friend}"), import).await
    }

    pub(super) async fn import_favorites(&mut self) -> Result<(), ImportError> {
        let favorites = std::mem::take(&mut self.favorites);
        let import = async |(profile, note): (&str, &str), row: &mut RowImport<'_>| {
            let Some(user_id) = self.profiles.get(profile).copied() else {
                return Ok(RowOutcome::skipped("the profile was skipped"));
            };
            let Some(owner) = self.notes.get(note).copied() else {
                return Ok(RowOutcome::skipped("the note was skipped or does not exist"));
            };
            let note_id = row.row_id("note", note);
            let set = async |tx: &mut Tx| {
                if !note_exists(tx, owner, note_id).await? || !have_profiles(tx, [user_id]).await? {
                    return Ok(RowOutcome::not_needed("the note or the profile was deleted here"));
                }
                favorites::set(tx, user_id, "note", (owner, note_id.into())).await?;
                Ok(RowOutcome::Imported)
            };
            row.import_once(row.row_id("favorite", profile), set).await
        };
        self.importer.import_pairs("profiles.favorite_note", favorites, |profile, _| profile.to_owned(), import).await
    }
}

/// Reads a profile, or returns the reason why the profile is skipped.
fn read(section: &ProfileSection, row: &Row, now: DateTime<Utc>) -> Result<ProfileRow, String> {
    let text = |error: django::RowError| error.to_string();
    let mut profile = ProfileRow { is_active: row.flag(&section.is_active, true).map_err(text)?, ..ProfileRow::default() };
    let bio = row.text(&section.bio).map_err(text)?;
    if !bio.is_empty() {
        let valid = if bio.len() > MESSAGE_LIMIT { Err(format!("has more than {MESSAGE_LIMIT} bytes")) } else { Ok(()) };
        profile.part("profiles.bio", valid, |profile| profile.bio = bio);
    }
    match row.date(&section.birth_date) {
        Ok(None) => {}
        Ok(Some(date)) => {
            let parts = (date.year(), date.month().cast_signed(), date.day().cast_signed());
            let valid = profiles::birth_date("birth_date", parts, now.date_naive());
            let valid = valid.map(|_| ()).map_err(|violation| violation.description.into_owned());
            profile.part("profiles.birth_date", valid, |profile| profile.birth_date = Some(date));
        }
        Err(error) => profile.parts.push(("profiles.birth_date", RowOutcome::Skipped(error.to_string()))),
    }
    let website = row.text(&section.website).map_err(text)?;
    if !website.is_empty() {
        let valid = profiles::website("website", &website).map_or(Ok(()), |violation| Err(violation.description.into_owned()));
        profile.part("profiles.website", valid, |profile| profile.website = website);
    }
    Ok(profile)
}

impl ProfileRow {
    fn part(&mut self, name: &'static str, valid: Result<(), String>, keep: impl FnOnce(&mut Self)) {
        let outcome = valid.map_or_else(RowOutcome::Skipped, |()| RowOutcome::Imported);
        if outcome == RowOutcome::Imported {
            keep(self);
        }
        self.parts.push((name, outcome));
    }
}

/// Writes the profile of a user. It overwrites a profile that has not been changed since it was created.
async fn insert(tx: &mut Tx, user: &User, profile: &ProfileRow, now: DateTime<Utc>) -> Result<RowOutcome, ImportError> {
    let query = tx.query("SELECT user_id FROM tombstones WHERE user_id = $1").bind(user.id);
    if query.optional::<(UserId,)>().await?.is_some() {
        return Ok(RowOutcome::not_needed("the user was deleted here"));
    }
    let joined = user.joined.unwrap_or(now);
    // The events of auth-service complete the rest.
    let snapshot = UserSnapshot { user_id: user.id, username: &user.username, version: 1, is_active: true, generation: 0 };
    if !profiles::ensure_profile(tx, &snapshot, joined).await? {
        return Err(Error::internal("a user was deleted during the import: run the import again").into());
    }
    let query = tx.query(
        "UPDATE profiles SET bio = $2, birth_date = $3, website = $4, is_active = $5, create_time = $6, update_time = $7
         WHERE user_id = $1 AND version = 1",
    );
    let query = query.bind(user.id).bind(&profile.bio).bind(profile.birth_date).bind(&profile.website);
    let written = query.bind(profile.is_active).bind(joined).bind(now).execute().await?;
    Ok(if written > 0 { RowOutcome::Imported } else { RowOutcome::not_needed("the profile was changed here") })
}

async fn have_profiles<const N: usize>(tx: &mut Tx, user_ids: [UserId; N]) -> store::Result<bool> {
    for user_id in user_ids {
        if profiles::user_version(&mut *tx, user_id).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn note_exists(tx: &mut Tx, user_id: UserId, note_id: Uuid) -> store::Result<bool> {
    let query = tx.query("SELECT note_id FROM notes WHERE user_id = $1 AND note_id = $2");
    Ok(query.bind(user_id).bind(note_id).optional::<(Uuid,)>().await?.is_some())
}
