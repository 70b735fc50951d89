//! The service behind PgBouncer in transaction mode, where replicas share a few connections to PostgreSQL.

use std::process::Stdio;

use access::Clock;
use auth_service::{
    Settings,
    keys::MasterKey,
    passwords::Policy,
    proto::{
        LoginRequest, LogoutRequest, RefreshRequest, WhoAmIRequest, identity_service_client::IdentityServiceClient,
        token_service_client::TokenServiceClient, user_service_client::UserServiceClient,
    },
};
use store::{Db, DbOptions};
use testing::{Engine, PgBouncer, TestDatabase, with_token};
use tokio::task::{JoinSet, spawn_blocking};
use tonic::{Code, transport::Channel};

use crate::{
    app::{App, PASSWORD, registration},
    starting::{migration_names, process},
};

fn open(pooler: &PgBouncer) -> Db {
    let options = DbOptions { is_transaction_pooled: true, ..DbOptions::default() };
    Db::with_options(&pooler.url, None, options).expect("a URL")
}

/// Signs in, refreshes, uses the token and signs out, each time on another replica.
async fn use_session(username: &str, [one, other]: [Channel; 2]) {
    let [mut tokens, mut other_tokens] = [&one, &other].map(|replica| TokenServiceClient::new(replica.clone()));
    UserServiceClient::new(one).register(registration(username)).await.expect("a new user");
    let request = LoginRequest { username: username.to_owned(), password: PASSWORD.to_owned() };
    let login = other_tokens.login(request).await.expect("a login").into_inner();
    let request = RefreshRequest { refresh_token: login.refresh_token, ..RefreshRequest::default() };
    let refreshed = tokens.refresh(request).await.expect("a refresh").into_inner();
    let request = with_token(&refreshed.access_token, WhoAmIRequest {});
    let asked = IdentityServiceClient::new(other).who_am_i(request).await.expect("an identity").into_inner();
    assert_eq!(asked.user.expect("a user").username, username);
    let logout = LogoutRequest { refresh_token: refreshed.refresh_token.clone() };
    other_tokens.logout(logout).await.expect("a logout");
    let request = RefreshRequest { refresh_token: refreshed.refresh_token, ..RefreshRequest::default() };
    let refused = tokens.refresh(request).await.expect_err("the session has ended");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_behind_pgbouncer_serve_every_call() {
    let database = TestDatabase::new(Engine::Postgres).await;
    let pooler = PgBouncer::start(database.url(), 4);

    // Of several processes that migrate through it, each migration runs in one.
    let migrating = [(); 3].map(|()| {
        let mut migrate = process(&["migrate", "--database-transaction-pooling", "--database-url", &pooler.url]);
        spawn_blocking(move || migrate.stderr(Stdio::piped()).output().expect("a process"))
    });
    let mut applied = 0;
    for output in migrating {
        let output = output.await.expect("no panic");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        applied += log.lines().filter(|line| line.ends_with("... OK")).count();
    }
    assert_eq!(applied, migration_names().len());

    let (clock, key) = (Clock::system(), MasterKey::generate());
    auth_service::create_superuser(&open(&pooler), &clock, "root", "", PASSWORD, Policy::default()).await.expect("a superuser");
    let replica = || App::serve(open(&pooler), &clock, &key, Settings::default());
    let (one, other) = (replica().await, replica().await);
    let mut users = JoinSet::new();
    for user in 0..12 {
        let replicas = if user % 2 == 0 { [one.channel(), other.channel()] } else { [other.channel(), one.channel()] };
        users.spawn(async move { use_session(&format!("user{user}"), replicas).await });
    }
    users.join_all().await;
}
