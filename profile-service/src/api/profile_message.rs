//! Maps a profile to its message.

use access::{UserId, proto::google::Date};
use chrono::{Datelike, NaiveDate};
use std::time::SystemTime;
use store::update::etag;

use crate::{
    notes,
    profiles::Profile,
    proto::{self, NoteReference},
};

/// Returns the message for a profile.
pub(crate) fn message(profile: Profile) -> proto::Profile {
    let reference = |(user_id, note_id): (UserId, notes::NoteId)| NoteReference {
        user_id: user_id.to_string(),
        note_id: note_id.to_string(),
    };
    proto::Profile {
        user_id: profile.user_id.to_string(),
        display_name: profile.username,
        bio: profile.bio,
        birth_date: profile.birth_date.map(date),
        website: profile.website,
        is_active: profile.is_active && profile.user_is_active,
        favorite_note: profile.favorite_user_id.zip(profile.favorite_note_id).map(reference),
        create_time: Some(SystemTime::from(profile.create_time).into()),
        update_time: Some(SystemTime::from(profile.update_time).into()),
        etag: etag(profile.version),
    }
}

fn date(date: NaiveDate) -> Date {
    let part = |part: u32| i32::try_from(part).expect("a month or a day is a small number");
    Date { year: date.year(), month: part(date.month()), day: part(date.day()) }
}
