//! `profiles.v1.ProfileService`.

use std::sync::Arc;

use access::{
    AuditRecorder, Caller, Clock, Error, Id, Result, UserId, error::Reason, guard::Streaming, proto::google::Date,
    validate::Violations,
};
use audit::AuditLog;
use chrono::{DateTime, NaiveDate, Utc};
use store::{
    Db,
    batch::order_by_keys,
    page::Page,
    update::{UpdateMask, check_etag},
};

use super::{export, profile_message::message, reader};
use crate::{
    change::{Change, RefusalRecorder, record_read},
    favorites, notes,
    profiles::{self, Profile},
    proto::{
        self, ActivateProfileRequest, BatchGetProfilesRequest, BatchGetProfilesResponse, ClearFavoriteNoteRequest,
        DeactivateProfileRequest, ExportProfileRequest, ExportProfileResponse, GetProfileRequest, ListProfilesRequest,
        ListProfilesResponse, SetFavoriteNoteRequest, UpdateProfileRequest, profile_service,
    },
};

/// The path of `ExportProfile`, whose calls for another user are recorded in the audit log.
const EXPORT_PROFILE: &str = "/profiles.v1.ProfileService/ExportProfile";

pub(crate) struct ProfileApi {
    pub(crate) db: Db,
    pub(crate) audit_log: AuditLog,
    pub(crate) clock: Clock,
}

impl profile_service::Handlers for ProfileApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        Arc::new(RefusalRecorder(self.audit_log.clone()))
    }

    async fn get_profile(&self, caller: Caller, request: GetProfileRequest) -> Result<proto::Profile> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let profile = profiles::find(&self.db, reader(&caller), user_id).await?;
        profile.map(message).ok_or_else(|| Error::not_found("user_id"))
    }

    async fn list_profiles(&self, caller: Caller, request: ListProfilesRequest) -> Result<ListProfilesResponse> {
        let (prefix, inactive_too) = (&request.username_prefix, request.show_inactive);
        let page = Page::new(request.page_size, &request.page_token, ("ListProfiles", prefix, inactive_too))?;
        let found = profiles::list(&self.db, reader(&caller), prefix, inactive_too, page.after(), page.limit()).await?;
        let (profiles, next_page_token) = page.truncate_messages(found, Profile::cursor, message)?;
        Ok(ListProfilesResponse { profiles, next_page_token })
    }

    async fn batch_get_profiles(&self, caller: Caller, request: BatchGetProfilesRequest) -> Result<BatchGetProfilesResponse> {
        let user_ids = request.user_ids.iter().map(|id| UserId::parse("user_ids", id)).collect::<Result<Vec<_>>>()?;
        let found = profiles::find_many(&self.db, reader(&caller), &user_ids).await?;
        let profiles = order_by_keys("user_ids", &user_ids, found, |profile| profile.user_id)?;
        Ok(BatchGetProfilesResponse { profiles: profiles.into_iter().map(message).collect() })
    }

    fn check_update_profile(&self, request: &UpdateProfileRequest, violations: &mut Violations) {
        let mask = violations.check("update_mask", || UpdateMask::new::<proto::Profile>(request.update_mask.as_ref()));
        let (Some(given), mask) = (&request.profile, mask.unwrap_or(UpdateMask::SetFields)) else { return };
        violations.check("profile.user_id", || UserId::parse("profile.user_id", &given.user_id));
        if mask.writes("website", !given.website.is_empty()) {
            violations.push(profiles::website("profile.website", &given.website));
        }
        if let Some(date) = given.birth_date.as_ref().filter(|_| mask.writes("birth_date", true)) {
            violations.check("profile.birth_date", || birth_date(date, self.clock.now()));
        }
    }

    async fn update_profile(&self, caller: Caller, request: UpdateProfileRequest) -> Result<proto::Profile> {
        let given = request.profile.unwrap_or_default();
        let user_id = UserId::parse("profile.user_id", &given.user_id)?;
        let mask = UpdateMask::new::<proto::Profile>(request.update_mask.as_ref())?;
        let now = self.clock.now();

        let bio = mask.writes("bio", !given.bio.is_empty()).then_some(given.bio);
        let website = mask.writes("website", !given.website.is_empty()).then_some(given.website);
        let birth_date = match given.birth_date {
            date if !mask.writes("birth_date", date.is_some()) => None,
            Some(date) => Some(Some(birth_date(&date, now)?)),
            None => Some(None),
        };

        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        let mut profile =
            profiles::lock(&mut tx, reader(&caller), user_id).await?.ok_or_else(|| Error::not_found("profile.user_id"))?;
        check_etag("profile.etag", &given.etag, profile.version)?;
        let before = profile.clone();
        profile.bio = bio.unwrap_or(profile.bio);
        profile.website = website.unwrap_or(profile.website);
        profile.birth_date = birth_date.unwrap_or(profile.birth_date);
        if profile != before {
            let changed = [
                ("bio", profile.bio != before.bio),
                ("website", profile.website != before.website),
                ("birth_date", profile.birth_date != before.birth_date),
            ];
            tx.record(changed.into_iter().filter_map(|(field, is_changed)| is_changed.then_some(field))).await?;
            profiles::update(&mut tx, &mut profile, now).await?;
        }
        tx.commit().await?;
        Ok(message(profile))
    }

    async fn activate_profile(&self, caller: Caller, request: ActivateProfileRequest) -> Result<proto::Profile> {
        self.set_active(caller, &request.user_id, true).await
    }

    async fn deactivate_profile(&self, caller: Caller, request: DeactivateProfileRequest) -> Result<proto::Profile> {
        self.set_active(caller, &request.user_id, false).await
    }

    async fn set_favorite_note(&self, caller: Caller, request: SetFavoriteNoteRequest) -> Result<proto::Profile> {
        let reader = reader(&caller);
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let reference = request.note.unwrap_or_default();
        let favorite = (UserId::parse("note.user_id", &reference.user_id)?, Id::parse("note.note_id", &reference.note_id)?);

        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        let mut profile = profiles::lock(&mut tx, reader, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        let note = notes::find(&mut *tx, reader, favorite.0, favorite.1).await?;
        note.ok_or_else(|| Error::not_found("note.note_id"))?;
        if favorites::set(&mut tx, user_id, "note.note_id", favorite).await? {
            tx.record(["favorite_note"]).await?;
            profiles::update(&mut tx, &mut profile, self.clock.now()).await?;
            (profile.favorite_user_id, profile.favorite_note_id) = (Some(favorite.0), Some(favorite.1));
        }
        tx.commit().await?;
        Ok(message(profile))
    }

    async fn clear_favorite_note(&self, caller: Caller, request: ClearFavoriteNoteRequest) -> Result<proto::Profile> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        let mut profile = profiles::lock(&mut tx, reader(&caller), user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        if favorites::clear(&mut tx, user_id).await? {
            tx.record(["favorite_note"]).await?;
            profiles::update(&mut tx, &mut profile, self.clock.now()).await?;
            (profile.favorite_user_id, profile.favorite_note_id) = (None, None);
        }
        tx.commit().await?;
        Ok(message(profile))
    }

    async fn export_profile(&self, caller: Caller, request: ExportProfileRequest) -> Result<Streaming<ExportProfileResponse>> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        // The export contains the profile as its owner sees it, even if the caller is another user.
        let profile = profiles::find(&self.db, Some(user_id), user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        record_read(&self.audit_log, EXPORT_PROFILE, &caller, user_id).await?;
        Ok(export::stream(self.db.clone(), profile))
    }
}

/// Reads a date of birth from the request.
fn birth_date(date: &Date, now: DateTime<Utc>) -> Result<NaiveDate> {
    let read = profiles::birth_date("profile.birth_date", (date.year, date.month, date.day), now.date_naive());
    read.map_err(|violation| Error::Invalid(Reason::FieldInvalid, vec![violation]))
}

impl ProfileApi {
    async fn set_active(&self, caller: Caller, user_id: &str, is_active: bool) -> Result<proto::Profile> {
        let user_id = UserId::parse("user_id", user_id)?;
        let mut tx = Change::begin(&self.db, &self.audit_log, &caller, user_id).await?;
        let mut profile = profiles::lock(&mut tx, reader(&caller), user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        if profile.is_active != is_active {
            profile.is_active = is_active;
            tx.record(["is_active"]).await?;
            profiles::update(&mut tx, &mut profile, self.clock.now()).await?;
        }
        tx.commit().await?;
        Ok(message(profile))
    }
}
