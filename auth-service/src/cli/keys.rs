//! The commands `auth-service keys …`, which change the signing keys directly in the database. A running service uses the change
//! within seconds.

use std::path::PathBuf;

use access::{Error, read_secret_file};
use chrono::TimeDelta;
use clap::{Args, Subcommand};
use serde_json::json;
use server::command::{Column, ConfirmArgs, Row};

use super::{
    CliError, MasterKeyArgs,
    administration::{Administered, Administration, Nothing, day, moment},
};
use crate::{
    NewKeySettings,
    api::key_message,
    keys::{self, GeneratedKey, Key, KeyBits, KeyError, MasterKey, State},
    proto::Reason,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the keys, the newest first.
    List(Administered<Nothing>),
    /// Creates a key that is published but does not sign yet.
    Create(Administered<Create>),
    /// Activates a pending key, which signs from then on, and retires the key that was active.
    Activate(Administered<Activate>),
    /// Retires a key that is not active. It verifies tokens until the last token that it signed has expired.
    Retire(Administered<Retire>),
    /// Creates a key, waits until every verifier has it, and activates it. If it is interrupted, run it again: it continues.
    Rotate(Administered<Rotate>),
    /// Encrypts every key with another master key. Restart the services with the new master key afterwards.
    Rewrap(Administered<Rewrap>),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    master_key: MasterKeyArgs,
    #[command(flatten)]
    new_keys: NewKeySettings,
}

#[derive(Debug, Args)]
pub(super) struct Activate {
    #[command(flatten)]
    new_keys: NewKeySettings,
    /// The id of the key, as `keys list` prints it.
    #[arg(allow_hyphen_values = true)]
    key_id: String,
    /// Activates the key before every verifier has it. Verifiers without it reject its tokens.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Retire {
    /// The id of the key, as `keys list` prints it.
    #[arg(allow_hyphen_values = true)]
    key_id: String,
    /// Deletes the key at once, so that every token that it signed is rejected. Use it if the key has leaked.
    #[arg(long)]
    withdraw: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    master_key: MasterKeyArgs,
    #[command(flatten)]
    new_keys: NewKeySettings,
    /// Does not wait. Verifiers without the new key reject its tokens.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rewrap {
    #[command(flatten)]
    master_key: MasterKeyArgs,
    /// The file with the new master key.
    #[arg(long, value_name = "FILE")]
    new_master_key_file: PathBuf,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(command) => list(&command.administration.open().await?).await,
        Command::Create(command) => {
            let (service, Create { master_key, new_keys }) = (command.administration.open().await?, command.arguments);
            let key = create(&service, &master_key.read()?, new_keys.key_bits).await?;
            let from = key.activatable_time(new_keys.jwks_max_age);
            let message = format!("the key {} is pending and can be activated from {}", key.kid, moment(Some(from)));
            print(&service, &message, key)
        }
        Command::Activate(command) => {
            let (service, Activate { new_keys, key_id, force }) = (command.administration.open().await?, command.arguments);
            let key = activate(&service, &key_id, new_keys.jwks_max_age, force).await.map_err(|error| of_key(&key_id, error))?;
            print(&service, &format!("the key {key_id} is active"), key)
        }
        Command::Retire(command) => retire(&command.administration.open().await?, &command.arguments).await,
        Command::Rotate(command) => rotate(&command.administration.open().await?, &command.arguments).await,
        Command::Rewrap(command) => {
            let (service, Rewrap { master_key, new_master_key_file }) = (command.administration.open().await?, command.arguments);
            let new = MasterKey::from_base64(&read_secret_file(&new_master_key_file)?)?;
            let mut change = service.begin().await?;
            let count = keys::rewrap(&mut change, &master_key.read()?, &new).await?;
            service.commit(change, "keys rewrap", &format!("{count} key(s)")).await?;
            let message = format!("encrypted {count} key(s) with the new master key");
            Ok(service.output.changed(&message, &json!({ "encryptedKeys": count }))?)
        }
    }
}

async fn list(service: &Administration) -> Result<(), CliError> {
    let columns = [
        Column::new("KEY"),
        Column::new("STATE"),
        Column::new("BITS"),
        Column::new("CREATED"),
        Column::optional("ACTIVATED"),
        Column::optional("RETIRED"),
        Column::optional("DELETED AFTER"),
    ];
    let mut listing = service.output.list(&columns);
    for key in keys::list(&service.db).await? {
        let state = match key.state {
            State::Pending => "PENDING",
            State::Active => "ACTIVE",
            State::Retired => "RETIRED",
        };
        let bits = match key.bits() {
            KeyBits::Rsa2048 => 2048,
            KeyBits::Rsa3072 => 3072,
            KeyBits::Rsa4096 => 4096,
        };
        let name = key.kid.clone();
        let [activated, retired, gone] = [key.activate_time, key.retire_time, key.expire_time].map(moment);
        let cells = vec![name.clone(), state.to_owned(), bits.to_string(), day(key.create_time), activated, retired, gone];
        listing.push(&Row { name, cells, json: service.json("Key", &key_message(key, None)) })?;
    }
    Ok(listing.finish()?)
}

async fn retire(service: &Administration, arguments: &Retire) -> Result<(), CliError> {
    let Retire { key_id, withdraw, confirm } = arguments;
    if !keys::list(&service.db).await?.iter().any(|key| key.kid == *key_id) {
        return Err(CliError::NoKey(key_id.clone()));
    }
    if *withdraw {
        confirm.confirm(&format!(
            "withdraw the key {key_id}, whose tokens are then rejected, and end the sessions that it signed"
        ))?;
    }
    let mut change = service.begin().await?;
    let key = keys::retire(&mut change, &service.clock, key_id, *withdraw).await.map_err(|error| of_key(key_id, error))?;
    service.commit(change, "keys retire", key_id).await?;
    let message = format!("the key {key_id} is retired and will be deleted after {}", moment(key.expire_time));
    print(service, &message, key)
}

fn print(service: &Administration, message: &str, key: Key) -> Result<(), CliError> {
    Ok(service.output.changed(message, &service.json("Key", &key_message(key, None)))?)
}

/// Returns the error of a command about one key.
fn of_key(kid: &str, error: Error) -> CliError {
    match error {
        Error::NotFound(_) => CliError::NoKey(kid.to_owned()),
        error => error.into(),
    }
}

async fn create(service: &Administration, master: &MasterKey, bits: KeyBits) -> Result<Key, CliError> {
    let generated = GeneratedKey::new(bits).await?;
    let mut change = service.begin().await?;
    let key = keys::create(&mut change, &service.clock, master, &generated).await.map_err(master_key_first)?;
    service.commit(change, "keys create", &key.kid).await?;
    Ok(key)
}

async fn activate(service: &Administration, kid: &str, max_age: TimeDelta, force: bool) -> Result<Key, Error> {
    let mut change = service.event_log.begin().await?;
    let key = keys::activate(&mut change, &service.clock, kid, max_age, force).await?;
    change.set_command("keys activate");
    change.commit().await?;
    service.record("keys activate", kid);
    Ok(key)
}

async fn rotate(service: &Administration, arguments: &Rotate) -> Result<(), CliError> {
    let master_key = arguments.master_key.read()?;
    let pending = keys::list(&service.db).await?.into_iter().find(|key| key.state == State::Pending);
    let key = match pending {
        Some(key) => key,
        None => create(service, &master_key, arguments.new_keys.key_bits).await?,
    };
    let max_age = arguments.new_keys.jwks_max_age;
    let from = key.activatable_time(max_age);
    if !arguments.force && from > service.clock.now() {
        let until = moment(Some(from));
        service.output.message(&format!("the key {} is pending; waiting until {until} so that every verifier has it", key.kid));
    }
    loop {
        match activate(service, &key.kid, max_age, arguments.force).await {
            Ok(key) => return print(service, &format!("the key {} is active", key.kid.clone()), key),
            // `keys::activate` uses the clock of the database, which may be behind the clock of this machine.
            Err(Error::Precondition(reason, _)) if reason == Reason::KeyTooYoung.into() => {
                let wait = (from - service.clock.now()).max(TimeDelta::seconds(1));
                tokio::time::sleep(wait.to_std().unwrap_or_default()).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the [`KeyError`] that caused an internal error, because its message names the key that the master key cannot decrypt.
fn master_key_first(error: Error) -> CliError {
    match error {
        Error::Internal(source) => match source.downcast::<KeyError>() {
            Ok(error) => (*error).into(),
            Err(source) => Error::Internal(source).into(),
        },
        error => error.into(),
    }
}
