//! Decodes and verifies a signed token (RFC 7515, compact serialization), more strictly than a general library.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{KeySet, PublicKey, TokenError};
use crate::json;

/// The `typ` of an access token (RFC 9068 section 2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

const LONGEST: usize = 8192;

/// Header parameters that would change how the token is read, or that bring a key of their own.
const REFUSED_PARAMETERS: [&str; 9] = ["crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c"];

/// Checks the header and the signature of a token of type `typ` and returns its claims, which are not checked.
///
/// # Errors
///
/// Returns the first reason that applies, in the order of [`TokenError`].
pub fn decode_and_verify(token: &str, typ: &str, keys: &KeySet) -> Result<Map<String, Value>, TokenError> {
    let token = UnverifiedToken::parse(token)?;
    token.check_algorithm()?;
    if !token.is_of_type(typ) {
        return Err(TokenError::Type);
    }
    token.check_parameters()?;
    let key = keys.find(token.text("kid").ok_or(TokenError::KeyId)?).ok_or(TokenError::UnknownKey)?;
    if token.is_signed_by(key) { token.claims() } else { Err(TokenError::Signature) }
}

/// A token that is split into its parts. Nothing of it is verified.
#[derive(Debug)]
pub struct UnverifiedToken<'a> {
    header: Map<String, Value>,
    payload: Vec<u8>,
    message: &'a str,
    signature: Vec<u8>,
}

impl<'a> UnverifiedToken<'a> {
    /// Splits and decodes a token.
    ///
    /// # Errors
    ///
    /// Returns `TooLong`, `Malformed` or `Header`.
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        // The engine refuses padding, and bits at the end that no encoder writes. A second dot is in no alphabet.
        let decode = |segment| BASE64_URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed);
        let (header, payload) = (decode(header)?, decode(payload)?);
        let signature = decode(signature)?;
        if signature.is_empty() {
            return Err(TokenError::Malformed);
        }
        let header = object(&header).ok_or(TokenError::Header)?;
        Ok(Self { header, payload, message, signature })
    }

    /// Returns true if the header has this parameter.
    pub fn has_header(&self, name: &str) -> bool {
        self.header.contains_key(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// Returns true if the header's `typ` is `typ`, which is given in lower case. The comparison ignores case.
    pub fn is_of_type(&self, typ: &str) -> bool {
        self.text("typ").is_some_and(|given| {
            let given = given.to_ascii_lowercase();
            given.strip_prefix("application/").unwrap_or(&given) == typ
        })
    }

    /// Checks the algorithm and the header parameters.
    ///
    /// # Errors
    ///
    /// Returns `Algorithm` or `HeaderParameter`.
    pub fn check_header(&self) -> Result<(), TokenError> {
        self.check_algorithm()?;
        self.check_parameters()
    }

    fn check_algorithm(&self) -> Result<(), TokenError> {
        if self.text("alg") == Some("RS256") { Ok(()) } else { Err(TokenError::Algorithm) }
    }

    fn check_parameters(&self) -> Result<(), TokenError> {
        let is_refused = REFUSED_PARAMETERS.iter().any(|name| self.header.contains_key(*name));
        if is_refused { Err(TokenError::HeaderParameter) } else { Ok(()) }
    }

    /// Returns true if the key has signed the token with RS256.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.has_signed(self.message.as_bytes(), &self.signature)
    }

    /// Returns the claims.
    ///
    /// # Errors
    ///
    /// Returns `Claims` if they are not a JSON object without duplicate members.
    pub fn claims(&self) -> Result<Map<String, Value>, TokenError> {
        object(&self.payload).ok_or(TokenError::Claims)
    }
}

/// Returns the JSON object, unless an object in it has a member twice. (`serde_json` itself keeps the last.)
pub(super) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    // A token is at most 8 KiB long, so that the depth limit of serde_json is enough.
    match json::parse(text, usize::MAX).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}
