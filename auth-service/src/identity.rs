//! A user together with their rights, and with the session of an access token. One statement reads them.

use access::{Clock, Result, SessionId, UserId};
use chrono::{DateTime, Utc};
use store::{Db, Executor, Tx};

use crate::{
    permissions::{Catalogue, Rights, RightsRow, rights_columns},
    sessions::{self, Session},
    users::{self, User},
};

/// A user and their rights.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The user.
    pub(crate) user: User,
    /// The rights of the user.
    pub(crate) rights: Rights,
}

/// The part of a session that its user sees.
#[derive(Debug)]
pub(crate) struct SessionUse {
    pub(crate) session_id: SessionId,
    pub(crate) user_agent: String,
    pub(crate) address: String,
    pub(crate) create_time: DateTime<Utc>,
    pub(crate) last_use_time: DateTime<Utc>,
    pub(crate) expire_time: DateTime<Utc>,
}

impl From<Session> for SessionUse {
    fn from(session: Session) -> Self {
        Self {
            session_id: session.session_id,
            user_agent: session.user_agent,
            address: session.address,
            create_time: session.create_time,
            last_use_time: session.rotated_at,
            expire_time: session.idle_expires_at,
        }
    }
}

/// Returns the user with this id, and the session with this id if it is active.
pub(crate) async fn find(
    db: &Db,
    catalogue: &Catalogue,
    user_id: UserId,
    session_id: Option<SessionId>,
) -> Result<Option<(Identity, Option<SessionUse>)>> {
    let query = db.query(concat!(
        "SELECT ",
        users::columns!(),
        ", ",
        rights_columns!(),
        ", session_id, user_agent, address, session_create_time, rotated_at, idle_expires_at FROM users
         LEFT JOIN (SELECT session_id, user_agent, address, create_time AS session_create_time, rotated_at, idle_expires_at
                    FROM sessions WHERE session_id = $2 AND status = 'ACTIVE') AS session ON session_id = $2
         WHERE user_id = $1"
    ));
    let row: Option<WithSession> = query.bind(user_id).bind(session_id).optional().await?;
    Ok(row.map(|WithSession { row, session }| (row.identity(catalogue), session.session_use())))
}

/// Returns the user with this id, and the time of the read: see [`Tx::now`].
pub(crate) async fn find_with_time(
    tx: &mut Tx,
    clock: &Clock,
    catalogue: &Catalogue,
    user_id: UserId,
) -> Result<Option<(Identity, DateTime<Utc>)>> {
    let query = tx.query(concat!("SELECT ", users::columns!(), ", ", rights_columns!(), " FROM users WHERE user_id = $1"));
    let found = query.bind(user_id).optional_with_time::<IdentityRow>(clock).await?;
    Ok(found.map(|(row, time)| (row.identity(catalogue), time)))
}

/// Returns the session with this id, its user, and the time of the read: see [`Tx::now`].
pub(crate) async fn find_by_session(
    db: &Db,
    clock: &Clock,
    catalogue: &Catalogue,
    session_id: SessionId,
) -> Result<Option<(Session, Identity, DateTime<Utc>)>> {
    let query = db.query(concat!(
        "SELECT ",
        users::columns!(),
        ", ",
        rights_columns!(),
        ", session.* FROM (SELECT user_id AS owner_id, ",
        sessions::own_columns!(),
        " FROM sessions WHERE session_id = $1) AS session JOIN users ON users.user_id = owner_id"
    ));
    let found = query.bind(session_id).optional_with_time::<OfSession>(clock).await?;
    Ok(found.map(|(OfSession { row, session }, time)| (session, row.identity(catalogue), time)))
}

#[derive(sqlx::FromRow)]
struct OfSession {
    #[sqlx(flatten)]
    row: IdentityRow,
    #[sqlx(flatten)]
    session: Session,
}

#[derive(sqlx::FromRow)]
struct IdentityRow {
    #[sqlx(flatten)]
    user: User,
    #[sqlx(flatten)]
    rights: RightsRow,
}

impl IdentityRow {
    fn identity(self, catalogue: &Catalogue) -> Identity {
        let rights = self.rights.rights(catalogue, self.user.is_superuser);
        Identity { user: self.user, rights }
    }
}

#[derive(sqlx::FromRow)]
struct WithSession {
    #[sqlx(flatten)]
    row: IdentityRow,
    #[sqlx(flatten)]
    session: SessionRow,
}

/// The columns of a session, which are all NULL if there is none.
#[derive(sqlx::FromRow)]
struct SessionRow {
    session_id: Option<SessionId>,
    user_agent: Option<String>,
    address: Option<String>,
    session_create_time: Option<DateTime<Utc>>,
    rotated_at: Option<DateTime<Utc>>,
    idle_expires_at: Option<DateTime<Utc>>,
}

impl SessionRow {
    fn session_use(self) -> Option<SessionUse> {
        Some(SessionUse {
            session_id: self.session_id?,
            user_agent: self.user_agent?,
            address: self.address?,
            create_time: self.session_create_time?,
            last_use_time: self.rotated_at?,
            expire_time: self.idle_expires_at?,
        })
    }
}
