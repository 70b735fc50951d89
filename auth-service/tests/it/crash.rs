//! Kills the process (`kill -9`) at each step of a refresh, and after a Revoke: no session ends, and no ended session continues.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    time::SystemTime,
};

use auth_service::proto::{
    LoginRequest, LoginResponse, LogoutRequest, RefreshRequest, RefreshResponse, token_service_client::TokenServiceClient,
};
use store::{Db, Executor};
use testing::on_both_engines;
use testing::{Engine, FaultProxy, assert_refused, rounds};
use tokio::{sync::oneshot, task::yield_now};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use crate::{app::PASSWORD, starting};

/// The service as a process, with a database that outlives it.
struct Mortal {
    database: starting::Fresh,
    /// The proxy between the service and PostgreSQL.
    wire: Option<FaultProxy>,
    master_key: String,
    process: Child,
    address: String,
}

impl Mortal {
    async fn start(engine: Engine) -> Self {
        let database = starting::Fresh::start(engine).await;
        database.migrated().await;
        let wire = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(FaultProxy::to(database.0.url()).await),
        };
        let db = database.0.open();
        let (clock, policy) = (access::Clock::system(), auth_service::passwords::Policy::default());
        auth_service::create_superuser(&db, &clock, "alice", "", PASSWORD, policy).await.expect("a user");
        let master_key = auth_service::keys::MasterKey::generate();
        let (process, address) = serve(wire.as_ref().map_or(database.0.url(), |wire| &wire.url), &master_key).await;
        Self { database, wire, master_key, process, address }
    }

    fn kill(&mut self) {
        self.process.kill().expect("a kill");
        self.process.wait().expect("an end");
    }

    async fn start_again(&mut self) {
        if let Some(wire) = &self.wire {
            wire.renew();
        }
        let url = self.wire.as_ref().map_or(self.database.0.url(), |wire| &wire.url);
        (self.process, self.address) = serve(url, &self.master_key).await;
    }

    fn tokens(&self) -> TokenServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address is a URL");
        TokenServiceClient::new(endpoint.connect_lazy())
    }

    async fn login(&self) -> LoginResponse {
        let request = LoginRequest { username: "alice".to_owned(), password: PASSWORD.to_owned() };
        self.tokens().login(request).await.expect("a login").into_inner()
    }

    async fn refresh(&self, request: &RefreshRequest) -> Result<RefreshResponse, Status> {
        self.tokens().refresh(request.clone()).await.map(tonic::Response::into_inner)
    }

    /// Sends a request, and kills the service at the given step. Returns the response, if there was one before, and whether the step
    /// exists.
    async fn killed_at(&mut self, step: usize, request: &RefreshRequest) -> (Option<RefreshResponse>, bool) {
        let mut tokens = self.tokens();
        let request = request.clone();
        let send = async move { tokens.refresh(request).await.ok().map(tonic::Response::into_inner) };
        let mut answer = tokio::spawn(send);
        let was_there = if let Some(wire) = &self.wire {
            let stopped = wire.stops_after(step);
            tokio::select! {
                () = stopped => true,
                first = &mut answer => {
                    wire.stops_nowhere();
                    return (first.expect("no panic"), false);
                }
            }
        } else {
            pass_on_sqlite(step, self.database.0.url()).await;
            true
        };
        self.kill();
        (answer.await.expect("no panic"), was_there)
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn serve(url: &str, master_key: &str) -> (Child, String) {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--database-url", url, "--log-format", "json"];
    let mut command = starting::process(&arguments);
    let mut process = command.env("MASTER_KEY", master_key).stderr(Stdio::piped()).spawn().expect("a process");
    let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let (tell, told) = oneshot::channel();
    // The service would block on a full pipe that nobody reads.
    std::thread::spawn(move || {
        let _ = tell.send(lines.find(|line| line.contains("serving")));
        lines.for_each(drop);
    });
    let line = told.await.expect("no panic").expect("a service that serves");
    let address = line[line.find("127.0.0.1:").expect("an address")..].split('"').next().expect("an address").to_owned();
    (process, address)
}

/// SQLite has no connection to cut. A third of the steps are turns of the scheduler after the request was sent, and another third
/// after the service has begun to write.
pub(crate) async fn pass_on_sqlite(step: usize, url: &str) {
    let wal = format!("{}-wal", url.trim_start_matches("sqlite:"));
    let state = || fs::metadata(&wal).ok().and_then(|file| Some((file.len(), file.modified().ok()?)));
    let before: Option<(u64, SystemTime)> = state();
    if !step.is_multiple_of(3) {
        // The write comes before the response.
        while state() == before {
            yield_now().await;
        }
    }
    let turns = if step % 3 == 2 { 0 } else { 1 << (step / 3).min(12) };
    for _ in 0..turns {
        yield_now().await;
    }
}

async fn generation(db: &Db) -> i64 {
    db.query("SELECT gen FROM sessions").one::<(i64,)>().await.expect("a session").0
}

on_both_engines! {
    async fn a_refresh_that_was_killed_at_any_step_is_repeated_and_signs_nobody_out(app: Mortal) {
        let mut app = app;
        let mut token = app.login().await.refresh_token;
        let db = app.database.0.open();
        let (mut kills, mut step) = (0, 0);
        while kills < rounds(40) {
            let before = generation(&db).await;
            let request_id = if kills % 2 == 0 { String::new() } else { Uuid::from_u128(kills as u128 + 1).to_string() };
            let request = RefreshRequest { refresh_token: token, request_id };
            let (first, was_there) = app.killed_at(step, &request).await;
            if was_there {
                app.start_again().await;
                kills += 1;
                step += 1;
            } else {
                // The call completed, so the next round begins at the first step again.
                step = 0;
            }
            let again = app.refresh(&request).await.expect("the successor, after the crash");
            if let Some(first) = first {
                assert_eq!(again.refresh_token, first.refresh_token, "two different successors");
            }
            assert_eq!(generation(&db).await, before + 1);
            let next = RefreshRequest { refresh_token: again.refresh_token, request_id: String::new() };
            token = app.refresh(&next).await.expect("the successor's successor").refresh_token;
        }
    }

    async fn a_session_that_was_ended_stays_so_after_a_crash(app: Mortal) {
        let mut app = app;
        for _ in 0..rounds(3) {
            let request = RefreshRequest { refresh_token: app.login().await.refresh_token, request_id: String::new() };
            app.tokens().logout(LogoutRequest { refresh_token: request.refresh_token.clone() }).await.expect("a logout");
            app.kill();
            app.start_again().await;
            assert_refused(app.refresh(&request).await, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
        }
    }
}
