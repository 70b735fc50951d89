//! Counts of what each key holds, for limits per caller, per address or per client.

use std::{collections::HashMap, hash::Hash};

/// The number of things that each key holds. A key that holds nothing occupies no memory.
#[derive(Debug)]
pub struct KeyCounts<K>(HashMap<K, usize>);

impl<K> Default for KeyCounts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> KeyCounts<K> {
    /// Counts one more for a key. Returns false, and counts nothing, if the key holds `limit` or more.
    pub fn add(&mut self, key: K, limit: usize) -> bool {
        if self.0.get(&key).copied().unwrap_or_default() >= limit {
            return false;
        }
        *self.0.entry(key).or_default() += 1;
        true
    }

    /// Counts one less for a key.
    pub fn remove(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Returns true if no key holds anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_the_limit_for_itself() {
        let mut counts = KeyCounts::default();
        assert!(counts.add('a', 2) && counts.add('a', 2) && !counts.add('a', 2));
        assert!(counts.add('b', 1) && !counts.add('c', 0));
        counts.remove(&'a');
        assert!(counts.add('a', 2));
        for key in ['a', 'a', 'b', 'c'] {
            counts.remove(&key);
        }
        assert!(counts.is_empty());
    }
}
