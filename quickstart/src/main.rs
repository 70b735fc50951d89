//! `cargo run`: both services on embedded SQLite, with generated keys and a superuser, for this machine only.

mod data;
#[cfg(test)]
mod reference;

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use access::{AccessRulesFile, Clock};
use clap::Parser;
use server::{
    ServerSettings,
    config::HttpArgs,
    health::{self, HealthTls},
    telemetry::{self, LogFormat},
};
use store::Db;
use tokio::{net::TcpListener, sync::watch};

/// The interval at which the quickstart checks whether the services are ready.
const READINESS_INTERVAL: Duration = Duration::from_millis(50);

/// The allocator. It returns the memory of a burst of calls to the system, which the one of glibc keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the auth service and the profile service on embedded SQLite.
#[derive(Debug, Parser)]
#[command(name = "quickstart", version)]
struct Quickstart {
    /// The folder of the databases, the master key and the secrets. The program creates it if it does not exist.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    data_dir: PathBuf,
    /// The address of the auth service.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051", value_parser = server::config::address)]
    auth_listen: SocketAddr,
    /// The address of the profile service.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50052", value_parser = server::config::address)]
    profile_listen: SocketAddr,
    #[command(flatten)]
    http: HttpArgs,
    /// Accepts the password grant (RFC 6749 section 4.3) at `/oauth2/token`, for clients that support no other grant.
    #[arg(long)]
    password_grant: bool,
    /// A service, in addition to the profile service, that accepts the access tokens: an entry of their `aud` claim. May be given
    /// more than once.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    audience: Vec<String>,
    /// A file with the access rules of another service, as `SERVICE access-rules` prints them: the permissions that they name may
    /// be granted. May be given more than once.
    #[arg(long, value_name = "FILE", value_delimiter = ',', value_parser = AccessRulesFile::read)]
    access_rules: Vec<AccessRulesFile>,
    /// A permission of another service that may be granted, for example `greeter.greet_people`. May be given more than once.
    #[arg(long = "permission", value_name = "APP.CODENAME", value_delimiter = ',')]
    permissions: Vec<String>,
    /// The log lines that are written to standard error: a level, or levels by module, for example `info`.
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log_filter: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(server::config::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {}", access::error::error_chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Quickstart) -> Result<(), Box<dyn Error>> {
    let _log = telemetry::log(LogFormat::Text, &arguments.log_filter)?;
    let stop = server::stop_signal();
    let folder = data::Folder::open(&arguments.data_dir)?;
    let auth_db = prepare(folder.database("auth.db"), &auth_service::MIGRATIONS).await?;
    let profile_db = prepare(folder.database("profile.db"), &profile_service::MIGRATIONS).await?;
    let clock = Clock::system();
    let master_key = folder.master_key()?;
    let (secret_file, audit_key_file) = (folder.client_secret()?, folder.audit_key()?);
    data::profile_client(&auth_db, &clock, &secret_file).await?;
    let auth_listener = listen(arguments.auth_listen).await?;
    let profile_listener = listen(arguments.profile_listen).await?;
    let (auth_address, profile_address) = (auth_listener.local_addr()?, profile_listener.local_addr()?);

    let (auth_url, profile_url) = (url(auth_address), url(profile_address));
    let auth_settings = auth_service::Settings {
        issuer: auth_url.clone(),
        audience: [vec![profile_service::NAME.to_owned()], arguments.audience].concat(),
        access_rules: [vec![profile_service::access_rules()], arguments.access_rules].concat(),
        permissions: arguments.permissions,
        // The API page of the profile service sends its login to the auth service, which must therefore allow the page's origin.
        server: ServerSettings {
            http: HttpArgs {
                cors_origins: arguments.http.cors_origins.iter().cloned().chain([profile_url.parse()?]).collect(),
                no_page: arguments.http.no_page,
            },
            ..ServerSettings::default()
        },
        password_grant: arguments.password_grant,
        ..auth_service::Settings::default()
    };
    let profile_settings = profile_service::Settings {
        auth_url: format!("http://{auth_address}"),
        issuer: auth_url,
        client_id: Some(profile_service::NAME.to_owned()),
        client_secret_file: Some(secret_file),
        audit_key: profile_service::AuditKeyArgs { audit_key_file: Some(audit_key_file) },
        server: ServerSettings { http: arguments.http, ..ServerSettings::default() },
        ..profile_service::Settings::default()
    };

    let (stopping, stopped) = watch::channel(false);
    let until_stopped = || {
        let mut stopped = stopped.clone();
        async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    };
    let auth = auth_service::serve(auth_db.clone(), clock.clone(), master_key, auth_settings, auth_listener, until_stopped());
    let auth = Box::pin(auth);
    let profile = Box::pin(profile_service::run(profile_db, clock.clone(), profile_settings, profile_listener, until_stopped()));
    let both = async { tokio::try_join!(async { Ok::<_, Box<dyn Error>>(auth.await?) }, async { Ok(profile.await?) }) };
    let greet = async {
        for address in [auth_address, profile_address] {
            while health::check(address, &HealthTls::default()).await.is_err() {
                tokio::time::sleep(READINESS_INTERVAL).await;
            }
        }
        // The superuser is created last. If the start fails before, no superuser exists whose password was never shown.
        let superuser = data::superuser(&auth_db, &clock).await?;
        data::greet(auth_address, profile_address, superuser.as_ref());
        stop.await;
        let _ = stopping.send(true);
        std::future::pending().await
    };
    tokio::select! {
        served = both => served.map(|_| ()),
        failed = greet => failed,
    }
}

async fn prepare(url: String, migrations: &migrate::Migrator) -> Result<Db, Box<dyn Error>> {
    let db = Db::new(&url, None, 8)?;
    migrate::migrate(&db, migrations).await?;
    Ok(db)
}

/// Returns the address at which a program on this machine reaches the listener.
fn url(address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { address.ip() };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}").into())
}
