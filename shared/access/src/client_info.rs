//! The client of a call: its address, also behind trusted proxies, and its user agent.

use std::{
    iter,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use ipnet::IpNet;
use tonic::transport::server::TcpConnectInfo;

/// The header to which each proxy appends the address of its client.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The longest user agent that is kept, in characters.
const USER_AGENT_LIMIT: usize = 200;

/// The address and the user agent of a client.
#[derive(Debug, Clone, Default)]
pub struct ClientInfo {
    address: Option<IpAddr>,
    user_agent: Option<HeaderValue>,
    certificate_names: Arc<[String]>,
}

impl ClientInfo {
    /// Reads the client of a request. `X-Forwarded-For` is trusted from these networks only.
    pub fn from_request<B>(request: &Request<B>, trusted_proxies: &[IpNet]) -> Self {
        let connection = request.extensions().get::<TcpConnectInfo>();
        let peer = connection.and_then(TcpConnectInfo::remote_addr).map(|address| address.ip());
        Self {
            address: peer.map(|peer| client(peer, request.headers(), trusted_proxies)),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            certificate_names: Arc::default(),
        }
    }

    /// Creates the client at the other end of a connection.
    pub(crate) fn from_peer(peer: Option<IpAddr>, user_agent: Option<HeaderValue>) -> Self {
        Self { address: peer.map(|peer| peer.to_canonical()), user_agent, certificate_names: Arc::default() }
    }

    /// Adds the names in the client's certificate, which the server has verified.
    #[must_use]
    pub fn with_certificate_names(self, certificate_names: Arc<[String]>) -> Self {
        Self { certificate_names, ..self }
    }

    /// Returns the subject alternative names of the client's certificate, such as `DNS:profile` or `URI:spiffe://example/profile`. It is
    /// empty without mutual TLS. Behind a proxy, they are the names of the proxy.
    pub fn certificate_names(&self) -> &[String] {
        &self.certificate_names
    }

    /// Returns the address of the client: the peer of the connection, or, if that is a trusted proxy, the address that the proxy
    /// reports.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Returns the user agent: at most 200 characters, without control characters.
    pub fn user_agent(&self) -> String {
        let text = self.user_agent.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
        // The text is ASCII, in which the tab is the only control character.
        let mut text = text.replace('\t', "");
        text.truncate(USER_AGENT_LIMIT);
        text
    }
}

/// Returns the key under which rate limits count a client: its IPv4 address, or the /64 of its IPv6 address.
pub fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

/// Parses a network such as `10.0.0.0/8`, or one address.
///
/// # Errors
///
/// Returns a sentence that says what is accepted.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "must be an address, or a network such as 10.0.0.0/8".to_owned())
}

/// Follows `X-Forwarded-For` from the nearest hop to the farthest, for as long as the hops are trusted proxies.
fn client(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).map(|hop| address(hop.trim()));
    let is_trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let hops_to_client =
        iter::successors(Some(peer.to_canonical()), |nearer| if is_trusted(nearer) { hops.next()? } else { None });
    hops_to_client.last().unwrap_or(peer)
}

/// Parses one hop, with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse::<IpAddr>().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().expect("a header"));
        }
        let trusted: Vec<_> = trusted.iter().map(|text| parse_network(text).expect("a network")).collect();
        client(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
        let proxies = ["10.0.0.0/8", "2001:db8::1"];
        for (peer, forwarded, expected) in [
            ("192.0.2.9", &["203.0.113.5"][..], "192.0.2.9"),
            ("10.0.0.2", &[], "10.0.0.2"),
            ("10.0.0.2", &["203.0.113.5"], "203.0.113.5"),
            ("::ffff:10.0.0.2", &["203.0.113.5"], "203.0.113.5"),
            ("2001:db8::1", &["2001:db8:7::5"], "2001:db8:7::5"),
            // Entries beyond the first untrusted address were written by that client, and are ignored.
            ("10.0.0.2", &["127.0.0.1, 203.0.113.5"], "203.0.113.5"),
            ("10.0.0.2", &["127.0.0.1", "203.0.113.5"], "203.0.113.5"),
            ("10.0.0.2", &["127.0.0.1, 203.0.113.5, 10.9.9.9"], "203.0.113.5"),
            ("10.0.0.2", &["203.0.113.5, 10.1.1.1", "10.2.2.2"], "203.0.113.5"),
            ("10.0.0.2", &["10.1.1.1"], "10.1.1.1"),
            ("10.0.0.2", &["203.0.113.5:4711"], "203.0.113.5"),
            ("10.0.0.2", &["[2001:db8:7::5]:4711"], "2001:db8:7::5"),
            ("10.0.0.2", &["[2001:db8:7::5]"], "2001:db8:7::5"),
            ("10.0.0.2", &["::ffff:203.0.113.5"], "203.0.113.5"),
            // Entries before one that cannot be parsed are not trusted.
            ("10.0.0.2", &["203.0.113.5, unknown"], "10.0.0.2"),
            ("10.0.0.2", &["203.0.113.5,"], "10.0.0.2"),
            ("10.0.0.2", &["203.0.113.5, nonsense, 10.1.1.1"], "10.1.1.1"),
        ] {
            assert_eq!(seen(peer, forwarded, &proxies), expected, "{forwarded:?} from {peer}");
        }
        assert_eq!(seen("10.0.0.2", &["203.0.113.5"], &[]), "10.0.0.2");
    }

    #[test]
    fn a_network_is_an_address_or_a_prefix() {
        assert_eq!(parse_network("10.0.0.0/8").map(|network| network.to_string()), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(parse_network("::1").map(|network| network.to_string()), Ok("::1/128".to_owned()));
        for bad in ["", "10.0.0.0/33", "proxy.internal", "10.0.0"] {
            assert!(parse_network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_client_is_an_ipv4_address_or_the_64_of_an_ipv6_address() {
        for (address, expected) in
            [("192.0.2.9", "192.0.2.9"), ("::ffff:192.0.2.9", "192.0.2.9"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")]
        {
            assert_eq!(rate_limit_key(address.parse().expect("an address")).to_string(), expected);
        }
    }
}
