//! PostgreSQL for the tests: an ephemeral cluster for each test process, started from the installed binaries and reached over
//! a Unix socket, or the server that `TEST_POSTGRES_URL` names.
#![expect(clippy::disallowed_methods, reason = "the tests are configured by the environment alone")]

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Makes a cluster in a folder of its own, says where, and removes it when its standard input closes: when the process that
/// started it is gone, however it went. Nothing of it has to survive, so nothing waits for the disk.
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

static CLUSTER: LazyLock<Cluster> = LazyLock::new(Cluster::get);
/// Another cluster, where databases are restored that were dumped.
static ELSEWHERE: LazyLock<Cluster> = LazyLock::new(Cluster::get);
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Where databases can be made.
#[derive(Debug)]
struct Cluster {
    /// The URL of a database is this, its name, and `parameters`.
    server: String,
    parameters: String,
    /// The cluster is removed when this closes.
    _alive: Option<ChildStdin>,
}

/// A database, dropped with the value.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) url: String,
    name: String,
    cluster: &'static Cluster,
}

impl Database {
    pub(super) async fn create() -> Self {
        Self::create_in(&CLUSTER).await
    }

    async fn create_in(cluster: &'static Cluster) -> Self {
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        administer(cluster, &format!("CREATE DATABASE {name}")).await;
        Self { url: cluster.url(&name), name, cluster }
    }

    /// What is in this database now, dumped and restored into another cluster.
    pub(super) async fn copy(&self) -> Self {
        let copy = Self::create_in(&ELSEWHERE).await;
        let script = r#"set -e; pg_dump "$1" >"$3"; psql --quiet --set ON_ERROR_STOP=1 --dbname "$2" --file "$3" >/dev/null"#;
        let dump = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("sh");
        command.args(["-c", script, "copy", &self.url, &copy.url]).arg(dump.path()).env("PATH", path());
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
        // A drop can't await, and the test's own runtime may be on its way out.
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

impl Cluster {
    fn get() -> Self {
        match env::var("TEST_POSTGRES_URL") {
            Ok(url) => Self::external(&url),
            Err(_) => Self::ephemeral(),
        }
    }

    fn external(url: &str) -> Self {
        let (url, parameters) =
            url.split_once('?').map_or((url, String::new()), |(url, parameters)| (url, format!("?{parameters}")));
        let (server, _) =
            url.rsplit_once('/').filter(|(server, _)| server.contains("//")).expect("TEST_POSTGRES_URL names a database");
        Self { server: server.to_owned(), parameters, _alive: None }
    }

    fn ephemeral() -> Self {
        // PostgreSQL refuses to run as root.
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh", "-c", SCRIPT]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", SCRIPT]);
            command
        };
        command.env("PATH", path()).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        #[expect(clippy::zombie_processes, reason = "it lives as long as this process, and is told of its end by a pipe")]
        let mut child = command.spawn().expect("a shell");
        let mut folder = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut folder).expect("a line");
        let folder = folder.trim();
        assert!(!folder.is_empty(), "no PostgreSQL cluster could be started: see above. {INSTALL}");
        Self {
            server: "postgres://postgres@localhost".to_owned(),
            parameters: format!("?host={folder}"),
            _alive: child.stdin.take(),
        }
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.server, self.parameters)
    }
}

const INSTALL: &str =
    "Install it (`apt-get install postgresql`), or set TEST_POSTGRES_URL to a server where databases may be made.";

/// Where programs are looked for, those of PostgreSQL first.
fn path() -> OsString {
    let paths = env::var_os("PATH").unwrap_or_default();
    env::join_paths(binaries().into_iter().chain(env::split_paths(&paths))).expect("a path")
}

/// The folder of `initdb`, where Debian keeps it out of the path. The newest version, where there are several.
fn binaries() -> Option<PathBuf> {
    let on_path = env::split_paths(&env::var_os("PATH")?).find(|folder| folder.join("initdb").exists());
    let debian = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        versions
            .filter(|version| version.join("bin/initdb").exists())
            .max_by_key(|version| number(version))
            .map(|version| version.join("bin"))
    };
    let found = on_path.or_else(debian);
    assert!(found.is_some(), "the tests need PostgreSQL. {INSTALL}");
    found
}

fn number(version: &Path) -> u32 {
    version.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
