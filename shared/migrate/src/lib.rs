//! The migrations of a service's schema, with the commands that Django has: `migrate`, `showmigrations`, `sqlmigrate` and, with the
//! Cargo feature `autogenerate`, `makemigrations`.
//!
//! A migration is a pair of files, `0002_name.up.sql` and `0002_name.down.sql`, that run on both engines. Statements for one engine
//! follow a line `-- on sqlite:` or `-- on postgres:`. A migration that cannot be undone has a down file that begins with
//! `-- irreversible: ` and the reason. The table `_sqlx_migrations` records the applied ones, as sqlx's own migrator does.
//!
//! A service embeds its migrations with `static MIGRATIONS: Migrator = sqlx::migrate!("./migrations")`, and has the commands in
//! its command line:
//!
//! ```
//! use clap::Parser;
//! use migrate::{CommandError, MigrationCommand, Migrator};
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(subcommand)]
//!     command: MigrationCommand,
//! }
//!
//! async fn run(cli: Cli, migrations: &Migrator) -> Result<(), CommandError> {
//!     cli.command.run("orders", migrations, &[], async |_, operations| Ok(println!("{operations:?}"))).await
//! }
//! # drop(run);
//! # assert!(Cli::try_parse_from(["orders", "showmigrations", "--database-url", "sqlite:orders.db"]).is_ok());
//! ```
//!
//! [`check()`] compares a database with the migrations and with the schema before a service serves. [`plan`], [`migrate_to`] and [`history()`]
//! are the parts of the commands. Each step takes a lock, so that one of several processes migrates and the others wait.
//!
//! # Writing migrations
//!
//! `makemigrations` compares `schema.sql` with the migrations, writes the difference, and runs it forward and backward on both engines. A
//! linter rejects statements that the previous release cannot run with, such as a dropped column. A statement below a line
//! `-- safe: ` with a reason is accepted, and a file that begins with `-- no-transaction` runs its statements one by one.

#[cfg(feature = "autogenerate")]
mod autogenerate;
mod check;
mod command;
mod declared;
mod error;
mod history;
#[cfg(feature = "autogenerate")]
mod lint;
mod records;
mod run;
mod sql;

pub use sqlx::migrate::Migrator;

#[cfg(feature = "autogenerate")]
pub use self::autogenerate::MakeError;
pub use self::{
    check::{OtherService, check, migrate},
    command::{CommandError, MigrationCommand},
    error::SchemaError,
    history::{Change, Entry, Problem, Target},
    run::{MigrationEvent, Mode, history, migrate_to, plan},
    sql::Engine,
};
