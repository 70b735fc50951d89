//! The settings that every service has.

use clap::Args;
use ipnet::IpNet;

use crate::{
    config::{self, HttpArgs},
    limits::ServerLimits,
    tls::TlsArgs,
};

/// The settings of a server.
#[derive(Debug, Clone, Args)]
pub struct ServerSettings {
    /// The HTTP API.
    #[command(flatten)]
    pub http: HttpArgs,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The limits on connections, calls and unread responses.
    #[command(flatten)]
    pub limits: ServerLimits,
    /// A reverse proxy whose `X-Forwarded-For` header is trusted: an address or a network, for example 10.0.0.0/8. May be given
    /// more than once.
    #[arg(long = "trusted-proxy", env = "TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',', value_parser = access::parse_network)]
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        config::defaults()
    }
}
