//! A service with `GetProfile` and nothing else: tonic, sqlx, and the same query. It is what `GetProfile` of the profile service is compared with.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use http::{Request, Response};
use sqlx::{
    PgPool, Row,
    postgres::PgPoolOptions,
    types::chrono::{DateTime, Utc},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;
use tower::Service;
use uuid::Uuid;

use crate::{
    connection::Failure,
    proto::profiles::{GetProfileRequest, Profile},
};

/// The query of `GetProfile` in the profile service.
const QUERY: &str = "SELECT p.user_id, p.username, p.bio, p.birth_date, p.website, p.is_active, p.user_is_active, p.create_time, p.update_time, p.version,
     n.user_id AS favorite_user_id, n.note_id AS favorite_note_id
 FROM profiles p
 LEFT JOIN favorites f ON f.user_id = p.user_id
 LEFT JOIN notes n ON n.user_id = f.note_user_id AND n.note_id = f.note_id AND
     (n.user_id = $1 OR n.visibility = 3 OR n.visibility = 2 AND EXISTS
         (SELECT 1 FROM friendships WHERE friendships.user_id = n.user_id AND friendships.friend_id = $1))
 WHERE p.user_id = $2";

/// Serves until the process is killed.
pub(crate) async fn serve(database_url: &str) -> Result<(), Failure> {
    let pool = PgPoolOptions::new().max_connections(16).test_before_acquire(false).connect(database_url).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("serving address={}", listener.local_addr()?);
    let bare = Bare { pool: Arc::new(pool) };
    Ok(Server::builder().add_service(bare).serve_with_incoming(TcpListenerStream::new(listener)).await?)
}

#[derive(Debug, Clone)]
struct Bare {
    pool: Arc<PgPool>,
}

impl NamedService for Bare {
    const NAME: &'static str = "profiles.v1.ProfileService";
}

impl Service<Request<Body>> for Bare {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let bare = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::<Profile, GetProfileRequest>::default()).unary(bare, request).await) })
    }
}

impl UnaryService<GetProfileRequest> for Bare {
    type Response = Profile;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Profile>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<GetProfileRequest>) -> Self::Future {
        let pool = Arc::clone(&self.pool);
        Box::pin(async move {
            let user_id: Uuid = request.get_ref().user_id.parse().map_err(|_| Status::invalid_argument("user_id"))?;
            let found = sqlx::query(QUERY).bind(user_id).bind(user_id).fetch_optional(&*pool).await;
            let row = found.map_err(|error| Status::internal(error.to_string()))?.ok_or_else(|| Status::not_found("user_id"))?;
            let profile = profile(&row).map_err(|error| Status::internal(error.to_string()))?;
            Ok(tonic::Response::new(profile))
        })
    }
}

fn profile(row: &sqlx::postgres::PgRow) -> sqlx::Result<Profile> {
    let time = |name: &str| row.try_get::<DateTime<Utc>, _>(name).map(|time| Some(SystemTime::from(time).into()));
    // Every column is read, as the profile service does.
    let _: (Option<sqlx::types::chrono::NaiveDate>, Option<Uuid>, Option<Uuid>) =
        (row.try_get("birth_date")?, row.try_get("favorite_user_id")?, row.try_get("favorite_note_id")?);
    Ok(Profile {
        user_id: row.try_get::<Uuid, _>("user_id")?.to_string(),
        display_name: row.try_get("username")?,
        bio: row.try_get("bio")?,
        birth_date: None,
        website: row.try_get("website")?,
        is_active: row.try_get::<bool, _>("is_active")? && row.try_get::<bool, _>("user_is_active")?,
        favorite_note: None,
        create_time: time("create_time")?,
        update_time: time("update_time")?,
        etag: row.try_get::<i64, _>("version")?.to_string(),
    })
}
