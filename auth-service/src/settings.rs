//! The settings of `auth-service serve`. Each field is a flag, an environment variable and a key of the configuration file.

use access::AccessRulesFile;
use chrono::TimeDelta;
use clap::Args;
use django::tokens::TokenArgs;
use server::{ServerSettings, config};

use crate::{keys::KeyBits, login_throttle::Limits, passwords::Policy, sessions::Lifetime};

/// The issuer of a service that only this machine reaches.
pub(crate) const DEFAULT_ISSUER: &str = "http://127.0.0.1:50051";

/// The settings of the service.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Settings {
    /// The URL of this service, as its clients reach it: the `iss` claim of every token.
    #[arg(long, env = "ISSUER", value_name = "URL", default_value = DEFAULT_ISSUER, value_parser = config::http_url)]
    pub issuer: String,
    /// A service that accepts the access tokens: an entry of their `aud` claim. This service is always one. May be given more
    /// than once.
    #[arg(long, env = "AUDIENCE", value_name = "NAME", value_delimiter = ',')]
    pub audience: Vec<String>,
    /// The lifetime of an access token, in seconds.
    #[arg(long, env = "ACCESS_LIFETIME", value_name = "SECONDS", default_value = "600", value_parser = config::seconds(10..=86_400))]
    pub access_lifetime: TimeDelta,
    /// The lifetime of a session.
    #[command(flatten)]
    pub session_lifetime: Lifetime,
    /// The maximum number of sessions of one user. Beyond it, a sign-in ends the session that was not refreshed for the longest time. 0
    /// means no limit.
    #[arg(long, env = "SESSIONS_PER_USER", value_name = "N", default_value = "100", value_parser = config::count(0..=100_000))]
    pub sessions_per_user: usize,
    /// Ends a session whenever a refresh token is used twice, even within the 10 seconds in which a client may repeat a request
    /// whose response was lost.
    #[arg(long, env = "STRICT_REFRESH")]
    pub strict_refresh: bool,
    /// Rejects Register. Users are then created by administrators and imports only.
    #[arg(long, env = "CLOSED_REGISTRATION")]
    pub closed_registration: bool,
    /// The name of the group that new users join, whether they register or an administrator creates them. The group must exist when the
    /// service starts.
    #[arg(long, env = "DEFAULT_GROUP", value_name = "NAME")]
    pub default_group: Option<String>,
    /// The passwords that are accepted.
    #[command(flatten)]
    pub passwords: Policy,
    /// The limits on wrong passwords and on registrations.
    #[command(flatten)]
    pub limits: Limits,
    /// The server.
    #[command(flatten)]
    pub server: ServerSettings,
    /// The tokens of Django projects.
    #[command(flatten)]
    pub django_tokens: TokenArgs,
    /// Adds the claims `user_id` and `token_type` of simplejwt to the tokens of users, for code that reads them. `user_id` is the id of the
    /// user in this service.
    #[arg(long, env = "DJANGO_CLAIMS")]
    pub django_claims: bool,
    /// New signing keys.
    #[command(flatten)]
    pub new_keys: NewKeySettings,
    /// Accepts the password grant (RFC 6749 section 4.3) at `/oauth2/token`, for clients that support no other grant. RFC 9700
    /// advises against it.
    #[arg(long, env = "PASSWORD_GRANT")]
    pub password_grant: bool,
    /// A file with the access rules of another service, as `SERVICE access-rules` prints them: the permissions that they name may
    /// be granted. May be given more than once.
    #[arg(long, env = "ACCESS_RULES", value_name = "FILE", value_delimiter = ',', value_parser = AccessRulesFile::read)]
    pub access_rules: Vec<AccessRulesFile>,
    /// A permission of another service that may be granted, for example `greeter.greet_people`. May be given more than once.
    #[arg(long = "permission", env = "PERMISSION", value_name = "APP.CODENAME", value_delimiter = ',')]
    pub permissions: Vec<String>,
    /// How long events are kept for the services that follow them, in seconds. A service that was away for longer reads a snapshot
    /// instead. Events that revoke tokens are kept at least as long as those tokens can live.
    #[arg(long, env = "EVENT_RETENTION", value_name = "SECONDS", default_value = "604800", value_parser = config::seconds(60..=31_536_000))]
    pub event_retention: TimeDelta,
    /// How long entries of the audit log are kept, in days. 0 means for ever.
    #[arg(long, env = "AUDIT_RETENTION_DAYS", value_name = "N", default_value = "0", value_parser = config::count(0..=36_500))]
    pub audit_retention_days: usize,
}

impl Settings {
    /// Returns how long entries of the audit log are kept, unless for ever.
    pub(crate) fn audit_retention(&self) -> Option<TimeDelta> {
        i64::try_from(self.audit_retention_days).ok().filter(|days| *days > 0).map(TimeDelta::days)
    }
}

impl Default for Settings {
    fn default() -> Self {
        config::defaults()
    }
}

/// The settings of new signing keys.
#[derive(Debug, Clone, Copy, Args)]
pub struct NewKeySettings {
    /// The size of new signing keys (RSA), in bits.
    #[arg(long, env = "KEY_BITS", value_enum, default_value = "2048")]
    pub key_bits: KeyBits,
    /// How long the services that verify tokens may cache the key set, in seconds. A new key signs only after that time.
    #[arg(long, env = "JWKS_MAX_AGE", value_name = "SECONDS", default_value = "300", value_parser = config::seconds(0..=86_400))]
    pub jwks_max_age: TimeDelta,
}
