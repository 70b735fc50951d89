//! The times in a token, and the text that identifies it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::TokenError;

/// The longest lifetime of an access token: 24 hours. A [`Verifier`](super::Verifier) rejects a token whose `exp` is later after
/// its `iat`.
pub const MAX_ACCESS_TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(24);

/// The largest accepted difference between the clocks of two machines, in seconds.
const LEEWAY: f64 = 30.0;
/// 2100-01-01: the latest time that a token may hold.
const LAST_TIME: f64 = 4_102_444_800.0;

/// The checked `exp` and `iat` of a token, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenTimes {
    /// The time of expiry.
    pub expires: f64,
    /// The time of issue.
    pub issued: f64,
}

impl TokenTimes {
    /// Reads and checks `exp`, `iat` and `nbf` (RFC 7519 section 4.1).
    ///
    /// Each must be a number of seconds that is not after the start of the year 2100. `exp` must be after `iat`, by at most
    /// `max_lifetime` if it is set. The comparison with `now` has a leeway of 30 seconds. `nbf` is optional.
    ///
    /// # Errors
    ///
    /// Returns `Times`, `NotYetValid` or `Expired`.
    pub fn check(claims: &Map<String, Value>, now: DateTime<Utc>, max_lifetime: Option<TimeDelta>) -> Result<Self, TokenError> {
        let time = |name| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().filter(|time| (0.0..=LAST_TIME).contains(time)).map(Some).ok_or(TokenError::Times),
        };
        let (expires, issued) = (time("exp")?.ok_or(TokenError::Times)?, time("iat")?.ok_or(TokenError::Times)?);
        if expires <= issued || max_lifetime.is_some_and(|max| expires - issued > max.as_seconds_f64()) {
            return Err(TokenError::Times);
        }
        let latest_start = seconds(now) + LEEWAY;
        if issued > latest_start || time("nbf")?.is_some_and(|not_before| not_before > latest_start) {
            return Err(TokenError::NotYetValid);
        }
        if is_expired(expires, now) {
            return Err(TokenError::Expired);
        }
        Ok(Self { expires, issued })
    }

    /// Returns `exp` and `iat` in whole seconds.
    #[expect(clippy::cast_possible_truncation, reason = "times before the year 2100 fit")]
    pub fn whole_seconds(self) -> (i64, i64) {
        (self.expires.floor() as i64, self.issued.floor() as i64)
    }

    /// Returns the time from which a token is rejected as expired: `exp` plus the leeway, rounded up to a whole second.
    #[expect(clippy::cast_possible_truncation, reason = "times before the year 2100 fit")]
    #[expect(clippy::missing_panics_doc, reason = "it cannot panic")]
    pub fn rejected_from(self) -> DateTime<Utc> {
        DateTime::from_timestamp((self.expires + LEEWAY).ceil() as i64, 0).expect("`check` rejects times after the year 2100")
    }
}

/// Returns true if a token with this `exp` is rejected at `now`.
pub(super) fn is_expired(expires: f64, now: DateTime<Utc>) -> bool {
    expires <= seconds(now) - LEEWAY
}

/// Returns true for text that is safe to show: 1 to 255 bytes, without control or bidirectional characters.
pub fn is_plain(text: &str) -> bool {
    let is_bidi = |c| matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.is_empty() && text.len() <= 255 && !text.chars().any(|c| c.is_control() || is_bidi(c))
}

#[expect(clippy::cast_precision_loss, reason = "seconds until the year 2100 fit a float to the microsecond")]
fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}
