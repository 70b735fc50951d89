//! A client secret that the auth service refuses is visible in `/readyz`, and `check` names it.

use std::fs;

use auth_service::proto::{Client, CreateClientRequest};
use clap::Parser;
use profile_service::{Settings, cli};
use server::ServerSettings;
use testing::{Running, http, on_both_engines};

use crate::pair::{self, Pair};

on_both_engines! {
    async fn a_refused_client_secret_is_named(app: Pair) {
        let root = app.superuser("root").await;
        let permissions = vec!["auth.watch_event".to_owned()];
        let client = Client { client_id: "profile".to_owned(), permissions, ..Client::default() };
        let secret = root.clients().create_client(CreateClientRequest { client: Some(client) }).await.unwrap().into_inner().client_secret;
        let folder = tempfile::tempdir().unwrap();
        let [right, wrong] = ["right", "wrong"].map(|name| folder.path().join(name));
        fs::write(&right, secret).unwrap();
        fs::write(&wrong, "not the secret").unwrap();

        let settings = Settings {
            auth_url: format!("http://{}", app.auth.address),
            client_id: Some("profile".to_owned()),
            client_secret_file: Some(wrong.clone()),
            server: ServerSettings::default(),
            ..Settings::default()
        };
        let (db, clock) = (app.profile_database.open(), app.clock.clock());
        let replica = Running::start(|listener, shutdown| async move {
            profile_service::run(db, clock, settings, listener, shutdown).await.unwrap();
        })
        .await;
        pair::eventually(async || {
            let ready = http::send(replica.address, "GET /readyz", &[], b"").await.json();
            let reason = ready["revocations"]["reason"].as_str().unwrap_or_default();
            ready["overall"]["status"] == "SERVING" && reason.contains("Unauthenticated")
        })
        .await;

        let check = async |secret: &std::path::Path| {
            let (database, auth_url) = (app.profile_database.url(), format!("http://{}", app.auth.address));
            let arguments = ["profile-service", "check", "--json", "--database-url", database, "--auth-url", &auth_url];
            let client = ["--client-id", "profile", "--client-secret-file", secret.to_str().unwrap(), "--listen", "127.0.0.1:1"];
            cli::run(cli::Cli::try_parse_from(arguments.iter().chain(&client)).unwrap()).await
        };
        check(&right).await.unwrap();
        assert_eq!(check(&wrong).await.unwrap_err().to_string(), "1 of the checks failed");
    }
}
