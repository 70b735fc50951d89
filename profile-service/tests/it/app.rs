//! Starts a service for a test, creates users who call it, and asserts the form of its errors.

use std::{net::SocketAddr, sync::Arc};

use access::{
    UserId,
    token::{Claims, KeySet, Verifier},
};
use audit::AuditKey;
use chrono::{DateTime, Utc};
use gateway::ApiDocs;
use profile_service::{
    MIGRATIONS, Quotas, Service,
    proto::{
        AddFriendRequest, CreateNoteRequest, GetProfileRequest, Note, NoteReference, Profile, Visibility,
        friend_service_client::FriendServiceClient, note_service_client::NoteServiceClient,
        profile_service_client::ProfileServiceClient,
    },
};
use server::traces::TraceArgs;
use store::Db;
use testing::{Engine, Issuer, Running, TestClock, TestDatabase};
use tonic::{
    Code, Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

pub use testing::assert_refused;

pub const ISSUER: &str = "http://issuer.test";
/// Returns the key that seals the audit log of a test.
pub fn audit_key() -> AuditKey {
    AuditKey::derive(&[7; 32])
}

pub const AUDIENCE: &str = "profile-service";

/// A running service on a database of its own.
pub struct App {
    pub clock: TestClock,
    pub issuer: Issuer,
    pub channel: Channel,
    pub address: SocketAddr,
    pub database: TestDatabase,
    pub verifier: Arc<Verifier>,
    running: Running,
}

impl App {
    pub async fn start(engine: Engine) -> Self {
        let database = TestDatabase::new(engine).await;
        let db = database.open();
        migrate::migrate(&db, &MIGRATIONS).await.unwrap();
        Self::on(database, db).await
    }

    /// Starts a service that uses `db`, a connection to the already migrated `database`.
    pub async fn on(database: TestDatabase, db: Db) -> Self {
        Self::with_quotas(database, db, Quotas::default()).await
    }

    /// Starts a service with these quotas.
    pub async fn with_quotas(database: TestDatabase, db: Db, quotas: Quotas) -> Self {
        Self::with(database, db, quotas, server::ServerLimits::default()).await
    }

    /// Starts a service with these quotas and limits, except that one user may make all calls.
    pub async fn with(database: TestDatabase, db: Db, quotas: Quotas, limits: server::ServerLimits) -> Self {
        Self::start_with(database, db, (quotas, limits), &TraceArgs::default()).await
    }

    /// Starts a service that records traces.
    pub async fn with_traces(database: TestDatabase, db: Db, traces: &TraceArgs) -> Self {
        Self::start_with(database, db, (Quotas::default(), server::ServerLimits::default()), traces).await
    }

    async fn start_with(
        database: TestDatabase,
        db: Db,
        (quotas, limits): (Quotas, server::ServerLimits),
        traces: &TraceArgs,
    ) -> Self {
        let clock = TestClock::new("2026-03-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap());
        let issuer = Issuer::new(ISSUER, AUDIENCE, clock.clock());
        let verifier =
            Arc::new(Verifier::new(ISSUER, AUDIENCE, clock.clock()).with_staleness_bound(std::time::Duration::from_hours(1)));
        verifier.revocations().mark_synced();
        verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
        let mut server = server::ServerSettings { limits, ..server::ServerSettings::default() };
        // Some tests make several hundred calls of one user at once.
        server.limits.max_calls_per_caller = server.limits.max_concurrent_calls;
        let service = Service {
            db,
            clock: clock.clock(),
            verifier: Arc::clone(&verifier),
            events: None,
            server,
            page: Some(ApiDocs { auth_url: "http://auth.example.com".to_owned() }),
            quotas,
            audit_key: Some(audit_key()),
            audit_retention: None,
        };
        let traces = traces.start(profile_service::NAME).unwrap();
        let running = Running::start(|listener, shutdown| async move {
            let serving = profile_service::serve(service, listener, shutdown);
            Box::pin(traces.record(serving)).await.unwrap();
        })
        .await;
        Self { clock, issuer, channel: running.channel(), address: running.address, database, verifier, running }
    }

    /// Stops the service, and waits until it has stopped.
    pub async fn stop(self) {
        self.running.stop().await;
    }

    /// Creates a user and calls the service once, which creates their profile.
    pub async fn user(&self, username: &str) -> User {
        self.user_with(username, "").await
    }

    /// Creates a user whose token holds the permissions of `scope`, and calls the service once, which creates their profile.
    pub async fn user_with(&self, username: &str, scope: &str) -> User {
        let mut claims = self.issuer.claims(UserId::new(&self.clock), username);
        scope.clone_into(&mut claims.scope);
        let user = self.caller(claims);
        user.profile("me").await.unwrap();
        user
    }

    /// Returns a user whose token holds these claims.
    pub fn caller(&self, claims: Claims) -> User {
        let bearer = format!("Bearer {}", self.issuer.token(&claims));
        let token = WithToken(bearer.parse().unwrap());
        User { id: claims.sub.clone(), claims, bearer, token, channel: self.channel.clone() }
    }

    /// Returns a client without a token.
    pub fn stranger(&self) -> NoteServiceClient<Channel> {
        NoteServiceClient::new(self.channel.clone())
    }

    pub fn later(&self) {
        self.clock.advance(chrono::Duration::seconds(1));
    }
}

/// A user who calls the service with a token.
pub struct User {
    pub id: String,
    pub claims: Claims,
    pub bearer: String,
    token: WithToken,
    channel: Channel,
}

type Authenticated = InterceptedService<Channel, WithToken>;

#[derive(Clone)]
pub struct WithToken(AsciiMetadataValue);

impl Interceptor for WithToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl User {
    /// Returns the token, for a client that this type does not offer.
    pub fn token(&self) -> WithToken {
        self.token.clone()
    }

    /// Returns the same user on a connection of their own.
    #[allow(dead_code, reason = "only the scenarios with load use it")]
    pub fn on_own_connection(self, app: &App) -> Self {
        Self { channel: app.running.channel(), ..self }
    }

    pub fn profiles(&self) -> ProfileServiceClient<Authenticated> {
        ProfileServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    pub fn friends(&self) -> FriendServiceClient<Authenticated> {
        FriendServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    pub fn notes(&self) -> NoteServiceClient<Authenticated> {
        NoteServiceClient::with_interceptor(self.channel.clone(), self.token.clone())
    }

    /// Fetches the profile of any user.
    pub async fn profile(&self, user_id: &str) -> Result<Profile, Status> {
        self.profiles().get_profile(GetProfileRequest { user_id: user_id.to_owned() }).await.map(Response::into_inner)
    }

    /// Creates a note. The service chooses its id.
    pub async fn writes(&self, title: &str, visibility: Visibility) -> Note {
        let request = create_note("me", "", note(title, "", visibility));
        self.notes().create_note(request).await.unwrap().into_inner()
    }

    pub async fn calls_a_friend(&self, friend: &User) {
        let request = AddFriendRequest { user_id: "me".to_owned(), friend_id: friend.id.clone() };
        self.friends().add_friend(request).await.unwrap();
    }
}

/// Returns a note with this content, for a request that creates it.
pub fn note(title: &str, body: &str, visibility: Visibility) -> Note {
    Note { title: title.to_owned(), body: body.to_owned(), visibility: visibility.into(), ..Note::default() }
}

pub fn create_note(user_id: &str, note_id: &str, note: Note) -> CreateNoteRequest {
    CreateNoteRequest { user_id: user_id.to_owned(), note_id: note_id.to_owned(), note: Some(note) }
}

pub fn reference(note: &Note) -> NoteReference {
    NoteReference { user_id: note.user_id.clone(), note_id: note.note_id.clone() }
}

/// An id that no user and no note has.
pub const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[track_caller]
pub fn assert_invalid<T: std::fmt::Debug>(outcome: Result<T, Status>, violations: &[(&str, &str)]) {
    assert_refused(outcome, Code::InvalidArgument, "FIELD_INVALID", violations);
}

#[track_caller]
pub fn assert_not_found<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str) {
    assert_refused(outcome, Code::NotFound, "NOT_FOUND", &[(field, "EXISTS")]);
}
