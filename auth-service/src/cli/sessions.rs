//! The commands `auth-service sessions …`, which list and end sessions directly in the database.

use access::{Error, SessionId};
use clap::{Args, Subcommand};
use serde_json::json;
use server::command::{Column, Row};

use super::{
    CliError,
    administration::{Administered, Administration, day},
};
use crate::{
    api::session_message,
    sessions::{self, EndReason},
};

/// The number of sessions that one query reads.
const PAGE_SIZE: i64 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the sessions of a user, the newest first.
    List(Administered<List>),
    /// Ends sessions of a user. Their access tokens are no longer accepted.
    Revoke(Administered<Revoke>),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// The username, the e-mail address or the id of the user.
    user: String,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The username, the e-mail address or the id of the user.
    user: String,
    /// The ids of the sessions, as `sessions list` prints them.
    #[arg(value_name = "SESSION", required_unless_present = "all")]
    sessions: Vec<String>,
    /// Ends every session of the user.
    #[arg(long, conflicts_with = "sessions")]
    all: bool,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(command) => list(&command.administration.open().await?, &command.arguments.user).await,
        Command::Revoke(command) => revoke(&command.administration.open().await?, &command.arguments).await,
    }
}

async fn list(service: &Administration, name: &str) -> Result<(), CliError> {
    let user = service.user(name).await?;
    let columns = [
        Column::new("SESSION"),
        Column::new("LAST USED"),
        Column::new("ADDRESS"),
        Column::flexible("USER AGENT"),
        Column::optional("CREATED"),
        Column::optional("EXPIRES"),
    ];
    let mut listing = service.output.list(&columns);
    let mut after = None;
    loop {
        let page = sessions::list(&service.db, user.user_id, service.clock.now(), after, PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        for session in page {
            let name = session.session_id.to_string();
            let cells = vec![
                name.clone(),
                day(session.rotated_at),
                session.address.clone(),
                session.user_agent.clone(),
                day(session.create_time),
                day(session.idle_expires_at),
            ];
            listing.push(&Row { name, cells, json: service.json("Session", &session_message(session, None)) })?;
        }
    }
    Ok(listing.finish()?)
}

async fn revoke(service: &Administration, arguments: &Revoke) -> Result<(), CliError> {
    let mut change = service.begin().await?;
    // A sign-in takes the same lock, so a session that is being opened either ends here or begins afterwards.
    let user = service.lock_user(&mut change, &arguments.user).await?;
    change.set_target("user", user.user_id, Some(&user.username));
    if arguments.all {
        change.add_field("sessions");
        sessions::end_others(&mut change, user.user_id, None, EndReason::Revoked).await?;
    }
    for name in &arguments.sessions {
        let missing = || CliError::NoSession { user: user.username.clone(), session: name.clone() };
        let session_id = SessionId::parse("session", name).map_err(|_| missing())?;
        match sessions::revoke(&mut change, user.user_id, session_id).await {
            Err(Error::NotFound(_)) => return Err(missing()),
            outcome => outcome?,
        }
    }
    service.commit(change, "sessions revoke", &user.username).await?;
    let message = match arguments.sessions.len() {
        0 => format!("ended every session of {}", user.username),
        1 => format!("ended a session of {}", user.username),
        count => format!("ended {count} sessions of {}", user.username),
    };
    Ok(service.output.changed(&message, &json!({ "userId": user.user_id.to_string(), "sessionIds": arguments.sessions }))?)
}
