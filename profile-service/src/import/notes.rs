//! Notes. Django's have no visibility: all of them get the one that the mapping says.

use access::{Error, UserId, validate};
use chrono::{DateTime, Utc};
use django::{ImportError, Row, RowOutcome, Table};
use tokio_stream::StreamExt;

use super::{Import, NoteSection};
use crate::{
    notes::{self, Note, Visibility},
    profiles, proto,
};

impl Import<'_> {
    pub(super) async fn import_notes(&mut self) -> Result<(), ImportError> {
        let visibility = self.visibility()?;
        let section = self.mapping.notes.clone();
        if !self.source.has(&section.table).await? {
            return Ok(());
        }
        self.batch.start_table("notes", self.source.count(&section.table).await?).await?;
        let NoteSection { table, key, owner, title, body, created, updated, .. } = &section;
        let columns = [owner, title, body, created, updated].map(String::as_str);
        let mut rows = self.source.rows(Table::new(table, key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(key)?.unwrap_or_default();
            let owner_key = row.key(owner)?;
            let tx = self.batch.tx().await?;
            let now = tx.now(&self.clock).await?;
            let note_id = django::row_id(self.origin, "note", &key);
            let user_id = owner_key.as_ref().and_then(|owner| self.users.get(owner)).map(|owner| owner.id);
            let note = match (owner_key, user_id) {
                (None, _) => Err("it has no owner".to_owned()),
                (_, None) => Err("its owner was skipped, or is not there".to_owned()),
                (Some(_), Some(user_id)) => read(&section, &row, (user_id, note_id), visibility, now),
            };
            let outcome = match note {
                Err(reason) => RowOutcome::Skipped(reason),
                Ok(note) if profiles::user_version(&mut *tx, note.user_id).await?.is_none() => {
                    RowOutcome::Skipped("its owner has no profile".to_owned())
                }
                Ok(note) => {
                    let outcome = if django::mark_imported(tx, note_id).await? {
                        match notes::create(tx, &note).await {
                            Ok(_) => RowOutcome::Imported,
                            // Whoever knows Django's key can work out the id, and choose it for another note.
                            Err(Error::AlreadyExists(..)) => {
                                django::unmark(tx, note_id).await?;
                                RowOutcome::Skipped("another note has its id".to_owned())
                            }
                            Err(error) => return Err(error.into()),
                        }
                    } else {
                        RowOutcome::AlreadyImported
                    };
                    if !matches!(outcome, RowOutcome::Skipped(_)) {
                        self.notes.insert(key.clone(), note.user_id);
                    }
                    outcome
                }
            };
            self.report.entry("notes").count(key, outcome);
        }
        Ok(())
    }
}

fn read(
    section: &NoteSection,
    row: &Row,
    (user_id, note_id): (UserId, uuid::Uuid),
    visibility: Visibility,
    now: DateTime<Utc>,
) -> Result<Note, String> {
    let said = |error: django::RowError| error.to_string();
    let (title, body) = (row.text(&section.title).map_err(said)?, row.text(&section.body).map_err(said)?);
    let create_time = row.time(&section.created).map_err(said)?.unwrap_or(now);
    let update_time = row.time(&section.updated).map_err(said)?.unwrap_or(create_time);
    let given = proto::Note { title: title.clone(), body: body.clone(), ..proto::Note::default() };
    let request =
        proto::CreateNoteRequest { user_id: user_id.to_string(), note: Some(given), ..proto::CreateNoteRequest::default() };
    validate::check(&request).map_err(|error| error.to_string().replace("note.", ""))?;
    if let Some(violation) = notes::title("title", &title) {
        return Err(format!("title: {}", violation.description));
    }
    Ok(Note { user_id, note_id: note_id.into(), title, body, visibility, create_time, update_time, version: 1 })
}
