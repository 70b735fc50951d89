//! `profiles.v1.SyncService`.

use std::{sync::Arc, time::SystemTime};

use access::{Caller, Clock, Result, events::WatchProgress, token::Verifier};
use store::Db;

use crate::{
    proto::{GetSyncStateRequest, SyncState, sync_service},
    sync,
};

pub(crate) struct SyncApi {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) progress: WatchProgress,
}

impl sync_service::Handlers for SyncApi {
    async fn get_sync_state(&self, _: Caller, _: GetSyncStateRequest) -> Result<SyncState> {
        let cursor = sync::cursor(&self.db).await?;
        let state = self.progress.state();
        let lag = state.time.map(|time| (self.clock.now() - time).to_std().unwrap_or_default());
        let update_time = cursor.as_ref().map(|cursor| SystemTime::from(cursor.update_time).into());
        let (epoch, pos, generation) =
            cursor.map_or_else(Default::default, |cursor| (cursor.epoch, cursor.pos, cursor.generation));
        Ok(SyncState {
            epoch,
            pos: pos.max(0),
            generation,
            update_time,
            is_connected: state.is_connected,
            is_at_end: state.is_at_end,
            lag: lag.and_then(|lag| lag.try_into().ok()),
            connects: i64::try_from(state.connects).unwrap_or(i64::MAX),
            revocations_are_fresh: self.verifier.revocations().are_fresh(),
            revocations: i64::try_from(self.verifier.revocations().len()).unwrap_or(i64::MAX),
        })
    }
}
