//! Imports notes, also those with titles and texts over the limits of the API. All of them get the visibility that the mapping names, because Django's notes have none.

use access::{Error, UserId};
use chrono::{DateTime, Utc};
use prost::Message;

use django::{ImportError, Row, RowImport, RowOutcome, Table};
use store::Tx;

use super::{Import, MESSAGE_LIMIT, NoteSection};
use crate::{
    notes::{self, Inserted, Note},
    profiles, proto,
    quotas::Quotas,
};

impl Import {
    pub(super) async fn import_notes(&mut self) -> Result<(), ImportError> {
        let section = &self.mapping.notes;
        if !self.importer.has_table("notes", &section.table).await? {
            return Ok(());
        }
        let NoteSection { table, key, owner, title, body, created, updated, .. } = section;
        let columns = [owner, title, body, created, updated].map(String::as_str);
        let import = async |row: &Row, note: &mut RowImport<'_>| {
            let now = note.now().await?;
            let note_id = note.row_id("note", note.key);
            note.set_id(note_id);
            note.set_name(row.text(title).unwrap_or_default());
            let Some(owner) = row.key(owner)? else {
                return Ok(RowOutcome::skipped("the note has no owner"));
            };
            let Some(owner) = self.users.get(&owner) else {
                return Ok(RowOutcome::skipped("the owner was skipped or does not exist"));
            };
            let new = match read(section, row, owner.id, note_id, now) {
                Ok(new) => new,
                Err(reason) => return Ok(RowOutcome::Skipped(reason)),
            };
            if profiles::user_version(&mut *note.tx, owner.id).await?.is_none() {
                return Ok(RowOutcome::skipped("the owner has no profile"));
            }
            let create = async |tx: &mut Tx| match notes::insert(tx, &new).await {
                Ok(inserted) => {
                    if let Inserted::New(created) = inserted {
                        notes::count(tx, &created, &Quotas::UNLIMITED).await?;
                    }
                    Ok(RowOutcome::Imported)
                }
                // A user who knows the note's key in Django can compute the id, and may have created another note with it.
                Err(Error::AlreadyExists(..)) => Ok(RowOutcome::skipped("another note has the id")),
                Err(error) => Err(error.into()),
            };
            let outcome = note.import_once(note_id, create).await?;
            if !outcome.is_skipped() {
                self.notes.insert(note.key.to_owned(), owner.id);
            }
            Ok(outcome)
        };
        self.importer.import_table("notes", Table::new(table, key, &columns), import).await
    }
}

/// Reads a note, or returns the reason why the note is skipped.
fn read(section: &NoteSection, row: &Row, user_id: UserId, note_id: uuid::Uuid, now: DateTime<Utc>) -> Result<Note, String> {
    let text = |error: django::RowError| error.to_string();
    let (title, body) = (row.text(&section.title).map_err(text)?, row.text(&section.body).map_err(text)?);
    let create_time = row.time(&section.created).map_err(text)?.unwrap_or(now);
    let update_time = row.time(&section.updated).map_err(text)?.unwrap_or(create_time);
    let note = proto::Note { title, body, ..proto::Note::default() };
    if note.encoded_len() > MESSAGE_LIMIT {
        return Err(format!("the note has more than {MESSAGE_LIMIT} bytes"));
    }
    let proto::Note { title, body, .. } = note;
    let visibility = section.visibility.into();
    Ok(Note { user_id, note_id: note_id.into(), title, body, visibility, create_time, update_time, version: 1 })
}
