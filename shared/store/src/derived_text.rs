//! The SQL texts that a query derives from the text of its caller. Each is created once in a process, because the same statements run
//! again and again.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Write,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// The texts that were derived. Their number is bounded, because the texts that they come from are constants of the program.
static TEXTS: LazyLock<RwLock<HashMap<Key, Arc<str>>>> = LazyLock::new(RwLock::default);

/// The address and the length of a constant, which are compared in less time than its bytes.
type Place = (usize, usize);
/// A value that differs between texts that differ.
type Key = (Place, bool, bool, Option<(Place, usize)>, bool);

/// A text and what is added to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DerivedText {
    /// The text of the caller.
    pub(crate) sql: &'static str,
    /// True if PostgreSQL locks the rows.
    pub(crate) is_for_update: bool,
    /// True if PostgreSQL adds its time to the rows.
    pub(crate) is_timed: bool,
    /// The INSERT that is sent with the query, and the number of parameters before its own.
    pub(crate) attached: Option<(&'static str, usize)>,
    pub(crate) is_sqlite: bool,
}

impl DerivedText {
    /// Returns the text of a caller without changes.
    pub(crate) fn new(sql: &'static str, is_sqlite: bool) -> Self {
        Self { sql, is_for_update: false, is_timed: false, attached: None, is_sqlite }
    }

    /// Returns the text.
    pub(crate) fn get(self) -> SqlStr {
        if !self.is_for_update && !self.is_timed && self.attached.is_none() {
            return self.sql.into_sql_str();
        }
        let key = self.key();
        let found = TEXTS.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let text = found.unwrap_or_else(|| {
            let mut texts = TEXTS.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(texts.entry(key).or_insert_with(|| self.derive().into()))
        });
        AssertSqlSafe(text).into_sql_str()
    }

    fn derive(self) -> String {
        let mut text = Cow::Borrowed(self.sql);
        if self.is_for_update {
            text = Cow::Owned(format!("{text} FOR UPDATE"));
        } else if self.is_timed {
            text = Cow::Owned(format!("SELECT clock_timestamp() AS read_time, found.* FROM ({text}) AS found"));
        }
        match self.attached {
            Some((insert, parameters)) => joined(insert, &text, parameters, self.is_sqlite),
            None => text.into_owned(),
        }
    }

    fn key(self) -> Key {
        let place = |text: &'static str| (text.as_ptr().addr(), text.len());
        let attached = self.attached.map(|(insert, parameters)| (place(insert), parameters));
        (place(self.sql), self.is_for_update, self.is_timed, attached, self.is_sqlite)
    }
}

/// Returns the SQL of both statements. The parameters of the INSERT follow the `parameters` of the other statement.
fn joined(insert: &str, sql: &str, parameters: usize, is_sqlite: bool) -> String {
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

    const SQL: &str = "SELECT name FROM things WHERE id = $1";

    #[test]
    fn a_text_is_created_once() {
        let plain = DerivedText::new(SQL, false);
        let locked = DerivedText { is_for_update: true, ..plain };
        assert_eq!((plain.get().as_str(), locked.get().as_str()), (SQL, "SELECT name FROM things WHERE id = $1 FOR UPDATE"));
        assert!(std::ptr::eq(locked.get().as_str(), locked.get().as_str()));
        let timed = DerivedText { is_timed: true, ..plain };
        assert!(timed.get().as_str().starts_with("SELECT clock_timestamp() AS read_time, found.* FROM (SELECT name"));
        let attached = DerivedText { attached: Some(("INSERT INTO entries VALUES ($1)", 1)), ..locked };
        let with = "WITH attached AS (INSERT INTO entries VALUES ($2)) SELECT name FROM things WHERE id = $1 FOR UPDATE";
        assert_eq!(attached.get().as_str(), with);
    }

    #[test]
    fn the_parameters_of_the_insert_follow_those_of_the_statement() {
        let insert = "INSERT INTO entries (a, b, c) VALUES ($1, NULL, $2)";
        let sql = "UPDATE things SET name = $2 WHERE id = $1";
        let shifted = "INSERT INTO entries (a, b, c) VALUES ($3, NULL, $4)";
        assert_eq!(joined(insert, sql, 2, false), format!("WITH attached AS ({shifted}) {sql}"));
        assert_eq!(joined(insert, sql, 2, true), format!("{shifted}; {sql}"));
    }
}
