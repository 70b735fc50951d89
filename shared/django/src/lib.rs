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
