//! Records in the audit log that the database was migrated.

use access::{AuditedCall, Clock, Result};
use store::{Db, has_table};

use crate::{AuditLog, Entry};

/// Writes an entry about a run of `migrate`, whose actor is an operating-system user. The fields name its operations, such as
/// `applied.0001_initial`. A database that has no audit log afterwards gets no entry.
pub async fn record_migrations(db: &Db, operating_system_user: String, operations: Vec<String>) -> Result<()> {
    let mut entry = Entry::of_call(&AuditedCall::command("migrate", operating_system_user));
    entry.fields = operations.into_iter().map(Into::into).collect();
    let log = AuditLog::new(db.clone(), Clock::system());
    if has_table(db, "audit_new_event").await? {
        log.record_alone(entry).await
    } else if has_table(db, "audit_event").await? {
        // The database was migrated back to the schema of an earlier version.
        log.record_moved(entry).await
    } else {
        Ok(())
    }
}
