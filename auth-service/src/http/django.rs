//! The four endpoints of djangorestframework-simplejwt, with its bodies and statuses, so that a front end written for Django works
//! unchanged.

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
    introspection::Introspection,
    proto::{LoginRequest, LogoutRequest, RefreshRequest, token_service_client::TokenServiceClient},
};

const NO_ACCOUNT: &str = "No active account found with the given credentials";

pub(super) fn routes(introspection: Introspection) -> Router {
    Router::new()
        .route("/api/token/", only_post(post(obtain)))
        .route("/api/token/refresh/", only_post(post(refresh)))
        .route("/api/token/verify/", only_post(post(verify)))
        .route("/api/token/blacklist/", only_post(post(blacklist)))
        .with_state(introspection)
}

fn only_post<S: Clone + Send + Sync + 'static>(route: MethodRouter<S>) -> MethodRouter<S> {
    route.fallback(async |method: Method| DjangoError::Method(method))
}

async fn obtain(grpc: InProcess, data: Data) -> Result<Response, DjangoError> {
    let [username, password] = data.fields(["username", "password"])?;
    let answer = TokenServiceClient::new(grpc).login(LoginRequest { username, password }).await;
    let answer = answer.map_err(|status| DjangoError::from_status(&status, DjangoError::NoAccount))?.into_inner();
    Ok(ok(&json!({ "refresh": answer.refresh_token, "access": answer.access_token })))
}

async fn refresh(grpc: InProcess, data: Data) -> Result<Response, DjangoError> {
    let [refresh_token] = data.fields(["refresh"])?;
    let request = RefreshRequest { refresh_token, request_id: String::new() };
    let answer = TokenServiceClient::new(grpc).refresh(request).await;
    let answer = answer.map_err(|status| DjangoError::from_status(&status, DjangoError::Token))?.into_inner();
    // The response of simplejwt with ROTATE_REFRESH_TOKENS.
    Ok(ok(&json!({ "access": answer.access_token, "refresh": answer.refresh_token })))
}

/// Accepts access tokens and refresh tokens, as simplejwt does. The token in the body is the only credential, so there is no access rule
/// to enforce: see "Exceptions" in docs/architecture/README.md.
async fn verify(State(introspection): State<Introspection>, data: Data) -> Result<Response, DjangoError> {
    let [token] = data.fields(["token"])?;
    introspection.introspect(&token).await?.ok_or(DjangoError::Token)?;
    Ok(ok(&json!({})))
}

async fn blacklist(State(introspection): State<Introspection>, grpc: InProcess, data: Data) -> Result<Response, DjangoError> {
    let [refresh_token] = data.fields(["refresh"])?;
    // Logout accepts a token whose session has ended. Simplejwt rejects it, because it is on the blacklist already.
    introspection.introspect(&refresh_token).await?.ok_or(DjangoError::Token)?;
    let answer = TokenServiceClient::new(grpc).logout(LogoutRequest { refresh_token }).await;
    answer.map_err(|status| DjangoError::from_status(&status, DjangoError::Token))?;
    Ok(ok(&json!({})))
}

/// The body of a request, as JSON or as a form: `request.data` in Django REST framework.
struct Data(Map<String, Value>);

impl Data {
    /// Returns the fields, or an error for each one that is absent, empty or not a string.
    fn fields<const N: usize>(&self, names: [&'static str; N]) -> Result<[String; N], DjangoError> {
        let found = names.map(|name| self.field(name));
        let mut problems = Map::new();
        for (name, value) in names.into_iter().zip(&found) {
            if let Err(problem) = value {
                problems.insert(name.to_owned(), json!([problem]));
            }
        }
        if problems.is_empty() { Ok(found.map(Result::unwrap_or_default)) } else { Err(DjangoError::Fields(problems)) }
    }

    /// Reads a field with the rules of `CharField`.
    fn field(&self, name: &str) -> Result<String, &'static str> {
        let text = match self.0.get(name).ok_or("This field is required.")? {
            Value::Null => return Err("This field may not be null."),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err("Not a valid string."),
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.trim().to_owned(),
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
        if is_form {
            let fields = form_urlencoded::parse(&body).map(|(name, value)| (name.into_owned(), value.into_owned().into()));
            return Ok(Self(fields.collect()));
        }
        if !is_json {
            return Err(DjangoError::MediaType(content_type));
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => Err(DjangoError::NotAnObject(python_type(&other))),
            Err(error) => Err(DjangoError::Json(error.to_string())),
        }
    }
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
    Token,
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
        Self::from_status(&error.into(), Self::Token)
    }
}

impl IntoResponse for DjangoError {
    fn into_response(self) -> Response {
        let detail = |text: String| json!({ "detail": text });
        let (status, body) = match &self {
            Self::NoAccount => (StatusCode::UNAUTHORIZED, detail(NO_ACCOUNT.to_owned())),
            Self::Token => {
                (StatusCode::UNAUTHORIZED, json!({ "detail": "Token is invalid or expired", "code": "token_not_valid" }))
            }
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
            Self::NoAccount | Self::Token => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"api\""));
            }
            Self::Method(_) => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"))),
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
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}
