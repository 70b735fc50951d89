//! Both services as separate processes, on databases of their own, with a user who has notes.

use std::{fs, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use http::Method;
use prost::Message;
use store::Db;
use tempfile::TempDir;
use testing::{Engine, TestDatabase};
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::{
    connection::{Connection, Failure, Kind, Target},
    process::{Process, Programs, run},
    profile_calls::GET_PROFILE,
    proto::{
        auth::{
            LoginRequest, LoginResponse, RegisterRequest, token_service_client::TokenServiceClient,
            user_service_client::UserServiceClient,
        },
        profiles::{GetProfileRequest, Note, Visibility},
    },
};

/// The password of every user.
pub(crate) const PASSWORD: &str = "seven blue cafes of tin";
/// The key of the audit log, so that its entries are sealed. In a benchmark it protects nothing.
const AUDIT_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The notes that a user has at first.
pub(crate) const NOTES: usize = 40;

/// Both services.
pub(crate) struct Fixture {
    pub(crate) auth: Process,
    pub(crate) profile: Process,
    /// The secret of the client `bench`, which may introspect tokens and add notes.
    pub(crate) client_secret: String,
    /// The user whose data is read.
    pub(crate) user: User,
    pub(crate) folder: TempDir,
    engine: Engine,
    auth_database: TestDatabase,
    pub(crate) profile_database: TestDatabase,
}

/// A user who is logged in.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "the name of the field in the protos")]
pub(crate) struct User {
    pub(crate) user_id: Uuid,
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
}

impl Fixture {
    /// Creates databases, and starts both services with their default settings.
    pub(crate) async fn start(engine: Engine, programs: &Programs) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let (auth_database, profile_database) = (TestDatabase::new(engine).await, TestDatabase::new(engine).await);
        let (secret_file, databases) = (folder.path().join("secret"), [auth_database.url(), profile_database.url()]);
        for (name, database) in ["auth-service", "profile-service"].into_iter().zip(databases) {
            run(programs.command(name).args(["migrate", "--database-url", database]))?;
        }
        let create = |client: &str, permissions: &[&str]| {
            let mut command = programs.command("auth-service");
            command.args(["clients", "create", client, "--database-url", databases[0]]);
            run(command.args(permissions.iter().flat_map(|permission| ["--permission", permission])))
        };
        fs::write(&secret_file, create("profile-service", &["auth.watch_event"])?)?;
        let client_secret = create("bench", &["auth.introspect_token", "profile.add_note"])?.trim().to_owned();
        let auth = start_auth(programs, databases[0], folder.path())?;
        let mut command = programs.command("profile-service");
        command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", databases[1]]);
        command.args(["--auth-url", &format!("http://{}", auth.address), "--client-id", "profile-service"]);
        command.arg("--client-secret-file").arg(&secret_file);
        // A long load creates more notes than a user may have.
        command.args(["--notes-per-user", "0", "--note-bytes-per-user", "0"]);
        let audit_key_file = folder.path().join("audit-key");
        fs::write(&audit_key_file, AUDIT_KEY)?;
        command.arg("--audit-key-file").arg(&audit_key_file);
        let profile = Process::start(&mut command, &folder.path().join("profile.log"), "address=")?;
        let user = register(&auth, "alice").await?;
        let fixture = Self { auth, profile, client_secret, user, folder, engine, auth_database, profile_database };
        fixture.wait_for(&fixture.user).await?;
        fixture.add_notes(NOTES).await?;
        Ok(fixture)
    }

    /// Returns a target of gRPC calls to the profile service, as the user.
    pub(crate) fn profile_grpc(&self, path: &'static str) -> Target {
        self.target(&self.profile, Kind::Grpc(path))
    }

    /// Returns a target of gRPC calls to the profile service, as another user.
    pub(crate) fn profile_grpc_of(&self, path: &'static str, user: &User) -> Target {
        Target { token: Some(user.access_token.clone()), ..self.profile_grpc(path) }
    }

    /// Returns a target of HTTP calls to the profile service, as the user.
    pub(crate) fn profile_http(&self, method: Method, path: &str) -> Target {
        self.target(&self.profile, Kind::Http(method, path.to_owned()))
    }

    /// Returns a target of gRPC calls to the auth service, as the user.
    pub(crate) fn auth_grpc(&self, path: &'static str) -> Target {
        self.target(&self.auth, Kind::Grpc(path))
    }

    fn target(&self, process: &Process, kind: Kind) -> Target {
        Target { address: process.address.clone(), kind, token: Some(self.user.access_token.clone()) }
    }

    /// Adds notes of the user to the database.
    pub(crate) async fn add_notes(&self, count: usize) -> Result<(), Failure> {
        let sql = match self.engine {
            Engine::Postgres => format!(
                "INSERT INTO notes (user_id, note_id, title, body, visibility, create_time, update_time, version, title_key)
                 SELECT '{id}', gen_random_uuid(), 'note ' || i, repeat('x', 200), 1 + i % 3, now() - i * interval '1 second',
                     now() - i * interval '1 second', 1, convert_to('note ' || i, 'UTF8') FROM generate_series(1, {count}) AS i",
                id = self.user.user_id
            ),
            Engine::Sqlite => format!(
                "INSERT INTO notes (user_id, note_id, title, body, visibility, create_time, update_time, version, title_key)
                 WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {count})
                 SELECT x'{id}', randomblob(16), 'note ' || i, hex(zeroblob(100)), 1 + i % 3,
                     strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', '-' || i || ' seconds'),
                     strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', '-' || i || ' seconds'), 1, CAST('note ' || i AS BLOB) FROM numbers",
                id = self.user.user_id.simple()
            ),
        };
        Ok(self.unlimited().execute_raw(sql).await?)
    }

    /// Adds users with ten notes each to the database of the profile service, until there are `notes` notes. Only on PostgreSQL.
    pub(crate) async fn grow(&self, notes: usize) -> Result<(), Failure> {
        let db = self.unlimited();
        db.execute_raw(format!(
            "INSERT INTO profiles (user_id, username, username_key, user_version, bio, website, is_active, create_time, update_time, version, generation)
             SELECT gen_random_uuid(), 'user' || i, convert_to('user' || i, 'UTF8'), 1, '', '', TRUE, now(), now(), 1, 1
             FROM generate_series(1, {}) AS i",
            notes / 10
        ))
        .await?;
        db.execute_raw(
            "INSERT INTO notes (user_id, note_id, title, body, visibility, create_time, update_time, version, title_key)
             SELECT user_id, gen_random_uuid(), 'note ' || i, repeat('x', 200), 1 + i % 3, now() - i * interval '1 second',
                 now() - i * interval '1 second', 1, convert_to('note ' || i, 'UTF8')
             FROM profiles CROSS JOIN generate_series(1, 10) AS i WHERE username LIKE 'user%'"
                .to_owned(),
        )
        .await?;
        self.analyze().await
    }

    /// Updates the statistics of the database.
    pub(crate) async fn analyze(&self) -> Result<(), Failure> {
        Ok(self.unlimited().execute_raw("ANALYZE".to_owned()).await?)
    }

    /// Returns the URL of the database of the auth service.
    pub(crate) fn auth_database_url(&self) -> &str {
        self.auth_database.url()
    }

    fn unlimited(&self) -> Db {
        self.profile_database.open().for_migrations().expect("the file of the database exists")
    }

    /// Waits until the profile service knows a user.
    pub(crate) async fn wait_for(&self, user: &User) -> Result<(), Failure> {
        let body = Bytes::from(GetProfileRequest { user_id: "me".to_owned() }.encode_to_vec());
        let target = self.profile_grpc_of(GET_PROFILE, user);
        let mut failure = None;
        for _ in 0..600 {
            let mut connection = Connection::open(&target).await?;
            match connection.call(body.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => failure = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(failure.unwrap_or_else(|| "there is no profile".into()))
    }
}

/// Starts the auth service.
pub(crate) fn start_auth(programs: &Programs, database: &str, folder: &Path) -> Result<Process, Failure> {
    Process::start(&mut serve_auth(programs, database, "127.0.0.1:0"), &folder.join("auth.log"), "address=")
}

/// Returns the command that serves the auth service.
pub(crate) fn serve_auth(programs: &Programs, database: &str, address: &str) -> Command {
    let mut command = programs.command("auth-service");
    command.args(["serve", "--listen", address, "--audience", "profile-service", "--access-lifetime", "86400"]);
    command.args(["--permission", "profile.add_note"]);
    // Every login comes from one address, and the sessions of a benchmark are many.
    command.args(["--sessions-per-user", "0", "--database-url", database]);
    command
}

/// Registers a user, and logs in.
pub(crate) async fn register(auth: &Process, username: &str) -> Result<User, Failure> {
    let channel = Endpoint::from_shared(format!("http://{}", auth.address))?.connect().await?;
    let request = RegisterRequest {
        username: username.to_owned(),
        email: format!("{username}@example.com"),
        password: PASSWORD.to_owned(),
        first_name: "Alice".to_owned(),
        last_name: "Example".to_owned(),
    };
    UserServiceClient::new(channel.clone()).register(request).await?;
    let request = LoginRequest { username: username.to_owned(), password: PASSWORD.to_owned() };
    let LoginResponse { access_token, refresh_token, user, .. } =
        TokenServiceClient::new(channel).login(request).await?.into_inner();
    let user_id = user.ok_or("a login without a user")?.user_id.parse()?;
    Ok(User { user_id, access_token, refresh_token })
}

/// Returns the note that the benchmarks create.
pub(crate) fn new_note() -> Note {
    Note { title: "A note".to_owned(), body: "x".repeat(200), visibility: Visibility::Private.into(), ..Note::default() }
}
