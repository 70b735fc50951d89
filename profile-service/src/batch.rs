//! Reads rows by a batch of ids, with one query whose text is always the same.

use shared::{db::Query, id::Id};

/// How many ids one query takes.
pub(crate) const SIZE: usize = 100;

/// The parameters of the ids, separated by commas: `$3, $4, …` where the first is 3.
pub(crate) fn parameters(first: usize) -> String {
    (first..first + SIZE).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// Gives the parameters their values. The last id stands for all those that are not there.
pub(crate) fn bind<'c, T: 'static>(query: Query<'c>, ids: &[Id<T>]) -> Query<'c> {
    let padding = ids.last().into_iter().cycle();
    ids.iter().chain(padding).take(SIZE).fold(query, |query, id| query.bind(*id))
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
