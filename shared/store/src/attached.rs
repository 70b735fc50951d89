//! An INSERT that is sent together with the next statement of its transaction, so that it costs no round trip of its own.
//!
//! On PostgreSQL it becomes a common table expression of that statement, and on SQLite the first of two statements of one command.

use std::fmt;

use crate::query::Arguments;

/// An INSERT that waits for the next statement.
pub(crate) struct Attached {
    pub(crate) insert: &'static str,
    pub(crate) arguments: Arguments,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("insert", &self.insert).finish_non_exhaustive()
    }
}
