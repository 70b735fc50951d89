//! Users: with the hashes of their passwords as Django wrote them.
//!
//! A user whose e-mail address or hash can't be taken comes over without it, and the report says so.

use access::{Error, UserId, validate};
use django::{ImportError, Row, RowOutcome, Table};
use tokio_stream::StreamExt;

use super::{
    Import, UserSection,
    groups::{Groups, UserOutcome},
};
use crate::{
    events::OutboxTransaction,
    legacy,
    passwords::django as hashes,
    proto,
    usernames::{Email, Username},
    users::{self, NewNames, NewRow},
};

/// A user who comes over, and what does not come with the user.
struct Found {
    names: NewNames,
    email: Option<RowOutcome>,
    hash: String,
    password: Option<RowOutcome>,
}

impl Import<'_> {
    pub(super) async fn import_users(&mut self, mut groups: Groups) -> Result<(), ImportError> {
        let section = self.mapping.users.clone();
        let UserSection { username, password, email, first_name, last_name, .. } = &section;
        let UserSection { is_active, is_superuser, last_login, date_joined, .. } = &section;
        let columns = [username, password, email, first_name, last_name, is_active, is_superuser, last_login, date_joined]
            .map(String::as_str);
        self.batch.start_table("users", self.source.count(&section.table).await?).await?;
        let mut rows = self.source.rows(Table::new(&section.table, &section.key, &columns)).await?;
        while let Some(row) = rows.next().await {
            let row = row?;
            let key = row.key(&section.key)?.unwrap_or_default();
            let user_id = django::user_id(self.origin, &key);
            let tx = self.batch.tx().await?;
            let now = tx.now(&self.clock).await?;
            let has = |column: &str| row.text(column).is_ok_and(|text| !text.is_empty());
            // A user who was deleted here stays deleted, even if the record of the import is lost.
            let is_new = django::mark_imported(tx, user_id.into()).await? && !users::was_deleted(&mut **tx, user_id).await?;
            let outcome = if is_new {
                match read(&section, &row) {
                    Err(reason) => Err(reason),
                    Ok(mut found) => match insert(tx, now, user_id, &section, &row, &mut found).await? {
                        Ok(()) => Ok(Some(found)),
                        Err(reason) => Err(reason),
                    },
                }
            } else {
                Ok(None)
            };
            let (outcome, email_outcome, password_outcome) = match outcome {
                Ok(Some(found)) => {
                    legacy::add_user(tx, user_id, self.origin, &key).await?;
                    (
                        RowOutcome::Imported,
                        found.email.unwrap_or(RowOutcome::Imported),
                        found.password.unwrap_or(RowOutcome::Imported),
                    )
                }
                Ok(None) => (RowOutcome::AlreadyImported, RowOutcome::AlreadyImported, RowOutcome::AlreadyImported),
                Err(reason) => {
                    django::unmark(tx, user_id.into()).await?;
                    let left = || RowOutcome::Skipped("the user was skipped".to_owned());
                    (RowOutcome::Skipped(reason), left(), left())
                }
            };
            let came = match outcome {
                RowOutcome::Imported => UserOutcome::Now,
                RowOutcome::AlreadyImported => UserOutcome::Before,
                RowOutcome::Skipped(_) => UserOutcome::Not,
            };
            self.report.entry("users").count(&*key, outcome);
            if has(&section.email) {
                self.report.entry("users.email").count(&*key, email_outcome);
            }
            if has(&section.password) {
                self.report.entry("users.password").count(&*key, password_outcome);
            }
            groups.join(tx, &mut self.report, self.origin, (&key, user_id), came).await?;
        }
        groups.count_the_rest(&mut self.report);
        Ok(())
    }
}

/// Reads a user, or says why there can be none.
fn read(section: &UserSection, row: &Row) -> Result<Found, String> {
    let text = |column: &str| row.text(column).map_err(|error| error.to_string());
    let (first_name, last_name, username) = (text(&section.first_name)?, text(&section.last_name)?, text(&section.username)?);
    let given = |username: &str, email: &str| proto::User {
        user_id: uuid::Uuid::nil().to_string(),
        username: username.to_owned(),
        email: email.to_owned(),
        first_name: first_name.clone(),
        last_name: last_name.clone(),
        ..proto::User::default()
    };
    rules(given(&username, ""))?;
    let address = text(&section.email)?;
    let (email, refusal) = match rules(given(&username, &address)) {
        Ok(()) => (Email::new(&address), None),
        Err(reason) => (None, Some(RowOutcome::Skipped(reason))),
    };
    let hash = text(&section.password)?;
    let (hash, password) = match hashes::check(&hash) {
        Ok(()) if hash.is_empty() => (users::NO_PASSWORD.to_owned(), None),
        Ok(()) => (hash, None),
        Err(refusal) => (users::NO_PASSWORD.to_owned(), Some(RowOutcome::Skipped(refusal.to_string()))),
    };
    let username = Username::new("username", &username, email.as_ref()).map_err(|error| reason(&error))?;
    let names = NewNames { username, email, first_name, last_name };
    Ok(Found { names, email: refusal, hash, password })
}

/// Writes a user, or says why there can be none. Without the e-mail address, where that is somebody else's.
async fn insert(
    change: &mut OutboxTransaction,
    now: chrono::DateTime<chrono::Utc>,
    user_id: UserId,
    section: &UserSection,
    row: &Row,
    found: &mut Found,
) -> Result<Result<(), String>, ImportError> {
    let read = || -> Result<_, django::RowError> {
        let flags = (row.flag(&section.is_active, true)?, row.flag(&section.is_superuser, false)?);
        Ok((flags, row.time(&section.date_joined)?, row.time(&section.last_login)?))
    };
    let ((is_active, is_superuser), joined, last_login_time) = match read() {
        Ok(values) => values,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let create_time = joined.unwrap_or(now);
    loop {
        let Found { names, hash, .. } = &*found;
        let new = NewRow { user_id, names, password_hash: hash, is_active, is_superuser, create_time, last_login_time };
        if users::insert(change, now, &new).await?.is_some() {
            return Ok(Ok(()));
        }
        if users::find_by_key(&mut **change, &found.names.username.key).await?.is_some() {
            return Ok(Err("the username is taken, in this or in another spelling (RFC 8265)".to_owned()));
        }
        if found.names.email.take().is_none() {
            return Ok(Err("the user's id is taken".to_owned()));
        }
        if let Err(error) = Username::new("username", &found.names.username.shown, None) {
            return Ok(Err(reason(&error)));
        }
        found.email = Some(RowOutcome::Skipped("the e-mail address belongs to another user".to_owned()));
    }
}

/// The rules of the contract.
fn rules(user: proto::User) -> Result<(), String> {
    let request = proto::UpdateUserRequest { user: Some(user), update_mask: None };
    validate::check(&request).map_err(|error| reason(&error))
}

fn reason(error: &Error) -> String {
    error.to_string().replace("user.", "")
}
