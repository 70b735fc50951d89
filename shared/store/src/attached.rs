//! An INSERT that is sent together with the next statement of its transaction, so that it costs no round trip of its own.
//!
//! On PostgreSQL it becomes a common table expression of that statement, and on SQLite the first of two statements of one command.

use std::{fmt, fmt::Write};

use crate::Query;

/// An INSERT that waits for the next statement.
pub(crate) struct Attached {
    pub(crate) insert: &'static str,
    /// Binds its parameters.
    pub(crate) bind: Box<dyn FnOnce(Query<'_>) -> Query<'_> + Send>,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").field("insert", &self.insert).finish_non_exhaustive()
    }
}

/// Returns the SQL of both statements. The parameters of the INSERT follow the `parameters` of the other statement.
pub(crate) fn joined(insert: &str, sql: &str, parameters: usize, is_sqlite: bool) -> String {
    let mut joined = String::with_capacity(insert.len() + sql.len() + 64);
    joined.push_str(if is_sqlite { "" } else { "WITH attached AS (" });
    let mut parts = insert.split('$');
    joined.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().expect("a parameter is `$` and a number");
        // Writing to a String cannot fail.
        let _ = write!(joined, "${}{}", number + parameters, &part[digits..]);
    }
    joined.push_str(if is_sqlite { "; " } else { ") " });
    joined.push_str(sql);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_the_insert_follow_those_of_the_statement() {
        let insert = "INSERT INTO entries (a, b, c) VALUES ($1, NULL, $2)";
        let sql = "UPDATE things SET name = $2 WHERE id = $1";
        let shifted = "INSERT INTO entries (a, b, c) VALUES ($3, NULL, $4)";
        assert_eq!(joined(insert, sql, 2, false), format!("WITH attached AS ({shifted}) {sql}"));
        assert_eq!(joined(insert, sql, 2, true), format!("{shifted}; {sql}"));
    }
}
