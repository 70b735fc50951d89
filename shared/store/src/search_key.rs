//! Search keys: texts in the form in which searches and lists compare them, without regard to case.
//!
//! A key is computed here and stored as UTF-8 bytes, because the engines fold case differently, and PostgreSQL's order of texts depends
//! on the collation of the database.
//!
//! ```
//! use store::search_key::search_key;
//!
//! assert_eq!(search_key("Zürich"), search_key("ZÜRICH"));
//! ```

use std::{convert::Infallible, time::Duration};

use access::error::error_chain;
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

use crate::Result;

/// The time until a failed step of [`fill`] is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Returns the key of a text. Texts have the same key if they differ only in case or in the composition of their characters.
pub fn search_key(text: &str) -> String {
    let composed: String = text.nfc().collect();
    UniCase::unicode(composed).to_folded_case().nfc().collect()
}

/// Returns the pattern for `key LIKE $1 ESCAPE '!'` that matches the keys of the texts that contain `text`.
pub fn containing(text: &str) -> Vec<u8> {
    let escaped = search_key(text).replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%").into_bytes()
}

/// Returns the bounds for `key >= $1 AND key < $2` that select the keys of the texts that begin with `text`.
pub fn starting_with(text: &str) -> (Vec<u8>, Vec<u8>) {
    prefix_range(&search_key(text))
}

/// Returns the bounds that select the keys that begin with `prefix`.
pub fn prefix_range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    // UTF-8 never contains the byte 0xFF, so every text that begins with the prefix is less than the end.
    (prefix.into(), [prefix.as_bytes(), &[0xFF]].concat())
}

/// Computes missing keys until there are none, and never returns. `step` computes some keys and returns their number. `keys`
/// names them in the log. A step that fails is repeated after 5 seconds.
pub async fn fill<F>(keys: &str, step: impl Fn() -> F + Send) -> Infallible
where
    F: Future<Output = Result<usize>> + Send,
{
    let mut filled = 0;
    loop {
        match step().await {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "cannot compute the {keys}; trying again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
    if filled > 0 {
        tracing::info!(filled, "computed the {keys}");
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_only_in_case_or_composition_have_one_key() {
        for (one, other) in [
            ("Straße", "STRASSE"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("Ångström", "A\u{30a}NGSTRO\u{308}M"),
            ("ΦΟΣ", "φοσ"),
            ("ǰ", "J\u{30c}"),
        ] {
            assert_eq!(search_key(one), search_key(other), "{one} {other}");
        }
        assert_ne!(search_key("resume"), search_key("résumé"));
    }

    #[test]
    fn the_key_of_a_key_is_the_key() {
        for text in ["Straße", "ΣΊΣΥΦΟΣ", "A\u{30a}", "İstanbul", "ﬃ", "\u{345}\u{301}Α"] {
            assert_eq!(search_key(&search_key(text)), search_key(text), "{text}");
        }
    }

    #[test]
    fn wildcards_are_ordinary_characters() {
        assert_eq!(containing("50%_!A"), b"%50!%!_!!a%");
        assert_eq!(starting_with("Al"), (b"al".to_vec(), b"al\xFF".to_vec()));
    }
}
