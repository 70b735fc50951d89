//! Reads rows by a batch of ids, with one query whose text is always the same.

use std::{collections::HashMap, hash::Hash};

use crate::{Error, Result, db::Query, id::Id};

/// How many ids one query takes.
pub const SIZE: usize = 100;

/// The parameters of the ids, separated by commas: `$3, $4, …` where the first is 3.
pub fn parameters(first: usize) -> String {
    (first..first + SIZE).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// Gives the parameters their values. The last id stands for all those that are not there.
pub fn bind<'c, T: 'static>(query: Query<'c>, ids: &[Id<T>]) -> Query<'c> {
    let padding = ids.last().into_iter().cycle();
    ids.iter().chain(padding).take(SIZE).fold(query, |query, id| query.bind(*id))
}

/// The rows that a batch asks for, in the order of its keys, some of which may be the same.
///
/// # Errors
///
/// NOT_FOUND that names the place in `field` of a key without a row.
pub fn in_order<K: Eq + Hash, R: Clone>(field: &str, keys: &[K], rows: Vec<R>, key: impl Fn(&R) -> K) -> Result<Vec<R>> {
    let rows: HashMap<K, R> = rows.into_iter().map(|row| (key(&row), row)).collect();
    let at = |(index, key)| rows.get(key).cloned().ok_or_else(|| Error::not_found(format!("{field}[{index}]")));
    keys.iter().enumerate().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_parameter_for_each_id() {
        let parameters = parameters(3);
        assert!(parameters.starts_with("$3, $4, ") && parameters.ends_with(", $102"));
        assert_eq!(parameters.matches('$').count(), SIZE);
    }
}
