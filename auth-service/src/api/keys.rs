//! `auth.v1.KeyService`.

use std::sync::Arc;

use shared::{Origin, Result};

use crate::{
    keys::KeyRing,
    proto::{GetJwksRequest, GetJwksResponse, key_service},
};

pub(crate) struct KeyApi {
    pub(crate) keys: Arc<KeyRing>,
}

impl key_service::Handlers for KeyApi {
    async fn get_jwks(&self, _: Origin, _: GetJwksRequest) -> Result<GetJwksResponse> {
        Ok(GetJwksResponse { keys: self.keys.keys().jwks.clone() })
    }
}
