//! The project with Django, Django REST framework and simplejwt, as gunicorn serves it.

use std::path::{Path, PathBuf};

use http::Method;
use testing::{Engine, TestDatabase};

use crate::{
    connection::{Failure, Kind, Target},
    fixture::NOTES,
    process::{Process, run},
};

/// The threads of each worker process.
const THREADS: &str = "8";

/// A running project with a user who has notes.
pub(crate) struct DjangoPeer {
    pub(crate) process: Process,
    profile_id: String,
    token: String,
    _database: TestDatabase,
}

impl DjangoPeer {
    /// Starts the project with the programs of a virtual environment.
    pub(crate) async fn start(environment: &Path, folder: &Path, workers: usize) -> Result<Self, Failure> {
        let database = TestDatabase::new(Engine::Postgres).await;
        let url = database.url().to_owned();
        let (server, parameters) = url.split_once('?').unwrap_or((&url, ""));
        let name = server.rsplit('/').next().unwrap_or_default();
        let authority = server.split("//").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let (user, address) = authority.split_once('@').unwrap_or(("postgres", authority));
        let (host, port) = address.split_once(':').unwrap_or((address, ""));
        let host = parameters.strip_prefix("host=").unwrap_or(host);
        let project = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/django"));
        let command = |program: &str| {
            let mut command = std::process::Command::new(environment.join("bin").join(program));
            command.current_dir(&project).env("PYTHONDONTWRITEBYTECODE", "1").env("BENCH_DATABASE", name);
            command.env("BENCH_DATABASE_HOST", host).env("BENCH_DATABASE_PORT", port);
            command.env("BENCH_DATABASE_USER", user.split(':').next().unwrap_or_default());
            command
        };
        let prepared = run(command("python").args(["prepare.py", &NOTES.to_string()]))?;
        let (profile_id, token) = prepared.trim().split_once(' ').ok_or("prepare.py prints an id and a token")?;
        let mut gunicorn = command("gunicorn");
        gunicorn.args(["--no-control-socket", "--worker-class", "gthread", "--threads", THREADS, "--bind", "127.0.0.1:0"]);
        gunicorn.args(["--workers", &workers.to_string(), "--keep-alive", "60", "wsgi:application"]);
        let process = Process::start(&mut gunicorn, &folder.join("django.log"), "http://")?;
        Ok(Self { process, profile_id: profile_id.to_owned(), token: token.to_owned(), _database: database })
    }

    /// Returns the calls that read the profile.
    pub(crate) fn profile(&self) -> Target {
        self.target(Method::GET, format!("/api/profiles/{}/", self.profile_id))
    }

    /// Returns the calls that list or create notes.
    pub(crate) fn notes(&self, method: Method) -> Target {
        self.target(method, "/api/notes/".to_owned())
    }

    fn target(&self, method: Method, path: String) -> Target {
        let (address, token) = (self.process.address.clone(), Some(self.token.clone()));
        Target { address, kind: Kind::Http(method, path), token }
    }
}
