//! Access tokens (RFC 9068): their claims, and the verifier with which any service checks them locally.
//!
//! * A service that accepts tokens creates a [`Verifier`], and keeps its keys up to date with [`follow_auth_service`].
//! * A service that calls others in its own name keeps a [`ServiceToken`] fresh with its [`ClientCredentials`].
//! * [`auth_channel`] is the connection to the auth service that both use.

mod channel;
mod claims;
mod error;
mod jws;
mod key_refresh;
mod key_set;
mod key_store;
mod public_key;
mod revocations;
mod service_token;
mod source;
mod times;
mod verification_counts;
mod verifier;

#[cfg(feature = "tls")]
pub use self::channel::{ClientTls, ClientTlsFiles, auth_channel_with_tls, auth_channel_with_tls_files};
pub use self::{
    channel::{AuthUrlError, auth_channel},
    claims::{Claims, VerifiedToken},
    error::TokenError,
    jws::{ACCESS_TOKEN_TYPE, UnverifiedToken, decode_and_verify},
    key_refresh::{follow, follow_auth_service},
    key_set::{JwkError, KeySet},
    key_store::KeyStore,
    public_key::PublicKey,
    revocations::{Revocation, RevocationList},
    service_token::{ClientCredentials, IssuedToken, RenewError, ServiceToken, issue_service_token},
    source::{ExternalToken, TokenSource},
    times::{MAX_ACCESS_TOKEN_LIFETIME, TokenTimes, is_plain},
    verifier::Verifier,
};
