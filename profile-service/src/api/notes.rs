//! `profiles.v1.NoteService`.

use std::{sync::Arc, time::SystemTime};

use access::{AuditRecorder, Caller, Clock, Error, Id, Result, UserId, validate::Violations};
use audit::AuditLog;
use chrono::{DateTime, Datelike, Utc};
use store::{
    Db,
    batch::order_by_keys,
    page::{Page, total_size},
    update::{UpdateMask, check_etag, etag},
};

use super::reader;
use crate::{
    change::{Change, RefusalRecorder},
    favorites,
    note_lists::{self, ListedNote, NoteFilter},
    notes::{self, Inserted, Note, NoteId, Visibility},
    profiles,
    proto::{
        self, BatchGetNotesRequest, BatchGetNotesResponse, CreateNoteRequest, DeleteNoteRequest, GetNoteRequest,
        ListFavoritedByRequest, ListFavoritedByResponse, ListNotesRequest, ListNotesResponse, UpdateNoteRequest, note_service,
    },
    quotas::Quotas,
};

pub(crate) struct NoteApi {
    pub(crate) db: Db,
    pub(crate) audit_log: AuditLog,
    pub(crate) clock: Clock,
    pub(crate) quotas: Quotas,
}

impl note_service::Handlers for NoteApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        Arc::new(RefusalRecorder(self.audit_log.clone()))
    }

    fn check_create_note(&self, request: &CreateNoteRequest, violations: &mut Violations) {
        violations.push(request.note.as_ref().and_then(|note| notes::title("note.title", &note.title)));
    }

    async fn create_note(&self, caller: Caller, request: CreateNoteRequest) -> Result<proto::Note> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let note_id = if request.note_id.is_empty() { Id::new(&self.clock) } else { Id::parse("note_id", &request.note_id)? };
        let given = request.note.unwrap_or_default();
        let now = self.clock.now();
        let visibility = visibility(given.visibility());
        let note = Note {
            user_id,
            note_id,
            title: given.title,
            body: given.body,
            visibility,
            create_time: now,
            update_time: now,
            version: 1,
        };

        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        let inserted = notes::insert(&mut tx, &note).await?;
        // The entry is sent with the statement that counts the note. It is short, so on SQLite the task usually wakes once for both results.
        tx.record([format!("notes.{note_id}")]).await?;
        let note = match inserted {
            Inserted::New(note) => {
                notes::count(&mut tx, &note, &self.quotas).await?;
                note
            }
            Inserted::Existing(note) => note,
        };
        tx.commit().await?;
        Ok(message(note))
    }

    async fn get_note(&self, caller: Caller, request: GetNoteRequest) -> Result<proto::Note> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let note_id = Id::parse("note_id", &request.note_id)?;
        let note = notes::find(&self.db, reader(&caller), user_id, note_id).await?;
        note.map(message).ok_or_else(|| Error::not_found("note_id"))
    }

    fn check_list_notes(&self, request: &ListNotesRequest, violations: &mut Violations) {
        violations.check("order_by", || note_lists::order(&request.order_by));
        violations.check("create_time_start", || time("create_time_start", request.create_time_start));
        violations.check("create_time_end", || time("create_time_end", request.create_time_end));
    }

    async fn list_notes(&self, caller: Caller, request: ListNotesRequest) -> Result<ListNotesResponse> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let order = note_lists::order(&request.order_by)?;
        let filter = NoteFilter {
            reader: reader(&caller),
            user_id,
            visibility: match request.visibility() {
                proto::Visibility::Unspecified => None,
                given => Some(visibility(given)),
            },
            search: request.search,
            create_time_start: time("create_time_start", request.create_time_start)?,
            create_time_end: time("create_time_end", request.create_time_end)?,
        };
        let [start, end] = [filter.create_time_start, filter.create_time_end].map(|time| time.map(|time| time.to_rfc3339()));
        let list = ("ListNotes", user_id, order, &filter.search, request.visibility, start, end);
        let page = Page::new(request.page_size, &request.page_token, list)?;
        let found = note_lists::list(&self.db, &filter, order, page.after(), page.limit()).await?;
        if found.is_empty() {
            profiles::must_exist(&self.db, "user_id", user_id).await?;
        }
        let total_size =
            if request.with_total_size { Some(total_size(note_lists::count(&self.db, &filter).await?)) } else { None };
        let cursor = |note: &ListedNote| note.cursor(order.field);
        let (notes, next_page_token) = page.truncate_messages(found, cursor, |listed| message(listed.note))?;
        Ok(ListNotesResponse { notes, next_page_token, total_size })
    }

    async fn batch_get_notes(&self, caller: Caller, request: BatchGetNotesRequest) -> Result<BatchGetNotesResponse> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let note_ids = request.note_ids.iter().map(|id| NoteId::parse("note_ids", id)).collect::<Result<Vec<_>>>()?;
        let found = notes::find_many(&self.db, reader(&caller), user_id, &note_ids).await?;
        let notes = order_by_keys("note_ids", &note_ids, found, |note| note.note_id)?;
        Ok(BatchGetNotesResponse { notes: notes.into_iter().map(message).collect() })
    }

    fn check_update_note(&self, request: &UpdateNoteRequest, violations: &mut Violations) {
        let mask = violations.check("update_mask", || UpdateMask::new::<proto::Note>(request.update_mask.as_ref()));
        let (Some(given), mask) = (&request.note, mask.unwrap_or(UpdateMask::SetFields)) else { return };
        violations.check("note.user_id", || UserId::parse("note.user_id", &given.user_id));
        violations.check("note.note_id", || NoteId::parse("note.note_id", &given.note_id));
        if mask.writes("title", !given.title.is_empty()) {
            violations.push(notes::title("note.title", &given.title));
        }
    }

    async fn update_note(&self, caller: Caller, request: UpdateNoteRequest) -> Result<proto::Note> {
        let given = request.note.unwrap_or_default();
        let user_id = UserId::parse("note.user_id", &given.user_id)?;
        let note_id = Id::parse("note.note_id", &given.note_id)?;
        let mask = UpdateMask::new::<proto::Note>(request.update_mask.as_ref())?;

        let is_visibility_set = given.visibility() != proto::Visibility::Unspecified;
        let visibility = mask.writes("visibility", is_visibility_set).then(|| visibility(given.visibility()));
        let title = mask.writes("title", !given.title.is_empty()).then_some(given.title);
        let body = mask.writes("body", !given.body.is_empty()).then_some(given.body);

        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        let mut note = notes::lock(&mut tx, user_id, note_id).await?.ok_or_else(|| Error::not_found("note.note_id"))?;
        check_etag("note.etag", &given.etag, note.version)?;
        let before = note.clone();
        note.title = title.unwrap_or(note.title);
        note.body = body.unwrap_or(note.body);
        note.visibility = visibility.unwrap_or(note.visibility);
        if note != before {
            let changed = [
                ("title", note.title != before.title),
                ("body", note.body != before.body),
                ("visibility", note.visibility != before.visibility),
            ];
            let changed = changed.into_iter().filter_map(|(field, is_changed)| is_changed.then_some(field));
            tx.record(changed.map(|field| format!("notes.{note_id}.{field}"))).await?;
            notes::update(&mut tx, &before, &mut note, self.clock.now(), &self.quotas).await?;
        }
        tx.commit().await?;
        Ok(message(note))
    }

    async fn delete_note(&self, caller: Caller, request: DeleteNoteRequest) -> Result<()> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let note_id = Id::parse("note_id", &request.note_id)?;
        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        let note = notes::lock(&mut tx, user_id, note_id).await?.ok_or_else(|| Error::not_found("note_id"))?;
        check_etag("etag", &request.etag, note.version)?;
        tx.record([format!("notes.{note_id}")]).await?;
        notes::delete(&mut tx, &note).await?;
        tx.commit().await
    }

    async fn list_favorited_by(&self, caller: Caller, request: ListFavoritedByRequest) -> Result<ListFavoritedByResponse> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let note_id = Id::parse("note_id", &request.note_id)?;
        let page = Page::new(request.page_size, &request.page_token, ("ListFavoritedBy", user_id, note_id))?;
        notes::find(&self.db, reader(&caller), user_id, note_id).await?.ok_or_else(|| Error::not_found("note_id"))?;
        let found = favorites::list(&self.db, user_id, note_id, page.after(), page.limit()).await?;
        let (places, next_page_token) = page.truncate(found, Clone::clone)?;
        Ok(ListFavoritedByResponse {
            user_ids: places.into_iter().map(|(_, user_id)| user_id.to_string()).collect(),
            next_page_token,
        })
    }
}

/// Returns the message for a note.
pub(super) fn message(note: Note) -> proto::Note {
    let visibility = match note.visibility {
        Visibility::Private => proto::Visibility::Private,
        Visibility::Friends => proto::Visibility::Friends,
        Visibility::Public => proto::Visibility::Public,
    };
    proto::Note {
        user_id: note.user_id.to_string(),
        note_id: note.note_id.to_string(),
        title: note.title,
        body: note.body,
        visibility: visibility.into(),
        create_time: Some(SystemTime::from(note.create_time).into()),
        update_time: Some(SystemTime::from(note.update_time).into()),
        etag: etag(note.version),
    }
}

/// Reads a time of the request.
fn time(field: &str, given: Option<prost_types::Timestamp>) -> Result<Option<DateTime<Utc>>> {
    let Some(given) = given else { return Ok(None) };
    let time = u32::try_from(given.nanos).ok().and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
    let time = time.filter(|time| (1..=9999).contains(&time.year()));
    time.map(Some).ok_or_else(|| Error::invalid(field, "timestamp.valid", "must be a time between the years 1 and 9999"))
}

fn visibility(given: proto::Visibility) -> Visibility {
    match given {
        proto::Visibility::Unspecified | proto::Visibility::Private => Visibility::Private,
        proto::Visibility::Friends => Visibility::Friends,
        proto::Visibility::Public => Visibility::Public,
    }
}
