//! The reasons why a token is rejected.

/// The reason why a token is rejected. It is for the log: the caller receives one constant message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenError {
    /// The token has more than 8192 bytes.
    #[error("longer than 8192 bytes")]
    TooLong,
    /// The token is not a compact serialization (RFC 7515 section 7.1) in base64url without padding.
    #[error("not three segments of canonical base64url")]
    Malformed,
    /// The header is not a JSON object, or has a member twice.
    #[error("the header is not a JSON object without duplicate members")]
    Header,
    /// The `alg` is not `RS256` (RFC 7518 section 3.3).
    #[error("the algorithm is not RS256")]
    Algorithm,
    /// The `typ` is not the expected one, which is `at+jwt` for an access token (RFC 9068 section 2.1).
    #[error("another type of token")]
    Type,
    /// The header has a parameter that changes how the token is read, such as `crit` or `b64`, or that brings a key, such as
    /// `jwk`.
    #[error("a header parameter that is not accepted")]
    HeaderParameter,
    /// The header has no `kid`.
    #[error("no key id")]
    KeyId,
    /// The verifier holds no key with this `kid`. The key may be new, or was withdrawn.
    #[error("an unknown key id")]
    UnknownKey,
    /// The key that `kid` names has not signed the token.
    #[error("the signature does not fit")]
    Signature,
    /// The claims are not a JSON object, have a member twice, or have a member of the wrong type.
    #[error("the claims are not a JSON object without duplicate members, or one has the wrong type")]
    Claims,
    /// The `iss` is not the issuer that the verifier trusts.
    #[error("another issuer")]
    Issuer,
    /// The `aud` does not contain this service.
    #[error("not for this service")]
    Audience,
    /// The `exp` or the `iat` is missing or not a number until the year 2100, or the lifetime is not positive or too long.
    #[error("`exp` or `iat` is missing, a time is not a number until the year 2100, or the lifetime is negative or too long")]
    Times,
    /// The `iat` or the `nbf` is more than 30 seconds in the future.
    #[error("not valid yet")]
    NotYetValid,
    /// The `exp` is at least 30 seconds in the past.
    #[error("expired")]
    Expired,
    /// The `sub`, the `jti` or the `client_id` is missing, or is not plain text of at most 255 bytes.
    #[error("a subject, token id or client id that is empty, too long or not plain text")]
    Identity,
    /// The token was revoked before it expired.
    #[error("revoked")]
    Revoked,
}
