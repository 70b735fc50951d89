//! Access tokens (RFC 9068): their claims, and the verifier with which any service checks them locally.

mod claims;
mod error;
mod jws;
mod key_refresh;
mod key_set;
mod key_store;
mod revocations;
mod service_token;
mod source;
mod times;
mod verifier;

pub use self::{
    claims::{Claims, VerifiedToken},
    error::TokenError,
    jws::{ACCESS_TOKEN_TYPE, UnverifiedToken, decode_and_verify},
    key_refresh::{AuthUrlError, auth_channel, follow, follow_auth_service},
    key_set::{JwkError, KeySet},
    key_store::KeyStore,
    revocations::{Revocation, RevocationList},
    service_token::{ClientCredentials, ServiceToken},
    source::{ExternalToken, TokenSource},
    times::{MAX_ACCESS_TOKEN_LIFETIME, TokenTimes, is_plain},
    verifier::Verifier,
};
