//! The test harness: an auth service on a free port, and the users who call it.

use access::{AccessRulesFile, Clock};
use auth_service::{
    Settings,
    keys::MasterKey,
    passwords::Policy,
    proto::{
        GrantRequest, LoginRequest, LoginResponse, RegisterRequest, User, audit_service_client::AuditServiceClient,
        client_service_client::ClientServiceClient, grant_request, group_service_client::GroupServiceClient,
        identity_service_client::IdentityServiceClient, key_service_client::KeyServiceClient,
        permission_service_client::PermissionServiceClient, session_service_client::SessionServiceClient,
        token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::DateTime;
use store::Db;
use testing::{Engine, Running, TestClock, TestDatabase};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// The password of every user in the tests.
pub(crate) const PASSWORD: &str = "seven blue cafes of tin";

pub(crate) fn registration(username: &str) -> RegisterRequest {
    RegisterRequest { username: username.to_owned(), password: PASSWORD.to_owned(), ..RegisterRequest::default() }
}

/// Returns the access rules of the profile service, as an operator gives them to this service.
pub(crate) fn profile_rules() -> AccessRulesFile {
    include_str!("../../../deploy/access-rules/profile-service.json").parse().expect("a file with access rules")
}

pub(crate) struct App {
    pub(crate) clock: TestClock,
    pub(crate) database: TestDatabase,
    pub(crate) master_key: String,
    pub(crate) server: Running,
}

impl App {
    pub(crate) async fn start(engine: Engine) -> Self {
        let audience = vec!["profile-service".to_owned()];
        Self::start_with(engine, Settings { audience, access_rules: vec![profile_rules()], ..Settings::default() }).await
    }

    pub(crate) async fn start_with(engine: Engine, settings: Settings) -> Self {
        let database = TestDatabase::new(engine).await;
        migrate::migrate(&database.open(), &auth_service::MIGRATIONS).await.expect("a migrated database");
        let clock = TestClock::new(DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
        let master_key = MasterKey::generate();
        let server = Self::replica(&database, &clock, &master_key, settings).await;
        Self { clock, database, master_key, server }
    }

    /// Starts another replica of the service on the same database.
    pub(crate) async fn replica(database: &TestDatabase, clock: &Clock, master_key: &str, settings: Settings) -> Running {
        Self::serve(database.open(), clock, master_key, settings).await
    }

    pub(crate) async fn serve(db: Db, clock: &Clock, master_key: &str, settings: Settings) -> Running {
        let clock = clock.clone();
        let master_key = MasterKey::from_base64(master_key).expect("a master key");
        Running::start(|listener, shutdown| async move {
            auth_service::serve(db, clock, master_key, settings, listener, shutdown).await.expect("a service that serves");
        })
        .await
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.server.channel())
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.server.channel())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.server.channel())
    }

    pub(crate) async fn register(&self, username: &str) -> User {
        self.users().register(registration(username)).await.expect("a new user").into_inner()
    }

    pub(crate) async fn login(&self, username: &str) -> LoginResponse {
        let request = LoginRequest { username: username.to_owned(), password: PASSWORD.to_owned() };
        self.tokens().login(request).await.expect("a login").into_inner()
    }

    /// Returns the entries of the audit log, the oldest first.
    pub(crate) async fn audit_log(&self) -> Vec<audit::Event> {
        let (db, filter) = (self.database.open(), audit::Filter::default());
        audit::list_in_order(&db, &filter, audit::Order::OldestFirst, None, 10_000).await.expect("entries")
    }

    /// Returns the entries of the audit log that are not in `before`. The service may create its first key at any time.
    pub(crate) async fn events_since(&self, before: &[audit::Event]) -> Vec<audit::Event> {
        let is_new =
            |event: &audit::Event| event.actor_type != "system" && !before.iter().any(|known| known.event_id == event.event_id);
        self.audit_log().await.into_iter().filter(is_new).collect()
    }

    /// Verifies the audit log against its seals.
    pub(crate) async fn verify_audit_log(&self) -> audit::Verification {
        let master_key = MasterKey::from_base64(&self.master_key).expect("a master key");
        let db = self.database.open();
        let keys = auth_service::keys::audit_keys(&db, &master_key).await.expect("keys");
        audit::verify(&db, &keys, &[]).await.expect("a verification")
    }

    /// Registers a user and signs in.
    pub(crate) async fn user(&self, username: &str) -> Actor {
        self.register(username).await;
        self.actor(self.login(username).await)
    }

    /// Registers a user, grants the permissions as `root`, and signs in.
    pub(crate) async fn clerk(&self, root: &Actor, username: &str, permissions: &[&str]) -> Actor {
        let user_id = self.register(username).await.user_id;
        for permission in permissions {
            root.grant(permission, &user_id).await.expect("a grant");
        }
        self.actor(self.login(username).await)
    }

    /// Signs in again as the same user, in a new session.
    pub(crate) async fn again(&self, actor: &Actor) -> Actor {
        self.actor(self.login(&actor.user.username).await)
    }

    /// Returns the actor for a login response.
    pub(crate) fn actor(&self, login: LoginResponse) -> Actor {
        Actor { user: login.user.clone().expect("a user"), login, channel: self.server.channel() }
    }

    /// Creates a superuser and signs in.
    pub(crate) async fn superuser(&self, username: &str) -> Actor {
        auth_service::create_superuser(&self.database.open(), &self.clock, username, "", PASSWORD, Policy::default())
            .await
            .expect("a superuser");
        self.actor(self.login(username).await)
    }
}

/// A user who is signed in.
pub(crate) struct Actor {
    pub(crate) user: User,
    pub(crate) login: LoginResponse,
    channel: Channel,
}

impl Actor {
    /// Returns the same actor, with another replica as the server.
    pub(crate) fn at(&self, replica: &Running) -> Self {
        Self { user: self.user.clone(), login: self.login.clone(), channel: replica.channel() }
    }

    pub(crate) fn users(&self) -> UserServiceClient<InterceptedService<Channel, Bearer>> {
        UserServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    pub(crate) fn identity(&self) -> IdentityServiceClient<InterceptedService<Channel, Bearer>> {
        IdentityServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    pub(crate) fn sessions(&self) -> SessionServiceClient<InterceptedService<Channel, Bearer>> {
        SessionServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<InterceptedService<Channel, Bearer>> {
        KeyServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<InterceptedService<Channel, Bearer>> {
        AuditServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    pub(crate) fn groups(&self) -> GroupServiceClient<InterceptedService<Channel, Bearer>> {
        GroupServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    pub(crate) fn permissions(&self) -> PermissionServiceClient<InterceptedService<Channel, Bearer>> {
        PermissionServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    pub(crate) fn clients(&self) -> ClientServiceClient<InterceptedService<Channel, Bearer>> {
        ClientServiceClient::with_interceptor(self.channel.clone(), self.bearer())
    }

    /// Grants a permission to a user.
    pub(crate) async fn grant(&self, permission: &str, user_id: &str) -> Result<(), Status> {
        let holder = Some(grant_request::Holder::UserId(user_id.to_owned()));
        let request = GrantRequest { permission: permission.to_owned(), holder };
        self.permissions().grant(request).await.map(tonic::Response::into_inner)
    }

    fn bearer(&self) -> Bearer {
        Bearer(self.login.access_token.clone())
    }
}

/// Decodes the claims of an access token without verification.
pub(crate) fn claims(access_token: &str) -> serde_json::Value {
    let payload = access_token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.0).parse().expect("a header"));
        Ok(request)
    }
}
