//! The commands `auth-service audit …`, which read and verify the audit log directly in the database.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use audit::{Event, EventId, Filter, Order, PublishedSeal, newest_in_log};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use server::command::{Column, Row};

use super::{
    CliError, MasterKeyArgs,
    administration::{Administered, Administration, moment},
};
use crate::keys;

/// The number of entries that one query reads.
const PAGE_SIZE: i64 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists entries of the audit log, the newest first.
    List(Administered<List>),
    /// Writes entries of the audit log as JSON, one a line, the oldest first.
    Export(Administered<FilterArgs>),
    /// Verifies the audit log against its seals. Fails if an entry or a seal was altered, inserted or removed.
    Verify(Administered<Verify>),
}

#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only entries of this actor: a user by username, e-mail address or id, a client, or an operating-system user.
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Only entries about this resource: a user by username, e-mail address or id, or the id of another resource.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Only entries about this method, for example `DeleteUser`, or this command, for example `users delete`.
    #[arg(long, value_name = "METHOD", default_value = "")]
    method: String,
    /// Only entries with this outcome, for example `PERMISSION_DENIED`.
    #[arg(long, value_name = "CODE", default_value = "")]
    outcome: String,
    /// Only entries from this time on, for example `2026-01-31T00:00:00Z`.
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Only entries before this time.
    #[arg(long, value_name = "TIME")]
    before: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: FilterArgs,
    /// The maximum number of entries.
    #[arg(long, value_name = "N", default_value = "100")]
    limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    master_key: MasterKeyArgs,
    /// A seal that was published before. The log must still contain it. May be given more than once.
    #[arg(long, value_name = "SEAL")]
    published: Vec<PublishedSeal>,
    /// A file with log lines of the service. The log must still contain the newest seal in it.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(super) async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::List(command) => list(&command.administration.open().await?, command.arguments).await,
        Command::Export(command) => export(&command.administration.open().await?, command.arguments).await,
        Command::Verify(command) => verify(&command.administration.open().await?, command.arguments).await,
    }
}

impl FilterArgs {
    async fn filter(self, service: &Administration) -> Result<Filter, CliError> {
        Ok(Filter {
            actor_id: id(service, self.actor).await?,
            target_id: id(service, self.target).await?,
            method: self.method,
            outcome: self.outcome,
            from: self.from,
            before: self.before,
        })
    }
}

/// Returns the id of the user with this name, or the text itself if there is no such user.
async fn id(service: &Administration, name: Option<String>) -> Result<String, CliError> {
    let Some(name) = name else { return Ok(String::new()) };
    match service.user(&name).await {
        Ok(user) => Ok(user.user_id.to_string()),
        Err(CliError::NoUser(_)) => Ok(name),
        Err(error) => Err(error),
    }
}

/// Passes entries that match the filter to `write`, at most `limit`.
async fn read(
    service: &Administration,
    filter: &Filter,
    order: Order,
    limit: usize,
    mut write: impl FnMut(Event) -> io::Result<()>,
) -> Result<(), CliError> {
    let (mut after, mut left): (Option<EventId>, _) = (None, limit);
    loop {
        let page = audit::list_in_order(&service.db, filter, order, after, PAGE_SIZE).await?;
        let Some(last) = page.last().filter(|_| left > 0) else { return Ok(()) };
        after = Some(last.event_id);
        for event in page.into_iter().take(left) {
            left -= 1;
            write(event)?;
        }
    }
}

async fn list(service: &Administration, List { filter, limit }: List) -> Result<(), CliError> {
    let filter = filter.filter(service).await?;
    let columns = [
        Column::new("TIME"),
        Column::flexible("ACTOR"),
        Column::flexible("METHOD"),
        Column::flexible("TARGET"),
        Column::new("OUTCOME"),
        Column::optional("FIELDS"),
        Column::optional("ADDRESS"),
    ];
    let mut listing = service.output.list(&columns);
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    read(service, &filter, Order::NewestFirst, limit, |event| {
        let actor = event.actor_name.clone().unwrap_or_else(|| event.actor_id.clone());
        let target = event.target_name.clone().unwrap_or_else(|| event.target_id.clone());
        let times = if event.occurrences == 1 { String::new() } else { format!(" ({} times)", event.occurrences) };
        let cells = vec![
            moment(Some(event.time)),
            format!("{} {actor}", event.actor_type).trim_end().to_owned(),
            event.method.clone(),
            dash(format!("{} {target}", event.target_type).trim().to_owned()),
            format!("{}{times}", event.outcome),
            dash(event.fields().collect::<Vec<_>>().join(" ")),
            dash(event.address.clone().unwrap_or_default()),
        ];
        listing.push(&Row { name: event.event_id.to_string(), cells, json: event.to_json() })
    })
    .await?;
    Ok(listing.finish()?)
}

async fn export(service: &Administration, filter: FilterArgs) -> Result<(), CliError> {
    let filter = filter.filter(service).await?;
    let mut to = io::BufWriter::new(io::stdout().lock());
    read(service, &filter, Order::OldestFirst, usize::MAX, |event| writeln!(to, "{}", event.to_json())).await?;
    Ok(to.flush()?)
}

async fn verify(service: &Administration, arguments: Verify) -> Result<(), CliError> {
    let Verify { master_key, mut published, log } = arguments;
    if let Some(path) = log {
        let text = fs::read(&path).map_err(|source| CliError::AuditLogFile { path: path.clone(), source })?;
        let text = String::from_utf8_lossy(&text);
        published.push(newest_in_log(text.lines()).ok_or(CliError::NoPublishedSeal(path))?);
    }
    let keys = keys::audit_keys(&service.db, &master_key.read()?).await?;
    let verification = audit::verify(&service.db, &keys, &published).await?;
    let mut fields = vec![
        ("Sealed entries", verification.entries.to_string()),
        ("Not sealed yet", verification.unsealed.to_string()),
        ("With erased data", verification.erased.to_string()),
        ("Seals", verification.seals.to_string()),
        ("First seal kept", verification.first_kept.to_string()),
        ("Newest seal", verification.newest.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
        ("Published seals", published.len().to_string()),
    ];
    fields.extend(verification.findings.iter().map(|finding| ("Finding", finding.to_string())));
    let newest = verification.newest.as_ref().map(ToString::to_string).unwrap_or_default();
    service.output.show(&newest, &fields, &verification.to_json())?;
    match verification.findings.len() {
        0 => Ok(()),
        count => Err(CliError::AuditLogAltered(count)),
    }
}
