//! Moves users and data from a Django project.
//!
//! A [`Source`] is a database that Django created, or a file that `dumpdata` wrote. The id of an imported row is computed from the
//! name of the project and the row's key in Django ([`row_id`]), so that every service and every run computes the same id.
//! [`tokens`] verifies the tokens that the project's djangorestframework-simplejwt has issued, until the last of them has expired.
//!
//! ```
//! let id = django::user_id("shop", "7");
//! assert_eq!(id, django::user_id("shop", "7"));
//! assert_ne!(id, django::user_id("blog", "7"));
//! ```
//!
//! # An import
//!
//! 1. [`ImportArgs`] are the flags of `import django`: the source, the project, and the names of tables and columns.
//! 2. An [`Importer`] reads the rows of a table from the [`Source`], and passes each to a function of the service as a [`RowImport`].
//!    That function writes the row in a transaction, which also records that the row was imported.
//! 3. The [`Report`] counts every row as imported, present, or skipped with a reason.
//!
//! A row is imported once. An import that was interrupted continues with the next run, and changes that were made here since are kept.

mod batch;
mod command;
mod database;
mod dump;
mod ids;
mod importer;
mod mapping;
mod project;
mod report;
mod row;
mod source;
pub mod tokens;

pub use self::{
    batch::ImportSink,
    command::{ImportArgs, ImportError},
    ids::{row_id, user_id},
    importer::{Importer, RowImport},
    mapping::{JoinSection, OwnedJoin},
    report::{LeftOut, Report, RowOutcome, TableReport},
    row::{Row, RowError},
    source::{Join, Rows, Source, SourceError, Table},
};
