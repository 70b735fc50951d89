//! Entries about migrations.

use audit::record_migrations;
use testing::on_both_engines;

use crate::app::App;

on_both_engines! {
    async fn a_migration_back_is_recorded_where_the_earlier_version_reads_it(app: App) {
        let record = async |operation: &str| record_migrations(&app.db, "root".to_owned(), vec![operation.to_owned()]).await.expect("an entry");
        record("applied.0013_audit_new_event").await;
        app.seal().await.expect("a seal");
        app.execute("DROP TABLE audit_new_event").await;
        record("unapplied.0013_audit_new_event").await;
        assert_eq!(app.count("SELECT COUNT(*) FROM audit_event WHERE fields = 'applied.0013_audit_new_event'").await, 1);
        assert_eq!(app.count("SELECT COUNT(*) FROM audit_event WHERE fields = 'unapplied.0013_audit_new_event'").await, 1);
        app.execute("DROP TABLE audit_event").await;
        record("unapplied.0012_audit_log").await;
    }
}
