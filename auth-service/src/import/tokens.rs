//! The refresh tokens of simplejwt's `token_blacklist`: those that have not expired.

use std::collections::HashMap;

use django::{ImportError, RowOutcome, Table};
use tokio_stream::StreamExt;

use super::Import;
use crate::legacy;

impl Import<'_> {
    pub(super) async fn import_tokens(&mut self) -> Result<(), ImportError> {
        let mut blacklisted = self.blacklisted().await?;
        let section = self.mapping.outstanding_tokens.clone();
        if self.source.has(&section.table).await? {
            self.batch.start_table("tokens", self.source.count(&section.table).await?).await?;
            let columns = [&*section.user, &*section.jti, &*section.expires_at];
            let mut rows = self.source.rows(Table::new(&section.table, &section.key, &columns)).await?;
            while let Some(row) = rows.next().await {
                let row = row?;
                let key = row.key(&section.key)?.unwrap_or_default();
                let (user, jti, expires) = (row.key(&section.user)?, row.text(&section.jti)?, row.time(&section.expires_at)?);
                let tx = self.batch.tx().await?;
                let now = tx.now(&self.clock).await?;
                let user_id = user.map(|user| django::user_id(self.origin, &user));
                let reason = match (expires, user_id) {
                    (None, _) => Some("it never expires"),
                    (Some(expires), _) if expires <= now => Some("it has expired"),
                    (_, None) => Some("it belongs to nobody"),
                    (_, Some(user_id)) if !legacy::has_user(tx, user_id).await? => Some("its user has not come over"),
                    _ => None,
                };
                let listed = blacklisted.remove(&key);
                let (Some(expires), Some(user_id), None) = (expires, user_id, reason) else {
                    let skipped = || RowOutcome::Skipped(reason.unwrap_or("it can't be read").to_owned());
                    self.report.entry("outstanding_tokens").count(&*key, skipped());
                    if let Some(listed) = listed {
                        self.report.entry("blacklisted_tokens").count(listed, skipped());
                    }
                    continue;
                };
                let outcome = if django::mark_imported(tx, django::row_id(self.origin, "outstanding_token", &key)).await? {
                    legacy::add_token(tx, self.origin, &jti, user_id, expires).await?;
                    RowOutcome::Imported
                } else {
                    RowOutcome::AlreadyImported
                };
                self.report.entry("outstanding_tokens").count(&*key, outcome);
                if let Some(listed) = listed {
                    let row_id = django::row_id(self.origin, "blacklisted_token", &listed);
                    let outcome = if !django::mark_imported(tx, row_id).await? {
                        RowOutcome::AlreadyImported
                    } else if legacy::blacklist(tx, self.origin, &jti).await? {
                        RowOutcome::Imported
                    } else {
                        django::unmark(tx, row_id).await?;
                        RowOutcome::Skipped("it was traded here for a session".to_owned())
                    };
                    self.report.entry("blacklisted_tokens").count(listed, outcome);
                }
            }
        }
        for key in blacklisted.into_values() {
            self.report.entry("blacklisted_tokens").count(key, RowOutcome::Skipped("there is no such token".to_owned()));
        }
        Ok(())
    }

    /// The keys of the blacklist's rows, by the tokens that they name.
    async fn blacklisted(&mut self) -> Result<HashMap<String, String>, ImportError> {
        let section = &self.mapping.blacklisted_tokens;
        let mut blacklisted = HashMap::new();
        if self.source.has(&section.table).await? {
            let columns = [&*section.token];
            let mut rows = self.source.rows(Table::new(&section.table, &section.key, &columns)).await?;
            while let Some(row) = rows.next().await {
                let row = row?;
                let token = row.key(&section.token)?.unwrap_or_default();
                blacklisted.insert(token, row.key(&section.key)?.unwrap_or_default());
            }
        }
        Ok(blacklisted)
    }
}
