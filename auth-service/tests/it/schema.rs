//! The migrations build the schema that `schema.sql` declares.

use std::process::Stdio;

use auth_service::MIGRATIONS;
use migrate::{Mode, Target, migrate, migrate_to};
use testing::on_both_engines;

use crate::starting::{Fresh, assert_fails, process};

on_both_engines! {
    async fn schema_sql_has_no_changes_without_a_migration_and_all_are_safe_to_release(app: Fresh) {
        let mut check = app.command("makemigrations");
        let output = check.args(["--check", "--source", env!("CARGO_MANIFEST_DIR")]).stderr(Stdio::piped()).stdout(Stdio::piped());
        let output = output.output().expect("a process");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    }

    async fn the_schema_is_the_same_after_all_migrations_are_reverted_and_applied(app: Fresh) {
        let db = app.0.open();
        migrate(&db, &MIGRATIONS).await.expect("migrations");
        let schema = app.0.schema().await;
        assert!(!schema.is_empty());
        migrate_to(&db, &MIGRATIONS, &Target::Zero, Mode::Run, |_| {}).await.expect("reverted migrations");
        assert_eq!(app.0.schema().await, [""; 0]);
        migrate(&db, &MIGRATIONS).await.expect("migrations");
        assert_eq!(app.0.schema().await, schema);
    }
}

#[test]
fn makemigrations_needs_the_sources() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut make = process(&["makemigrations", "x"]);
    let output = make.env_remove("CARGO_MANIFEST_DIR").current_dir(folder.path()).stderr(Stdio::piped()).output();
    assert_fails(&output.expect("a process"), ". has no schema.sql and migrations/: run `makemigrations` in the source tree");
}
