//! Imports users, with the password hashes as Django wrote them.
//!
//! Names over the limits of the API come over whole, and so do usernames that are e-mail addresses. An e-mail address that belongs to
//! another user comes over too, but does not sign in. A user whose e-mail address is none, or whose hash is not accepted, is imported
//! without it, and the report says so.

use access::UserId;
use django::{ImportError, Row, RowImport, RowOutcome, Table};

use super::{Import, UserSection, groups::Groups};
use crate::{
    django_tokens,
    events::{EventLog, OutboxTransaction},
    passwords::django as hashes,
    usernames::{Email, Username},
    users::{self, NewRow, UserNames},
};

/// The parts of a new user, and the reasons why parts are left out.
struct UserRow {
    names: UserNames,
    email: Result<(), String>,
    hash: String,
    password: Result<(), String>,
}

impl Import {
    pub(super) async fn import_users(&mut self, mut groups: Groups) -> Result<(), ImportError> {
        let section = &self.mapping.users;
        let UserSection { username, password, email, first_name, last_name, .. } = section;
        let UserSection { is_active, is_superuser, last_login, date_joined, .. } = section;
        let columns = [username, password, email, first_name, last_name, is_active, is_superuser, last_login, date_joined]
            .map(String::as_str);
        let import = async |row: &Row, user: &mut RowImport<'_, EventLog>| {
            let (key, user_id) = (user.key, user.user_id(user.key));
            user.set_id(user_id);
            user.set_name(row.text(username).unwrap_or_default());
            let (now, project) = (user.now().await?, user.project().to_owned());
            let (mut email, mut password) = (RowOutcome::Imported, RowOutcome::Imported);
            let import = async |tx: &mut OutboxTransaction| {
                // A user who was deleted here stays deleted, even if the record of the import is lost.
                if users::was_deleted(&mut **tx, user_id).await? {
                    return Ok(RowOutcome::AlreadyImported);
                }
                let user = match read(section, row) {
                    Ok(user) => insert(tx, now, user_id, section, row, user).await?,
                    Err(reason) => Err(reason),
                };
                let user = match user {
                    Ok(user) => user,
                    Err(reason) => return Ok(RowOutcome::Skipped(reason)),
                };
                django_tokens::add_user(tx, user_id, &project, key).await?;
                email = user.email.map_or_else(RowOutcome::Skipped, |()| RowOutcome::Imported);
                password = user.password.map_or_else(RowOutcome::Skipped, |()| RowOutcome::Imported);
                Ok(RowOutcome::Imported)
            };
            let outcome = user.import_once(user_id.into(), import).await?;
            for (name, column, part) in [("users.email", &section.email, email), ("users.password", &section.password, password)]
            {
                if row.text(column).is_ok_and(|text| !text.is_empty()) {
                    user.count(name, key, outcome.of_part(part, "the user was skipped"));
                }
            }
            groups.join(user, user_id, &outcome).await?;
            Ok(outcome)
        };
        self.importer.import_table("users", Table::new(&section.table, &section.key, &columns), import).await?;
        groups.count_rest(self.importer.report());
        Ok(())
    }
}

/// Reads a user, or returns the reason why the user is skipped.
fn read(section: &UserSection, row: &Row) -> Result<UserRow, String> {
    let text = |column: &str| row.text(column).map_err(|error| error.to_string());
    let (first_name, last_name, username) = (text(&section.first_name)?, text(&section.last_name)?, text(&section.username)?);
    let address = text(&section.email)?;
    let email = if address.is_empty() || is_address(&address) { Ok(()) } else { Err("it is not an e-mail address".to_owned()) };
    let address = email.as_ref().ok().and_then(|()| Email::new(&address));
    let hash = text(&section.password)?;
    let (hash, password) = match hashes::check(&hash) {
        Ok(()) if hash.is_empty() => (users::NO_PASSWORD.to_owned(), Ok(())),
        Ok(()) => (hash, Ok(())),
        Err(error) => (users::NO_PASSWORD.to_owned(), Err(error.to_string())),
    };
    let username = Username::imported("username", &username).map_err(|error| error.to_string())?;
    let names = UserNames { username, email: address, first_name, last_name };
    Ok(UserRow { names, email, hash, password })
}

/// Writes a user. Returns the user as written, or the reason why the user
/// is skipped.
async fn insert(
    tx: &mut OutboxTransaction,
    now: chrono::DateTime<chrono::Utc>,
    user_id: UserId,
    section: &UserSection,
    row: &Row,
    mut user: UserRow,
) -> Result<Result<UserRow, String>, ImportError> {
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
        let UserRow { names, hash, .. } = &user;
        let new = NewRow { user_id, names, password_hash: hash, is_active, is_superuser, create_time, last_login_time };
        if users::insert(tx, now, &new).await?.is_some() {
            return Ok(Ok(user));
        }
        if users::find_by_key(&mut **tx, &user.names.username.key).await?.is_some() {
            return Ok(Err("the username is taken, in this or in another spelling (RFC 8265)".to_owned()));
        }
        // The address belongs to another user. It is kept, but does not sign in.
        if user.names.email.as_mut().and_then(|email| email.key.take()).is_none() {
            return Ok(Err("the user's id is taken".to_owned()));
        }
    }
}

/// Returns true if the text has the form of an e-mail address, in any script. Django checks no more where it does not use a form.
fn is_address(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control());
    text.rsplit_once('@').is_some_and(|(local, domain)| is_part(local) && is_part(domain))
}
