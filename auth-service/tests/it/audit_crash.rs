//! Two replicas write and seal the audit log while they are killed again and again: nothing is lost, and nothing honest is reported.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use audit::{Filter, Order, PublishedSeal};
use auth_service::{
    keys::MasterKey,
    proto::{
        CreateGroupRequest, Group, LoginRequest, group_service_client::GroupServiceClient,
        token_service_client::TokenServiceClient,
    },
};
use testing::{Engine, on_both_engines, rounds};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use crate::{
    app::{Bearer, PASSWORD},
    starting::Fresh,
};

/// Two replicas of the service as processes. SQLite has one process, so that there both are the same.
struct Replicas {
    database: Fresh,
    master_key: String,
    processes: Vec<Replica>,
}

struct Replica {
    process: Child,
    address: String,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Replica {
    fn start(database: &Fresh, master_key: &str) -> Self {
        let mut process = database.serve(master_key).env("LOG_FORMAT", "json").stderr(Stdio::piped()).spawn().expect("a process");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("serving")).expect("a service that serves");
        // The service would block on a full pipe that nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        let address = line[line.find("127.0.0.1:").expect("an address")..].split('"').next().expect("an address").to_owned();
        Self { process, address }
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address is a URL").connect_lazy()
    }
}

impl Replicas {
    async fn start(engine: Engine) -> Self {
        let database = Fresh::start(engine).await;
        database.migrated().await;
        let (clock, policy) = (access::Clock::system(), auth_service::passwords::Policy::default());
        auth_service::create_superuser(&database.0.open(), &clock, "root", "", PASSWORD, policy).await.expect("a user");
        let master_key = MasterKey::generate();
        let count = if engine == Engine::Sqlite { 1 } else { 2 };
        let processes = (0..count).map(|_| Replica::start(&database, &master_key)).collect();
        Self { database, master_key, processes }
    }
}

on_both_engines! {
    async fn entries_survive_kills_and_are_never_reported(app: Replicas) {
        let mut app = app;
        let db = app.database.0.open();
        let master_key = MasterKey::from_base64(&app.master_key).expect("a master key");
        let keys = auth_service::keys::audit_keys(&db, &master_key).await.expect("keys");
        let request = LoginRequest { username: "root".to_owned(), password: PASSWORD.to_owned() };
        let token = TokenServiceClient::new(app.processes[0].channel()).login(request).await.expect("a login").into_inner().access_token;
        let (total, mut next) = (rounds(200), 0);
        let (mut acknowledged, mut published): (Vec<String>, Vec<PublishedSeal>) = (Vec::new(), Vec::new());
        while next < total {
            let mut calls = JoinSet::new();
            for call in 0..100.min(total - next) {
                let channel = app.processes[call % app.processes.len()].channel();
                let (name, token) = (format!("group {}", next + call), token.clone());
                calls.spawn(async move {
                    let group = Group { name: name.clone(), ..Group::default() };
                    let mut groups = GroupServiceClient::with_interceptor(channel, Bearer(token));
                    groups.create_group(CreateGroupRequest { group: Some(group) }).await.is_ok().then_some(name)
                });
            }
            next += 100;
            let mut answered = 0;
            while let Some(name) = calls.join_next().await {
                acknowledged.extend(name.expect("no panic"));
                answered += 1;
                if answered == 50 {
                    // In the middle of the calls, and possibly of a seal.
                    let victim = next / 100 % app.processes.len();
                    app.processes[victim].process.kill().expect("a kill");
                    app.processes[victim].process.wait().expect("an end");
                    app.processes[victim] = Replica::start(&app.database, &app.master_key);
                }
            }
            let verification = audit::verify(&db, &keys, &published).await.expect("a verification");
            assert_eq!(verification.findings, []);
            published.extend(verification.newest);
        }
        loop {
            let verification = audit::verify(&db, &keys, &published).await.expect("a verification");
            assert_eq!(verification.findings, []);
            if verification.unsealed == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut recorded = std::collections::BTreeSet::new();
        let mut after = None;
        loop {
            let filter = Filter { method: "CreateGroup".to_owned(), outcome: "OK".to_owned(), ..Filter::default() };
            let page = audit::list_in_order(&db, &filter, Order::OldestFirst, after, 1000).await.expect("entries");
            let Some(last) = page.last() else { break };
            after = Some(last.event_id);
            recorded.extend(page.into_iter().filter_map(|event| event.target_name));
        }
        assert!(acknowledged.len() >= total / 10, "{} of {total}", acknowledged.len());
        for name in &acknowledged {
            assert!(recorded.contains(name), "{name} was acknowledged, but has no entry");
        }
        // And every group that exists has an entry.
        let groups: Vec<(String,)> = store::Executor::query(&db, "SELECT name FROM groups").all().await.expect("groups");
        assert_eq!(groups.into_iter().map(|(name,)| name).collect::<std::collections::BTreeSet<_>>(), recorded);
    }
}
