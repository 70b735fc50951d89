//! The commands `auth-service clients …`, which change the service accounts directly in the database.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use access::AccessRulesFile;
use clap::{Args, Subcommand};
use server::command::{Column, ConfirmArgs, Row};

use super::{
    CliError,
    administration::{Administered, Administration, Nothing, day, moment, state},
};
use crate::{
    api::client_message,
    clients::{self, Client, Profile, Secret},
    permissions,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Creates a client and its secret, which is printed once.
    Create(Administered<Create>),
    /// Lists the clients.
    List(Administered<Nothing>),
    /// Creates a new secret. The previous secret stays valid for another day.
    RotateSecret(Administered<RotateSecret>),
}

#[derive(Debug, Args)]
pub(super) struct Create {
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
    secret: SecretArgs,
}

#[derive(Debug, Args)]
pub(super) struct RotateSecret {
    /// The id of the client.
    client_id: String,
    /// Revokes the previous secret, and the tokens that were issued for it, at once. Use it if the secret has leaked.
    #[arg(long)]
    withdraw: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    secret: SecretArgs,
}

#[derive(Debug, Args)]
struct SecretArgs {
    /// A file to write the secret to, readable only by its owner. By default the secret is written to standard output.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Create(command) => create(&command.administration.open().await?, command.arguments).await,
        Command::List(command) => list(&command.administration.open().await?).await,
        Command::RotateSecret(command) => rotate_secret(&command.administration.open().await?, command.arguments).await,
    }
}

async fn create(service: &Administration, arguments: Create) -> Result<(), CliError> {
    let Create { client_id, display_name, permissions, access_rules, secret: to } = arguments;
    clients::check_id("client_id", &client_id)?;
    let own = crate::access_rules().permissions;
    for permission in permissions.iter().filter(|permission| !own.contains(permission)) {
        permissions::check_form(permission)?;
        if !access_rules.iter().any(|file| file.permissions.contains(permission)) {
            service.output.message(&format!(
                "note: {permission} is not a permission of auth-service. It has no effect unless `serve` is started with \
                 `--access-rules` or `--permission` for it"
            ));
        }
    }
    let secret = Secret::generate()?;
    let mut change = service.begin().await?;
    let profile = Profile { display_name, permissions, keys: Vec::new() };
    let client = clients::create(&mut change, &service.clock, &client_id, &profile, Some(&secret)).await?;
    // The secret is written before the commit, so that no client is created if its secret cannot be written.
    to.show(service, client, secret)?;
    service.commit(change, "clients create", &client_id).await?;
    service.output.message(&format!("created the client {client_id}"));
    Ok(())
}

async fn list(service: &Administration) -> Result<(), CliError> {
    let columns = [
        Column::new("CLIENT"),
        Column::new("STATE"),
        Column::new("CREATED"),
        Column::new("SECRET SINCE"),
        Column::optional("PREVIOUS UNTIL"),
        Column::flexible("PERMISSIONS"),
    ];
    let mut listing = service.output.list(&columns);
    for client in clients::list(&service.db).await? {
        let name = client.client_id.clone();
        let cells = vec![
            name.clone(),
            state(client.is_active),
            day(client.create_time),
            client.secret_time.map_or_else(|| "-".to_owned(), day),
            moment(client.previous_expire_time),
            client.scope.clone(),
        ];
        listing.push(&Row { name, cells, json: service.json("Client", &client_message(client, None)) })?;
    }
    Ok(listing.finish()?)
}

async fn rotate_secret(service: &Administration, arguments: RotateSecret) -> Result<(), CliError> {
    let RotateSecret { client_id, withdraw, confirm, secret: to } = arguments;
    if clients::find(&service.db, &client_id).await?.is_none() {
        return Err(CliError::NoClient(client_id));
    }
    if withdraw {
        confirm.confirm(&format!("withdraw the previous secret of {client_id} and its access tokens"))?;
    }
    let secret = Secret::generate()?;
    let mut change = service.begin().await?;
    let client = clients::lock(&mut change, &client_id).await?.ok_or_else(|| CliError::NoClient(client_id.clone()))?;
    let client = clients::rotate_secret(&mut change, &service.clock, &client, &secret, withdraw).await?;
    let message = match client.previous_expire_time {
        Some(time) => format!("the previous secret is valid until {}", moment(Some(time))),
        None => "the previous secret is no longer valid".to_owned(),
    };
    to.show(service, client, secret)?;
    service.commit(change, "clients rotate-secret", &client_id).await?;
    service.output.message(&message);
    Ok(())
}

impl SecretArgs {
    /// Writes the secret to the file, or to standard output. `--json` prints the client, with the secret unless it is in the file.
    #[expect(clippy::print_stdout, reason = "this is what the person who created a secret reads")]
    fn show(&self, service: &Administration, client: Client, secret: Secret) -> Result<(), CliError> {
        let text = secret.reveal();
        let shown = match &self.secret_file {
            None => Some(Secret::new(text.clone())),
            Some(path) => {
                write(path, &text).map_err(|source| CliError::SecretFile { path: path.clone(), source })?;
                None
            }
        };
        if service.output.json {
            println!("{:#}", service.json("Client", &client_message(client, shown)));
        } else if shown.is_some() {
            println!("{text}");
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
