//! Reads rows by a batch of ids, with one query text for every size of the batch.
//!
//! The text contains [`parameters`] in `id IN (…)`. A caller with more ids runs it once for each [`SIZE`] of them:
//! `ids.chunks(batch::SIZE)`.

use std::{collections::HashMap, hash::Hash};

use crate::Query;
use access::{Error, Id, Result};

/// The number of ids that one query takes.
pub const SIZE: usize = 100;

/// Returns the parameters of the ids, separated by commas: `$3, $4, …` if `first` is 3.
pub fn parameters(first: usize) -> String {
    (first..first + SIZE).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// Binds 1 to [`SIZE`] ids to the next [`SIZE`] parameters. The last id fills the parameters that are left over. Further ids are
/// ignored, and a query without ids fails, because its parameters have no values.
pub fn bind<'c, T: 'static>(query: Query<'c>, ids: &[Id<T>]) -> Query<'c> {
    let padding = ids.last().into_iter().cycle();
    ids.iter().chain(padding).take(SIZE).fold(query, |query, id| query.bind(*id))
}

/// Orders rows by the keys of a batch. A key may occur more than once.
///
/// # Errors
///
/// Returns NOT_FOUND that names the index in `field` of a key without a row.
pub fn order_by_keys<K: Eq + Hash, R: Clone>(field: &str, keys: &[K], rows: Vec<R>, key: impl Fn(&R) -> K) -> Result<Vec<R>> {
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
