//! Profiles, friends, and which note is the favourite. A profile of which a part breaks a rule comes over without that part.

use access::{Error, Result, UserId, validate};
use chrono::{DateTime, NaiveDate, Utc};
use django::{ImportError, Row, RowOutcome, Table};
use store::{Executor, Tx};
use tokio_stream::StreamExt;
use uuid::Uuid;

use super::{Import, ProfileSection, User, skipped};
use crate::{
    favorites, friends,
    profiles::{self, Known},
    proto,
};

/// What comes over of a profile, and what became of each part that can be left out.
#[derive(Default)]
struct Found {
    bio: String,
    birth_date: Option<NaiveDate>,
    website: String,
    is_active: bool,
    parts: Vec<(&'static str, RowOutcome)>,
}

impl Import<'_> {
    pub(super) async fn import_profiles(&mut self) -> Result<(), ImportError> {
        let section = self.mapping.profiles.clone();
        let ProfileSection { table, key, user, bio, birth_date, website, is_active, favorite_note } = &section;
        self.batch.start_table("profiles", self.source.count(table).await?).await?;
        let columns = [user, bio, birth_date, website, is_active, favorite_note].map(String::as_str);
        let mut rows = self.source.rows(Table::new(table, key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(key)?.unwrap_or_default();
            if let Some(note) = row.key(favorite_note)? {
                self.favorites.push((key.clone(), note));
            }
            let tx = self.batch.tx().await?;
            let now = tx.now(&self.clock).await?;
            let found = read(&section, &row, now);
            let owner = row.key(user)?.and_then(|user| self.users.get(&user));
            let row_id = django::row_id(self.origin, "profile", &key);
            let (outcome, parts) = match (owner, found) {
                (None, found) => (skipped("its user was skipped, or there is none"), left_out(found)),
                (Some(_), Err(reason)) => (RowOutcome::Skipped(reason), Vec::new()),
                (Some(owner), Ok(found)) => {
                    let outcome = if django::mark_imported(tx, row_id).await? {
                        insert(tx, owner, &found, now).await?
                    } else {
                        RowOutcome::AlreadyImported
                    };
                    if matches!(outcome, RowOutcome::Skipped(_)) {
                        django::unmark(tx, row_id).await?;
                    }
                    let parts = match outcome {
                        RowOutcome::Imported => found.parts,
                        RowOutcome::AlreadyImported => {
                            found.parts.into_iter().map(|(part, _)| (part, RowOutcome::AlreadyImported)).collect()
                        }
                        RowOutcome::Skipped(_) => left_out(Ok(found)),
                    };
                    if !matches!(outcome, RowOutcome::Skipped(_)) {
                        self.profiles.insert(key.clone(), owner.id);
                    }
                    (outcome, parts)
                }
            };
            self.report.entry("profiles").count(&*key, outcome);
            for (part, outcome) in parts {
                self.report.entry(part).count(&*key, outcome);
            }
        }
        Ok(())
    }

    pub(super) async fn import_friends(&mut self) -> Result<(), ImportError> {
        let table = self.mapping.profiles.table.clone();
        let join = self.mapping.friends.resolve(&table, "friends", "profile_id", "user_id");
        let pairs = self.source.pairs(join.join()).await?;
        self.batch.start_table("friends", pairs.len() as u64).await?;
        for (profile, friend) in pairs {
            let pair = format!("{profile}/{friend}");
            let tx = self.batch.tx().await?;
            let now = tx.now(&self.clock).await?;
            let friend = self.users.get(&friend).map(|user| user.id);
            let outcome = match (self.profiles.get(&profile), friend) {
                (None, _) => skipped("the profile was skipped, or there is none"),
                (_, None) => skipped("the friend was skipped, or is not there"),
                (Some(user_id), Some(friend_id)) if friends::friend("", *user_id, friend_id).is_some() => {
                    skipped("nobody is a friend of oneself")
                }
                (Some(user_id), Some(friend_id)) if !have_profiles(tx, [*user_id, friend_id]).await? => {
                    skipped("the friend has no profile, or the user has none any more")
                }
                (Some(user_id), Some(friend_id)) => {
                    if django::mark_imported(tx, django::row_id(self.origin, "friend", &pair)).await? {
                        friends::add(tx, *user_id, "friend_id", friend_id, now).await?;
                        RowOutcome::Imported
                    } else {
                        RowOutcome::AlreadyImported
                    }
                }
            };
            self.report.entry("friends").count(pair, outcome);
        }
        Ok(())
    }

    pub(super) async fn import_favorites(&mut self) -> Result<(), ImportError> {
        let favorites = std::mem::take(&mut self.favorites);
        self.batch.start_table("favourites", favorites.len() as u64).await?;
        for (profile, note) in favorites {
            let tx = self.batch.tx().await?;
            let outcome = match (self.profiles.get(&profile), self.notes.get(&note)) {
                (None, _) => skipped("the profile was skipped"),
                (_, None) => skipped("the note was skipped, or there is none"),
                (Some(user_id), Some(owner)) => {
                    let note_id = django::row_id(self.origin, "note", &note);
                    let row_id = django::row_id(self.origin, "favorite", &profile);
                    let is_first = django::mark_imported(tx, row_id).await?;
                    match is_first {
                        true if is_there(tx, *owner, note_id).await? && have_profiles(tx, [*user_id]).await? => {
                            favorites::set(tx, *user_id, "note", (*owner, note_id.into())).await?;
                            RowOutcome::Imported
                        }
                        true => {
                            django::unmark(tx, row_id).await?;
                            skipped("the note, or the profile, has been deleted here")
                        }
                        false => RowOutcome::AlreadyImported,
                    }
                }
            };
            self.report.entry("profiles.favorite_note").count(profile, outcome);
        }
        Ok(())
    }
}

fn read(section: &ProfileSection, row: &Row, now: DateTime<Utc>) -> Result<Found, String> {
    let said = |error: django::RowError| error.to_string();
    let mut found = Found { is_active: row.flag(&section.is_active, true).map_err(said)?, ..Found::default() };
    let bio = row.text(&section.bio).map_err(said)?;
    if !bio.is_empty() {
        let refusal = rules(proto::Profile { bio: bio.clone(), ..proto::Profile::default() });
        found.part("profiles.bio", refusal, |found| found.bio = bio);
    }
    match row.date(&section.birth_date) {
        Ok(None) => {}
        Ok(Some(date)) => {
            use chrono::Datelike;
            let parts = (date.year(), date.month().cast_signed(), date.day().cast_signed());
            let refusal = profiles::birth_date("birth_date", parts, now.date_naive()).err();
            found.part("profiles.birth_date", refusal.map(|violation| violation.description.into_owned()), |found| {
                found.birth_date = Some(date);
            });
        }
        Err(error) => found.parts.push(("profiles.birth_date", RowOutcome::Skipped(error.to_string()))),
    }
    let website = row.text(&section.website).map_err(said)?;
    if !website.is_empty() {
        let refusal = rules(proto::Profile { website: website.clone(), ..proto::Profile::default() });
        let refusal =
            refusal.or_else(|| profiles::website("website", &website).map(|violation| violation.description.into_owned()));
        found.part("profiles.website", refusal, |found| found.website = website);
    }
    Ok(found)
}

impl Found {
    fn part(&mut self, name: &'static str, refusal: Option<String>, keep: impl FnOnce(&mut Self)) {
        let outcome = refusal.map_or(RowOutcome::Imported, RowOutcome::Skipped);
        if outcome == RowOutcome::Imported {
            keep(self);
        }
        self.parts.push((name, outcome));
    }
}

fn left_out(found: Result<Found, String>) -> Vec<(&'static str, RowOutcome)> {
    let parts = found.map(|found| found.parts).unwrap_or_default();
    parts.into_iter().map(|(part, _)| (part, skipped("the profile was skipped"))).collect()
}

/// The rules of the contract.
fn rules(profile: proto::Profile) -> Option<String> {
    let profile = proto::Profile { user_id: Uuid::nil().to_string(), ..profile };
    let request = proto::UpdateProfileRequest { profile: Some(profile), update_mask: None };
    validate::check(&request).err().map(|error| error.to_string().replace("profile.", ""))
}

/// Writes the profile of a user. One that is there, and that nobody has changed since it was made, is written over.
async fn insert(tx: &mut Tx, user: &User, found: &Found, now: DateTime<Utc>) -> Result<RowOutcome> {
    let query = tx.query("SELECT user_id FROM tombstones WHERE user_id = $1").bind(user.id);
    if query.optional::<(UserId,)>().await?.is_some() {
        return Ok(skipped("the user was deleted here"));
    }
    let joined = user.joined.unwrap_or(now);
    // An event tells the rest.
    let known = Known { user_id: user.id, username: &user.username, version: 1, is_active: true, generation: 0 };
    if !profiles::welcome(tx, &known, joined).await? {
        return Err(Error::internal("a user was deleted at this moment; the next run goes on"));
    }
    let query = tx.query(
        "UPDATE profiles SET bio = $2, birth_date = $3, website = $4, is_active = $5, create_time = $6, update_time = $7
         WHERE user_id = $1 AND version = 1",
    );
    let query = query.bind(user.id).bind(&found.bio).bind(found.birth_date).bind(&found.website);
    let written = query.bind(found.is_active).bind(joined).bind(now).execute().await?;
    Ok(if written > 0 { RowOutcome::Imported } else { skipped("the profile has been changed here") })
}

async fn have_profiles<const N: usize>(tx: &mut Tx, user_ids: [UserId; N]) -> store::Result<bool> {
    for user_id in user_ids {
        if profiles::user_version(&mut *tx, user_id).await?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_there(tx: &mut Tx, user_id: UserId, note_id: Uuid) -> store::Result<bool> {
    let query = tx.query("SELECT note_id FROM notes WHERE user_id = $1 AND note_id = $2");
    Ok(query.bind(user_id).bind(note_id).optional::<(Uuid,)>().await?.is_some())
}
