//! The reasons why a token is rejected.

/// The reason why a token is rejected. It is for the log: the caller receives one constant message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenError {
    #[error("longer than 8192 bytes")]
    TooLong,
    #[error("not three segments of canonical base64url")]
    Malformed,
    #[error("the header is not a JSON object without duplicate members")]
    Header,
    #[error("the algorithm is not RS256")]
    Algorithm,
    #[error("another type of token")]
    Type,
    #[error("a header parameter that is not accepted")]
    HeaderParameter,
    #[error("no key id")]
    KeyId,
    #[error("an unknown key id")]
    UnknownKey,
    #[error("the signature does not fit")]
    Signature,
    #[error("the claims are not a JSON object without duplicate members, or one has the wrong type")]
    Claims,
    #[error("another issuer")]
    Issuer,
    #[error("not for this service")]
    Audience,
    #[error("`exp` or `iat` is missing, a time is not a number until the year 2100, or the lifetime is negative or too long")]
    Times,
    #[error("not valid yet")]
    NotYetValid,
    #[error("expired")]
    Expired,
    #[error("a subject, token id or client id that is empty, too long or not plain text")]
    Identity,
    #[error("revoked")]
    Revoked,
}
