//! `auth.v1.KeyService`.

use std::sync::Arc;

use access::{AuditRecorder, Caller, ClientInfo, Clock, Result, error::error_chain};
use chrono::TimeDelta;
use store::{Db, page::Page};

use super::{begin, timestamp};
use crate::{
    events::EventLog,
    keys::{self, GeneratedKey, Key, KeyBits, KeyRing, MasterKey, State},
    proto::{
        self, ActivateKeyRequest, CreateKeyRequest, GetJwksRequest, GetJwksResponse, KeySize, KeyState, ListKeysRequest,
        ListKeysResponse, RetireKeyRequest, key_service,
    },
};

pub(crate) struct KeyApi {
    pub(crate) db: Db,
    pub(crate) event_log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) master: MasterKey,
    pub(crate) bits: KeyBits,
    pub(crate) max_age: TimeDelta,
}

impl key_service::Handlers for KeyApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        self.event_log.recorder()
    }

    async fn get_jwks(&self, _: ClientInfo, _: GetJwksRequest) -> Result<GetJwksResponse> {
        Ok(GetJwksResponse { keys: self.keys.keys().jwks.clone() })
    }

    async fn list_keys(&self, _: Caller, request: ListKeysRequest) -> Result<ListKeysResponse> {
        let cursor = |key: &Key| (key.create_time.timestamp_micros(), key.kid.clone());
        let page = Page::new(request.page_size, &request.page_token, "ListKeys")?;
        let mut found = keys::list(&self.db).await?;
        found.retain(|key| page.after().is_none_or(|after| cursor(key) < *after));
        let (keys, next_page_token) = page.truncate_messages(found, cursor, |key| key_message(key, Some(self.max_age)))?;
        Ok(ListKeysResponse { keys, next_page_token })
    }

    async fn create_key(&self, caller: Caller, request: CreateKeyRequest) -> Result<proto::Key> {
        let generated = GeneratedKey::new(match request.size() {
            KeySize::Unspecified => self.bits,
            KeySize::Rsa2048 => KeyBits::Rsa2048,
            KeySize::Rsa3072 => KeyBits::Rsa3072,
            KeySize::Rsa4096 => KeyBits::Rsa4096,
        });
        let generated = generated.await?;
        let mut change = begin(&self.event_log, &caller, None).await?;
        let key = keys::create(&mut change, &self.clock, &self.master, &generated).await?;
        change.commit().await?;
        self.reload_and_reply(key).await
    }

    async fn activate_key(&self, caller: Caller, request: ActivateKeyRequest) -> Result<proto::Key> {
        let mut change = begin(&self.event_log, &caller, None).await?;
        let key = keys::activate(&mut change, &self.clock, &request.key_id, self.max_age, request.force).await?;
        change.commit().await?;
        tracing::warn!(key_id = key.kid, force = request.force, caller = caller.subject(), "a signing key was activated");
        self.reload_and_reply(key).await
    }

    async fn retire_key(&self, caller: Caller, request: RetireKeyRequest) -> Result<proto::Key> {
        let mut change = begin(&self.event_log, &caller, None).await?;
        let key = keys::retire(&mut change, &self.clock, &request.key_id, request.withdraw).await?;
        change.commit().await?;
        tracing::warn!(key_id = key.kid, withdraw = request.withdraw, caller = caller.subject(), "a signing key was retired");
        self.reload_and_reply(key).await
    }
}

impl KeyApi {
    /// Reloads the keys of this replica at once, without waiting for the periodic reload, and returns the message.
    async fn reload_and_reply(&self, key: Key) -> Result<proto::Key> {
        if let Err(error) = self.keys.reload().await {
            let error = error_chain(&error);
            tracing::warn!(error, "failed to reload the signing keys after a change; the periodic reload will retry");
        }
        Ok(key_message(key, Some(self.max_age)))
    }
}

/// Returns the message for a key. `max_age` is how long verifiers keep a key set; without it, the message lacks `activatable_time`.
pub(crate) fn key_message(key: Key, max_age: Option<TimeDelta>) -> proto::Key {
    let state = match key.state {
        State::Pending => KeyState::Pending,
        State::Active => KeyState::Active,
        State::Retired => KeyState::Retired,
    };
    let size = match key.bits() {
        KeyBits::Rsa2048 => KeySize::Rsa2048,
        KeyBits::Rsa3072 => KeySize::Rsa3072,
        KeyBits::Rsa4096 => KeySize::Rsa4096,
    };
    proto::Key {
        state: state.into(),
        size: size.into(),
        create_time: Some(timestamp(key.create_time)),
        activatable_time: max_age.map(|max_age| timestamp(key.activatable_time(max_age))),
        activate_time: key.activate_time.map(timestamp),
        retire_time: key.retire_time.map(timestamp),
        expire_time: key.expire_time.map(timestamp),
        key_id: key.kid,
    }
}
