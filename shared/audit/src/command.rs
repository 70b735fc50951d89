//! The commands `audit list`, `audit export` and `audit verify`, which the command lines of the services have in common.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use chrono::{DateTime, SubsecRound, Utc};
use clap::Args;
use server::command::{Column, OutputArgs, Row};
use store::Db;

use crate::{AuditKeys, Event, EventId, Filter, Order, PublishedSeal, list_in_order, newest_in_log, verify};

/// The number of entries that one query reads.
const PAGE_SIZE: i64 = 500;

/// The arguments that select entries.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only entries of this actor: a user by name or id, a client, or an operating-system user.
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Only entries about this resource: a user by name or id, or the id of another resource.
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

/// The arguments of `audit list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The filter.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// The maximum number of entries.
    #[arg(long, value_name = "N", default_value = "100")]
    pub limit: usize,
}

/// The arguments of `audit verify`, beside those that name the key.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A seal that was published before. The log must still contain it. May be given more than once.
    #[arg(long, value_name = "SEAL")]
    published: Vec<PublishedSeal>,
    /// A file with log lines of the service. The log must still contain the newest seal in it.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// The reason why a command about the audit log fails.
#[derive(Debug, thiserror::Error)]
pub enum AuditCommandError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] access::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The file of `--log` cannot be read.
    #[error("cannot read the log {}: {source}", path.display())]
    LogFile {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file of `--log` is not a log of the service, or has no lines of the level INFO.
    #[error("the log {} contains no seal: name a log of `serve` with its lines of the level INFO", _0.display())]
    NoPublishedSeal(PathBuf),
    /// `audit verify` has found changes.
    #[error("the audit log was changed after it was sealed: {0} finding(s)")]
    Altered(usize),
}

impl FilterArgs {
    /// Returns the filter. `user_id` returns the id of the user with a name, if there is one; another text is taken as it is.
    pub async fn filter<E>(self, user_id: impl AsyncFn(&str) -> Result<Option<String>, E>) -> Result<Filter, E> {
        let id = async |name: Option<String>| match name {
            None => Ok(String::new()),
            Some(name) => Ok(user_id(&name).await?.unwrap_or(name)),
        };
        Ok(Filter {
            actor_id: id(self.actor).await?,
            target_id: id(self.target).await?,
            method: self.method,
            outcome: self.outcome,
            from: self.from,
            before: self.before,
        })
    }
}

/// Lists entries, the newest first.
pub async fn list(db: &Db, output: OutputArgs, filter: &Filter, limit: usize) -> Result<(), AuditCommandError> {
    let columns = [
        Column::new("TIME"),
        Column::flexible("ACTOR"),
        Column::flexible("METHOD"),
        Column::flexible("TARGET"),
        Column::new("OUTCOME"),
        Column::optional("FIELDS"),
        Column::optional("ADDRESS"),
    ];
    let mut listing = output.list(&columns);
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    read(db, filter, Order::NewestFirst, limit, |event| {
        let actor = event.actor_name.clone().unwrap_or_else(|| event.actor_id.clone());
        let target = event.target_name.clone().unwrap_or_else(|| event.target_id.clone());
        let times = if event.occurrences == 1 { String::new() } else { format!(" ({} times)", event.occurrences) };
        let cells = vec![
            event.time.trunc_subsecs(0).format("%FT%TZ").to_string(),
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

/// Writes entries as JSON, one a line, the oldest first.
pub async fn export(db: &Db, filter: &Filter) -> Result<(), AuditCommandError> {
    let mut to = io::BufWriter::new(io::stdout().lock());
    read(db, filter, Order::OldestFirst, usize::MAX, |event| writeln!(to, "{}", event.to_json())).await?;
    Ok(to.flush()?)
}

/// Verifies the audit log, and prints what it has found.
///
/// # Errors
///
/// Returns [`AuditCommandError::Altered`] if an entry or a seal was altered, inserted or removed.
pub async fn verify_log(db: &Db, output: OutputArgs, keys: &AuditKeys, arguments: VerifyArgs) -> Result<(), AuditCommandError> {
    let VerifyArgs { mut published, log } = arguments;
    if let Some(path) = log {
        let text = fs::read(&path).map_err(|source| AuditCommandError::LogFile { path: path.clone(), source })?;
        let text = String::from_utf8_lossy(&text);
        published.push(newest_in_log(text.lines()).ok_or(AuditCommandError::NoPublishedSeal(path))?);
    }
    let verification = verify(db, keys, &published).await?;
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
    output.show(&newest, &fields, &verification.to_json())?;
    match verification.findings.len() {
        0 => Ok(()),
        count => Err(AuditCommandError::Altered(count)),
    }
}

/// Passes entries that match the filter to `write`, at most `limit`.
async fn read(
    db: &Db,
    filter: &Filter,
    order: Order,
    limit: usize,
    mut write: impl FnMut(Event) -> io::Result<()>,
) -> Result<(), AuditCommandError> {
    let (mut after, mut left): (Option<EventId>, _) = (None, limit);
    loop {
        let page = list_in_order(db, filter, order, after, PAGE_SIZE).await?;
        let Some(last) = page.last().filter(|_| left > 0) else { return Ok(()) };
        after = Some(last.event_id);
        for event in page.into_iter().take(left) {
            left -= 1;
            write(event)?;
        }
    }
}
