//! The profile service: profiles, friends and notes. It verifies access tokens locally with the auth service's public keys.
//!
//! [`serve`] runs the service, and [`cli`] is its command line. A call passes the layers of `server` and a generated guard, and reaches
//! a handler in `api`, which begins and commits the transaction. The rules and the SQL are in `profiles`, `friends`, `notes` and
//! `favorites`. `sync` applies the events of the auth service to the profiles.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use access::{
    AccessRulesFile, Clock, Result, SecretFileError,
    error::error_chain,
    events::{self, EventSource, WatchProgress},
    token::{AuthUrlError, ClientCredentials, ServiceToken, Verifier, follow_auth_service},
};
use audit::{AuditKey, AuditLog};
use chrono::TimeDelta;
use django::tokens::TokenKeyError;
use gateway::ApiDocs;
use migrate::{OtherService, SchemaError};
use server::{Health, ReflectionError, Server, ServerSettings, metrics::FeedMetrics};
use sqlx::migrate::Migrator;
use store::{Db, search_key};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    api::{AuditApi, FriendApi, NoteApi, ProfileApi, SyncApi},
    proto::{audit_service, friend_service, note_service, profile_service, sync_service},
    provisioning::Provisioning,
    sync::UserSync,
};

mod api;
mod change;
pub mod cli;
mod cli_error;
mod favorites;
mod friends;
mod import;
mod note_lists;
mod notes;
mod profiles;
mod provisioning;
mod quotas;
mod settings;
mod sync;

pub use crate::{
    quotas::Quotas,
    settings::{AuditKeyArgs, Settings},
};

/// The messages, clients and guards of `profiles.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("profiles.v1");
}

/// The migrations of the schema.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The services whose databases can be mistaken for that of this service.
pub(crate) const OTHER_SERVICES: [OtherService; 1] = [OtherService { name: "auth-service", table: "signing_keys" }];

/// The text of `schema.sql`, which declares every table and column.
pub(crate) const SCHEMA: &str = include_str!("../schema.sql");

/// The descriptors of `profiles.v1` and of what it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The name of this service in the audience of tokens.
pub const NAME: &str = "profile-service";

/// How often, and how long after the deletion of a user, their personal data is looked for in the audit log.
const ERASURE_INTERVAL: Duration = Duration::from_mins(5);
const ERASURE_TIME: TimeDelta = TimeDelta::hours(1);

/// The settings and the dependencies of the service.
#[derive(Debug, Clone)]
pub struct Service {
    /// The database, with the schema of [`MIGRATIONS`].
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// The verifier of access tokens. [`access::token::follow_auth_service`] keeps its keys up to date.
    pub verifier: Arc<Verifier>,
    /// The source of events. Without it, the profiles of deleted users remain, and revoked access tokens are accepted until they expire.
    pub events: Option<EventSource>,
    /// The settings of the server.
    pub server: ServerSettings,
    /// The API page at `/`. None if it is not served.
    pub page: Option<ApiDocs>,
    /// The amount of data that a user may store.
    pub quotas: Quotas,
    /// The key that seals the audit log. Without it, entries are written but not sealed.
    pub audit_key: Option<AuditKey>,
    /// How long entries of the audit log are kept. None means for ever.
    pub audit_retention: Option<TimeDelta>,
}

/// The reason why the service does not start, or stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The schema of the database does not match this version of the service.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// gRPC reflection cannot read the descriptors.
    #[error("gRPC reflection cannot read the descriptors: {0}")]
    Reflection(#[from] ReflectionError),
    /// The URL of the auth service, or a certificate for it, cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthUrlError),
    /// The key of a Django project cannot be used.
    #[error(transparent)]
    DjangoKey(#[from] TokenKeyError),
    /// A client id without a secret, or a secret without a client id.
    #[error("--client-id and --client-secret-file must be given together")]
    Client,
    /// The file with the key of the audit log cannot be read.
    #[error(transparent)]
    AuditKeyFile(#[from] SecretFileError),
    /// The key of the audit log could be guessed.
    #[error("the key in --audit-key-file must have at least 32 characters, for example the output of `openssl rand -base64 32`")]
    AuditKeyTooShort,
    /// The server failed.
    #[error(transparent)]
    Server(#[from] server::ServerError),
}

/// Returns the access rules of this service, as `profile-service access-rules` prints them.
pub fn access_rules() -> AccessRulesFile {
    let methods =
        [profile_service::METHODS, friend_service::METHODS, note_service::METHODS, sync_service::METHODS, audit_service::METHODS];
    AccessRulesFile::new(NAME, &methods)
}

/// Serves on `listener` until `shutdown`, with the keys and the events of the auth service that the settings name.
pub async fn run(
    db: Db,
    clock: Clock,
    settings: Settings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let channel = settings.auth_channel()?;
    let audit_key = settings.audit_key.read()?;
    if audit_key.is_none() {
        tracing::warn!(
            "the audit log is not sealed, because no --audit-key-file is set: changes of its entries cannot be detected"
        );
    }
    let audit_retention = settings.audit_retention();
    let client = match (settings.client_id, settings.client_secret_file) {
        (Some(client_id), Some(secret_file)) => Some(ClientCredentials { client_id, secret_file }),
        (None, None) => None,
        _ => return Err(ServeError::Client),
    };
    // The API page runs in a browser, and the issuer is the URL at which browsers reach the auth service.
    let page = (!settings.server.http.no_page).then(|| ApiDocs { auth_url: settings.issuer.clone() });
    let verifier = Verifier::new(settings.issuer, settings.audience, clock.clone())
        .with_staleness_bound(settings.revocation_staleness)
        .with_source(settings.django_tokens.read()?);
    let verifier = Arc::new(verifier);
    let follow_keys = follow_auth_service(Arc::clone(&verifier), settings.key_interval, channel.clone());
    let token = ServiceToken::default();
    let events = client.is_some().then(|| EventSource::with_service_token(channel.clone(), token.clone()));
    let keep_token = async {
        match client {
            Some(client) => token.keep_fresh(channel, client).await,
            None => std::future::pending().await,
        }
    };
    let (server, quotas) = (settings.server, settings.quotas);
    let service = Service { db, clock, verifier, events, server, page, quotas, audit_key, audit_retention };
    tokio::select! {
        outcome = serve(service, listener, shutdown) => outcome,
        never = follow_keys => match never {},
        never = keep_token => match never {},
    }
}

/// Serves on `listener` until `shutdown`. Then it completes the calls in progress and closes the database. It is ready while it has
/// keys and its database is reachable.
pub async fn serve(service: Service, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    let Service { db, clock, verifier, events, server: settings, page, quotas, audit_key, audit_retention } = service;
    migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
    let audit_log = AuditLog::new(db.clone(), clock.clone());
    let provisioning = Arc::new(Provisioning::new(db.clone(), clock.clone()));
    let feed = events.clone();
    let check_health = async || {
        Health::new()
            .explain_revocations(match &feed {
                Some(source) => source.token_failure(),
                None => Some("no client id is set".to_owned()),
            })
            .require(db.is_reachable().await, "the database cannot be reached")
            .require_writes(db.accepts_writes().await, "the database is read-only, or its disk is full")
            .require(verifier.has_keys(), "the keys of the auth service were never fetched")
    };
    let progress = WatchProgress::default();
    let following = follow(events, Arc::clone(&verifier), UserSync::new(db.clone(), clock.clone()), progress.clone());
    // While the calls in progress complete, the auth service may be stopping too, and its end is nothing to warn about.
    let (stopping, stopped) = oneshot::channel();
    let following = Box::pin(async {
        tokio::select! {
            never = following => never,
            _ = stopped => std::future::pending::<Infallible>().await,
        }
    });
    let shutdown = async {
        shutdown.await;
        let _ = stopping.send(());
    };
    let server = Server::new(Arc::clone(&verifier), DESCRIPTORS)?
        .configure(&settings)
        .with_metrics(|registry| {
            db.register_metrics(registry);
            FeedMetrics::register(registry, clock.clone(), progress.clone());
        })
        .on_authenticated(move |caller| {
            let provisioning = Arc::clone(&provisioning);
            async move { provisioning.ensure_profile(&caller).await }
        })
        .add(profile_service::guarded(ProfileApi { db: db.clone(), audit_log: audit_log.clone(), clock: clock.clone() }))
        .add(friend_service::guarded(FriendApi { db: db.clone(), audit_log: audit_log.clone(), clock: clock.clone(), quotas }))
        .add(note_service::guarded(NoteApi { db: db.clone(), audit_log: audit_log.clone(), clock: clock.clone(), quotas }))
        .add(sync_service::guarded(SyncApi { db: db.clone(), clock: clock.clone(), verifier: Arc::clone(&verifier), progress }))
        .add(audit_service::guarded(AuditApi { db: db.clone() }))
        .with_openapi("Profile service", env!("CARGO_PKG_VERSION"), page.as_ref());
    let outcome = tokio::select! {
        outcome = Box::pin(server.serve(listener, check_health, shutdown)) => outcome,
        never = following => match never {},
        never = Box::pin(audit_log.keep(audit_key, audit_retention)) => match never {},
        never = Box::pin(keep_erasing(&db, &clock)) => match never {},
        never = search_key::fill("title keys of notes", || note_lists::fill_title_keys(db.clone())) => match never {},
    };
    audit_log.flush().await;
    db.close().await;
    Ok(outcome?)
}

/// Follows the events with two streams: one for the profiles, and one for the verifier, which does not wait for the database.
async fn follow(events: Option<EventSource>, verifier: Arc<Verifier>, sync: UserSync, progress: WatchProgress) -> Infallible {
    let Some(source) = events else {
        tracing::warn!(
            "events are not followed, because no client id is set: the profiles of deleted users remain, and revoked tokens are \
             accepted until they expire"
        );
        return std::future::pending().await;
    };
    tokio::select! {
        never = events::watch(source.clone(), sync, progress) => never,
        never = events::follow_revocations(verifier, source) => never,
    }
}

/// Erases the personal data of deleted users from the audit log again, because a refused call may have been in flight.
async fn keep_erasing(db: &Db, clock: &Clock) -> Infallible {
    loop {
        tokio::time::sleep(ERASURE_INTERVAL).await;
        if let Err(error) = erase_deleted(db, clock).await {
            tracing::warn!(error = error_chain(&error), "cannot erase deleted users from the audit log; the next run does");
        }
    }
}

async fn erase_deleted(db: &Db, clock: &Clock) -> Result<()> {
    audit::erase_users(db, profiles::deleted_since(db, clock.now() - ERASURE_TIME).await?).await
}
