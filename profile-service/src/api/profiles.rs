//! `profiles.v1.ProfileService`.

use access::{Caller, Clock, Error, Id, Result, UserId, guard::Streaming, proto::google::Date};
use store::{
    Db,
    batch::order_by_keys,
    page::Page,
    update::{UpdateMask, check_etag},
};

use super::{begin, export, profile_message::message, reader, refuse};
use crate::{
    favorites, notes,
    profiles::{self, PAGE_BYTES, Profile},
    proto::{
        self, ActivateProfileRequest, BatchGetProfilesRequest, BatchGetProfilesResponse, ClearFavoriteNoteRequest,
        DeactivateProfileRequest, ExportProfileRequest, ExportProfileResponse, GetProfileRequest, ListProfilesRequest,
        ListProfilesResponse, SetFavoriteNoteRequest, UpdateProfileRequest, profile_service,
    },
};

pub(crate) struct ProfileApi {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
}

impl profile_service::Handlers for ProfileApi {
    async fn get_profile(&self, caller: Caller, request: GetProfileRequest) -> Result<proto::Profile> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let profile = profiles::find(&self.db, reader(&caller), user_id).await?;
        profile.map(message).ok_or_else(|| Error::not_found("user_id"))
    }

    async fn list_profiles(&self, caller: Caller, request: ListProfilesRequest) -> Result<ListProfilesResponse> {
        let (prefix, inactive_too) = (&request.username_prefix, request.show_inactive);
        let page = Page::new(request.page_size, &request.page_token, ("ListProfiles", prefix, inactive_too))?;
        let found = profiles::list(&self.db, reader(&caller), prefix, inactive_too, page.after(), page.limit()).await?;
        let (profiles, next_page_token) = page.truncate_to_bytes(found, Profile::cursor, Profile::size, PAGE_BYTES)?;
        Ok(ListProfilesResponse { profiles: profiles.into_iter().map(message).collect(), next_page_token })
    }

    async fn batch_get_profiles(&self, caller: Caller, request: BatchGetProfilesRequest) -> Result<BatchGetProfilesResponse> {
        let user_ids = request.user_ids.iter().map(|id| UserId::parse("user_ids", id)).collect::<Result<Vec<_>>>()?;
        let found = profiles::find_many(&self.db, reader(&caller), &user_ids).await?;
        let profiles = order_by_keys("user_ids", &user_ids, found, |profile| profile.user_id)?;
        Ok(BatchGetProfilesResponse { profiles: profiles.into_iter().map(message).collect() })
    }

    async fn update_profile(&self, caller: Caller, request: UpdateProfileRequest) -> Result<proto::Profile> {
        let given = request.profile.unwrap_or_default();
        let user_id = UserId::parse("profile.user_id", &given.user_id)?;
        let mask = UpdateMask::new(request.update_mask.as_ref(), &["bio", "birth_date", "website"])?;
        let now = self.clock.now();

        let bio = mask.writes("bio", !given.bio.is_empty()).then_some(given.bio);
        let website = mask.writes("website", !given.website.is_empty()).then_some(given.website);
        let birth_date = mask.writes("birth_date", given.birth_date.is_some()).then_some(given.birth_date);
        let read = |date: Date| profiles::birth_date("profile.birth_date", (date.year, date.month, date.day), now.date_naive());
        let birth_date = birth_date.map(|date| date.map(read).transpose());
        refuse([
            website.as_ref().and_then(|website| profiles::website("profile.website", website)),
            birth_date.as_ref().and_then(|date| date.as_ref().err().cloned()),
        ])?;

        let mut tx = begin(&self.db, &caller, user_id).await?;
        let mut profile =
            profiles::lock(&mut tx, reader(&caller), user_id).await?.ok_or_else(|| Error::not_found("profile.user_id"))?;
        check_etag("profile.etag", &given.etag, profile.version)?;
        let before = profile.clone();
        profile.bio = bio.unwrap_or(profile.bio);
        profile.website = website.unwrap_or(profile.website);
        if let Some(Ok(birth_date)) = birth_date {
            profile.birth_date = birth_date;
        }
        if profile != before {
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

        let mut tx = begin(&self.db, &caller, user_id).await?;
        let mut profile = profiles::lock(&mut tx, reader, user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        let note = notes::find(&mut tx, reader, favorite.0, favorite.1).await?;
        note.ok_or_else(|| Error::not_found("note.note_id"))?;
        if favorites::set(&mut tx, user_id, "note.note_id", favorite).await? {
            profiles::update(&mut tx, &mut profile, self.clock.now()).await?;
            (profile.favorite_user_id, profile.favorite_note_id) = (Some(favorite.0), Some(favorite.1));
        }
        tx.commit().await?;
        Ok(message(profile))
    }

    async fn clear_favorite_note(&self, caller: Caller, request: ClearFavoriteNoteRequest) -> Result<proto::Profile> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        let mut tx = begin(&self.db, &caller, user_id).await?;
        let mut profile = profiles::lock(&mut tx, reader(&caller), user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        if favorites::clear(&mut tx, user_id).await? {
            profiles::update(&mut tx, &mut profile, self.clock.now()).await?;
            (profile.favorite_user_id, profile.favorite_note_id) = (None, None);
        }
        tx.commit().await?;
        Ok(message(profile))
    }

    async fn export_profile(&self, _: Caller, request: ExportProfileRequest) -> Result<Streaming<ExportProfileResponse>> {
        let user_id = UserId::parse("user_id", &request.user_id)?;
        // The export contains the profile as its owner sees it, even if the caller is another user.
        let profile = profiles::find(&self.db, Some(user_id), user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        Ok(export::stream(self.db.clone(), profile))
    }
}

impl ProfileApi {
    async fn set_active(&self, caller: Caller, user_id: &str, is_active: bool) -> Result<proto::Profile> {
        let user_id = UserId::parse("user_id", user_id)?;
        let mut tx = begin(&self.db, &caller, user_id).await?;
        let mut profile = profiles::lock(&mut tx, reader(&caller), user_id).await?.ok_or_else(|| Error::not_found("user_id"))?;
        if profile.is_active != is_active {
            profile.is_active = is_active;
            profiles::update(&mut tx, &mut profile, self.clock.now()).await?;
        }
        tx.commit().await?;
        Ok(message(profile))
    }
}
