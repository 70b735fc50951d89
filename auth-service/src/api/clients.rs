//! `auth.v1.ClientService`.

use std::sync::Arc;

use access::{AuditRecorder, Caller, Clock, Error, Result, validate::Violations};
use store::{
    Db,
    page::Page,
    update::{UpdateMask, check_etag, etag},
};

use super::{begin, timestamp};
use crate::{
    clients::{self, Client, Profile, Secret},
    delegation::Delegator,
    events::EventLog,
    permissions::Catalogue,
    proto::{
        self, ActivateClientRequest, CreateClientRequest, DeactivateClientRequest, DeleteClientRequest, GetClientRequest,
        ListClientsRequest, ListClientsResponse, RotateSecretRequest, UpdateClientRequest, client_service,
    },
};

/// The permission of `GetClient` and `ListClients`.
const VIEW_CLIENTS: &str = "auth.view_client";

pub(crate) struct ClientApi {
    pub(crate) db: Db,
    pub(crate) event_log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) catalogue: Catalogue,
}

impl client_service::Handlers for ClientApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        self.event_log.recorder()
    }

    fn check_create_client(&self, request: &CreateClientRequest, violations: &mut Violations) {
        let Some(given) = &request.client else { return };
        violations.check("client.client_id", || clients::check_id("client.client_id", &given.client_id));
        violations.check("client.permissions", || self.check_permissions(&given.permissions, &[]));
        violations.check("client.keys", || clients::check_keys("client.keys", &given.keys));
    }

    async fn create_client(&self, caller: Caller, request: CreateClientRequest) -> Result<proto::Client> {
        let given = request.client.unwrap_or_default();
        let profile = Profile { display_name: given.display_name, permissions: given.permissions, keys: given.keys };
        Delegator::load(&self.db, &caller, &self.catalogue).await?.require_permissions(&profile.permissions)?;
        let secret = if profile.keys.is_empty() { Some(Secret::generate()?) } else { None };
        let mut change = begin(&self.event_log, &caller, None).await?;
        let client = clients::create(&mut change, &self.clock, &given.client_id, &profile, secret.as_ref()).await?;
        change.commit().await?;
        Ok(client_message(client, secret))
    }

    async fn get_client(&self, _: Caller, request: GetClientRequest) -> Result<proto::Client> {
        let client = clients::find(&self.db, &request.client_id).await?;
        Ok(client_message(client.ok_or_else(|| Error::not_found("client_id"))?, None))
    }

    async fn list_clients(&self, _: Caller, request: ListClientsRequest) -> Result<ListClientsResponse> {
        let page: Page<String> = Page::new(request.page_size, &request.page_token, "ListClients")?;
        let mut found = clients::list(&self.db).await?;
        found.retain(|client| page.after().is_none_or(|after| client.client_id > *after));
        let message = |client| client_message(client, None);
        let (clients, next_page_token) = page.truncate_messages(found, |client| client.client_id.clone(), message)?;
        Ok(ListClientsResponse { clients, next_page_token })
    }

    fn check_update_client(&self, request: &UpdateClientRequest, violations: &mut Violations) {
        let mask = violations.check("update_mask", || UpdateMask::new::<proto::Client>(request.update_mask.as_ref()));
        let (Some(given), mask) = (&request.client, mask.unwrap_or(UpdateMask::SetFields)) else { return };
        if mask.writes("keys", !given.keys.is_empty()) {
            violations.check("client.keys", || clients::check_keys("client.keys", &given.keys));
        }
    }

    async fn update_client(&self, caller: Caller, request: UpdateClientRequest) -> Result<proto::Client> {
        let mask = UpdateMask::new::<proto::Client>(request.update_mask.as_ref())?;
        let given = request.client.unwrap_or_default();
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, &caller, None).await?;
        let client = clients::lock(&mut change, &given.client_id).await?.ok_or_else(|| Error::not_found("client.client_id"))?;
        delegator.require_permissions_of(&client.permissions(), VIEW_CLIENTS)?;
        check_etag("client.etag", &given.etag, client.version)?;
        let mut profile = client.profile();
        if mask.writes("display_name", !given.display_name.is_empty()) {
            profile.display_name = given.display_name;
        }
        if mask.writes("permissions", !given.permissions.is_empty()) {
            profile.permissions = given.permissions;
        }
        if mask.writes("keys", !given.keys.is_empty()) {
            profile.keys = given.keys;
        }
        self.check_permissions(&profile.permissions, &client.permissions())?;
        delegator.require_permissions(&profile.permissions)?;
        let client = clients::update(&mut change, &self.clock, &client, &profile).await?;
        change.commit().await?;
        Ok(client_message(client, None))
    }

    async fn activate_client(&self, caller: Caller, request: ActivateClientRequest) -> Result<proto::Client> {
        self.set_active(&caller, &request.client_id, true).await
    }

    async fn deactivate_client(&self, caller: Caller, request: DeactivateClientRequest) -> Result<proto::Client> {
        self.set_active(&caller, &request.client_id, false).await
    }

    async fn rotate_secret(&self, caller: Caller, request: RotateSecretRequest) -> Result<proto::Client> {
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let secret = Secret::generate()?;
        let mut change = begin(&self.event_log, &caller, None).await?;
        let client = clients::lock(&mut change, &request.client_id).await?.ok_or_else(|| Error::not_found("client_id"))?;
        delegator.require_permissions_of(&client.permissions(), VIEW_CLIENTS)?;
        let client = clients::rotate_secret(&mut change, &self.clock, &client, &secret, request.withdraw).await?;
        change.commit().await?;
        tracing::warn!(
            client_id = client.client_id,
            withdraw = request.withdraw,
            caller = caller.subject(),
            "a client secret was rotated"
        );
        Ok(client_message(client, Some(secret)))
    }

    async fn delete_client(&self, caller: Caller, request: DeleteClientRequest) -> Result<()> {
        let delegator = Delegator::load(&self.db, &caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, &caller, None).await?;
        let client = clients::lock(&mut change, &request.client_id).await?.ok_or_else(|| Error::not_found("client_id"))?;
        delegator.require_permissions_of(&client.permissions(), VIEW_CLIENTS)?;
        check_etag("etag", &request.etag, client.version)?;
        clients::delete(&mut change, &client).await?;
        change.commit().await
    }
}

impl ClientApi {
    async fn set_active(&self, caller: &Caller, client_id: &str, is_active: bool) -> Result<proto::Client> {
        let delegator = Delegator::load(&self.db, caller, &self.catalogue).await?;
        let mut change = begin(&self.event_log, caller, None).await?;
        let client = clients::lock(&mut change, client_id).await?.ok_or_else(|| Error::not_found("client_id"))?;
        delegator.require_permissions_of(&client.permissions(), VIEW_CLIENTS)?;
        let client = clients::set_active(&mut change, &self.clock, client, is_active).await?;
        change.commit().await?;
        Ok(client_message(client, None))
    }

    /// Checks the permissions of a client. A permission that the client already has may stay even if the catalogue no longer
    /// contains it.
    fn check_permissions(&self, permissions: &[String], current: &[String]) -> Result<()> {
        let mut violations = Violations::default();
        for (index, permission) in permissions.iter().enumerate().filter(|(_, permission)| !current.contains(permission)) {
            let field = format!("client.permissions[{index}]");
            violations.check(&field, || self.catalogue.check(field.clone(), permission));
        }
        violations.into_result()
    }
}

pub(crate) fn client_message(client: Client, secret: Option<Secret>) -> proto::Client {
    proto::Client {
        permissions: client.permissions(),
        keys: client.jwks(),
        client_id: client.client_id,
        display_name: client.display_name,
        is_active: client.is_active,
        client_secret: secret.map(Secret::reveal).unwrap_or_default(),
        secret_time: client.secret_time.map(timestamp),
        previous_secret_expire_time: client.previous_expire_time.map(timestamp),
        create_time: Some(timestamp(client.create_time)),
        update_time: Some(timestamp(client.update_time)),
        etag: etag(client.version),
    }
}
