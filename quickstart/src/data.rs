//! The files in the folder of the quickstart, and the messages that it prints.

use std::{
    error::Error,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use access::Clock;
use access::read_secret_file;
use auth_service::{
    clients::Secret,
    keys::MasterKey,
    passwords::{Passwords, Policy},
    users,
};
use store::Db;

/// The username of the superuser.
const SUPERUSER: &str = "admin";

/// The permissions of the account of profile-service.
const PROFILE_SERVICE_PERMISSIONS: [&str; 1] = ["auth.watch_event"];

/// The folder of the databases, of the master key and of the profile service's secret.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder. It is created, for its owner only, if it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Returns the URL of a database in the folder.
    pub(crate) fn database(&self, name: &str) -> String {
        format!("sqlite:{}", self.0.join(name).display())
    }

    /// Returns the master key. Its file is created, for its owner only, if it does not exist.
    pub(crate) fn master_key(&self) -> Result<MasterKey, Box<dyn Error>> {
        Ok(MasterKey::from_base64(&read_secret_file(&self.made("master.key", MasterKey::generate)?)?)?)
    }

    /// Returns the file with the key of the audit log of profile-service. It is created, for its owner only, if it does not exist.
    pub(crate) fn audit_key(&self) -> Result<PathBuf, Box<dyn Error>> {
        self.made("profile-audit.key", MasterKey::generate)
    }

    /// Returns the file with the secret with which profile-service calls auth-service. It is created, for its owner only, if it does
    /// not exist.
    pub(crate) fn client_secret(&self) -> Result<PathBuf, Box<dyn Error>> {
        let secret = Secret::generate()?.reveal();
        self.made("profile-service.secret", || secret)
    }

    /// Returns a file in the folder. It is created, for its owner only, if it does not exist.
    fn made(&self, name: &str, content: impl FnOnce() -> String) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.0.join(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                writeln!(file, "{}", content())?;
                file.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        }
        Ok(path)
    }
}

/// Ensures that the service account of the profile service exists in the auth service, with the secret in `secret_file`.
pub(crate) async fn profile_client(db: &Db, clock: &Clock, secret_file: &Path) -> Result<(), Box<dyn Error>> {
    let secret = read_secret_file(secret_file)?;
    Ok(auth_service::ensure_client(db, clock, profile_service::NAME, &PROFILE_SERVICE_PERMISSIONS, secret).await?)
}

/// A superuser who was created just now.
pub(crate) struct Superuser {
    password: String,
}

/// Creates a superuser. Returns `None` if a superuser already exists.
pub(crate) async fn superuser(db: &Db, clock: &Clock) -> Result<Option<Superuser>, access::Error> {
    if users::has_superuser(db).await? {
        return Ok(None);
    }
    let password = Passwords::generate();
    auth_service::create_superuser(db, clock, SUPERUSER, "", &password, Policy::default()).await?;
    Ok(Some(Superuser { password }))
}

/// Prints the addresses of the services, the new superuser, and commands to try.
#[expect(clippy::print_stdout, reason = "this is what the person who typed `cargo run` reads")]
pub(crate) fn greet(auth: SocketAddr, profile: SocketAddr, superuser: Option<&Superuser>) {
    println!("auth-service     {auth}");
    println!("profile-service  {profile}");
    if let Some(Superuser { password }) = superuser {
        println!("superuser        {SUPERUSER}");
        println!("password         {password}");
        println!("The password is printed only once.");
    }
    let credentials = r#"{"username": "alice", "password": "seven blue cafes of tin"}"#;
    println!(
        r#"
Try it: register, sign in, ask who you are, write a note.

  grpcurl -plaintext -d '{credentials}' {auth} auth.v1.UserService/Register
  TOKEN=$(grpcurl -plaintext -d '{credentials}' {auth} auth.v1.TokenService/Login | sed -n 's/.*"accessToken": "\(.*\)".*/\1/p')
  grpcurl -plaintext -H "authorization: Bearer $TOKEN" {auth} auth.v1.IdentityService/WhoAmI
  grpcurl -plaintext -H "authorization: Bearer $TOKEN" -d '{{"user_id": "me", "note": {{"title": "Hello"}}}}' {profile} profiles.v1.NoteService/CreateNote

The same in a browser: http://{auth}/ and http://{profile}/

Ctrl-C stops both. The data stays where it is."#
    );
}
