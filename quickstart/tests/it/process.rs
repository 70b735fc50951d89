//! Runs a service in a separate process that a test can kill. The process is a second instance of this test program.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use access::Clock;
use auth_service::{Settings, events::EventLog, keys::MasterKey};
use server::health::HealthTls;
use store::Db;
use testing::Engine;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::transport::{Channel, Endpoint};

use crate::{
    load::Writer,
    pair::{self, databases},
};

/// The environment variables that configure a child process.
const ROLE: &str = "PAIR_TEST_ROLE";
const LISTEN: &str = "PAIR_TEST_LISTEN";
const AUTH_DATABASE: &str = "PAIR_TEST_AUTH_DATABASE";
const PROFILE_DATABASE: &str = "PAIR_TEST_PROFILE_DATABASE";
const AUTH: &str = "PAIR_TEST_AUTH";
const MASTER_KEY: &str = "PAIR_TEST_MASTER_KEY";

/// The databases of both services, and the master key.
#[derive(Clone)]
pub struct Places {
    pub auth_database: String,
    pub profile_database: String,
    pub master_key: String,
}

/// A process that runs a service until it is killed.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
}

impl Process {
    /// Starts the auth service, with writers in the same process.
    pub async fn auth(places: &Places, listen: &str) -> Self {
        Self::start("auth", places, listen, "").await
    }

    /// Starts the profile service, which follows the auth service at `auth`.
    pub async fn profile(places: &Places, auth: SocketAddr) -> Self {
        Self::start("profile", places, "127.0.0.1:0", &auth.to_string()).await
    }

    async fn start(role: &str, places: &Places, listen: &str, auth: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process::a_process_serves_until_it_is_killed", "--nocapture"]);
        command.env(ROLE, role).env(LISTEN, listen).env(AUTH, auth).env(MASTER_KEY, &places.master_key);
        command.env(AUTH_DATABASE, &places.auth_database).env(PROFILE_DATABASE, &places.profile_database);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (tell, told) = oneshot::channel();
        std::thread::spawn(move || {
            let address = lines.find_map(|line| line.split_once("serving at ").map(|(_, address)| address.to_owned()));
            let _ = tell.send(address);
            // The process would block on a full pipe if nothing read its output.
            lines.for_each(drop);
        });
        let address = told.await.unwrap().expect("a process that serves");
        Self { child, address: address.trim().parse().unwrap() }
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

#[expect(clippy::disallowed_methods, reason = "how this program tells itself what to be")]
fn told(what: &str) -> Option<String> {
    std::env::var(what).ok().filter(|value| !value.is_empty())
}

/// Runs a service in the child process.
#[expect(clippy::print_stdout, reason = "how it says where it listens")]
async fn serve(role: &str) {
    let listener = TcpListener::bind(told(LISTEN).unwrap()).await.unwrap();
    let clock = Clock::system();
    let (auth_database, master_key) = (told(AUTH_DATABASE).unwrap(), told(MASTER_KEY).unwrap());
    println!("serving at {}", listener.local_addr().unwrap());
    if role == "auth" {
        let db = Db::new(&auth_database, None, 8).unwrap();
        let event_log = EventLog::new(db.clone(), clock.clone());
        for number in 0..4 {
            let writer = Writer::new(event_log.clone(), clock.clone(), u64::from(std::process::id()) * 8 + number);
            tokio::spawn(writer.run(usize::MAX));
        }
        let master_key = MasterKey::from_base64(&master_key).unwrap();
        auth_service::serve(db, clock, master_key, Settings::default(), listener, std::future::pending()).await.unwrap();
        return;
    }
    drop(listener);
    let auth = channel(told(AUTH).unwrap().parse().unwrap());
    let source = pair::source(&auth_database, &master_key, clock.clone(), auth.clone());
    let bound = Duration::from_secs(15);
    let _running = pair::profile(&told(PROFILE_DATABASE).unwrap(), clock, auth, Some(source), bound).await;
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_until_it_is_killed() {
    if let Some(role) = told(ROLE) {
        return serve(&role).await;
    }
    let (auth_database, profile_database) = databases(Engine::Sqlite).await;
    let places = Places {
        auth_database: auth_database.url().to_owned(),
        profile_database: profile_database.url().to_owned(),
        master_key: MasterKey::generate(),
    };
    let mut process = Process::auth(&places, "127.0.0.1:0").await;
    let ready = async || server::health::check(process.address, &HealthTls::default()).await.is_ok();
    pair::eventually(ready).await;
    process.kill();
    assert!(server::health::check(process.address, &HealthTls::default()).await.is_err());
}
