//! Creates sessions without hashing a password.

use std::sync::Arc;

use access::{ClientInfo, Clock, SessionId, UserId};
use auth_service::{
    Settings,
    keys::{KeyBits, KeyRing, MasterKey},
    permissions::{self, Catalogue, Rights},
    sessions,
    tokens::Tokens,
    users::{self, User},
};
use chrono::TimeDelta;
use store::Db;
use tonic::transport::server::TcpConnectInfo;

use crate::app::{Actor, App};

/// Creates sessions of one user without a password, and signs their first refresh tokens as the service does.
pub(crate) struct SessionFactory {
    pub(crate) db: Db,
    clock: Clock,
    user: User,
    rights: Rights,
    keys: Arc<KeyRing>,
    tokens: Tokens,
}

impl SessionFactory {
    pub(crate) async fn new(app: &App, actor: &Actor) -> Self {
        let (db, clock) = (app.database.open(), app.clock.clock());
        let user_id = UserId::parse("user_id", &actor.user.user_id).expect("an id");
        let user = users::find(&db, user_id).await.expect("a query").expect("a user");
        let master_key = MasterKey::from_base64(&app.master_key).expect("a master key");
        let keys =
            KeyRing::open(db.clone(), clock.clone(), master_key, KeyBits::default(), TimeDelta::zero()).await.expect("the keys");
        let catalogue = Catalogue::new(&[], &[]).expect("a catalogue");
        let rights = permissions::of_user(&db, &catalogue, &user).await.expect("rights");
        let Settings { issuer, audience, access_lifetime, .. } = Settings::default();
        let keys = Arc::new(keys);
        let tokens = Tokens::new(
            Arc::clone(&keys),
            clock.clone(),
            &issuer,
            &audience,
            access_lifetime,
            django::tokens::TokenKeys::default(),
        );
        Self { db, clock, user, rights, keys, tokens }
    }

    pub(crate) async fn create(&self) -> (SessionId, String) {
        self.keys.reload().await.expect("the keys");
        let kid = self.tokens.kid().expect("a key");
        let lifetime = Settings::default().session_lifetime;
        let mut tx = self.db.begin().await.expect("a transaction");
        let created = sessions::create(&mut tx, &self.clock, self.user.user_id, &kid, &local_client(), lifetime).await;
        tx.commit().await.expect("a commit");
        let session = created.expect("a session");
        let issued = self.tokens.issue(&self.user, &self.rights, &session, session.rotated_at).await.expect("tokens");
        (session.session_id, issued.refresh_token)
    }
}

/// Returns the client of the tests. A refresh from another network than that of the session would take a lock.
fn local_client() -> ClientInfo {
    let mut request = http::Request::new(());
    let remote_addr = Some(([127, 0, 0, 1], 1).into());
    request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr });
    ClientInfo::from_request(&request, &[])
}
