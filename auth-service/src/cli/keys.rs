//! The commands `auth-service keys …`, which change the signing keys directly in the database. A running service uses the change
//! within seconds.

use std::path::PathBuf;

use access::{Clock, Error, read_secret_file};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::{Args, Subcommand};
use store::{DatabaseArgs, Db};

use super::{CliError, MasterKeyArgs};
use crate::{
    MIGRATIONS, NewKeySettings, SCHEMA,
    events::EventLog,
    keys::{self, GeneratedKey, Key, KeyBits, KeyError, MasterKey, State},
    proto::Reason,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the keys, the newest first.
    List(Database),
    /// Creates a key that is published but does not sign yet.
    Create(Create),
    /// Activates a pending key, which signs from then on, and retires the key that was active.
    Activate(Activate),
    /// Retires a key that is not active. It verifies tokens until the last token that it signed has expired.
    Retire(Retire),
    /// Creates a key, waits until every verifier has it, and activates it. If it is interrupted, run it again: it continues.
    Rotate(Rotate),
    /// Encrypts every key with another master key. Restart the services with the new master key afterwards.
    Rewrap(Rewrap),
}

#[derive(Debug, Args)]
pub(super) struct Database {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    master_key: MasterKeyArgs,
    #[command(flatten)]
    new_keys: NewKeySettings,
}

#[derive(Debug, Args)]
pub(super) struct Activate {
    #[command(flatten)]
    database: DatabaseArgs,
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
    #[command(flatten)]
    database: DatabaseArgs,
    /// The id of the key, as `keys list` prints it.
    #[arg(allow_hyphen_values = true)]
    key_id: String,
    /// Deletes the key at once, so that every token that it signed is rejected. Use it if the key has leaked.
    #[arg(long)]
    withdraw: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    database: DatabaseArgs,
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
    database: DatabaseArgs,
    #[command(flatten)]
    master_key: MasterKeyArgs,
    /// The file with the new master key.
    #[arg(long, value_name = "FILE")]
    new_master_key_file: PathBuf,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    let clock = Clock::system();
    let (Command::List(Database { database })
    | Command::Create(Create { database, .. })
    | Command::Activate(Activate { database, .. })
    | Command::Retire(Retire { database, .. })
    | Command::Rotate(Rotate { database, .. })
    | Command::Rewrap(Rewrap { database, .. })) = &command;
    let db = database.open()?;
    migrate::check(&db, &MIGRATIONS, SCHEMA).await?;
    match command {
        Command::List(_) => print(&keys::list(&db).await?),
        Command::Create(Create { master_key, new_keys, .. }) => {
            let key = create(&db, &clock, &master_key.read()?, new_keys.key_bits).await?;
            let from = key.activatable_time(new_keys.jwks_max_age);
            eprintln!("the key {} is pending and can be activated from {}", key.kid, moment(Some(from)));
        }
        Command::Activate(Activate { new_keys, key_id, force, .. }) => {
            activate(&db, &clock, &key_id, new_keys.jwks_max_age, force).await?;
            eprintln!("the key {key_id} is active");
        }
        Command::Retire(Retire { key_id, withdraw, .. }) => {
            let mut change = EventLog::new(db.clone(), clock.clone()).begin().await?;
            let key = keys::retire(&mut change, &clock, &key_id, withdraw).await?;
            change.commit().await?;
            eprintln!("the key {key_id} is retired and will be deleted after {}", moment(key.expire_time));
        }
        Command::Rotate(arguments) => rotate(&db, &clock, &arguments).await?,
        Command::Rewrap(Rewrap { master_key, new_master_key_file, .. }) => {
            let new = MasterKey::from_base64(&read_secret_file(&new_master_key_file)?)?;
            let mut tx = db.begin().await?;
            let count = keys::rewrap(&mut tx, &master_key.read()?, &new).await?;
            tx.commit().await?;
            eprintln!("encrypted {count} key(s) with the new master key");
        }
    }
    db.close().await;
    Ok(())
}

async fn create(db: &Db, clock: &Clock, master: &MasterKey, bits: KeyBits) -> Result<Key, CliError> {
    let generated = GeneratedKey::new(bits).await?;
    let mut change = EventLog::new(db.clone(), clock.clone()).begin().await?;
    let key = keys::create(&mut change, clock, master, &generated).await.map_err(master_key_first)?;
    change.commit().await?;
    Ok(key)
}

async fn activate(db: &Db, clock: &Clock, kid: &str, max_age: TimeDelta, force: bool) -> Result<Key, Error> {
    let mut change = EventLog::new(db.clone(), clock.clone()).begin().await?;
    let key = keys::activate(&mut change, clock, kid, max_age, force).await?;
    change.commit().await?;
    Ok(key)
}

async fn rotate(db: &Db, clock: &Clock, arguments: &Rotate) -> Result<(), CliError> {
    let master_key = arguments.master_key.read()?;
    let pending = keys::list(db).await?.into_iter().find(|key| key.state == State::Pending);
    let key = match pending {
        Some(key) => key,
        None => create(db, clock, &master_key, arguments.new_keys.key_bits).await?,
    };
    let max_age = arguments.new_keys.jwks_max_age;
    let from = key.activatable_time(max_age);
    if !arguments.force && from > clock.now() {
        eprintln!("the key {} is pending; waiting until {} so that every verifier has it", key.kid, moment(Some(from)));
    }
    loop {
        match activate(db, clock, &key.kid, max_age, arguments.force).await {
            Ok(key) => {
                eprintln!("the key {} is active", key.kid);
                return Ok(());
            }
            // `keys::activate` uses the clock of the database, which may be behind the clock of this machine.
            Err(Error::Precondition(reason, _)) if reason == Reason::KeyTooYoung.into() => {
                let wait = (from - clock.now()).max(TimeDelta::seconds(1));
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

#[expect(clippy::print_stdout, reason = "this is what the person who typed `keys list` reads")]
fn print(keys: &[Key]) {
    println!(
        "{:<43}  {:<7}  {:<4}  {:<20}  {:<20}  {:<20}  {:<20}",
        "KEY", "STATE", "BITS", "CREATED", "ACTIVATED", "RETIRED", "DELETED AFTER"
    );
    for key in keys {
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
        let times = [Some(key.create_time), key.activate_time, key.retire_time, key.expire_time].map(moment);
        let [created, activated, retired, gone] = times;
        println!("{:<43}  {state:<7}  {bits:<4}  {created:<20}  {activated:<20}  {retired:<20}  {gone:<20}", key.kid);
    }
}

fn moment(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.trunc_subsecs(0).format("%FT%TZ").to_string())
}
