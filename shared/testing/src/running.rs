//! A server that a test runs.

use std::{future::Future, net::SocketAddr, pin::Pin};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    /// The address on which the server listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// A future that completes when the server must stop.
pub type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Running {
    /// Runs `serve` on a port that the operating system chooses.
    ///
    /// # Panics
    ///
    /// Panics if no port is free.
    pub async fn start<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(TcpListener, Shutdown) -> F) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let shutdown = Box::pin(async {
            let _ = stopped.await;
        });
        Self { address, stop: Some(stop), serving: tokio::spawn(serve(listener, shutdown)) }
    }

    /// Returns a channel to the server. It connects when it is first used.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside a tokio runtime.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("an address is a URL").connect_lazy()
    }

    /// Stops the server, and waits until it has stopped.
    ///
    /// # Panics
    ///
    /// Panics if the server has panicked.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.serving.await.expect("a server that stops cleanly");
    }
}
