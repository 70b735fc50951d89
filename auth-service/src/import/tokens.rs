//! Imports the refresh tokens of simplejwt's `token_blacklist` that have not expired.

use std::collections::HashMap;

use access::UserId;
use chrono::{DateTime, Utc};
use django::{ImportError, Row, RowImport, RowOutcome, Table};

use super::Import;
use crate::{
    django_tokens,
    events::{EventLog, OutboxTransaction},
};

impl Import {
    pub(super) async fn import_tokens(&mut self) -> Result<(), ImportError> {
        let mut blacklisted = self.read_blacklist().await?;
        let section = &self.mapping.outstanding_tokens;
        if self.importer.has_table("outstanding_tokens", &section.table).await? {
            let columns = [&*section.user, &*section.jti, &*section.expires_at];
            let table = Table::new(&section.table, &section.key, &columns);
            let import = async |row: &Row, token: &mut RowImport<'_, EventLog>| {
                let user_id = row.key(&section.user)?.map(|user| token.user_id(&user));
                let (jti, expires) = (row.text(&section.jti)?, row.time(&section.expires_at)?);
                let listed = blacklisted.remove(token.key);
                let (user_id, expires) = match usable(token, user_id, expires).await? {
                    Ok(usable) => usable,
                    Err(reason) => {
                        if let Some(listed) = listed {
                            token.count("blacklisted_tokens", listed, RowOutcome::not_needed(reason));
                        }
                        return Ok(RowOutcome::not_needed(reason));
                    }
                };
                let project = token.project().to_owned();
                let add = async |tx: &mut OutboxTransaction| {
                    django_tokens::add_token(tx, &project, &jti, user_id, expires).await?;
                    Ok(RowOutcome::Imported)
                };
                let outcome = token.import_once(token.row_id("outstanding_token", token.key), add).await?;
                if let Some(listed) = listed {
                    let blacklist = async |tx: &mut OutboxTransaction| {
                        Ok(if django_tokens::blacklist(tx, &project, &jti).await? {
                            RowOutcome::Imported
                        } else {
                            RowOutcome::not_needed("the token was exchanged for a session here")
                        })
                    };
                    let outcome = token.import_once(token.row_id("blacklisted_token", &listed), blacklist).await?;
                    token.count("blacklisted_tokens", listed, outcome);
                }
                Ok(outcome)
            };
            self.importer.import_table("outstanding_tokens", table, import).await?;
        }
        for key in blacklisted.into_values() {
            self.importer.report().entry("blacklisted_tokens").count(key, "", RowOutcome::not_needed("the token does not exist"));
        }
        Ok(())
    }

    /// Reads the blacklist. Returns the primary key of each row, indexed by the primary key of its token.
    async fn read_blacklist(&mut self) -> Result<HashMap<String, String>, ImportError> {
        let section = &self.mapping.blacklisted_tokens;
        let mut blacklisted = HashMap::new();
        if self.importer.has_table("blacklisted_tokens", &section.table).await? {
            let columns = [&*section.token];
            let read = |key, row: &Row| {
                blacklisted.insert(row.key(&section.token)?.unwrap_or_default(), key);
                Ok(())
            };
            self.importer.read_table("blacklisted_tokens", Table::new(&section.table, &section.key, &columns), read).await?;
        }
        Ok(blacklisted)
    }
}

/// Returns the owner and the expiry of a token, or the reason why the token is skipped.
async fn usable(
    token: &mut RowImport<'_, EventLog>,
    user_id: Option<UserId>,
    expires: Option<DateTime<Utc>>,
) -> Result<Result<(UserId, DateTime<Utc>), &'static str>, ImportError> {
    let now = token.now().await?;
    Ok(match (expires, user_id) {
        (None, _) => Err("the token has no expiry"),
        (Some(expires), _) if expires <= now => Err("the token has expired"),
        (_, None) => Err("the token has no user"),
        (_, Some(user_id)) if !django_tokens::has_user(token.tx, user_id).await? => Err("the user was not imported"),
        (Some(expires), Some(user_id)) => Ok((user_id, expires)),
    })
}
