//! A PostgreSQL database behind a wire that can be cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// Forwards connections to a database, unless it is cut.
#[derive(Debug)]
pub struct Wire {
    /// The URL of the database at the other end.
    pub url: String,
    is_cut: Arc<AtomicBool>,
    /// Ends the connections that there are.
    cuts: watch::Sender<()>,
}

impl Wire {
    /// A wire to the database at `url`.
    ///
    /// # Panics
    ///
    /// Where no port can be had, or the URL is none.
    pub async fn to(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().expect("a URL of PostgreSQL");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let (is_cut, cuts) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(()));
        tokio::spawn(forward(listener, options, Arc::clone(&is_cut), cuts.clone()));
        Self { url: with_host(url, address), is_cut, cuts }
    }

    /// Ends every connection, and refuses new ones.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cuts.send_replace(());
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// The same URL of another host, without parameters: one of them may be the host.
fn with_host(url: &str, host: SocketAddr) -> String {
    let url = url.split('?').next().unwrap_or_default();
    let (scheme, rest) = url.split_once("//").expect("a URL");
    let (authority, database) = rest.split_once('/').expect("a URL that names a database");
    let user = authority.rsplit_once('@').map_or(String::new(), |(user, _)| format!("{user}@"));
    format!("{scheme}//{user}{host}/{database}")
}

async fn forward(listener: TcpListener, to: PgConnectOptions, is_cut: Arc<AtomicBool>, cuts: watch::Sender<()>) {
    while let Ok((near, _)) = listener.accept().await {
        if is_cut.load(Ordering::SeqCst) {
            continue;
        }
        let (mut cut, to) = (cuts.subscribe(), to.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                () = connect(near, &to) => {}
            }
        });
    }
}

async fn connect(near: TcpStream, to: &PgConnectOptions) {
    match to.get_socket() {
        Some(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", to.get_port()));
            couple(near, UnixStream::connect(path).await.expect("the socket of PostgreSQL")).await;
        }
        None => couple(near, TcpStream::connect((to.get_host(), to.get_port())).await.expect("the port of PostgreSQL")).await,
    }
}

async fn couple(mut near: impl AsyncRead + AsyncWrite + Unpin, mut far: impl AsyncRead + AsyncWrite + Unpin) {
    // Whoever closes first, and how, is for the two ends to find out.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}
