//! The SQL texts that a query derives from the text of its caller. Each is created once in a process, because the same statements run
//! again and again.

use std::{
    borrow::Cow,
    collections::HashMap,
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
    /// The INSERT that is sent with the query, and the number of its parameters.
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

/// Returns the SQL of both statements. The parameters of the INSERT come first, so those of `sql` get greater numbers.
///
/// # Panics
///
/// Panics if the INSERT does not name each of its parameters once and in order, or if one of the texts contains a `$` that is no parameter.
fn joined(insert: &str, sql: &str, parameters: usize, is_sqlite: bool) -> String {
    let mut numbers = Vec::new();
    // The driver looks up the name of each parameter that has one, in a list of all names.
    let unnamed = with_parameters(insert, |number| {
        numbers.push(number);
        "?".to_owned()
    });
    assert!(numbers.into_iter().eq(1..=parameters), "an attached INSERT names each of its parameters once and in order");
    let sql = with_parameters(sql, |number| format!("${}", number + parameters));
    if is_sqlite { format!("{unnamed}; {sql}") } else { format!("WITH attached AS ({insert}) {sql}") }
}

/// Replaces the parameters `$1`, `$2`, … of a statement.
fn with_parameters(sql: &str, mut replacement: impl FnMut(usize) -> String) -> String {
    let mut parts = sql.split('$');
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number = part[..digits].parse().expect("a parameter is `$` and a number");
        replaced.push_str(&replacement(number));
        replaced.push_str(&part[digits..]);
    }
    replaced
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
        let with = "WITH attached AS (INSERT INTO entries VALUES ($1)) SELECT name FROM things WHERE id = $2 FOR UPDATE";
        assert_eq!(attached.get().as_str(), with);
    }

    #[test]
    fn the_parameters_of_the_insert_come_first() {
        let insert = "INSERT INTO entries (a, b, c) VALUES ($1, NULL, $2)";
        let sql = "UPDATE things SET name = $2 WHERE id = $1";
        let shifted = "UPDATE things SET name = $4 WHERE id = $3";
        assert_eq!(joined(insert, sql, 2, false), format!("WITH attached AS ({insert}) {shifted}"));
        assert_eq!(joined(insert, sql, 2, true), format!("INSERT INTO entries (a, b, c) VALUES (?, NULL, ?); {shifted}"));
    }

    #[test]
    fn an_insert_with_another_number_or_order_of_parameters_is_refused() {
        for (values, parameters) in [("$1, $2", 1), ("$1", 2), ("$2, $1", 2), ("$1, $1", 2)] {
            for is_sqlite in [false, true] {
                let insert = format!("INSERT INTO entries VALUES ({values})");
                let refused = std::panic::catch_unwind(|| joined(&insert, SQL, parameters, is_sqlite));
                assert!(refused.is_err(), "{values} with {parameters} values");
            }
        }
    }
}
