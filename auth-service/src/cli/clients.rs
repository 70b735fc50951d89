//! The commands `auth-service clients …`, which change the service accounts directly in the database.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use access::{AccessRulesFile, Clock, Error};
use chrono::{DateTime, SubsecRound, Utc};
use clap::{Args, Subcommand};
use store::DatabaseArgs;

use super::CliError;
use crate::{
    MIGRATIONS, SCHEMA,
    clients::{self, Client, Profile, Secret},
    events::EventLog,
    permissions,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Creates a client and its secret, which is printed once.
    Create(Create),
    /// Lists the clients.
    List(List),
    /// Creates a new secret. The previous secret stays valid for another day.
    RotateSecret(RotateSecret),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The id of the client: lower-case letters, digits and hyphens.
    client_id: String,
    /// The display name.
    #[arg(long, value_name = "TEXT", default_value = "")]
    display_name: String,
    /// A permission of the client. May be given more than once.
    #[arg(long = "permission", value_name = "APP.CODENAME")]
    permissions: Vec<String>,
    /// A file with the access rules of another service, as for `serve`. May be given more than once.
    #[arg(long, env = "ACCESS_RULES", value_name = "FILE", value_delimiter = ',', value_parser = AccessRulesFile::read)]
    access_rules: Vec<AccessRulesFile>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Args)]
pub(super) struct RotateSecret {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The id of the client.
    client_id: String,
    /// Revokes the previous secret, and the tokens that were issued for it, at once. Use it if the secret has leaked.
    #[arg(long)]
    withdraw: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Output {
    /// A file to write the secret to, readable only by its owner. By default the secret is written to standard output.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    let clock = Clock::system();
    let (Command::Create(Create { database, .. })
    | Command::List(List { database })
    | Command::RotateSecret(RotateSecret { database, .. })) = &command;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA).await?;
    match command {
        Command::Create(Create { client_id, display_name, permissions, access_rules, output, .. }) => {
            clients::check_id("client_id", &client_id)?;
            let own = crate::access_rules().permissions;
            for permission in permissions.iter().filter(|permission| !own.contains(permission)) {
                permissions::check_form(permission)?;
                if !access_rules.iter().any(|file| file.permissions.contains(permission)) {
                    eprintln!(
                        "note: {permission} is not a permission of auth-service. It has no effect unless `serve` is started \
                         with `--access-rules` or `--permission` for it"
                    );
                }
            }
            let secret = Secret::generate()?;
            let mut tx = db.begin().await?;
            let profile = Profile { display_name, permissions, keys: Vec::new() };
            clients::create(&mut tx, &clock, &client_id, &profile, Some(&secret)).await?;
            // The secret is written before the commit, so that no client is created if its secret cannot be written.
            output.show(secret)?;
            tx.commit().await?;
            eprintln!("created the client {client_id}");
        }
        Command::List(_) => print(&clients::list(&db).await?),
        Command::RotateSecret(RotateSecret { client_id, withdraw, output, .. }) => {
            let secret = Secret::generate()?;
            let mut change = EventLog::new(db.clone(), clock.clone()).begin().await?;
            let client = clients::lock(&mut change, &client_id).await?.ok_or_else(|| Error::not_found("client_id"))?;
            let client = clients::rotate_secret(&mut change, &clock, &client, &secret, withdraw).await?;
            output.show(secret)?;
            change.commit().await?;
            match client.previous_expire_time {
                Some(time) => eprintln!("the previous secret is valid until {}", moment(Some(time))),
                None => eprintln!("the previous secret is no longer valid"),
            }
        }
    }
    db.close().await;
    Ok(())
}

impl Output {
    #[expect(clippy::print_stdout, reason = "this is what the person who made a secret reads")]
    fn show(&self, secret: Secret) -> Result<(), CliError> {
        match &self.secret_file {
            None => println!("{}", secret.reveal()),
            Some(path) => write(path, &secret.reveal()).map_err(|source| CliError::SecretFile { path: path.clone(), source })?,
        }
        Ok(())
    }
}

/// Replaces the file in one step, so that a reader gets either the old secret or the new one.
fn write(path: &Path, secret: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // A command that was killed may have left this file.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[expect(clippy::print_stdout, reason = "this is what the person who typed `clients list` reads")]
fn print(clients: &[Client]) {
    println!(
        "{:<32}  {:<8}  {:<20}  {:<20}  {:<20}  PERMISSIONS",
        "CLIENT", "STATE", "CREATED", "SECRET SINCE", "PREVIOUS UNTIL"
    );
    for client in clients {
        let state = if client.is_active { "ACTIVE" } else { "INACTIVE" };
        let times = [Some(client.create_time), client.secret_time, client.previous_expire_time].map(moment);
        let [created, secret, other] = times;
        println!("{:<32}  {state:<8}  {created:<20}  {secret:<20}  {other:<20}  {}", client.client_id, client.scope);
    }
}

fn moment(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.trunc_subsecs(0).format("%FT%TZ").to_string())
}
