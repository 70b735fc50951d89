//! `auth.v1.TokenService`.

use std::sync::Arc;

use access::{AuditRecorder, AuditedCall, Caller, ClientInfo, Clock, CurrentCall, Error, Result, proto::access::v1::Actor};
use audit::{Actor as AuditActor, Entry};
use chrono::{DateTime, TimeDelta, Utc};
use store::{Db, Executor};
use uuid::Uuid;

use super::{timestamp, users::user_message};
use crate::{
    clients::{self, Assertion, Client, Secret},
    django_tokens::{self, Exchange},
    events::{EventLog, OutboxTransaction},
    identity::{self, Identity},
    introspection::{ActiveToken, Introspection},
    known_networks,
    login_throttle::{self, Limits, Subject},
    metrics::SignInMetrics,
    passwords::{Checked, HashPurpose, Passwords},
    permissions::{self, Catalogue, Rights},
    proto::{
        IntrospectRequest, IntrospectResponse, IssueServiceTokenRequest, IssueServiceTokenResponse, LoginRequest, LoginResponse,
        LogoutRequest, Reason, RefreshRequest, RefreshResponse, issue_service_token_request::Credential, token_service,
    },
    sessions::{self, Lifetime, Presented, Session, Verdict},
    tokens::{self, RefreshClaims, RefreshToken, Tokens},
    users,
};

/// The delay for a client that has replayed one refresh token too often.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(10);

pub(crate) struct TokenApi {
    pub(crate) db: Db,
    pub(crate) event_log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    pub(crate) tokens: Tokens,
    pub(crate) catalogue: Catalogue,
    pub(crate) lifetime: Lifetime,
    pub(crate) sessions_per_user: usize,
    pub(crate) strict: bool,
    pub(crate) introspection: Introspection,
    pub(crate) metrics: SignInMetrics,
}

impl token_service::Handlers for TokenApi {
    fn audit(&self) -> Arc<dyn AuditRecorder> {
        self.event_log.recorder()
    }

    async fn login(&self, client: ClientInfo, request: LoginRequest) -> Result<LoginResponse> {
        self.metrics.count("password", self.sign_in(client, request).await)
    }

    async fn refresh(&self, client: ClientInfo, request: RefreshRequest) -> Result<RefreshResponse> {
        self.metrics.count("refresh_token", self.rotate(client, request).await)
    }

    async fn logout(&self, _: ClientInfo, request: LogoutRequest) -> Result<()> {
        let token = self.tokens.read_refresh_token(&request.refresh_token)?;
        let mut change = self.event_log.begin().await?;
        match token {
            RefreshToken::Ours(claims) => {
                change.set_actor(AuditActor::User { id: claims.sub.to_string(), name: None });
                change.add_field(format!("sessions.{}", claims.sid));
                sessions::end(&mut change, claims.sid, sessions::EndReason::Logout).await?;
            }
            RefreshToken::Django(token) => django_tokens::logout(&mut change, &token).await?,
        }
        change.commit().await
    }

    async fn introspect(&self, _: Caller, request: IntrospectRequest) -> Result<IntrospectResponse> {
        Ok(self.introspection.introspect(&request.token).await?.map(introspection_response).unwrap_or_default())
    }

    async fn issue_service_token(&self, _: ClientInfo, request: IssueServiceTokenRequest) -> Result<IssueServiceTokenResponse> {
        self.metrics.count("client_credentials", self.sign_in_client(request).await)
    }
}

impl TokenApi {
    async fn sign_in(&self, client: ClientInfo, request: LoginRequest) -> Result<LoginResponse> {
        let rejected = || Error::unauthenticated(Reason::CredentialsInvalid, "no active user has this username and password");
        // Takes a place in the queue first, so that a flood that finds it full does not reach the database.
        let permit = self.passwords.acquire(HashPurpose::Login, &client)?;
        let found = users::find_by_login(&self.db, &request.username).await?;
        // The audit log never contains the username of the request, because people type passwords into that field.
        if let (Some(user), Some(call)) = (&found, AuditedCall::get()) {
            call.set_target("user", user.user_id.to_string());
        }
        let account = self.account(&request.username, found.as_ref(), &client).await?;
        let mut tx = self.db.begin().await?;
        let subjects = Subject::source(client.address(), self.limits).into_iter().chain([account]);
        let attempt = login_throttle::count(&mut tx, &self.clock, subjects).await?;
        tx.commit().await?;
        let checked = permit.verify(&request.password, found.as_ref().map(|user| user.password_hash.as_str())).await?;
        let user = found.filter(|user| checked != Checked::Wrong && user.is_active).ok_or_else(rejected)?;

        let kid = self.tokens.kid()?;
        let mut change = self.event_log.begin().await?;
        // The password may have been changed, or the user deactivated, while the password was being checked.
        let unchanged = |now: &users::User| now.is_active && now.password_hash == user.password_hash;
        let user = users::lock(&mut change, user.user_id).await?.filter(unchanged).ok_or_else(rejected)?;
        record_sign_in(&mut change, &user);
        let session = sessions::create(&mut change, &self.clock, user.user_id, &kid, &client, self.lifetime).await?;
        sessions::purge_expired(&mut change, user.user_id, session.create_time).await?;
        if let Checked::Rehashed(hash) = &checked {
            users::replace_hash(&mut change, user.user_id, hash).await?;
        }
        users::set_last_login(&mut change, user.user_id, session.create_time).await?;
        login_throttle::refund(&mut change, &attempt).await?;
        self.complete_sign_in(&mut change, &session, &client).await?;
        let rights = permissions::of_user(&mut *change, &self.catalogue, &user).await?;
        change.commit().await?;

        let issued = self.tokens.issue(&user, &rights, &session, session.rotated_at).await?;
        let user = users::User { last_login_time: Some(session.create_time), ..user };
        Ok(LoginResponse {
            access_token: issued.access_token,
            token_type: "Bearer".to_owned(),
            expires_in: seconds(issued.expires_in),
            refresh_token: issued.refresh_token,
            refresh_expires_in: seconds(issued.refresh_expires_in),
            scope: issued.scope,
            user: Some(user_message(user)),
        })
    }

    async fn rotate(&self, client: ClientInfo, request: RefreshRequest) -> Result<RefreshResponse> {
        let rejected = tokens::refresh_token_invalid;
        let request_id = Uuid::try_parse(&request.request_id).ok();
        let token = self.tokens.read_refresh_token(&request.refresh_token)?;

        let kid = self.tokens.kid()?;
        if let RefreshToken::Ours(claims) = &token
            && let Some(response) = self.rotate_unlocked(claims, request_id, &kid, &client).await?
        {
            return Ok(response);
        }
        let mut change = self.event_log.begin().await?;
        let (session, generation) = match token {
            RefreshToken::Ours(claims) => {
                let session = sessions::lock(&mut change, claims.sid).await?;
                let session = session.filter(|session| session.client_id == claims.client_id).ok_or_else(rejected)?;
                (session, claims.generation)
            }
            RefreshToken::Django(token) => {
                let client = (&client, self.lifetime);
                match django_tokens::exchange(&mut change, &self.clock, &token, request_id, &kid, client).await? {
                    Exchange::NewSession(user, session) => {
                        change.set_entry(refresh_entry(client.0));
                        record_sign_in(&mut change, &user);
                        self.complete_sign_in(&mut change, &session, client.0).await?;
                        let rights = permissions::of_user(&mut *change, &self.catalogue, &user).await?;
                        change.commit().await?;
                        return self.response(&user, &rights, &session, session.rotated_at).await;
                    }
                    Exchange::AlreadyExchanged(session) => (session, sessions::EXTERNAL_GENERATION),
                    Exchange::Rejected => return Err(rejected()),
                }
            }
        };
        let presented = Presented::new(generation, request_id);
        // The session is locked, so this is read after every change of the session that came first.
        let found = identity::find_with_time(&mut change, &self.clock, &self.catalogue, session.user_id).await?;
        let (Identity { user, rights }, now) = found.ok_or_else(rejected)?;
        let verdict = sessions::judge(&session, user.is_active, presented, now, self.strict);
        let outcome = match verdict {
            Verdict::Rotate => {
                if known_networks::must_add(&session, &client, now) {
                    known_networks::add(&mut change, session.user_id, &client, now).await?;
                }
                let rotated = session.rotated(presented, &kid, now, self.lifetime);
                let is_stored = sessions::store_rotated(|sql| change.query(sql), &rotated).await?;
                is_stored.then_some(rotated).ok_or_else(|| Error::internal("a locked session has changed"))
            }
            Verdict::Replay => {
                sessions::count_replay(&mut change, session.session_id).await?;
                Ok(session)
            }
            Verdict::TooManyReplays => Err(Error::overloaded(RETRY_AFTER)),
            Verdict::LateDuplicate | Verdict::Ended => Err(rejected()),
            Verdict::Ends(reason) => {
                sessions::end(&mut change, session.session_id, reason).await?;
                Err(rejected())
            }
            Verdict::Reuse => {
                self.metrics.count_reuse();
                tracing::warn!(session_id = %session.session_id, user_id = %user.user_id, "a spent refresh token was presented; its session ends");
                change.set_entry(refresh_entry(&client).refused(&rejected()));
                change.set_target("user", user.user_id, Some(&user.username));
                change.add_field(format!("sessions.{}", session.session_id));
                sessions::end(&mut change, session.session_id, sessions::EndReason::Reuse).await?;
                Err(rejected())
            }
            Verdict::Restored => {
                tracing::warn!(session_id = %session.session_id, "a refresh token is newer than its session; the database was probably restored from a backup");
                Err(rejected())
            }
        };
        // The end of a session must be stored even though the call fails, so every outcome is committed.
        change.commit().await?;

        self.response(&user, &rights, &outcome?, now).await
    }

    /// Rotates a session with two statements and without a lock: the second one changes nothing if the session has changed since the first
    /// one. Returns `None` then, and if anything else than this rotation is due. The caller decides again under the lock.
    async fn rotate_unlocked(
        &self,
        claims: &RefreshClaims,
        request_id: Option<Uuid>,
        kid: &str,
        client: &ClientInfo,
    ) -> Result<Option<RefreshResponse>> {
        let found = identity::find_by_session(&self.db, &self.clock, &self.catalogue, claims.sid).await?;
        let Some((session, Identity { user, rights }, now)) = found else { return Ok(None) };
        let presented = Presented::new(claims.generation, request_id);
        let is_plain_rotation = session.client_id == claims.client_id
            && sessions::judge(&session, user.is_active, presented, now, self.strict) == Verdict::Rotate
            && !known_networks::must_add(&session, client, now);
        if !is_plain_rotation {
            return Ok(None);
        }
        // A deactivation of the user, and a withdrawal of the key of this token, end the session in their own transaction.
        let rotated = session.rotated(presented, kid, now, self.lifetime);
        if !sessions::store_rotated(|sql| self.db.write(sql), &rotated).await? {
            return Ok(None);
        }
        self.response(&user, &rights, &rotated, now).await.map(Some)
    }

    async fn sign_in_client(&self, request: IssueServiceTokenRequest) -> Result<IssueServiceTokenResponse> {
        let rejected =
            || Error::unauthenticated(Reason::ClientCredentialsInvalid, "no active client has this id and this credential");
        let (client_id, credential) = (&request.client_id, request.credential.ok_or_else(rejected)?);
        // Failed attempts are not counted: a secret of 256 bits cannot be guessed, and a counter would let strangers behind the same
        // address keep a service from its token.
        let (found, now) = (clients::find(&self.db, client_id).await?, self.clock.now());
        let is_right = match credential {
            Credential::ClientSecret(secret) => clients::verify_secret(found.as_ref(), &Secret::new(secret), now),
            Credential::ClientAssertion(assertion) => match self.read_assertion(found.as_ref(), &assertion, now) {
                Some(assertion) => assertion.use_up(&self.db).await?,
                None => false,
            },
        };
        let account = found.filter(|account| is_right && account.is_active).ok_or_else(rejected)?;

        let permissions = self.granted_permissions(&account, &request.scope)?;
        self.event_log.record_call(AuditActor::Service(account.client_id.clone())).await?;
        let issued = self.tokens.issue_service_token(&account, &permissions, now).await?;
        Ok(IssueServiceTokenResponse {
            access_token: issued.access_token,
            token_type: "Bearer".to_owned(),
            expires_in: seconds(self.tokens.access_lifetime()),
            scope: issued.scope,
        })
    }

    /// Returns the subject whose wrong passwords are counted for a sign-in as `login`.
    async fn account(&self, login: &str, user: Option<&users::User>, client: &ClientInfo) -> Result<Subject> {
        // An unknown user costs the same query, so that the time of the response does not reveal whether the user exists.
        let user_id = user.map_or(Uuid::nil().into(), |user| user.user_id);
        let known = known_networks::find(&self.db, user_id, client, self.clock.now()).await?;
        Ok(known.map_or_else(
            || Subject::login(login, user, self.limits),
            |network| Subject::known_network(user_id, network, self.limits),
        ))
    }

    /// Stores the network of a new session of a locked user, and ends the least recently used sessions beyond the limit.
    async fn complete_sign_in(&self, change: &mut OutboxTransaction, session: &Session, client: &ClientInfo) -> Result<()> {
        let (user_id, now) = (session.user_id, session.create_time);
        known_networks::add(change, user_id, client, now).await?;
        sessions::end_least_recently_used(change, user_id, session.session_id, self.sessions_per_user, now).await
    }

    async fn response(
        &self,
        user: &users::User,
        rights: &Rights,
        session: &Session,
        now: DateTime<Utc>,
    ) -> Result<RefreshResponse> {
        let issued = self.tokens.issue(user, rights, session, now).await?;
        Ok(RefreshResponse {
            access_token: issued.access_token,
            token_type: "Bearer".to_owned(),
            expires_in: seconds(issued.expires_in),
            refresh_token: issued.refresh_token,
            refresh_expires_in: seconds(issued.refresh_expires_in),
            scope: issued.scope,
        })
    }

    /// Returns the permissions in `scope`, or every permission of the client if it is empty.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT if the client does not have one of them.
    fn granted_permissions(&self, client: &Client, scope: &str) -> Result<Vec<String>> {
        let mut permissions = client.permissions();
        permissions.retain(|permission| self.catalogue.has_effect(permission));
        let requested: Vec<_> = scope.split(' ').filter(|permission| !permission.is_empty()).collect();
        if requested.is_empty() {
            return Ok(permissions);
        }
        if requested.iter().any(|requested| !permissions.iter().any(|permission| permission == requested)) {
            return Err(Error::invalid("scope", "scope.held", "must contain only permissions that the client has"));
        }
        permissions.retain(|permission| requested.contains(&permission.as_str()));
        Ok(permissions)
    }

    fn read_assertion(&self, client: Option<&Client>, assertion: &str, now: DateTime<Utc>) -> Option<Assertion> {
        let read = Assertion::read(assertion, client?, self.tokens.issuer(), now);
        read.inspect_err(|error| tracing::info!(reason = %error, "a client assertion is rejected")).ok()
    }
}

/// Adds the user who signs in to the entry in the audit log.
fn record_sign_in(change: &mut OutboxTransaction, user: &users::User) {
    change.set_actor(AuditActor::User { id: user.user_id.to_string(), name: Some(user.username.clone()) });
    change.set_target("user", user.user_id, Some(&user.username));
}

/// Returns the entry in the audit log about a call of Refresh, most of which have none.
fn refresh_entry(client: &ClientInfo) -> Entry {
    Entry::by_client("/auth.v1.TokenService/Refresh".into(), client, CurrentCall::get().as_ref())
}

fn seconds(duration: TimeDelta) -> i32 {
    i32::try_from(duration.num_seconds()).unwrap_or(i32::MAX)
}

fn introspection_response(token: ActiveToken) -> IntrospectResponse {
    let time = |seconds| DateTime::from_timestamp(seconds, 0).map(timestamp);
    match token {
        ActiveToken::Access(claims) => IntrospectResponse {
            active: true,
            token_type: "Bearer".to_owned(),
            scope: claims.scope.clone(),
            client_id: claims.client_id.clone(),
            username: claims.preferred_username.clone().unwrap_or_default(),
            sub: claims.sub.clone(),
            aud: claims.aud.clone(),
            iss: claims.iss.clone(),
            jti: claims.jti.clone(),
            sid: claims.sid.map(|sid| sid.to_string()).unwrap_or_default(),
            actor: match claims.actor {
                access::Actor::User => Actor::User.into(),
                access::Actor::Service => Actor::Service.into(),
            },
            issue_time: time(claims.iat),
            expire_time: time(claims.exp),
        },
        ActiveToken::Refresh { claims, username } => IntrospectResponse {
            active: true,
            token_type: "refresh_token".to_owned(),
            client_id: claims.client_id,
            username,
            sub: claims.sub.to_string(),
            aud: vec![claims.aud],
            iss: claims.iss,
            sid: claims.sid.to_string(),
            actor: Actor::User.into(),
            issue_time: time(claims.iat),
            expire_time: time(claims.exp),
            ..IntrospectResponse::default()
        },
    }
}
