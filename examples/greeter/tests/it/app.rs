//! The harness: the greeter on a port of the system's choice, and an issuer of tokens for it.

use std::sync::Arc;

use access::{
    Clock, UserId,
    token::{Claims, KeySet, Verifier},
};
use testing::{Issuer, Running};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};

pub(crate) struct App {
    pub(crate) issuer: Issuer,
    pub(crate) channel: Channel,
    /// The claims of a user who holds no permission.
    pub(crate) alice: Claims,
    _running: Running,
}

impl App {
    pub(crate) async fn start() -> Self {
        let clock = Clock::system();
        let issuer = Issuer::new("http://issuer.test", greeter::NAME, clock.clone());
        let verifier = Arc::new(Verifier::new("http://issuer.test", greeter::NAME, clock.clone()));
        verifier.set_keys(KeySet::from_jwks(&issuer.jwks()).0);
        let running = serve(verifier).await;
        let alice = issuer.claims(UserId::new(&clock), "alice");
        Self { channel: running.channel(), _running: running, issuer, alice }
    }

    /// The token of a user who may greet.
    pub(crate) fn token(&self) -> String {
        self.issuer.token(&Claims { scope: "greeter.greet_people".to_owned(), ..self.alice.clone() })
    }
}

pub(crate) async fn serve(verifier: Arc<Verifier>) -> Running {
    let service = greeter::routes(verifier).into_service();
    Running::start(|listener, shutdown| async {
        let incoming = TcpListenerStream::new(listener);
        let server = Server::builder().serve_with_incoming_shutdown(service, incoming, shutdown);
        server.await.expect("a server that serves");
    })
    .await
}
