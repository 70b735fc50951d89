//! Verifies the password hashes that Django writes (`django.contrib.auth.hashers`). The first Login replaces them.
//!
//! The cost of such a hash is limited, because it was not chosen by our policy.

use std::{fmt::Write, num::NonZeroU32};

use access::Result;
use argon2::Block;
use aws_lc_rs::{constant_time, digest, pbkdf2};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Stored, invalid};

/// The limits on the cost of a hash. Each limit is a few times the default of Django 5.2. Verifying a hash at a limit takes at
/// most 1.5 seconds on one core.
const MAX_PBKDF2_ITERATIONS: u32 = 5_000_000;
const MAX_ARGON2_MEMORY: u32 = 256 * 1024;
const MAX_ARGON2_WORK: u64 = 4 * 256 * 1024;
const MAX_BCRYPT_COST: u32 = 14;
const MAX_SCRYPT_MEMORY: u64 = 256 << 20;
const MAX_SCRYPT_WORK: u64 = 1 << 22;
/// The maximum length of a salt, in bytes. Django uses 22.
const MAX_SALT_LENGTH: usize = 128;

/// The error for a hash that this module cannot verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum DjangoHashError {
    #[error("the hash algorithm `{0}` is not supported")]
    Unknown(String),
    #[error("the `{0}` hash is malformed")]
    Malformed(&'static str),
    #[error("the cost of the `{0}` hash is above the limit")]
    TooCostly(&'static str),
}

/// Checks that this module can verify a hash that Django wrote. Accepts an empty hash and a hash that begins with `!`, which mean
/// that the user has no password.
pub fn check(encoded: &str) -> Result<(), DjangoHashError> {
    if encoded.is_empty() || encoded.starts_with('!') { Ok(()) } else { DjangoHash::parse(encoded).map(drop) }
}

/// A parsed hash that Django wrote.
pub(super) enum DjangoHash {
    Pbkdf2 { algorithm: pbkdf2::Algorithm, iterations: NonZeroU32, salt: String, output: Vec<u8> },
    Argon2(Stored),
    Bcrypt { hashes_first: bool, hash: String },
    Scrypt { params: scrypt::Params, salt: String, output: Vec<u8> },
}

impl DjangoHash {
    pub(super) fn parse(encoded: &str) -> Result<Self, DjangoHashError> {
        let (name, rest) = encoded.split_once('$').unwrap_or((encoded, ""));
        match name {
            "pbkdf2_sha256" => parse_pbkdf2("pbkdf2_sha256", rest, pbkdf2::PBKDF2_HMAC_SHA256, digest::SHA256_OUTPUT_LEN),
            "pbkdf2_sha1" => parse_pbkdf2("pbkdf2_sha1", rest, pbkdf2::PBKDF2_HMAC_SHA1, digest::SHA1_OUTPUT_LEN),
            "argon2" => parse_argon2(rest),
            "bcrypt_sha256" => parse_bcrypt("bcrypt_sha256", rest, true),
            "bcrypt" => parse_bcrypt("bcrypt", rest, false),
            "scrypt" => parse_scrypt(rest),
            // The error contains only the short name before the first `$`, because other text may be a password in plain text.
            _ if encoded.contains('$') && name.len() <= 32 => Err(DjangoHashError::Unknown(name.escape_debug().to_string())),
            _ => Err(DjangoHashError::Unknown("unnamed".to_owned())),
        }
    }

    pub(super) fn matches(&self, password: &str, memory: &mut Vec<Block>) -> Result<bool> {
        match self {
            Self::Pbkdf2 { algorithm, iterations, salt, output } => {
                Ok(pbkdf2::verify(*algorithm, *iterations, salt.as_bytes(), password.as_bytes(), output).is_ok())
            }
            Self::Argon2(stored) => {
                let previous_len = memory.len();
                let outcome = stored.matches(password, memory);
                // Django's hashes use five times as much memory as ours. Without this, the thread would keep that memory.
                memory.truncate(previous_len);
                memory.shrink_to_fit();
                outcome
            }
            Self::Bcrypt { hashes_first: true, hash } => {
                let digest = digest::digest(&digest::SHA256, password.as_bytes());
                let mut hex = String::with_capacity(64);
                for byte in digest.as_ref() {
                    write!(hex, "{byte:02x}").map_err(invalid)?;
                }
                bcrypt::verify(hex, hash).map_err(invalid)
            }
            Self::Bcrypt { hashes_first: false, hash } => bcrypt::verify(password, hash).map_err(invalid),
            Self::Scrypt { params, salt, output } => {
                let mut found = vec![0; output.len()];
                scrypt::scrypt(password.as_bytes(), salt.as_bytes(), params, &mut found).map_err(invalid)?;
                Ok(constant_time::verify_slices_are_equal(&found, output).is_ok())
            }
        }
    }
}

/// Parses `ITERATIONS$SALT$HASH`.
fn parse_pbkdf2(
    name: &'static str,
    rest: &str,
    algorithm: pbkdf2::Algorithm,
    length: usize,
) -> Result<DjangoHash, DjangoHashError> {
    let malformed = || DjangoHashError::Malformed(name);
    let [iterations, salt, output] = parts(rest).ok_or_else(malformed)?;
    let iterations: u64 = number(iterations).ok_or_else(malformed)?;
    let salt = parse_salt(salt).ok_or_else(malformed)?;
    let output = parse_output(output, length).ok_or_else(malformed)?;
    let iterations = u32::try_from(iterations).ok().filter(|iterations| *iterations <= MAX_PBKDF2_ITERATIONS);
    let iterations = NonZeroU32::new(iterations.ok_or(DjangoHashError::TooCostly(name))?).ok_or_else(malformed)?;
    Ok(DjangoHash::Pbkdf2 { algorithm, iterations, salt, output })
}

/// Parses a PHC string without its first `$`.
fn parse_argon2(rest: &str) -> Result<DjangoHash, DjangoHashError> {
    let stored = Stored::parse(&format!("${rest}")).ok_or(DjangoHashError::Malformed("argon2"))?;
    let work = u64::from(stored.params.m_cost()) * u64::from(stored.params.t_cost());
    if stored.params.m_cost() > MAX_ARGON2_MEMORY || work > MAX_ARGON2_WORK {
        return Err(DjangoHashError::TooCostly("argon2"));
    }
    Ok(DjangoHash::Argon2(stored))
}

/// Parses `$2b$COST$SALT-AND-HASH`.
fn parse_bcrypt(name: &'static str, rest: &str, hashes_first: bool) -> Result<DjangoHash, DjangoHashError> {
    let parts: bcrypt::HashParts = rest.parse().map_err(|_| DjangoHashError::Malformed(name))?;
    if parts.get_cost() > MAX_BCRYPT_COST {
        return Err(DjangoHashError::TooCostly(name));
    }
    // The version `2x` is not accepted, because it marks the hashes of a faulty implementation.
    if !["$2a$", "$2b$", "$2y$"].iter().any(|version| rest.starts_with(version)) || parts.get_cost() < 4 {
        return Err(DjangoHashError::Malformed(name));
    }
    Ok(DjangoHash::Bcrypt { hashes_first, hash: rest.to_owned() })
}

/// Parses `N$SALT$R$P$HASH`.
fn parse_scrypt(rest: &str) -> Result<DjangoHash, DjangoHashError> {
    let malformed = || DjangoHashError::Malformed("scrypt");
    let [n, salt, r, p, output] = parts(rest).ok_or_else(malformed)?;
    let (n, r, p): (u64, u64, u64) =
        (number(n).ok_or_else(malformed)?, number(r).ok_or_else(malformed)?, number(p).ok_or_else(malformed)?);
    if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
        return Err(malformed());
    }
    let block = r.saturating_mul(128);
    let memory = block.saturating_mul(n.saturating_add(p));
    if memory > MAX_SCRYPT_MEMORY || n.saturating_mul(r).saturating_mul(p) > MAX_SCRYPT_WORK {
        return Err(DjangoHashError::TooCostly("scrypt"));
    }
    let small = |number: u64| u32::try_from(number).map_err(|_| malformed());
    let log_n = u8::try_from(n.ilog2()).map_err(|_| malformed())?;
    let params = scrypt::Params::new(log_n, small(r)?, small(p)?).map_err(|_| malformed())?;
    let salt = parse_salt(salt).ok_or_else(malformed)?;
    Ok(DjangoHash::Scrypt { params, salt, output: parse_output(output, 64).ok_or_else(malformed)? })
}

fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split('$').collect::<Vec<_>>().try_into().ok()
}

/// Parses a number without a sign or leading zeros.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn parse_salt(salt: &str) -> Option<String> {
    (1..=MAX_SALT_LENGTH).contains(&salt.len()).then(|| salt.to_owned())
}

fn parse_output(output: &str, length: usize) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(output).ok().filter(|output| output.len() == length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "Pa$$wörd of Django";

    fn matches(encoded: &str, password: &str) -> bool {
        DjangoHash::parse(encoded).expect(encoded).matches(password, &mut Vec::new()).expect("an answer")
    }

    /// Hashes that Django 5.2 wrote.
    const HASHES: &[&str] = &[
        "pbkdf2_sha256$1000000$z7qCbSLbdNcQqCCYVGDQui$woBpwBg4+kvwH7mx/9xf6Gp0rMMKn+7j/6kpXS0kF+E=",
        "pbkdf2_sha1$1000000$jHv87Qawwjetxp1JLcA1X1$26D8KuKCMzTjsLHo+rBdmpbD3Rg=",
        "argon2$argon2id$v=19$m=102400,t=2,p=8$dUF1YVZuQnVPTXNHS1JvMUsyekpZeQ$ATvIweVGAZYpSl3SY8iPcscXZpY7JYPjksRNDCWVosc",
        "bcrypt_sha256$$2b$12$neDsD5uTxqoNBdDaIEZSeOH./vRfAFrudECsXv8xdwywN3fbtJgQu",
        "bcrypt$$2b$12$TvYLR2erexZRV0pAgeZIn.SLLwbQJifwKOdqZMIfJNLiBhliliPSm",
        "scrypt$16384$9CWRgzj1Qm71GyskYHZqrv$8$5$1ob0s64baPuNFS/WZ5WEwfLHVYTKsFCctteAeCx29AJ3JQ3L1hb+BDg271mxSKV4IFcDLKSa60IH4qVT2Z6kQQ==",
    ];

    #[test]
    fn hashes_of_django_5_2_verify() {
        for hash in HASHES {
            assert!(check(hash).is_ok(), "{hash}");
            assert!(matches(hash, PASSWORD), "{hash}");
            assert!(!matches(hash, "Pa$$word of Django"), "{hash}");
            assert!(!matches(hash, ""), "{hash}");
        }
    }

    #[test]
    fn a_user_without_a_password_is_accepted_and_matches_none() {
        for unusable in ["", "!", "!kPqZ4m2uQ0Zl8rT3bW5xYcVdNfGhJkLmPoIuYtRe"] {
            assert_eq!(check(unusable), Ok(()));
            assert!(Stored::parse(unusable).is_none());
        }
    }

    #[test]
    fn a_hash_above_the_cost_limit_is_rejected_before_it_is_computed() {
        let (salt, pbkdf2, scrypt) = ("salt", BASE64_STANDARD.encode([7; 32]), BASE64_STANDARD.encode([7; 64]));
        let phc = |cost: &str| format!("argon2$argon2id$v=19${cost}$c29tZXNhbHRzb21l$AAECAwQFBgcICQoLDA0ODw");
        let bcrypt = |cost: &str| format!("bcrypt$$2b${cost}$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW");
        for (costly, name) in [
            (format!("pbkdf2_sha256$5000001${salt}${pbkdf2}"), "pbkdf2_sha256"),
            (format!("pbkdf2_sha256$18446744073709551615${salt}${pbkdf2}"), "pbkdf2_sha256"),
            (format!("pbkdf2_sha1$4294967296${salt}${}", BASE64_STANDARD.encode([7; 20])), "pbkdf2_sha1"),
            (phc("m=262145,t=1,p=1"), "argon2"),
            (phc("m=4194304,t=1,p=1"), "argon2"),
            (phc("m=262144,t=5,p=1"), "argon2"),
            (phc("m=8,t=4294967295,p=1"), "argon2"),
            (bcrypt("15"), "bcrypt"),
            (bcrypt("31"), "bcrypt"),
            (format!("scrypt$1048576${salt}$8$1${scrypt}"), "scrypt"),
            (format!("scrypt$16384${salt}$8$1000${scrypt}"), "scrypt"),
            (format!("scrypt$2${salt}$4294967295$1${scrypt}"), "scrypt"),
            (format!("scrypt$9223372036854775808${salt}$8$1${scrypt}"), "scrypt"),
        ] {
            assert_eq!(check(&costly), Err(DjangoHashError::TooCostly(name)), "{costly}");
        }
    }

    #[test]
    fn malformed_and_unknown_hashes_are_rejected_with_the_algorithm() {
        let output = BASE64_STANDARD.encode([7; 32]);
        for (bad, name) in [
            ("pbkdf2_sha256$1000$salt$".to_owned(), "pbkdf2_sha256"),
            (format!("pbkdf2_sha256$0$salt${output}"), "pbkdf2_sha256"),
            (format!("pbkdf2_sha256$+1$salt${output}"), "pbkdf2_sha256"),
            (format!("pbkdf2_sha256$1000$${output}"), "pbkdf2_sha256"),
            (format!("pbkdf2_sha256$1000$salt${output}$more"), "pbkdf2_sha256"),
            (format!("pbkdf2_sha1$1000$salt${output}"), "pbkdf2_sha1"),
            ("argon2$argon2id$v=19$m=8,t=1".to_owned(), "argon2"),
            ("argon2".to_owned(), "argon2"),
            ("bcrypt$$2b$12$short".to_owned(), "bcrypt"),
            ("bcrypt_sha256$$2x$04$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(), "bcrypt_sha256"),
            (format!("scrypt$16385$salt$8$5${}", BASE64_STANDARD.encode([7; 64])), "scrypt"),
            (format!("scrypt$16384$salt$8$5${output}"), "scrypt"),
        ] {
            assert_eq!(check(&bad), Err(DjangoHashError::Malformed(name)), "{bad}");
        }
        for (unknown, name) in [
            ("md5$salt$5f4dcc3b5aa765d61d8327deb882cf99", "md5"),
            ("5f4dcc3b5aa765d61d8327deb882cf99", "unnamed"),
            ("a password that somebody has left here$", "unnamed"),
        ] {
            assert_eq!(check(unknown), Err(DjangoHashError::Unknown(name.to_owned())), "{unknown}");
        }
    }
}
