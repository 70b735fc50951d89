//! `/oauth2/token` (RFC 6749), `/oauth2/introspect` (RFC 7662) and `/oauth2/revoke` (RFC 7009).

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gateway::InProcess;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};
use tonic::{Code, Request};

use super::{
    form::Form,
    oauth_error::{BEARER, CLIENT, GRANT, NO_STORE, OAuthError},
};
use crate::{
    proto::{
        IntrospectRequest, IntrospectResponse, IssueServiceTokenRequest, IssueServiceTokenResponse, LoginRequest, LogoutRequest,
        RefreshRequest, RevokeSessionRequest, issue_service_token_request::Credential,
        session_service_client::SessionServiceClient, token_service_client::TokenServiceClient,
    },
    sessions::FIRST_PARTY,
};

/// RFC 7523 section 2.2.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) fn routes(password_grant: bool) -> Router {
    Router::new()
        .route("/oauth2/token", post(token))
        .route("/oauth2/introspect", post(introspect))
        .route("/oauth2/revoke", post(revoke))
        .with_state(password_grant)
}

async fn token(
    State(password_grant): State<bool>,
    grpc: InProcess,
    headers: HeaderMap,
    form: Form,
) -> Result<impl IntoResponse, OAuthError> {
    let mut tokens = TokenServiceClient::new(grpc);
    let answer = match form.required("grant_type")? {
        "password" if password_grant => {
            first_party(&headers, &form)?;
            let (username, password) = (form.required("username")?.to_owned(), form.required("password")?.to_owned());
            let answer = tokens
                .login(LoginRequest { username, password })
                .await
                .map_err(|status| OAuthError::from_status(&status, GRANT))?;
            let answer = answer.into_inner();
            let refresh = Some((answer.refresh_token, answer.refresh_expires_in));
            token_response(answer.access_token, answer.expires_in, refresh, answer.scope)
        }
        "refresh_token" => {
            first_party(&headers, &form)?;
            let refresh_token = form.required("refresh_token")?.to_owned();
            let request = RefreshRequest { refresh_token, request_id: String::new() };
            let answer = tokens.refresh(request).await.map_err(|status| OAuthError::from_status(&status, GRANT))?.into_inner();
            let refresh = Some((answer.refresh_token, answer.refresh_expires_in));
            token_response(answer.access_token, answer.expires_in, refresh, answer.scope)
        }
        "client_credentials" => {
            let client = ClientAuthentication::from_request(&headers, &form)?;
            let answer = service_token(&mut tokens, client, form.get("scope").unwrap_or_default()).await?;
            token_response(answer.access_token, answer.expires_in, None, answer.scope)
        }
        _ => {
            return Err(OAuthError::new(
                "unsupported_grant_type",
                "grant_type must be refresh_token or client_credentials, or password if the operator enabled it",
            ));
        }
    };
    Ok((NO_STORE, json_body(&answer)))
}

async fn introspect(grpc: InProcess, headers: HeaderMap, form: Form) -> Result<impl IntoResponse, OAuthError> {
    let mut tokens = TokenServiceClient::new(grpc);
    // The caller is a client that sends its own credential, or the access token that it got for that credential.
    let caller = match bearer(&headers) {
        Some(token) => token.to_owned(),
        None => service_token(&mut tokens, ClientAuthentication::from_request(&headers, &form)?, "").await?.access_token,
    };
    let token = form.required("token")?.to_owned();
    let answer = match tokens.introspect(with_token(&caller, IntrospectRequest { token })).await {
        // RFC 7662 section 2.2: a text that cannot be a token is not active.
        Err(status) if status.code() == Code::InvalidArgument => IntrospectResponse::default(),
        answer => answer.map_err(|status| OAuthError::from_status(&status, BEARER))?.into_inner(),
    };
    Ok((NO_STORE, json_body(&introspection_response(answer))))
}

async fn revoke(grpc: InProcess, headers: HeaderMap, form: Form) -> Result<impl IntoResponse, OAuthError> {
    // The first-party client has no credential. A client that sends one has to prove it (RFC 7009 section 2.1).
    let client = ClientAuthentication::from_request(&headers, &form)?;
    if client.credential.is_some() {
        service_token(&mut TokenServiceClient::new(grpc.clone()), client, "").await?;
    }
    let token = form.required("token")?.to_owned();
    let is_access_token = unverified_part(&token, 0).is_some_and(|header| header["typ"] == access::token::ACCESS_TOKEN_TYPE);
    let outcome = if is_access_token {
        // Services verify an access token offline, so its session is revoked instead.
        let sid = unverified_part(&token, 1).and_then(|claims| claims["sid"].as_str().map(str::to_owned));
        let session_id = sid.ok_or_else(|| OAuthError::new("unsupported_token_type", "the token belongs to no session"))?;
        let request = RevokeSessionRequest { user_id: "me".to_owned(), session_id };
        SessionServiceClient::new(grpc).revoke_session(with_token(&token, request)).await
    } else {
        TokenServiceClient::new(grpc).logout(LogoutRequest { refresh_token: token }).await
    };
    match outcome.map_err(|status| (status.code(), status)) {
        // RFC 7009 section 2.2: revoking an invalid token succeeds.
        Ok(_) | Err((Code::Unauthenticated | Code::InvalidArgument | Code::NotFound, _)) => Ok((NO_STORE, StatusCode::OK)),
        Err((_, status)) => Err(OAuthError::from_status(&status, GRANT)),
    }
}

/// Accepts only the first-party client, which owns every session and has no secret. Any other `client_id` is rejected.
fn first_party(headers: &HeaderMap, form: &Form) -> Result<(), OAuthError> {
    let client = ClientAuthentication::from_request(headers, form)?;
    if client.credential.is_some() {
        return Err(OAuthError::invalid_client());
    }
    match client.id.as_deref() {
        None | Some(FIRST_PARTY) => Ok(()),
        Some(_) => Err(OAuthError::new("unauthorized_client", "this client may not use this grant type")),
    }
}

/// Gets an access token for the client itself, with the permissions in `scope` or with all of its permissions.
async fn service_token(
    tokens: &mut TokenServiceClient<InProcess>,
    client: ClientAuthentication,
    scope: &str,
) -> Result<IssueServiceTokenResponse, OAuthError> {
    let (Some(client_id), Some(credential)) = (client.id, client.credential) else { return Err(OAuthError::invalid_client()) };
    let request = IssueServiceTokenRequest { client_id, credential: Some(credential), scope: scope.to_owned() };
    let answer = tokens.issue_service_token(request).await;
    Ok(answer.map_err(|status| OAuthError::from_status(&status, CLIENT))?.into_inner())
}

/// The client authentication of a request: Basic or form parameters (RFC 6749 section 2.3.1), or an assertion (RFC 7523 section 2.2).
#[derive(Debug, Default)]
struct ClientAuthentication {
    id: Option<String>,
    credential: Option<Credential>,
}

impl ClientAuthentication {
    fn from_request(headers: &HeaderMap, form: &Form) -> Result<Self, OAuthError> {
        let twice = || OAuthError::invalid_request("use one method of client authentication, not two");
        let id = form.get("client_id").map(str::to_owned);
        let in_form = match (form.get("client_secret"), form.get("client_assertion")) {
            (Some(_), Some(_)) => return Err(twice()),
            (Some(secret), None) => Some(Credential::ClientSecret(secret.to_owned())),
            (None, Some(_)) if form.get("client_assertion_type") != Some(ASSERTION) => {
                return Err(OAuthError::invalid_request(
                    "client_assertion_type must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ));
            }
            (None, Some(assertion)) => Some(Credential::ClientAssertion(assertion.to_owned())),
            (None, None) => None,
        };
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            // The assertion also names the client.
            let subject = || unverified_part(form.get("client_assertion")?, 1)?["sub"].as_str().map(str::to_owned);
            return Ok(Self { id: id.or_else(subject), credential: in_form });
        };
        let (basic_id, secret) = value.to_str().ok().and_then(basic_credentials).ok_or_else(OAuthError::invalid_client)?;
        if in_form.is_some() || id.is_some_and(|id| id != basic_id) {
            return Err(twice());
        }
        let credential = Some(secret).filter(|secret| !secret.is_empty()).map(Credential::ClientSecret);
        Ok(Self { id: Some(basic_id).filter(|id| !id.is_empty()), credential })
    }
}

/// Decodes Basic credentials. The id and the secret are form-encoded (RFC 6749 section 2.3.1).
fn basic_credentials(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((form_decode(id), form_decode(secret)))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Decodes one form-encoded value.
fn form_decode(text: &str) -> String {
    // The name before the `=` is empty.
    url::form_urlencoded::parse(format!("={text}").as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

/// Returns a token response (RFC 6749 section 5.1).
fn token_response(access_token: String, expires_in: i32, refresh: Option<(String, i32)>, scope: String) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("access_token".to_owned(), access_token.into());
    answer.insert("token_type".to_owned(), "Bearer".into());
    answer.insert("expires_in".to_owned(), expires_in.into());
    if let Some((refresh_token, refresh_expires_in)) = refresh {
        answer.insert("refresh_token".to_owned(), refresh_token.into());
        answer.insert("refresh_expires_in".to_owned(), refresh_expires_in.into());
    }
    answer.insert("scope".to_owned(), scope.into());
    answer
}

/// Returns an introspection response (RFC 7662 section 2.2).
fn introspection_response(token: IntrospectResponse) -> Map<String, Value> {
    let mut answer = Map::from_iter([("active".to_owned(), token.active.into())]);
    if !token.active {
        return answer;
    }
    let seconds = |time: Option<prost_types::Timestamp>| time.map(|time| time.seconds);
    for (name, value) in [
        ("token_type", token.token_type),
        ("scope", token.scope),
        ("client_id", token.client_id),
        ("username", token.username),
        ("sub", token.sub),
        ("iss", token.iss),
        ("jti", token.jti),
        ("sid", token.sid),
    ] {
        if !value.is_empty() {
            answer.insert(name.to_owned(), value.into());
        }
    }
    answer.insert("aud".to_owned(), token.aud.into());
    answer.insert("iat".to_owned(), seconds(token.issue_time).into());
    answer.insert("exp".to_owned(), seconds(token.expire_time).into());
    answer
}

/// Decodes the header (0) or the claims (1) of a token without verifying it.
fn unverified_part(token: &str, index: usize) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(bearer) = format!("Bearer {token}").parse() {
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}

fn json_body(answer: &Map<String, Value>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], serde_json::to_string(answer).unwrap_or_default()).into_response()
}
