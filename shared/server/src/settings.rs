//! The settings that every service has.

use std::net::SocketAddr;

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
    /// An address on which only `/metrics` is served, over HTTP without TLS. Without it, `/metrics` is served on the address of the
    /// service if that is a loopback address, and not at all otherwise.
    #[arg(long, env = "METRICS_LISTEN", value_name = "ADDRESS", value_parser = config::address)]
    pub metrics_listen: Option<SocketAddr>,
    /// Counts the calls for `/metrics`. It is no flag: benchmarks clear it to measure the cost.
    #[arg(skip = true)]
    pub counts_calls: bool,
}

impl Default for ServerSettings {
    fn default() -> Self {
        config::defaults()
    }
}
