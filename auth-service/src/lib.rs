//! The auth service: users, permissions, sessions, service accounts, RS256 tokens and the keys that sign them.
//!
//! [`serve`] runs the service, and [`cli`] is its command line. A call passes the layers of `server` and a generated guard, and
//! reaches a handler in `api/<noun>.rs`, which begins and commits the transaction. `<noun>.rs` contains the row, its rules and
//! its SQL.

pub mod access_explanation;
mod api;
pub mod cli;
mod cli_error;
pub mod clients;
pub mod delegation;
pub mod django_tokens;
pub mod events;
pub mod groups;
mod http;
mod identity;
mod import;
pub mod introspection;
pub mod keys;
pub mod known_networks;
pub mod login_throttle;
mod metrics;
pub mod passwords;
pub mod permissions;
pub mod sessions;
mod settings;
pub mod tokens;
pub mod user_lists;
pub mod usernames;
pub mod users;

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use access::{
    AccessRulesFile, ClientInfo, Clock, Error, error,
    token::{self, Verifier},
};
use chrono::TimeDelta;
use django::tokens::TokenKeyError;
use gateway::ApiDocs;
use migrate::{OtherService, SchemaError};
use server::{Health, Server};
use sqlx::migrate::Migrator;
use store::{Db, search_key};
use tokio::net::TcpListener;

use crate::{
    access_explanation::KnownMethods,
    api::{AuditApi, ClientApi, EventApi, GroupApi, IdentityApi, KeyApi, PermissionApi, SessionApi, TokenApi, UserApi},
    events::EventLog,
    http::Endpoints,
    introspection::Introspection,
    keys::{KeyError, KeyRing, MasterKey},
    metrics::{SignInMetrics, StateMetrics},
    passwords::{HashPurpose, Passwords},
    permissions::{Catalogue, CatalogueError},
    proto::{
        audit_service, client_service, event_service, group_service, identity_service, key_service, permission_service,
        session_service, token_service, user_service,
    },
    sessions::Lifetime,
    tokens::Tokens,
};

pub use crate::settings::{NewKeySettings, Settings};

/// The messages, clients and guards of `auth.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("auth.v1");
}

/// The migrations of the schema.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The services whose databases can be mistaken for that of this service.
pub(crate) const OTHER_SERVICES: [OtherService; 1] = [OtherService { name: "profile-service", table: "profiles" }];

/// The text of `schema.sql`, which declares every table and column.
pub(crate) const SCHEMA: &str = include_str!("../schema.sql");

/// The descriptors of `auth.v1` and of what it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The name of this service in the audience of tokens.
pub const NAME: &str = "auth-service";

/// The method whose answer verifiers keep.
const GET_JWKS: &str = "/auth.v1.KeyService/GetJwks";

/// The paths of the keys and of the event feed, without which other services cannot work.
const RESERVED: [&str; 6] = [
    GET_JWKS,
    "/.well-known/jwks.json",
    "/auth.v1.EventService/WatchEvents",
    "/v1/events:watch",
    "/auth.v1.EventService/SnapshotUsers",
    "/v1/events:snapshotUsers",
];

/// How often the keys are looked up in the database, where another replica may have changed them.
const KEY_INTERVAL: Duration = Duration::from_secs(5);

/// The interval at which expired rows are deleted.
const PURGE_INTERVAL: Duration = Duration::from_mins(1);

/// How long after the deletion of a user their personal data is looked for in the audit log.
const ERASURE_TIME: TimeDelta = TimeDelta::hours(1);

/// The reason why the service does not start, or stops by itself.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ServeError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    DjangoKey(#[from] TokenKeyError),
    #[error(transparent)]
    Feed(#[from] Error),
    #[error("there is no group {0:?}: create the group that --default-group names")]
    DefaultGroup(String),
    #[error("reflection cannot read the descriptors: {0}")]
    Reflection(#[from] server::ReflectionError),
    #[error(transparent)]
    Server(#[from] server::ServerError),
}

/// Returns the access rules of this service, as `auth-service access-rules` prints them.
pub fn access_rules() -> AccessRulesFile {
    AccessRulesFile::new(
        NAME,
        &[
            token_service::METHODS,
            identity_service::METHODS,
            session_service::METHODS,
            user_service::METHODS,
            group_service::METHODS,
            permission_service::METHODS,
            client_service::METHODS,
            key_service::METHODS,
            event_service::METHODS,
            audit_service::METHODS,
        ],
    )
}

/// Serves on `listener` until `shutdown` completes. Calls in flight then have 20 seconds to complete, and the database is closed.
///
/// # Errors
///
/// Returns an error if the database has the schema of another version, if the master key does not decrypt its keys, or if the transport
/// fails.
#[expect(clippy::too_many_lines, reason = "it connects the parts of the service, one after the other")]
pub async fn serve(
    db: Db,
    clock: Clock,
    master_key: MasterKey,
    settings: Settings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (audit_key, audit_retention) = (master_key.audit_key().clone(), settings.audit_retention());
    let catalogue = Catalogue::new(&settings.access_rules, &settings.permissions)?;
    let django_keys = settings.django_tokens.read()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA, &OTHER_SERVICES).await?;
    let default_group = match settings.default_group {
        Some(name) => Some(groups::find_by_name(&db, &name).await?.ok_or(ServeError::DefaultGroup(name))?.group_id),
        None => None,
    };
    let Lifetime { idle, absolute } = settings.session_lifetime;
    let token_life = settings.access_lifetime.max(idle.min(absolute));
    let keys = KeyRing::open(db.clone(), clock.clone(), master_key.clone(), settings.new_keys.key_bits, token_life).await?;
    let keys = Arc::new(keys);
    let verifier = Verifier::new(&*settings.issuer, NAME, clock.clone()).with_source(django_keys.clone());
    let verifier = Arc::new(verifier);
    let event_log = EventLog::new(db.clone(), clock.clone()).with_verifier(Arc::clone(&verifier));
    // An access token of Django's may live for a day, and is revoked as long.
    let django = if django_keys.is_empty() { TimeDelta::zero() } else { TimeDelta::hours(24) };
    event_log.raise_token_life(settings.access_lifetime.max(django)).await?;
    let tokens = Tokens::new(
        Arc::clone(&keys),
        clock.clone(),
        &settings.issuer,
        &with_this_service(settings.audience),
        settings.access_lifetime,
        django_keys,
    )
    .with_django_claims(settings.django_claims);
    let passwords = Passwords::new(settings.passwords);
    let introspection =
        Introspection { db: db.clone(), clock: clock.clone(), tokens: tokens.clone(), verifier: Arc::clone(&verifier) };
    let endpoints = Endpoints {
        issuer: &settings.issuer,
        password_grant: settings.password_grant,
        introspection: introspection.clone(),
        catalogue: &catalogue,
    };
    let mut sign_ins = SignInMetrics::default();
    let state = StateMetrics {
        clock: clock.clone(),
        keys: Arc::clone(&keys),
        passwords: passwords.clone(),
        event_log: event_log.clone(),
    };
    let page = (!settings.server.http.no_page).then(|| ApiDocs { auth_url: String::new() });
    let server = Server::new(Arc::clone(&verifier), DESCRIPTORS)?
        .configure(&settings.server)
        .with_metrics(|registry| {
            db.register_metrics(registry);
            registry.register_collector(Box::new(state));
            sign_ins = SignInMetrics::register(registry);
        })
        // Other services depend on these calls.
        .reserve(&RESERVED)
        // No verifier may look less often, and none has to look more often.
        .cache_response(GET_JWKS, settings.new_keys.jwks_max_age.to_std().unwrap_or_default())
        .add(token_service::guarded(TokenApi {
            db: db.clone(),
            event_log: event_log.clone(),
            clock: clock.clone(),
            passwords: passwords.clone(),
            limits: settings.limits,
            tokens,
            catalogue: catalogue.clone(),
            lifetime: settings.session_lifetime,
            sessions_per_user: settings.sessions_per_user,
            strict: settings.strict_refresh,
            introspection,
            metrics: sign_ins,
        }))
        .add(identity_service::guarded(IdentityApi {
            db: db.clone(),
            catalogue: catalogue.clone(),
            known_methods: KnownMethods::new(&settings.access_rules),
        }))
        .add(session_service::guarded(SessionApi {
            db: db.clone(),
            event_log: event_log.clone(),
            clock: clock.clone(),
            catalogue: catalogue.clone(),
        }))
        .add(user_service::guarded(UserApi {
            db: db.clone(),
            event_log: event_log.clone(),
            clock: clock.clone(),
            passwords,
            limits: settings.limits,
            catalogue: catalogue.clone(),
            registration: !settings.closed_registration,
            default_group,
        }))
        .add(group_service::guarded(GroupApi {
            db: db.clone(),
            event_log: event_log.clone(),
            clock: clock.clone(),
            catalogue: catalogue.clone(),
        }))
        .add(permission_service::guarded(PermissionApi {
            db: db.clone(),
            event_log: event_log.clone(),
            clock: clock.clone(),
            catalogue: catalogue.clone(),
        }))
        .add(client_service::guarded(ClientApi {
            db: db.clone(),
            event_log: event_log.clone(),
            clock: clock.clone(),
            catalogue: catalogue.clone(),
        }))
        .add(key_service::guarded(KeyApi {
            db: db.clone(),
            event_log: event_log.clone(),
            clock: clock.clone(),
            keys: Arc::clone(&keys),
            master: master_key,
            bits: settings.new_keys.key_bits,
            max_age: settings.new_keys.jwks_max_age,
        }))
        .add(event_service::guarded(EventApi { db: db.clone(), clock: clock.clone(), event_log: event_log.clone() }))
        .add(audit_service::guarded(AuditApi { db: db.clone() }))
        .describe_http(http::paths())
        .merge_http(http::routes(endpoints))
        .with_openapi("Auth service", env!("CARGO_PKG_VERSION"), page.as_ref());

    let following = token::follow(Arc::clone(&verifier), KEY_INTERVAL, || {
        let keys = Arc::clone(&keys);
        async move { keys.reload().await }
    });
    let check_health = || {
        let (db, verifier, keys) = (db.clone(), Arc::clone(&verifier), keys.keys());
        async move {
            Health::new()
                .require(db.is_reachable().await, "the database cannot be reached")
                .require_writes(db.accepts_writes().await, "the database is read-only, or its disk is full")
                .require(verifier.has_keys(), "there is no signing key")
                .require(keys.are_fresh(), "the signing keys could not be read from the database in time")
        }
    };
    let shutdown = async {
        shutdown.await;
        // Consumers of events reconnect to another replica at once.
        event_log.close();
    };
    let outcome = tokio::select! {
        outcome = Box::pin(server.serve(listener, check_health, shutdown)) => outcome,
        never = Box::pin(event_log.poll()) => match never {},
        never = Box::pin(event_log.follow_revocations()) => match never {},
        never = Box::pin(event_log.audit_log().keep(Some(audit_key), audit_retention)) => match never {},
        never = Box::pin(following) => match never {},
        never = search_key::fill("search keys of users", || user_lists::fill_search_keys(db.clone())) => match never {},
        never = Box::pin(keep_purging(&db, &clock, &event_log, settings.event_retention)) => match never {},
    };
    event_log.audit_log().flush().await;
    db.close().await;
    Ok(outcome?)
}

/// Returns the audience of access tokens, of which this service is always a part.
fn with_this_service(mut audience: Vec<String>) -> Vec<String> {
    if !audience.iter().any(|service| service == NAME) {
        audience.insert(0, NAME.to_owned());
    }
    audience
}

/// Deletes expired rows at an interval. It never returns.
async fn keep_purging(db: &Db, clock: &Clock, event_log: &EventLog, retention: TimeDelta) -> Infallible {
    loop {
        tokio::time::sleep(PURGE_INTERVAL).await;
        if let Err(error) = purge_expired_rows(db, clock, event_log, retention).await {
            tracing::warn!(error = error::error_chain(&error), "cannot delete expired rows; the next run deletes them");
        }
    }
}

/// Deletes the expired rows: counted attempts, used assertions, tokens of Django, known networks, and events that are older than `retention`.
async fn purge_expired_rows(db: &Db, clock: &Clock, event_log: &EventLog, retention: TimeDelta) -> Result<(), Error> {
    let mut tx = db.begin().await?;
    login_throttle::purge_expired(&mut tx, clock).await?;
    clients::purge_expired(&mut tx, clock).await?;
    django_tokens::purge_expired(&mut tx, clock).await?;
    let now = tx.now(clock).await?;
    known_networks::purge_expired(&mut tx, now).await?;
    tx.commit().await?;
    // Calls of these users may have been in flight when they were deleted.
    audit::erase_users(db, users::deleted_since(db, now - ERASURE_TIME).await?).await?;
    event_log.purge_expired(retention).await
}

/// Creates a client with these permissions and this secret. An existing client with another secret gets this one, and keeps its
/// permissions.
pub async fn ensure_client(db: &Db, clock: &Clock, client_id: &str, permissions: &[&str], secret: String) -> Result<(), Error> {
    let secret = clients::Secret::new(secret);
    let permissions = permissions.iter().map(ToString::to_string).collect();
    let profile = clients::Profile { permissions, ..clients::Profile::default() };
    let mut change = EventLog::new(db.clone(), clock.clone()).begin().await?;
    let now = change.now(clock).await?;
    change.set_system_entry("ensure client");
    match clients::lock(&mut change, client_id).await? {
        Some(client) if clients::verify_secret(Some(&client), &secret, now) => return Ok(()),
        Some(client) => drop(clients::rotate_secret(&mut change, clock, &client, &secret, true).await?),
        None => drop(clients::create(&mut change, clock, client_id, &profile, Some(&secret)).await?),
    }
    change.commit().await
}

/// Creates a superuser, who holds every permission.
///
/// # Errors
///
/// Returns INVALID_ARGUMENT if the name, the e-mail address or the password is not accepted, and ALREADY_EXISTS if a user has the
/// name or the address.
pub async fn create_superuser(
    db: &Db,
    clock: &Clock,
    username: &str,
    email: &str,
    password: &str,
    policy: passwords::Policy,
) -> Result<(), Error> {
    let names = users::UserNames::new("", username, email, String::new(), String::new())?;
    let passwords = Passwords::new(policy);
    let permit = passwords.acquire(HashPurpose::PasswordChange, &ClientInfo::default())?;
    let password_hash = permit.hash(passwords.check_new("password", password)?, names.weak_password_texts()).await?;
    let mut change = EventLog::new(db.clone(), clock.clone()).begin().await?;
    change.set_system_entry("createsuperuser");
    users::create(&mut change, clock, "", &users::NewUser { names, password_hash, is_superuser: true }).await?;
    change.commit().await
}

/// Sets the password of the user with this username, and ends their sessions.
///
/// # Errors
///
/// Returns NOT_FOUND if there is no such user, and INVALID_ARGUMENT if the password is not accepted.
pub async fn set_password(
    db: &Db,
    clock: &Clock,
    username: &str,
    password: &str,
    policy: passwords::Policy,
) -> Result<(), Error> {
    let key = usernames::key(username).ok_or_else(|| Error::not_found("username"))?;
    let user = users::find_by_key(db, &key).await?.ok_or_else(|| Error::not_found("username"))?;
    let names = vec![user.username, user.email.unwrap_or_default(), user.first_name, user.last_name];
    let passwords = Passwords::new(policy);
    let permit = passwords.acquire(HashPurpose::PasswordChange, &ClientInfo::default())?;
    let password_hash = permit.hash(passwords.check_new("password", password)?, names).await?;
    let mut change = EventLog::new(db.clone(), clock.clone()).begin().await?;
    let user = users::lock(&mut change, user.user_id).await?.ok_or_else(|| Error::not_found("username"))?;
    change.set_system_entry("changepassword");
    change.set_target("user", user.user_id, Some(&user.username));
    users::set_password(&mut change, clock, user.user_id, &password_hash, None).await?;
    change.commit().await
}
