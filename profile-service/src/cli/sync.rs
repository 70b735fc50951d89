//! The commands `profile-service sync …`, which read and reset the position up to which the events of the auth service are applied.

use access::AuditedCall;
use audit::Entry;
use clap::Subcommand;
use serde_json::json;
use server::command::operating_system_user;

use super::{
    CliError,
    administration::{Administered, Administration, Nothing, moment},
};
use crate::sync;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows up to which position the events of the auth service are applied.
    Status(Administered<Nothing>),
    /// Makes the running service read a snapshot of all users, within a minute. Use it if profiles differ from the users.
    Resync(Administered<Nothing>),
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Status(command) => status(&command.administration.open().await?).await,
        Command::Resync(command) => resync(&command.administration.open().await?).await,
    }
}

async fn status(service: &Administration) -> Result<(), CliError> {
    let Some(cursor) = sync::cursor(&service.db).await? else {
        let fields = [("State", "events were never followed".to_owned())];
        return Ok(service.output.show("NEVER_FOLLOWED", &fields, &json!({ "state": "NEVER_FOLLOWED" }))?);
    };
    let (name, state) = if cursor.pos >= 0 {
        ("FOLLOWING", "events are applied up to the position")
    } else {
        ("SNAPSHOT", "a snapshot of the users is being read, or will be read by the running service")
    };
    let fields = [
        ("State", state.to_owned()),
        ("Position", cursor.pos.max(0).to_string()),
        ("Epoch", if cursor.epoch.is_empty() { "-".to_owned() } else { cursor.epoch.clone() }),
        ("Snapshots", cursor.generation.to_string()),
        ("Updated", moment(cursor.update_time)),
    ];
    let json = json!({
        "state": name,
        "pos": cursor.pos.max(0).to_string(),
        "epoch": cursor.epoch,
        "generation": cursor.generation.to_string(),
        "updateTime": moment(cursor.update_time),
    });
    Ok(service.output.show(name, &fields, &json)?)
}

async fn resync(service: &Administration) -> Result<(), CliError> {
    let actor = operating_system_user();
    let entry = Entry::of_call(&AuditedCall::command("sync resync", actor.clone()));
    let requested = sync::request_snapshot(&service.db, &service.clock, entry).await;
    if !requested.map_err(|error| CliError::Failed(error.into()))? {
        return Err(CliError::NeverFollowed);
    }
    tracing::warn!(command = "sync resync", actor, "the database was changed from the command line");
    let message = "the running service will read a snapshot of all users within a minute";
    Ok(service.output.changed(message, &json!({ "state": "SNAPSHOT" }))?)
}
