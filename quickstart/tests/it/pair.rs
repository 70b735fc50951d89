//! The test harness: both services, each on its own database, and the users who call them.

use std::{
    fmt::Debug,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use access::{
    Actor, Clock, UserId,
    events::EventSource,
    token::{self, Verifier},
};
use auth_service::{
    Settings,
    events::EventLog,
    keys::{KeyBits, KeyRing, MasterKey},
    passwords::Policy,
    proto::{
        IssueServiceTokenRequest, LoginRequest, LoginResponse, RegisterRequest, client_service_client::ClientServiceClient,
        issue_service_token_request::Credential, session_service_client::SessionServiceClient,
        token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
    },
};
use chrono::TimeDelta;
use profile_service::{
    Service,
    proto::{
        friend_service_client::FriendServiceClient, note_service_client::NoteServiceClient,
        profile_service_client::ProfileServiceClient, sync_service_client::SyncServiceClient,
    },
};
use store::{Db, Executor};
use testing::{Engine, Issuer, Running, TestClock, TestDatabase};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

pub const PASSWORD: &str = "seven blue cafes of tin";

/// The two services, their databases and their clock.
pub struct Pair {
    pub clock: TestClock,
    pub master_key: String,
    pub auth_database: TestDatabase,
    pub profile_database: TestDatabase,
    pub auth: Running,
    pub profile: Running,
}

impl Pair {
    pub async fn start(engine: Engine) -> Self {
        let (auth_database, profile_database) = databases(engine).await;
        Self::on(auth_database, profile_database, MasterKey::generate(), Clock::system()).await
    }

    /// Starts both services on existing databases.
    pub async fn on(
        auth_database: TestDatabase,
        profile_database: TestDatabase,
        master_key: String,
        clock: impl Into<TestClock>,
    ) -> Self {
        let clock = clock.into();
        let auth = auth(auth_database.url(), &master_key, clock.clock()).await;
        let source = source(auth_database.url(), &master_key, clock.clock(), auth.channel());
        let profile = profile(profile_database.url(), clock.clock(), auth.channel(), Some(source), Duration::from_secs(15)).await;
        Self { clock, master_key, auth_database, profile_database, auth, profile }
    }

    pub fn event_log(&self) -> EventLog {
        EventLog::new(self.auth_database.open(), self.clock.clock())
    }

    pub async fn register(&self, username: &str) -> String {
        let request =
            RegisterRequest { username: username.to_owned(), password: PASSWORD.to_owned(), ..RegisterRequest::default() };
        UserServiceClient::new(self.auth.channel()).register(request).await.unwrap().into_inner().user_id
    }

    pub async fn login(&self, username: &str) -> User {
        let request = LoginRequest { username: username.to_owned(), password: PASSWORD.to_owned() };
        let login = TokenServiceClient::new(self.auth.channel()).login(request).await.unwrap().into_inner();
        User { id: login.user.clone().unwrap().user_id, login, auth: self.auth.channel(), profile: self.profile.channel() }
    }

    pub async fn user(&self, username: &str) -> User {
        self.register(username).await;
        self.login(username).await
    }

    pub async fn superuser(&self, username: &str) -> User {
        let db = self.auth_database.open();
        auth_service::create_superuser(&db, &self.clock, username, "", PASSWORD, Policy::default()).await.unwrap();
        self.login(username).await
    }

    /// Returns a user who has a valid access token but does not exist in the auth service, as after a restore from a backup.
    pub async fn lost(&self, username: &str) -> User {
        let (db, master_key) = (self.auth_database.open(), MasterKey::from_base64(&self.master_key).unwrap());
        let keys = KeyRing::open(db, self.clock.clock(), master_key, KeyBits::default(), TimeDelta::zero()).await.unwrap();
        let issuer = Issuer::new(&Settings::default().issuer, profile_service::NAME, self.clock.clock());
        let claims = issuer.claims(UserId::new(&self.clock), username);
        let access_token = keys.keys().active().unwrap().sign("at+jwt", &claims).unwrap();
        let login = LoginResponse { access_token, ..LoginResponse::default() };
        User { id: claims.sub, login, auth: self.auth.channel(), profile: self.profile.channel() }
    }

    /// Waits until every event is applied, and asserts that both databases contain the same users.
    pub async fn assert_equal(&self) {
        assert_equal(self.auth_database.url(), self.profile_database.url()).await;
    }
}

/// Waits until the database of the profile service contains every event of the auth service, and asserts that both databases
/// contain the same users.
pub async fn assert_equal(auth: &str, profile: &str) {
    let (auth, profile) = (Db::new(auth, None, 2).unwrap(), Db::new(profile, None, 2).unwrap());
    eventually(async || {
        let end: Option<(String, i64)> =
            auth.query("SELECT CAST(o.pos AS TEXT), o.pos FROM outbox o JOIN feed f ON f.last = o.pos").optional().await.unwrap();
        let cursor: Option<(i64,)> = profile.query("SELECT pos FROM feed_cursor").optional().await.unwrap();
        end.is_some_and(|(_, last)| cursor.is_some_and(|(pos,)| pos == last))
    })
    .await;
    // The profile service may have one user too many for a minute. Then it deletes each user whom no event has confirmed.
    eventually(async || shared_users(&auth, AUTH).await.len() == shared_users(&profile, PROFILE).await.len()).await;
    let (in_auth, in_profile) = (shared_users(&auth, AUTH).await, shared_users(&profile, PROFILE).await);
    let hash = |users: &[Shared]| {
        let mut hasher = DefaultHasher::new();
        users.hash(&mut hasher);
        hasher.finish()
    };
    if hash(&in_auth) != hash(&in_profile) {
        let differ: Vec<_> = in_auth.iter().zip(&in_profile).filter(|(one, other)| one != other).take(3).collect();
        panic!("{} and {} users, of which differ {differ:?}", in_auth.len(), in_profile.len());
    }
    assert!(!in_auth.is_empty());
    auth.close().await;
    profile.close().await;
}

const AUTH: &str = "SELECT user_id, username, version, is_active FROM users ORDER BY user_id";
const PROFILE: &str = "SELECT user_id, username, user_version, user_is_active FROM profiles ORDER BY user_id";

/// The part of a user that both services store.
type Shared = (UserId, String, i64, bool);

async fn shared_users(db: &Db, sql: &'static str) -> Vec<Shared> {
    db.query(sql).all().await.unwrap()
}

/// Polls the condition until it is true. Panics after two minutes.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    let asked = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !is_so().await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), asked).await.expect("what is waited for");
}

/// Repeats the call until it fails, and returns its error.
pub async fn refused_at_last<T: Debug, F: Future<Output = Result<T, Status>>>(mut call: impl FnMut() -> F) -> Status {
    let mut refusal = None;
    eventually(async || {
        refusal = call().await.err();
        refusal.is_some()
    })
    .await;
    refusal.unwrap()
}

pub async fn databases(engine: Engine) -> (TestDatabase, TestDatabase) {
    let (auth, profile) = (TestDatabase::new(engine).await, TestDatabase::new(engine).await);
    migrate::migrate(&auth.open(), &auth_service::MIGRATIONS).await.unwrap();
    migrate::migrate(&profile.open(), &profile_service::MIGRATIONS).await.unwrap();
    (auth, profile)
}

/// Starts a replica of the auth service.
pub async fn auth(url: &str, master_key: &str, clock: Clock) -> Running {
    let (db, master_key) = (Db::new(url, None, 8).unwrap(), MasterKey::from_base64(master_key).unwrap());
    let settings = Settings {
        audience: vec![profile_service::NAME.to_owned()],
        access_rules: vec![profile_service::access_rules()],
        ..Settings::default()
    };
    Running::start(|listener, shutdown| async move {
        auth_service::serve(db, clock, master_key, settings, listener, shutdown).await.unwrap();
    })
    .await
}

/// Starts a replica of the profile service. It fetches the keys from the auth service at `auth`.
pub async fn profile(url: &str, clock: Clock, auth: Channel, events: Option<EventSource>, bound: Duration) -> Running {
    let db = Db::new(url, None, 8).unwrap();
    let verifier = Verifier::new(Settings::default().issuer, profile_service::NAME, clock.clone()).with_staleness_bound(bound);
    let verifier = Arc::new(verifier);
    let following = token::follow_auth_service(Arc::clone(&verifier), Duration::from_mins(1), auth);
    let service = Service {
        db,
        clock,
        verifier,
        events,
        server: server::ServerSettings::default(),
        page: None,
        quotas: profile_service::Quotas::default(),
        audit_key: None,
        audit_retention: None,
    };
    Running::start(|listener, shutdown| async move {
        tokio::select! {
            served = profile_service::serve(service, listener, shutdown) => served.unwrap(),
            never = following => match never {},
        }
    })
    .await
}

/// Returns the events of the auth service at `auth`, with the token of a service that has the permission to watch them.
pub fn source(url: &str, master_key: &str, clock: Clock, auth: Channel) -> EventSource {
    let (db, master_key) = (Db::new(url, None, 2).unwrap(), MasterKey::from_base64(master_key).unwrap());
    EventSource::new(auth, move || {
        let (db, clock, master_key) = (db.clone(), clock.clone(), master_key.clone());
        async move {
            let issuer = Issuer::new(&Settings::default().issuer, "auth-service", clock.clone());
            let keys = KeyRing::open(db, clock.clone(), master_key, KeyBits::default(), TimeDelta::zero()).await?;
            let mut claims = issuer.claims(UserId::new(&clock), "profile-service");
            (claims.actor, claims.scope, claims.sid) = (Actor::Service, "auth.watch_event".to_owned(), None);
            let key = Arc::clone(keys.keys().active()?);
            Ok::<_, Box<dyn std::error::Error + Send + std::marker::Sync>>(key.sign("at+jwt", &claims)?)
        }
    })
}

/// A user who is signed in, or a service with an access token.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub login: LoginResponse,
    auth: Channel,
    profile: Channel,
}

pub type Authenticated = InterceptedService<Channel, Bearer>;

#[derive(Clone)]
pub struct Bearer(pub String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        Ok(request)
    }
}

impl User {
    pub fn bearer(&self) -> Bearer {
        Bearer(self.login.access_token.clone())
    }

    /// Returns the same user, with another replica of the profile service.
    pub fn at(&self, profile: &Running) -> Self {
        Self { profile: profile.channel(), ..self.clone() }
    }

    /// Returns the same user, with another replica of the auth service.
    pub fn at_auth(&self, auth: &Running) -> Self {
        Self { auth: auth.channel(), ..self.clone() }
    }

    pub fn users(&self) -> UserServiceClient<Authenticated> {
        UserServiceClient::with_interceptor(self.auth.clone(), self.bearer())
    }

    pub fn clients(&self) -> ClientServiceClient<Authenticated> {
        ClientServiceClient::with_interceptor(self.auth.clone(), self.bearer())
    }

    /// Returns a client (service account) with its own access token.
    pub async fn service(&self, client_id: &str, secret: &str) -> Self {
        let credential = Some(Credential::ClientSecret(secret.to_owned()));
        let request = IssueServiceTokenRequest { client_id: client_id.to_owned(), credential, scope: String::new() };
        let issued = TokenServiceClient::new(self.auth.clone()).issue_service_token(request).await.unwrap().into_inner();
        let login = LoginResponse { access_token: issued.access_token, ..LoginResponse::default() };
        Self { id: client_id.to_owned(), login, ..self.clone() }
    }

    pub fn sessions(&self) -> SessionServiceClient<Authenticated> {
        SessionServiceClient::with_interceptor(self.auth.clone(), self.bearer())
    }

    pub fn profiles(&self) -> ProfileServiceClient<Authenticated> {
        ProfileServiceClient::with_interceptor(self.profile.clone(), self.bearer())
    }

    pub fn notes(&self) -> NoteServiceClient<Authenticated> {
        NoteServiceClient::with_interceptor(self.profile.clone(), self.bearer())
    }

    pub fn friends(&self) -> FriendServiceClient<Authenticated> {
        FriendServiceClient::with_interceptor(self.profile.clone(), self.bearer())
    }

    pub fn sync(&self) -> SyncServiceClient<Authenticated> {
        SyncServiceClient::with_interceptor(self.profile.clone(), self.bearer())
    }
}
