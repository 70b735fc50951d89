//! PgBouncer in transaction mode in front of a test database, reached over a Unix socket.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{ChildStdin, Stdio},
};

use sqlx::postgres::PgConnectOptions;

use crate::postgres::server_command;

const NOT_INSTALLED: &str = "PgBouncer is not installed: run `apt-get install pgbouncer`";

/// Starts PgBouncer in a temporary folder, prints the folder when the socket exists, and stops when its standard input closes. That also
/// happens if the test process is killed.
const SCRIPT: &str = r#"
set -eu
folder=$(mktemp -d)
trap 'exit 1' TERM INT HUP
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT
{ echo "$2"; echo "unix_socket_dir = $folder"; } >"$folder/pgbouncer.ini"
"$1" -q "$folder/pgbouncer.ini" >"$folder/log" 2>&1 &
pid=$!
until [ -S "$folder/.s.PGSQL.6432" ]; do kill -0 "$pid" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }; sleep 0.05; done
echo "$folder"
read -r _ || true
"#;

/// PgBouncer in transaction mode.
#[derive(Debug)]
pub struct PgBouncer {
    /// The URL of the database through PgBouncer.
    pub url: String,
    /// PgBouncer stops when this pipe closes.
    _alive: Option<ChildStdin>,
}

impl PgBouncer {
    /// Starts PgBouncer with up to `servers` connections to the database at `url`.
    ///
    /// # Panics
    ///
    /// Panics if PgBouncer is not installed, with the command that installs it.
    #[expect(clippy::zombie_processes, reason = "it ends with the test process, when its standard input is closed")]
    pub fn start(url: &str, servers: usize) -> Self {
        let program = program().expect(NOT_INSTALLED);
        let options: PgConnectOptions = url.parse().expect("a URL of PostgreSQL");
        let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |folder| folder.display().to_string());
        let (port, user) = (options.get_port(), options.get_username());
        let name = options.get_database().expect("a database");
        let settings = format!(
            "[databases]\n{name} = host={host} port={port} user={user}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {servers}\nmax_client_conn = 500\n"
        );
        let mut command = server_command("sh").unwrap_or_else(|message| panic!("{message}"));
        command.args(["-c", SCRIPT, "pgbouncer"]).arg(program).arg(settings);
        let mut child = command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut folder = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut folder).expect("a line");
        assert!(!folder.is_empty(), "PgBouncer does not start: see the error above");
        let url = format!("postgres://{user}@localhost:6432/{name}?host={}", folder.trim());
        Self { url, _alive: child.stdin.take() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the program is looked up where the tests run")]
fn program() -> Option<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    // Debian installs it for root only.
    let folders = env::split_paths(&paths).chain([Path::new("/usr/sbin").to_owned()]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.exists())
}
