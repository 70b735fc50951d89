//! The text of a seal that is published where an intruder into the database cannot change it, for example in the log.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// The part of a seal that is published: its number and its MAC, as `17.BASE64URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSeal {
    pub(crate) seal_id: i64,
    pub(crate) mac: Vec<u8>,
}

impl PublishedSeal {
    /// Returns the number of the seal.
    pub fn seal_id(&self) -> i64 {
        self.seal_id
    }
}

impl fmt::Display for PublishedSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seal_id, BASE64_URL_SAFE_NO_PAD.encode(&self.mac))
    }
}

/// The error of a text that is not a published seal.
#[derive(Debug, thiserror::Error)]
#[error("must be a seal as the log shows it, for example 17.mB2…")]
pub struct PublishedSealError;

impl FromStr for PublishedSeal {
    type Err = PublishedSealError;

    fn from_str(text: &str) -> Result<Self, PublishedSealError> {
        let (seal_id, mac) = text.split_once('.').ok_or(PublishedSealError)?;
        let seal_id = seal_id.parse().map_err(|_| PublishedSealError)?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).map_err(|_| PublishedSealError)?;
        if seal_id < 1 || mac.len() != 32 { Err(PublishedSealError) } else { Ok(Self { seal_id, mac }) }
    }
}

/// The name of the field of a log line that holds a seal.
const FIELD: &str = "audit_seal";

/// Returns the seal with the largest number in the lines of a log, whether they are text or JSON.
pub fn newest_in_log<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<PublishedSeal> {
    let seals = lines.into_iter().filter_map(|line| {
        // `audit_seal="17.…"` in text, possibly with the color codes of a terminal, and `"audit_seal":"17.…"` in JSON.
        let rest = &line[line.find(FIELD)? + FIELD.len()..];
        let rest = &rest[rest.find(['=', ':'])? + 1..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let begin = rest.find('"').map_or(0, |quote| quote + 1);
        rest[begin..].split(|c| !is_part(c)).find_map(|word| word.parse().ok())
    });
    seals.max_by_key(PublishedSeal::seal_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_seal_is_found_in_a_log() {
        let seal = |seal_id| PublishedSeal { seal_id, mac: vec![251; 32] };
        let lines = [
            "2026-01-01T00:00:00Z  INFO serving".to_owned(),
            format!("2026-01-01T00:01:00Z  INFO the newest seal of the audit log audit_seal=\"{}\"", seal(9)),
            format!("{{\"level\":\"INFO\",\"message\":\"x\",\"audit_seal\":\"{}\"}}", seal(12)),
            format!("INFO \u{1b}[3maudit_seal\u{1b}[0m\u{1b}[2m=\u{1b}[0m\"{}\"", seal(11)),
            "INFO audit_seal=\"nonsense\"".to_owned(),
        ];
        assert_eq!(newest_in_log(lines.iter().map(String::as_str)), Some(seal(12)));
        assert_eq!(newest_in_log([lines[3].as_str()]), Some(seal(11)));
        assert_eq!(newest_in_log(["nothing"]), None);
        assert_eq!(seal(3).to_string().parse::<PublishedSeal>().expect("a seal"), seal(3));
        for bad in ["", "3", "3.AA", "0.x", "x.y"] {
            assert!(bad.parse::<PublishedSeal>().is_err(), "{bad}");
        }
    }
}
