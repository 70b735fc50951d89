//! The four endpoints of djangorestframework-simplejwt, with its bodies and statuses, so that a front end written for Django works
//! unchanged.

use std::convert::Infallible;

use access::Error;
use axum::{
    Router,
    body::Bytes,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use gateway::InProcess;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};
use url::form_urlencoded;

use super::{form, retry_after};
use crate::{
    introspection::{ActiveToken, Introspection, TokenState},
    proto::{LoginRequest, LogoutRequest, RefreshRequest, token_service_client::TokenServiceClient},
};

const NO_ACCOUNT: &str = "No active account found with the given credentials";

pub(super) fn routes(introspection: Introspection) -> Router {
    Router::new()
        .route("/api/token/", view(post(obtain), &OBTAIN))
        .route("/api/token/refresh/", view(post(refresh), &REFRESH))
        .route("/api/token/verify/", view(post(verify), &VERIFY))
        .route("/api/token/blacklist/", view(post(blacklist), &BLACKLIST))
        .with_state(introspection)
}

/// Adds the responses to OPTIONS and to other methods.
fn view<S: Clone + Send + Sync + 'static>(post: MethodRouter<S>, view: &'static View) -> MethodRouter<S> {
    post.options(async || ok(&view.metadata())).fallback(async |method: Method| DjangoError::Method(method))
}

async fn obtain(grpc: InProcess, data: Data) -> Result<Response, DjangoError> {
    let [username, password] = data.fields([("username", Trim::Yes), ("password", Trim::No)])?;
    let answer = TokenServiceClient::new(grpc).login(LoginRequest { username, password }).await;
    let answer = answer.map_err(|status| DjangoError::from_status(&status, DjangoError::NoAccount))?.into_inner();
    Ok(ok(&json!({ "refresh": answer.refresh_token, "access": answer.access_token })))
}

async fn refresh(State(introspection): State<Introspection>, grpc: InProcess, data: Data) -> Result<Response, DjangoError> {
    let [refresh_token] = data.fields([("refresh", Trim::Yes)])?;
    let request = RefreshRequest { refresh_token: refresh_token.clone(), request_id: String::new() };
    let answer = match TokenServiceClient::new(grpc).refresh(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::InvalidArgument) => {
            let state = introspection.state(&refresh_token).await?;
            return Err(DjangoError::Token(refresh_error(&state).unwrap_or(BLACKLISTED)));
        }
        Err(status) => return Err(DjangoError::from_status(&status, DjangoError::Token(INVALID))),
    };
    // The response of simplejwt with ROTATE_REFRESH_TOKENS.
    Ok(ok(&json!({ "access": answer.access_token, "refresh": answer.refresh_token })))
}

/// Accepts access tokens and refresh tokens, as simplejwt does. The token in the body is the only credential, so there is no access rule
/// to enforce: see "Exceptions" in docs/architecture/README.md.
async fn verify(State(introspection): State<Introspection>, data: Data) -> Result<Response, DjangoError> {
    let [token] = data.fields([("token", Trim::Yes)])?;
    match introspection.state(&token).await? {
        TokenState::Active(_) => Ok(ok(&json!({}))),
        TokenState::Ended => Err(DjangoError::NotFields(BLACKLISTED)),
        TokenState::Expired => Err(DjangoError::Token(EXPIRED)),
        TokenState::Invalid => Err(DjangoError::Token(INVALID)),
    }
}

async fn blacklist(State(introspection): State<Introspection>, grpc: InProcess, data: Data) -> Result<Response, DjangoError> {
    let [refresh_token] = data.fields([("refresh", Trim::Yes)])?;
    // Logout accepts a token whose session has ended. Simplejwt rejects it, because it is on the blacklist already.
    if let Some(error) = refresh_error(&introspection.state(&refresh_token).await?) {
        return Err(DjangoError::Token(error));
    }
    let answer = TokenServiceClient::new(grpc).logout(LogoutRequest { refresh_token }).await;
    answer.map_err(|status| DjangoError::from_status(&status, DjangoError::Token(INVALID)))?;
    Ok(ok(&json!({})))
}

/// Returns the error for a token that is not an active refresh token, in the order in which simplejwt checks.
fn refresh_error(state: &TokenState) -> Option<&'static str> {
    match state {
        TokenState::Active(ActiveToken::Refresh { .. }) => None,
        TokenState::Active(ActiveToken::Access(_)) => Some(WRONG_TYPE),
        TokenState::Ended => Some(BLACKLISTED),
        TokenState::Expired => Some(EXPIRED),
        TokenState::Invalid => Some(INVALID),
    }
}

/// The texts of simplejwt for a token that is not accepted.
const INVALID: &str = "Token is invalid";
const EXPIRED: &str = "Token is expired";
const WRONG_TYPE: &str = "Token has wrong type";
const BLACKLISTED: &str = "Token is blacklisted";

/// The description of an endpoint, with which Django REST framework responds to OPTIONS.
struct View {
    name: &'static str,
    description: &'static str,
    /// The names of the fields, and whether they belong to the request.
    fields: &'static [(&'static str, bool)],
}

const OBTAIN: View = View {
    name: "Token Obtain Pair",
    description: "Takes a set of user credentials and returns an access and refresh JSON web\ntoken pair to prove the authentication of \
                  those credentials.",
    fields: &[("username", true), ("password", true)],
};
const REFRESH: View = View {
    name: "Token Refresh",
    description: "Takes a refresh type JSON web token and returns an access type JSON web\ntoken if the refresh token is valid.",
    fields: &[("refresh", true), ("access", false)],
};
const VERIFY: View = View {
    name: "Token Verify",
    description: "Takes a token and indicates if it is valid.  This view provides no\ninformation about a token's fitness for a \
                  particular use.",
    fields: &[("token", true)],
};
const BLACKLIST: View = View {
    name: "Token Blacklist",
    description: "Takes a token and blacklists it. Must be used with the\n`rest_framework_simplejwt.token_blacklist` app installed.",
    fields: &[("refresh", true)],
};

impl View {
    fn metadata(&self) -> Value {
        let field = |(name, is_input): &(&str, bool)| {
            let label = name.get(..1).map(|first| first.to_uppercase() + &name[1..]);
            ((*name).to_owned(), json!({ "type": "string", "required": is_input, "read_only": !is_input, "label": label }))
        };
        let fields: Map<_, _> = self.fields.iter().map(field).collect();
        json!({
            "name": self.name,
            "description": self.description,
            "renders": ["application/json"],
            "parses": ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"],
            "actions": { "POST": fields },
        })
    }
}

/// Whether spaces around a value are removed. They may be part of a password.
#[derive(Clone, Copy)]
enum Trim {
    Yes,
    No,
}

/// The body of a request, as JSON or as one of the two kinds of forms: `request.data` in Django REST framework.
struct Data(Map<String, Value>);

impl Data {
    /// Returns the fields, or an error for each one that is absent, empty or not a string.
    fn fields<const N: usize>(&self, names: [(&'static str, Trim); N]) -> Result<[String; N], DjangoError> {
        let found = names.map(|(name, trim)| self.field(name, trim));
        let mut problems = Map::new();
        for ((name, _), value) in names.into_iter().zip(&found) {
            if let Err(problem) = value {
                problems.insert(name.to_owned(), json!([problem]));
            }
        }
        if problems.is_empty() { Ok(found.map(Result::unwrap_or_default)) } else { Err(DjangoError::Fields(problems)) }
    }

    /// Reads a field with the rules of `CharField`.
    fn field(&self, name: &str, trim: Trim) -> Result<String, &'static str> {
        let text = match self.0.get(name).ok_or("This field is required.")? {
            Value::Null => return Err("This field may not be null."),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err("Not a valid string."),
            Value::Number(number) => number.to_string(),
            Value::String(text) => match trim {
                Trim::Yes => text.trim().to_owned(),
                Trim::No => text.clone(),
            },
        };
        if text.is_empty() {
            Err("This field may not be blank.")
        } else if text.contains('\0') {
            Err("Null characters are not allowed.")
        } else {
            Ok(text)
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Data {
    type Rejection = DjangoError;

    async fn from_request(request: Request, state: &S) -> Result<Self, DjangoError> {
        let is_json = form::is(request.headers(), "application/json");
        let is_form = form::is_form(request.headers());
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.to_owned();
        let body =
            Bytes::from_request(request, state).await.map_err(|error| DjangoError::Body(error.into_response().status()))?;
        if body.is_empty() {
            return Ok(Self(Map::new()));
        }
        if let Ok(boundary) = multer::parse_boundary(&content_type) {
            return Ok(Self(read_multipart(body, boundary).await.map_err(|error| DjangoError::Multipart(error.to_string()))?));
        }
        if is_form {
            let fields = form_urlencoded::parse(&body).map(|(name, value)| (name.into_owned(), value.into_owned().into()));
            return Ok(Self(fields.collect()));
        }
        if !is_json {
            return Err(DjangoError::MediaType(content_type));
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(Value::Null) => Err(DjangoError::NotFields("No data provided")),
            Ok(other) => Err(DjangoError::NotAnObject(python_type(&other))),
            Err(error) => Err(DjangoError::Json(error.to_string())),
        }
    }
}

/// Reads the texts of a form. Of fields with the same name, the last one counts, as in Django.
async fn read_multipart(body: Bytes, boundary: String) -> Result<Map<String, Value>, multer::Error> {
    let mut form = multer::Multipart::new(tokio_stream::once(Ok::<_, Infallible>(body)), boundary);
    let mut fields = Map::new();
    while let Some(field) = form.next_field().await? {
        if let (Some(name), None) = (field.name().map(str::to_owned), field.file_name()) {
            fields.insert(name, field.text().await?.into());
        }
    }
    Ok(fields)
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// An error response with the text of Django REST framework.
enum DjangoError {
    NoAccount,
    /// The token is not accepted, for the reason in the text.
    Token(&'static str),
    /// The request is not accepted as a whole, for the reason in the text.
    NotFields(&'static str),
    Multipart(String),
    Fields(Map<String, Value>),
    NotAnObject(&'static str),
    Json(String),
    MediaType(String),
    Method(Method),
    Body(StatusCode),
    Throttled(u64),
    Unavailable(u64),
    Internal,
}

impl DjangoError {
    /// Converts a status. `credential` is the error for a credential that is not valid.
    fn from_status(status: &Status, credential: Self) -> Self {
        match status.code() {
            // A credential that is too long is not valid either.
            Code::Unauthenticated | Code::InvalidArgument => credential,
            Code::ResourceExhausted => Self::Throttled(retry_after(status)),
            Code::Unavailable => Self::Unavailable(retry_after(status)),
            _ => Self::Internal,
        }
    }
}

impl From<Error> for DjangoError {
    fn from(error: Error) -> Self {
        Self::from_status(&error.into(), Self::Token(INVALID))
    }
}

impl IntoResponse for DjangoError {
    fn into_response(self) -> Response {
        let detail = |text: String| json!({ "detail": text });
        let (status, body) = match &self {
            Self::NoAccount => (StatusCode::UNAUTHORIZED, detail(NO_ACCOUNT.to_owned())),
            Self::Token(text) => (StatusCode::UNAUTHORIZED, json!({ "detail": text, "code": "token_not_valid" })),
            Self::NotFields(text) => (StatusCode::BAD_REQUEST, json!({ "non_field_errors": [text] })),
            Self::Multipart(error) => (StatusCode::BAD_REQUEST, detail(format!("Multipart form parse error - {error}"))),
            Self::Fields(problems) => (StatusCode::BAD_REQUEST, Value::Object(problems.clone())),
            Self::NotAnObject(kind) => {
                let problem = format!("Invalid data. Expected a dictionary, but got {kind}.");
                (StatusCode::BAD_REQUEST, json!({ "non_field_errors": [problem] }))
            }
            Self::Json(error) => (StatusCode::BAD_REQUEST, detail(format!("JSON parse error - {error}"))),
            Self::MediaType(kind) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, detail(format!("Unsupported media type \"{kind}\" in request.")))
            }
            Self::Method(method) => (StatusCode::METHOD_NOT_ALLOWED, detail(format!("Method \"{method}\" not allowed."))),
            Self::Body(status) => (*status, detail("The body could not be read.".to_owned())),
            Self::Throttled(seconds) => {
                let plural = if *seconds == 1 { "" } else { "s" };
                let text = format!("Request was throttled. Expected available in {seconds} second{plural}.");
                (StatusCode::TOO_MANY_REQUESTS, detail(text))
            }
            Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, detail("Service temporarily unavailable, try again later.".to_owned()))
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, detail("A server error occurred.".to_owned())),
        };
        let mut response = response(status, &body);
        let headers = response.headers_mut();
        match self {
            Self::NoAccount | Self::Token(_) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"api\""));
            }
            Self::Throttled(seconds) | Self::Unavailable(seconds) => {
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
            _ => {}
        }
        response
    }
}

fn ok(body: &Value) -> Response {
    response(StatusCode::OK, body)
}

fn response(status: StatusCode, body: &Value) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store"), (header::ALLOW, "POST, OPTIONS")];
    (status, headers, body.to_string()).into_response()
}
