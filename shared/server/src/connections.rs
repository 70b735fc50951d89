//! The open connections: how many there may be, and how much memory the unread responses of each occupy.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use access::{KeyCounts, rate_limit_key};
use ipnet::IpNet;
use parking_lot::Mutex;
use slab::Slab;
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use crate::{limits::ServerLimits, unread::UnreadResponse};

/// The interval at which stalled responses are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The time without progress after which a response ends while unread responses occupy more than half of their memory.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);
/// The unread bytes that a connection may always have, also when the memory for all connections is used up.
const UNREAD_MINIMUM: usize = 64 << 10;

/// The connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ServerLimits,
    /// The largest number of connections.
    capacity: usize,
    trusted_proxies: Arc<[IpNet]>,
    open: Mutex<Open>,
    /// The unread bytes of all connections.
    unread: AtomicUsize,
    /// The connections that were accepted and refused.
    accepted: AtomicU64,
    refused: AtomicU64,
    began: Instant,
}

/// The numbers of connections and of what they hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionCounts {
    pub(crate) open: usize,
    pub(crate) limit: usize,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// The responses that clients have not read completely.
    pub(crate) responses: usize,
    /// The bytes of responses that clients have not read.
    pub(crate) unread: usize,
    pub(crate) unread_limit: usize,
}

#[derive(Debug, Default)]
struct Open {
    connections: Slab<Arc<OpenConnection>>,
    per_address: KeyCounts<IpAddr>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    connections: Arc<Connections>,
    /// The address that the limit per address counts. It is `None` for a trusted proxy.
    address: Option<IpAddr>,
    /// The calls whose response the client has not read completely.
    calls: AtomicUsize,
    /// The time when the last call ended.
    idle_since: AtomicU64,
    /// The bytes of responses that the client has not read.
    unread: AtomicUsize,
    /// The time when the client last read something.
    progressed: AtomicU64,
    responses: Mutex<Slab<Arc<UnreadResponse>>>,
    is_closing: AtomicBool,
    closing: Arc<Notify>,
}

impl Connections {
    /// Creates an empty collection for a process that may have `files` open files.
    pub(crate) fn new(limits: ServerLimits, files: usize, trusted_proxies: Arc<[IpNet]>) -> Arc<Self> {
        let capacity = limits.connections(files);
        let (open, unread, began) = (Mutex::default(), AtomicUsize::new(0), Instant::now());
        let (accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { limits, capacity, trusted_proxies, open, unread, accepted, refused, began })
    }

    /// Adds a connection from `peer`, or returns `None` if its address has as many connections as it may have. If there are as many
    /// connections as there may be, it closes the one that has been idle for the longest time, and returns `None` if all are in use.
    pub(crate) fn open(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionPermit> {
        let permit = self.try_open(peer);
        let count = if permit.is_some() { &self.accepted } else { &self.refused };
        count.fetch_add(1, Relaxed);
        permit
    }

    fn try_open(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionPermit> {
        let is_trusted = self.trusted_proxies.iter().any(|network| network.contains(&peer.to_canonical()));
        let address = (!is_trusted).then(|| rate_limit_key(peer));
        let mut open = self.open.lock();
        if open.connections.len() >= self.capacity {
            let idle = open.connections.iter().map(|(_, connection)| connection).filter(|connection| connection.is_idle());
            let longest_idle = idle.min_by_key(|connection| connection.idle_since.load(Relaxed))?;
            longest_idle.close();
        }
        if let Some(address) = address
            && !open.per_address.add(address, self.limits.max_connections_per_address)
        {
            return None;
        }
        let connection = Arc::new(OpenConnection::new(Arc::clone(self), address));
        let key = open.connections.insert(Arc::clone(&connection));
        Some(ConnectionPermit { connection, key })
    }

    /// Returns the numbers of connections and of what they hold.
    pub(crate) fn counts(&self) -> ConnectionCounts {
        let open = self.open.lock();
        ConnectionCounts {
            open: open.connections.len(),
            limit: self.capacity,
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            responses: open.connections.iter().map(|(_, connection)| connection.responses.lock().len()).sum(),
            unread: self.unread.load(Relaxed),
            unread_limit: self.limits.max_unread_bytes,
        }
    }

    /// Returns a connection that is not in the collection, for a request that came from no connection.
    pub(crate) fn detached(self: &Arc<Self>) -> Arc<OpenConnection> {
        Arc::new(OpenConnection::new(Arc::clone(self), None))
    }

    /// Ends stalled responses at an interval. It never returns.
    pub(crate) async fn keep_ending_stalled(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            self.end_stalled();
        }
    }

    /// Ends the responses of which the client has read nothing for too long, and closes the connections on which nothing moves.
    fn end_stalled(&self) {
        let now = self.now();
        let is_scarce = self.unread.load(Relaxed) > self.limits.max_unread_bytes / 2;
        let timeout = if is_scarce { SHORT_TIMEOUT.min(self.limits.response_timeout) } else { self.limits.response_timeout };
        let Some(earliest) = now.checked_sub(milliseconds(timeout)) else { return };
        // The lock is released before a body is dropped, because dropping one can take time.
        let unread: Vec<_> = {
            let open = self.open.lock();
            let connections = open.connections.iter().map(|(_, connection)| connection);
            connections.filter(|connection| connection.unread.load(Relaxed) > 0).cloned().collect()
        };
        for connection in unread {
            connection.end_stalled(earliest, is_scarce);
        }
    }

    fn remove(&self, key: usize) {
        let mut open = self.open.lock();
        let connection = open.connections.remove(key);
        if let Some(address) = &connection.address {
            open.per_address.remove(address);
        }
    }

    /// Returns the milliseconds since the server was created.
    pub(crate) fn now(&self) -> u64 {
        milliseconds(self.began.elapsed())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl OpenConnection {
    fn new(connections: Arc<Connections>, address: Option<IpAddr>) -> Self {
        let now = connections.now();
        Self {
            connections,
            address,
            calls: AtomicUsize::new(0),
            idle_since: AtomicU64::new(now),
            unread: AtomicUsize::new(0),
            progressed: AtomicU64::new(now),
            responses: Mutex::default(),
            is_closing: AtomicBool::new(false),
            closing: Arc::default(),
        }
    }

    /// Closes the connection. Its next read or write fails.
    fn close(&self) {
        self.is_closing.store(true, Relaxed);
        self.closing.notify_waiters();
    }

    /// Returns true if the connection has to be closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Relaxed)
    }

    /// Returns a future that completes when the connection has to be closed.
    pub(crate) fn closing(&self) -> OwnedNotified {
        Arc::clone(&self.closing).notified_owned()
    }

    fn is_idle(&self) -> bool {
        self.calls.load(Relaxed) == 0 && !self.is_closing()
    }

    /// Returns true if a new call may occupy memory for its response.
    pub(crate) fn has_room(&self) -> bool {
        let limits = &self.connections.limits;
        let own = self.unread.load(Relaxed);
        own < UNREAD_MINIMUM.min(limits.max_unread_bytes_per_connection)
            || own < limits.max_unread_bytes_per_connection && self.connections.unread.load(Relaxed) < limits.max_unread_bytes
    }

    /// Returns true if the connection may have this many more unread bytes. A response that is larger than the limit is allowed
    /// while nothing else is unread.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        let limits = &self.connections.limits;
        let own = self.unread.load(Relaxed);
        let is_within = |unread: usize, limit: usize| unread.saturating_add(bytes) <= limit;
        own == 0
            || is_within(own, UNREAD_MINIMUM)
            || is_within(own, limits.max_unread_bytes_per_connection)
                && is_within(self.connections.unread.load(Relaxed), limits.max_unread_bytes)
    }

    /// Counts bytes that the client has to read.
    pub(crate) fn add_unread(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Relaxed);
        self.connections.unread.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes that the client has read, or that were dropped.
    pub(crate) fn remove_unread(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Relaxed);
        self.connections.unread.fetch_sub(bytes, Relaxed);
    }

    /// Notes that the client has read something, and returns the time.
    pub(crate) fn note_progress(&self) -> u64 {
        let now = self.now();
        self.progressed.store(now, Relaxed);
        now
    }

    /// Returns the milliseconds since the server was created.
    pub(crate) fn now(&self) -> u64 {
        self.connections.now()
    }

    /// Adds a response, and returns the key by which it is removed.
    pub(crate) fn add_response(&self, response: Arc<UnreadResponse>) -> usize {
        self.responses.lock().insert(response)
    }

    pub(crate) fn remove_response(&self, key: usize) {
        // The response is dropped after the lock is released.
        let _removed = self.responses.lock().remove(key);
    }

    /// Ends the responses without progress since `earliest`. Closes the connection if nothing on it has moved since then, and, where
    /// memory is scarce, if the transport still holds bytes of an ended response.
    fn end_stalled(&self, earliest: u64, is_scarce: bool) {
        let responses: Vec<_> = self.responses.lock().iter().map(|(_, response)| Arc::clone(response)).collect();
        let mut ended = 0;
        let mut holds_bytes = false;
        for response in responses.iter().filter(|response| response.is_stalled(earliest)) {
            response.end();
            ended += 1;
            holds_bytes |= response.is_unread();
        }
        if ended > 0 {
            tracing::debug!(ended, "responses ended because the client did not read them");
            if self.progressed.load(Relaxed) <= earliest || is_scarce && holds_bytes {
                self.close();
            }
        }
    }
}

/// The permit for one connection. Dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    connection: Arc<OpenConnection>,
    key: usize,
}

impl ConnectionPermit {
    pub(crate) fn connection(&self) -> &Arc<OpenConnection> {
        &self.connection
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connection.connections.remove(self.key);
    }
}

/// A call whose response the client has not read completely. A connection with such a call is not idle.
#[derive(Debug)]
pub(crate) struct CallInFlight(Arc<OpenConnection>);

impl CallInFlight {
    pub(crate) fn new(connection: Arc<OpenConnection>) -> Self {
        connection.calls.fetch_add(1, Relaxed);
        Self(connection)
    }

    pub(crate) fn connection(&self) -> &Arc<OpenConnection> {
        &self.0
    }
}

impl Drop for CallInFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Relaxed);
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
