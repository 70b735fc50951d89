//! A TCP proxy in front of a PostgreSQL database. It can drop connections, and stop at a chosen message.

use std::{
    future::{Future, pending},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{oneshot, watch},
};

/// Forwards connections to a database until a test makes it fail.
#[derive(Debug)]
pub struct FaultProxy {
    /// The URL of the database through the proxy.
    pub url: String,
    is_cut: Arc<AtomicBool>,
    /// Closes the existing connections.
    cuts: watch::Sender<()>,
    barrier: Arc<Barrier>,
    silence: Arc<Silence>,
}

/// Selects the connections that discard every byte: those whose number is lower than `below`.
#[derive(Debug, Default)]
struct Silence {
    below: AtomicU64,
    next_connection: AtomicU64,
}

/// The number of messages that are still forwarded, and the channel that is notified when the next one is held back.
type Barrier = Mutex<Option<(usize, oneshot::Sender<()>)>>;

impl FaultProxy {
    /// Starts a proxy for the database at `url`.
    ///
    /// # Panics
    ///
    /// Panics if no port is free, or if `url` is not a URL of PostgreSQL.
    pub async fn to(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().expect("a URL of PostgreSQL");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let (is_cut, cuts, barrier) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(()), Arc::<Barrier>::default());
        let silence = Arc::<Silence>::default();
        let shared = (Arc::clone(&is_cut), Arc::clone(&barrier), Arc::clone(&silence));
        tokio::spawn(forward(listener, options, cuts.clone(), shared));
        Self { url: with_host(url, address), is_cut, cuts, barrier, silence }
    }

    /// Discards every byte from now on, in both directions, also on new connections. No connection is closed. This simulates a
    /// network that loses every packet.
    pub fn silence(&self) {
        self.silence.below.store(u64::MAX, Ordering::SeqCst);
    }

    /// Forwards the bytes of new connections again. The existing connections discard every byte until they close.
    pub fn heal(&self) {
        let existing = self.silence.next_connection.load(Ordering::SeqCst);
        self.silence.below.store(existing, Ordering::SeqCst);
    }

    /// Forwards `messages` more messages, counted in both directions, and then holds the next one back. The returned future
    /// completes when that message is held back.
    ///
    /// # Panics
    ///
    /// The future panics if another call replaces or removes this limit before it is reached.
    pub fn stops_after(&self, messages: usize) -> impl Future<Output = ()> + use<> {
        let (tell, told) = oneshot::channel();
        *self.barrier.lock() = Some((messages, tell));
        async { told.await.expect("a wire that stops there") }
    }

    /// Closes every connection, and closes new ones at once.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cuts.send_replace(());
    }

    /// Accepts new connections again.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }

    /// Removes the limit of [`stops_after`](Self::stops_after). A message that is already held back is never forwarded.
    pub fn stops_nowhere(&self) {
        self.barrier.lock().take();
    }

    /// Closes every existing connection. New connections are accepted.
    pub fn renew(&self) {
        self.cuts.send_replace(());
    }
}

/// Returns the URL with another host. It drops the parameters, because one of them may name the host.
fn with_host(url: &str, host: SocketAddr) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let (scheme, rest) = url.split_once("//").expect("a URL");
    let (authority, database) = rest.split_once('/').expect("a URL that names a database");
    let user = authority.rsplit_once('@').map_or(String::new(), |(user, _)| format!("{user}@"));
    format!("{scheme}//{user}{host}/{database}")
}

async fn forward(
    listener: TcpListener,
    to: PgConnectOptions,
    cuts: watch::Sender<()>,
    (is_cut, barrier, silence): (Arc<AtomicBool>, Arc<Barrier>, Arc<Silence>),
) {
    while let Ok((near, _)) = listener.accept().await {
        if is_cut.load(Ordering::SeqCst) {
            continue;
        }
        let (mut cut, to, barrier) = (cuts.subscribe(), to.clone(), Arc::clone(&barrier));
        let silence = (Arc::clone(&silence), silence.next_connection.fetch_add(1, Ordering::SeqCst));
        tokio::spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                () = connect(near, &to, &barrier, &silence) => {}
            }
        });
    }
}

type SilenceOf = (Arc<Silence>, u64);

async fn connect(near: TcpStream, to: &PgConnectOptions, barrier: &Barrier, silence: &SilenceOf) {
    if let Some(folder) = to.get_socket() {
        let path = folder.join(format!(".s.PGSQL.{}", to.get_port()));
        couple(near, UnixStream::connect(path).await.expect("the socket of PostgreSQL"), barrier, silence).await;
    } else {
        let far = TcpStream::connect((to.get_host(), to.get_port())).await;
        couple(near, far.expect("the port of PostgreSQL"), barrier, silence).await;
    }
}

async fn couple(near: impl AsyncRead + AsyncWrite, far: impl AsyncRead + AsyncWrite, barrier: &Barrier, silence: &SilenceOf) {
    let ((from_near, to_near), (from_far, to_far)) = (split(near), split(far));
    tokio::join!(carry(from_near, to_far, barrier, silence), carry(from_far, to_near, barrier, silence));
}

/// Copies bytes in one direction until `from` is closed, and then closes `to`, so that the other end detects it.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, barrier: &Barrier, silence: &SilenceOf) {
    let mut message = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut message).await {
        pass(barrier).await;
        let (silence, connection) = silence;
        if *connection < silence.below.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&message[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

async fn pass(barrier: &Barrier) {
    let stops = {
        let mut barrier = barrier.lock();
        match barrier.as_mut() {
            None => return,
            Some((0, _)) => barrier.take(),
            Some((left, _)) => {
                *left -= 1;
                return;
            }
        }
    };
    if let Some((_, tell)) = stops {
        let _ = tell.send(());
    }
    pending::<()>().await;
}
