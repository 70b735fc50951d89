//! Tokens that Django has issued. They are accepted until they expire, and each refresh token once.

use std::process::Output;

use auth_service::{
    Settings,
    keys::MasterKey,
    proto::{
        ListUsersRequest, LoginResponse, LogoutRequest, RefreshRequest, RefreshResponse, RevokeAllSessionsRequest, WhoAmIRequest,
        identity_service_client::IdentityServiceClient, user_service_client::UserServiceClient,
    },
};
use chrono::TimeDelta;
use django::tokens::TokenArgs;
use testing::on_both_engines;
use testing::{Engine, assert_refused, with_token};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    app::App,
    django::{Project, app_on, imported},
    starting::{Fresh, assert_fails, process},
};

/// A service with the users of a Django project.
struct Moved {
    app: App,
    project: Project,
}

impl Moved {
    async fn start(engine: Engine) -> Self {
        let project = Project::start(Engine::Sqlite).await;
        let database = Fresh::start(engine).await;
        database.migrated().await;
        imported(&database, project.0.url(), &[]);
        let app = app_on(database, with_key(&project)).await;
        Self { app, project }
    }

    async fn refresh(&self, token: &str, request_id: &str) -> Result<RefreshResponse, Status> {
        let request = RefreshRequest { refresh_token: token.to_owned(), request_id: request_id.to_owned() };
        self.app.tokens().refresh(request).await.map(tonic::Response::into_inner)
    }

    async fn is_refused(&self, token: &str) {
        assert_refused(self.refresh(token, "").await, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
    }

    fn token(&self, username: &str) -> &str {
        &self.project.0.facts.refresh[username]
    }
}

fn with_key(project: &Project) -> Settings {
    let file = project.0.file("verifying-key.pem", &project.0.facts.verifying_key);
    let key = format!("django={}", file.display()).parse().expect("a name and a file");
    let django_tokens = TokenArgs { legacy_key: vec![key], ..TokenArgs::default() };
    Settings { django_tokens, ..Settings::default() }
}

on_both_engines! {
    async fn a_refresh_token_of_django_opens_one_session(moved: Moved) {
        let facts = &moved.project.0.facts;
        // A repeated request within the grace period gets the same session.
        let first = moved.refresh(moved.token("alice"), "").await.expect("a session");
        let lost = moved.refresh(moved.token("alice"), "").await.expect("the same answer");
        assert_eq!(first.refresh_token, lost.refresh_token);
        let second = moved.refresh(&first.refresh_token, "").await.expect("a refresh");
        moved.app.clock.advance(TimeDelta::seconds(11));
        // A reuse after the grace period means that the token was stolen, so the session ends.
        moved.is_refused(moved.token("alice")).await;
        moved.is_refused(&second.refresh_token).await;
        moved.is_refused(moved.token("alice")).await;

        // Parallel requests get one session.
        let mut together = JoinSet::new();
        for _ in 0..16 {
            let (mut tokens, token) = (moved.app.tokens(), moved.token("bob").to_owned());
            let request = RefreshRequest { refresh_token: token, request_id: String::new() };
            together.spawn(async move { tokens.refresh(request).await.expect("an answer").into_inner().refresh_token });
        }
        let mut tokens = together.join_all().await;
        tokens.dedup();
        assert_eq!(tokens.len(), 1);

        // The same request id gets the same session at any later time.
        let id = Uuid::from_u128(7).to_string();
        let first = moved.refresh(moved.token("frank"), &id).await.expect("a session");
        moved.app.clock.advance(TimeDelta::hours(1));
        assert_eq!(moved.refresh(moved.token("frank"), &id).await.expect("the same answer").refresh_token, first.refresh_token);

        // Blacklisted; not active; not imported; not a refresh token; HS256.
        for refused in [&*facts.blacklisted, moved.token("heidi"), moved.token("Alice"), &facts.access["alice"], &facts.hs256] {
            moved.is_refused(refused).await;
        }
        let flipped = moved.token("dave").replacen('.', ".e30", 1);
        moved.is_refused(&flipped).await;
        moved.app.clock.advance(TimeDelta::days(31));
        moved.is_refused(moved.token("dave")).await;
    }

    async fn a_logout_everywhere_revokes_django_s_tokens_too(moved: Moved) {
        let carol = moved.refresh(moved.token("carol"), "").await.expect("a session");
        moved.refresh(moved.token("dave"), "").await.expect("a session");
        // Logout with Django's token, before and after it is exchanged.
        for username in ["frank", "dave"] {
            let request = LogoutRequest { refresh_token: moved.token(username).to_owned() };
            moved.app.tokens().logout(request).await.expect("an answer");
            moved.is_refused(moved.token(username)).await;
        }
        let alice = django::user_id("django", &moved.project.0.facts.keys["alice"]).to_string();
        let user = Some(auth_service::proto::User { user_id: alice.clone(), ..auth_service::proto::User::default() });
        let token = moved.project.0.facts.access["alice"].clone();
        let login = LoginResponse { access_token: token, user, ..LoginResponse::default() };
        let request = RevokeAllSessionsRequest { user_id: alice, ..RevokeAllSessionsRequest::default() };
        moved.app.actor(login).sessions().revoke_all_sessions(request).await.expect("an answer");
        moved.is_refused(moved.token("alice")).await;
        moved.refresh(&carol.refresh_token, "").await.expect("somebody else's session");
    }

    async fn an_access_token_of_django_is_a_user_without_permissions(moved: Moved) {
        let facts = &moved.project.0.facts;
        let mut identity = IdentityServiceClient::new(moved.app.server.channel());
        let me = identity.who_am_i(with_token(&facts.access["alice"], WhoAmIRequest {})).await.expect("an answer").into_inner();
        assert_eq!(me.user.expect("a user").username, "alice");
        let mut users = UserServiceClient::new(moved.app.server.channel());
        let list = users.list_users(with_token(&facts.access["alice"], ListUsersRequest::default())).await;
        assert_eq!(list.expect_err("a refusal").code(), Code::PermissionDenied);
        for refused in [moved.token("alice"), &facts.hs256] {
            let outcome = identity.who_am_i(with_token(refused, WhoAmIRequest {})).await;
            assert_refused(outcome, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
        }
        moved.app.clock.advance(TimeDelta::seconds(3600 + 31));
        let outcome = identity.who_am_i(with_token(&facts.access["alice"], WhoAmIRequest {})).await;
        assert_refused(outcome, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);
    }

    async fn tokens_need_the_key_and_are_exchanged_once_in_strict_mode(moved: Moved) {
        let App { database, clock, master_key, .. } = &moved.app;
        let request = |token: &str| RefreshRequest { refresh_token: token.to_owned(), request_id: String::new() };
        let without = App::replica(database, clock, master_key, Settings::default()).await;
        let mut tokens = auth_service::proto::token_service_client::TokenServiceClient::new(without.channel());
        let outcome = tokens.refresh(request(moved.token("alice"))).await;
        assert_refused(outcome, Code::Unauthenticated, "REFRESH_TOKEN_INVALID", &[]);
        let mut identity = IdentityServiceClient::new(without.channel());
        let outcome = identity.who_am_i(with_token(&moved.project.0.facts.access["alice"], WhoAmIRequest {})).await;
        assert_refused(outcome, Code::Unauthenticated, "ACCESS_TOKEN_INVALID", &[]);

        let strict = Settings { strict_refresh: true, ..with_key(&moved.project) };
        let strict = App::replica(database, clock, master_key, strict).await;
        let mut together = JoinSet::new();
        for _ in 0..16 {
            let mut tokens = auth_service::proto::token_service_client::TokenServiceClient::new(strict.channel());
            let request = request(moved.token("alice"));
            together.spawn(async move { tokens.refresh(request).await.is_ok() });
        }
        let won = together.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1, "one request gets a session");
    }
}

#[tokio::test]
async fn an_invalid_key_is_refused_at_the_start_with_the_reason() {
    let project = Project::start(Engine::Sqlite).await;
    let file = |name, text: &str| project.0.file(name, text).to_str().expect("a path").to_owned();
    let (public, private) =
        (file("public.pem", &project.0.facts.verifying_key), file("private.pem", &project.0.facts.signing_key));
    let secret = file("secret", "a secret that can issue as well as it can verify");
    let database = Fresh::start(Engine::Sqlite).await;
    let serve = |flags: &[String]| -> Output {
        let mut process = process(&["serve", "--database-url", database.0.url(), "--listen", "127.0.0.1:0"]);
        process.args(flags).env("MASTER_KEY", MasterKey::generate()).output().expect("a process")
    };
    for (flags, sentence) in [
        (vec![format!("--legacy-key=django={secret}")], "An HS256 secret is not accepted"),
        (vec![format!("--legacy-key=django={private}")], "legacy key `django` is a private key"),
        (vec![format!("--legacy-key=a={public},b={public}")], "duplicate legacy key `b`"),
        (vec![format!("--legacy-key=a={public}"), "--legacy-issuer=b=x".to_owned()], "no --legacy-key for `b`"),
    ] {
        assert_fails(&serve(&flags), sentence);
    }
    let malformed = serve(&["--legacy-key=django".to_owned()]);
    assert!(String::from_utf8_lossy(&malformed.stderr).contains("expected NAME=VALUE"));
}
