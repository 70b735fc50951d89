//! Opens a signed token (RFC 7515, compact serialization), more strictly than a library for every kind of token could.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::{KeySet, Refusal};

/// The `typ` of an access token (RFC 9068 section 2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

const LONGEST: usize = 8192;

/// Parameters that would change how the token is to be read, or that bring a key of their own.
const REFUSED_PARAMETERS: [&str; 9] = ["crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c"];

/// The claims of a token of type `typ` whose header is right and whose signature fits. What they say is not checked.
///
/// # Errors
///
/// Why it is refused.
pub fn open(token: &str, typ: &str, keys: &KeySet) -> Result<Map<String, Value>, Refusal> {
    let token = Unverified::read(token)?;
    token.check_algorithm()?;
    if !token.is_of_type(typ) {
        return Err(Refusal::Type);
    }
    token.check_parameters()?;
    let key = keys.find(token.text("kid").ok_or(Refusal::KeyId)?).ok_or(Refusal::UnknownKey)?;
    if token.is_signed_by(key) { token.claims() } else { Err(Refusal::Signature) }
}

/// A token that is taken apart, and of which nothing is believed yet.
pub(super) struct Unverified<'a> {
    pub(super) header: Map<String, Value>,
    payload: Vec<u8>,
    message: &'a str,
    signature: &'a str,
}

impl<'a> Unverified<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > LONGEST {
            return Err(Refusal::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        // The engine refuses padding, and bits at the end that no encoder writes. A second dot is in no alphabet.
        let decode = |segment| BASE64_URL_SAFE_NO_PAD.decode(segment).map_err(|_| Refusal::Malformed);
        let (header, payload) = (decode(header)?, decode(payload)?);
        if decode(signature)?.is_empty() {
            return Err(Refusal::Malformed);
        }
        let header = object(&header).ok_or(Refusal::Header)?;
        Ok(Self { header, payload, message, signature })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// True where its `typ` is the lower-case `typ`, whose case does not count.
    pub(super) fn is_of_type(&self, typ: &str) -> bool {
        self.text("typ").is_some_and(|given| {
            let given = given.to_ascii_lowercase();
            given.strip_prefix("application/").unwrap_or(&given) == typ
        })
    }

    /// Both checks of a header whose `typ` has been looked at.
    pub(super) fn check_header(&self) -> Result<(), Refusal> {
        self.check_algorithm()?;
        self.check_parameters()
    }

    fn check_algorithm(&self) -> Result<(), Refusal> {
        if self.text("alg") == Some("RS256") { Ok(()) } else { Err(Refusal::Algorithm) }
    }

    fn check_parameters(&self) -> Result<(), Refusal> {
        let is_refused = REFUSED_PARAMETERS.iter().any(|name| self.header.contains_key(*name));
        if is_refused { Err(Refusal::HeaderParameter) } else { Ok(()) }
    }

    pub(super) fn is_signed_by(&self, key: &DecodingKey) -> bool {
        matches!(jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key, Algorithm::RS256), Ok(true))
    }

    pub(super) fn claims(&self) -> Result<Map<String, Value>, Refusal> {
        object(&self.payload).ok_or(Refusal::Claims)
    }
}

/// A JSON object in which no object has a member twice. (`serde_json` itself keeps the last.)
pub(super) fn object(json: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(json).ok()? {
        Unique(Value::Object(object)) => Some(object),
        Unique(_) => None,
    }
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unique(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unique(value))) = map.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member stands twice"));
            }
        }
        Ok(object.into())
    }
}
