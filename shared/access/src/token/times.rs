//! The times in a token, and the text that identifies it.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::TokenError;

/// How far the clocks of two machines may differ, in seconds.
pub(super) const LEEWAY: f64 = 30.0;
/// The longest lifetime of an access token, in seconds.
const LONGEST_LIFE: f64 = 24.0 * 3600.0;
/// 2100-01-01: the latest time that a token may hold.
const LAST_TIME: f64 = 4_102_444_800.0;

/// The checked `exp` and `iat` of a token, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenTimes {
    /// When it expires.
    pub expires: f64,
    /// When it was issued.
    pub issued: f64,
}

impl TokenTimes {
    /// Reads and checks `exp`, `iat` and `nbf` (RFC 7519 section 4.1): numbers until the year 2100, `exp` after `iat`, 30 seconds of
    /// leeway. If `is_short`, the lifetime is at most 24 hours.
    ///
    /// # Errors
    ///
    /// Returns `Times`, `NotYetValid` or `Expired`.
    pub fn check(claims: &Map<String, Value>, now: DateTime<Utc>, is_short: bool) -> Result<Self, TokenError> {
        let now = seconds(now);
        let time = |name| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|time| (0.0..=LAST_TIME).contains(time)).map(Some).ok_or(TokenError::Times),
        };
        let (expires, issued) = (time("exp")?.ok_or(TokenError::Times)?, time("iat")?.ok_or(TokenError::Times)?);
        if expires <= issued || is_short && expires - issued > LONGEST_LIFE {
            return Err(TokenError::Times);
        }
        if issued > now + LEEWAY || time("nbf")?.is_some_and(|not_before| not_before > now + LEEWAY) {
            return Err(TokenError::NotYetValid);
        }
        if expires <= now - LEEWAY {
            return Err(TokenError::Expired);
        }
        Ok(Self { expires, issued })
    }

    /// Returns `exp` and `iat` in whole seconds.
    #[expect(clippy::cast_possible_truncation, reason = "times before the year 2100 fit")]
    pub fn whole_seconds(self) -> (i64, i64) {
        (self.expires.floor() as i64, self.issued.floor() as i64)
    }
}

/// Returns true for text that is safe to show: 1 to 255 bytes, without control or bidirectional characters.
pub fn is_plain(text: &str) -> bool {
    let is_bidi = |c| matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.is_empty() && text.len() <= 255 && !text.chars().any(|c| c.is_control() || is_bidi(c))
}

#[allow(clippy::cast_precision_loss, reason = "seconds until the year 2100 fit a float to the microsecond")]
pub(super) fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}
