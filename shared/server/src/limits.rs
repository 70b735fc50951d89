//! The limits that keep a client from exhausting the process.

use std::{ops::RangeInclusive, time::Duration};

use clap::Args;

use crate::config;

/// The number of file descriptors that are kept for the database, the log and the listener.
const RESERVED_FILES: usize = 128;
/// The range of a setting that counts bytes of memory.
const BYTES: RangeInclusive<u64> = 1 << 16..=1 << 40;

/// The limits on connections, calls and unread responses.
#[derive(Debug, Clone, Copy, Args)]
pub struct ServerLimits {
    /// The largest number of open connections. When it is reached, the connection that has been idle for the longest time is closed.
    /// 0 means as many as the limit of open files allows, less 128.
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "COUNT", default_value = "0")]
    pub max_connections: usize,
    /// The largest number of open connections per client address (per /64 for IPv6). Trusted proxies have no such limit.
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", default_value = "256", value_parser = config::count(1..=1 << 20))]
    pub max_connections_per_address: usize,
    /// The largest header list of a request, in bytes, as RFC 9113 counts it: 32 bytes for each header in addition to its text.
    #[arg(long, env = "MAX_HEADER_BYTES", value_name = "BYTES", default_value = "16384", value_parser = clap::value_parser!(u32).range(8192..=1 << 18))]
    pub max_header_bytes: u32,
    /// The largest number of calls that are handled at the same time. Four times as many wait for at most one second. More calls get
    /// RESOURCE_EXHAUSTED. Health checks, metrics, signing keys and the event feed are not counted here; together, they have a limit of 128.
    #[arg(long, env = "MAX_CONCURRENT_CALLS", value_name = "COUNT", default_value = "512", value_parser = config::count(1..=1 << 20))]
    pub max_concurrent_calls: usize,
    /// The largest number of calls of one user or client that are handled at the same time. Four times as many with the same access token
    /// wait for at most one second. More calls get RESOURCE_EXHAUSTED.
    #[arg(long, env = "MAX_CALLS_PER_CALLER", value_name = "COUNT", default_value = "64", value_parser = config::count(1..=1 << 20))]
    pub max_calls_per_caller: usize,
    /// The memory for responses that their clients have not read yet, in bytes. Above it, calls on connections with unread responses
    /// get RESOURCE_EXHAUSTED.
    #[arg(long, env = "MAX_UNREAD_BYTES", value_name = "BYTES", default_value = "33554432", value_parser = config::count(BYTES))]
    pub max_unread_bytes: usize,
    /// The memory for the responses of one connection that its client has not read yet, in bytes. Above it, calls on this connection
    /// get RESOURCE_EXHAUSTED.
    #[arg(long, env = "MAX_UNREAD_BYTES_PER_CONNECTION", value_name = "BYTES", default_value = "4194304", value_parser = config::count(BYTES))]
    pub max_unread_bytes_per_connection: usize,
    /// The time, in seconds, after which a response ends of which the client has read less than 16 KiB.
    #[arg(long, env = "RESPONSE_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = config::duration_seconds(1..=3600))]
    pub response_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        config::defaults()
    }
}

impl ServerLimits {
    /// Returns the largest number of connections for a process that may have `files` open files.
    pub(crate) fn connections(&self, files: usize) -> usize {
        let available = files.saturating_sub(RESERVED_FILES).max(files / 2).max(1);
        if self.max_connections == 0 { available } else { self.max_connections.min(available) }
    }
}

/// Raises the limit of open files of this process to the largest value that the system allows, and returns it.
pub(crate) fn raise_file_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // The limit stays as it is where the system refuses.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    // Linux has no unlimited number of open files; other systems may report one.
    getrlimit(Resource::Nofile).current.map_or(1 << 20, |current| current.try_into().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        let limits = ServerLimits::default();
        assert_eq!(limits.connections(1024), 896);
        assert_eq!(limits.connections(100), 50);
        assert_eq!(ServerLimits { max_connections: 10, ..limits }.connections(1024), 10);
        assert_eq!(ServerLimits { max_connections: 5000, ..limits }.connections(1024), 896);
    }

    #[test]
    fn the_limit_of_open_files_is_raised() {
        assert!(raise_file_limit() >= 64);
    }
}
