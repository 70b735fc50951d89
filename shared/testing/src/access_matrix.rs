//! The access matrix: for every method and every kind of caller, whether the access rule allows the call. A test calls every cell, and
//! `docs/reference/access.md` is generated from the same rows.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MethodDescriptor, ReflectMessage, Value};
use tonic::{Code, Status, transport::Channel};

use crate::{
    assertions::{details, with_token},
    raw_codec::Raw,
};
use access::{Actor, token::Claims};

/// The owner of the resource that a request names, if it is not the caller.
const ANOTHER: &str = "018f0000-0000-7000-8000-000000000000";
/// The permission that only superusers have, because it cannot be granted.
const SUPERUSER_PERMISSION: &str = "auth.change_superuser";
/// `access.v1.Actor.ACTOR_USER` and `ACTOR_SERVICE`.
const USER: Value = Value::EnumNumber(1);
const SERVICE: Value = Value::EnumNumber(2);

/// A kind of caller: a column of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixCaller {
    /// A caller without an access token.
    Anonymous,
    /// A user without permissions who owns the resource.
    Owner,
    /// A user without permissions, for a resource of another user.
    AnotherUser,
    /// A user with the permission of the rule, for a resource of another user.
    Holder,
    /// A superuser, for a resource of another user.
    Superuser,
    /// A service account with the permission of the rule.
    Service,
    /// A superuser who was deactivated, and owns the resource.
    Inactive,
}

impl MatrixCaller {
    /// The columns in their order.
    pub const ALL: [Self; 7] =
        [Self::Anonymous, Self::Owner, Self::AnotherUser, Self::Holder, Self::Superuser, Self::Service, Self::Inactive];
}

/// The outcome of a call: a cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixCell {
    /// The access rule allows the call.
    Allowed,
    /// The call fails with UNAUTHENTICATED.
    Unauthenticated,
    /// The call fails with PERMISSION_DENIED.
    Denied,
    /// The rule has no owner, or no permission.
    NotApplicable,
}

impl fmt::Display for MatrixCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "yes",
            Self::Unauthenticated => "401",
            Self::Denied => "403",
            Self::NotApplicable => "–",
        })
    }
}

/// The claims of the callers of [`check_access_matrix`], who all exist in the service that is called.
#[derive(Debug, Clone)]
pub struct MatrixClaims {
    /// A user. The test changes the scope.
    pub user: Claims,
    /// A superuser, with every permission in the scope.
    pub superuser: Claims,
    /// A service account. The test changes the scope.
    pub service: Claims,
    /// A superuser who was deactivated since the token was issued.
    pub inactive: Claims,
}

/// Returns the rows of the matrix: every method of `package`, in the order of the descriptors.
///
/// # Panics
///
/// Panics if the descriptors are not valid, or have no method of `package`.
pub fn access_matrix(descriptors: &[u8], package: &str) -> Vec<MatrixRow> {
    let pool = DescriptorPool::decode(descriptors).expect("descriptors");
    let services = pool.services().filter(|service| service.package_name() == package);
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let rows: Vec<_> = methods.map(|method| MatrixRow::new(&pool, method)).collect();
    assert!(!rows.is_empty(), "{package} has no methods");
    rows
}

/// Calls every cell of the matrix of `package`, and returns its rows. `sign` signs tokens that the server accepts.
///
/// # Panics
///
/// Panics if a method admits a caller that it must refuse, or refuses one that it must admit.
pub async fn check_access_matrix(
    channel: Channel,
    descriptors: &[u8],
    package: &str,
    claims: &MatrixClaims,
    sign: impl Fn(&Claims) -> String,
) -> Vec<MatrixRow> {
    let rows = access_matrix(descriptors, package);
    for row in &rows {
        for caller in MatrixCaller::ALL {
            row.check(&channel, caller, claims, &sign).await;
        }
        row.check_lookalikes(&channel, claims, &sign).await;
    }
    rows
}

/// A method and its rule, read again from the descriptors, because the generated code is being tested.
#[derive(Debug, Clone)]
pub struct MatrixRow {
    path: String,
    method: MethodDescriptor,
    rule: DynamicMessage,
}

impl MatrixRow {
    fn new(pool: &DescriptorPool, method: MethodDescriptor) -> Self {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let extension = pool.get_extension_by_name("access.v1.rule").expect("the access rule");
        let rule = method.options().get_extension(&extension).as_message().cloned().expect("a rule");
        Self { path, method, rule }
    }

    /// Returns the path of the method: `/package.Service/Method`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the permission that the rule names. Empty if it names none.
    pub fn permission(&self) -> String {
        self.text("permission")
    }

    /// Returns true if calls of the method are recorded in the audit log.
    pub fn is_audited(&self) -> bool {
        self.flag("audit")
    }

    /// Returns true if the HTTP route of the method is a GET, so that the method changes nothing (RFC 9110 section 9.2.1).
    ///
    /// # Panics
    ///
    /// Panics if the descriptors do not contain the option `google.api.http`.
    pub fn is_safe(&self) -> bool {
        let extension = self.method.parent_pool().get_extension_by_name("google.api.http").expect("the HTTP option");
        self.method.options().get_extension(&extension).as_message().is_some_and(|rule| rule.has_field_by_name("get"))
    }

    /// Returns what the rule decides about this kind of caller.
    pub fn cell(&self, caller: MatrixCaller) -> MatrixCell {
        let (has_permission, has_owner) = (!self.permission().is_empty(), !self.text("owner").is_empty());
        match caller {
            MatrixCaller::Owner if !has_owner => return MatrixCell::NotApplicable,
            MatrixCaller::Holder if !has_permission || self.permission() == SUPERUSER_PERMISSION => {
                return MatrixCell::NotApplicable;
            }
            _ if self.flag("public") => return MatrixCell::Allowed,
            MatrixCaller::Anonymous | MatrixCaller::Inactive => return MatrixCell::Unauthenticated,
            _ => {}
        }
        let is_holder = matches!(caller, MatrixCaller::Holder | MatrixCaller::Superuser | MatrixCaller::Service);
        let satisfies_policy =
            self.flag("authenticated") || (has_permission && is_holder) || (has_owner && caller == MatrixCaller::Owner);
        let actor = if caller == MatrixCaller::Service { SERVICE } else { USER };
        let actors = self.actors();
        let is_allowed = satisfies_policy && (actors.is_empty() || actors.contains(&actor));
        if is_allowed { MatrixCell::Allowed } else { MatrixCell::Denied }
    }

    async fn check(&self, channel: &Channel, caller: MatrixCaller, claims: &MatrixClaims, sign: &impl Fn(&Claims) -> String) {
        let scope = format!("other.view_thing {} other.change_thing", self.permission());
        let claims = match caller {
            MatrixCaller::Anonymous => None,
            MatrixCaller::Owner | MatrixCaller::AnotherUser => Some(Claims { scope: String::new(), ..claims.user.clone() }),
            MatrixCaller::Holder => Some(Claims { scope, ..claims.user.clone() }),
            MatrixCaller::Superuser => Some(claims.superuser.clone()),
            MatrixCaller::Service => Some(Claims { scope, ..claims.service.clone() }),
            MatrixCaller::Inactive => Some(claims.inactive.clone()),
        };
        let owners = match (caller, &claims) {
            (MatrixCaller::Owner | MatrixCaller::Inactive, Some(claims)) => {
                vec!["me".to_owned(), claims.sub.clone(), claims.sub.to_uppercase()]
            }
            _ => vec![ANOTHER.to_owned()],
        };
        let expected = self.cell(caller);
        for owner in owners.iter().filter(|_| expected != MatrixCell::NotApplicable) {
            let token = claims.as_ref().map(sign);
            let answer = self.call(channel, token.as_deref(), &self.request(owner)).await;
            assert_eq!(cell(&answer), expected, "{}, by {caller:?}, with the owner {owner}: {answer:?}", self.path);
        }
    }

    /// Calls the method with credentials that only resemble sufficient ones.
    async fn check_lookalikes(&self, channel: &Channel, claims: &MatrixClaims, sign: &impl Fn(&Claims) -> String) {
        if self.flag("public") {
            return;
        }
        let path = &self.path;
        let answer = self.call(channel, Some("nonsense"), &self.request(ANOTHER)).await;
        assert_eq!(cell(&answer), MatrixCell::Unauthenticated, "{path}, with a token that is none: {answer:?}");
        let permission = self.permission();
        if !permission.is_empty() {
            let scope = format!("{permission}s x{permission} {}", permission.to_uppercase());
            for claims in [&claims.user, &claims.service] {
                let token = sign(&Claims { scope: scope.clone(), ..claims.clone() });
                let answer = self.call(channel, Some(&token), &self.request(ANOTHER)).await;
                assert_eq!(cell(&answer), MatrixCell::Denied, "{path}, with permissions that resemble {permission}: {answer:?}");
            }
        }
        if !self.text("owner").is_empty() && !self.flag("authenticated") {
            // A service owns nothing, even if its id is that of a user.
            let service = Claims { actor: Actor::Service, scope: String::new(), ..claims.user.clone() };
            let answer = self.call(channel, Some(&sign(&service)), &self.request("me")).await;
            assert_eq!(cell(&answer), MatrixCell::Denied, "{path}, by a service: {answer:?}");
        }
    }

    /// Calls the method with `secret` in every field whose name says that it holds a secret. Returns the error, if there is one.
    pub async fn call_with_secret(&self, channel: &Channel, token: &str, secret: &str) -> Option<Status> {
        let mut request = DynamicMessage::new(self.method.input());
        fill_secrets(&mut request, secret);
        self.call(channel, Some(token), &request.encode_to_vec().into()).await.err()
    }

    fn actors(&self) -> Vec<Value> {
        let actors = self.rule.get_field_by_name("actors");
        actors.as_ref().and_then(|actors| actors.as_list()).map(<[_]>::to_vec).unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self.rule.get_field_by_name(name).and_then(|value| value.as_bool()).unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.rule.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Returns a request whose owner field names `owner`. It is otherwise empty, except for an etag of no resource, so that users do not
    /// delete themselves.
    fn request(&self, owner: &str) -> Bytes {
        let mut request = DynamicMessage::new(self.method.input());
        let path = self.text("owner");
        if !path.is_empty() {
            set(&mut request, &path, owner);
        }
        if request.descriptor().get_field_by_name("etag").is_some() {
            set(&mut request, "etag", "nothing's");
        }
        request.encode_to_vec().into()
    }

    async fn call(&self, channel: &Channel, token: Option<&str>, request: &Bytes) -> Result<(), Status> {
        let request = match token {
            Some(token) => with_token(token, request.clone()),
            None => tonic::Request::new(request.clone()),
        };
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.expect("a server that accepts connections");
        let path = self.path.parse().expect("a path");
        let mut answers = client.server_streaming(request, path, Raw).await?.into_inner();
        // A stream may have no end.
        answers.message().await.map(drop)
    }
}

fn set(message: &mut DynamicMessage, path: &str, value: &str) {
    match path.split_once('.') {
        None => message.set_field_by_name(path, Value::String(value.to_owned())),
        Some((field, rest)) => {
            let mut inner = message.get_field_by_name(field).and_then(|inner| inner.as_message().cloned()).expect("a message");
            set(&mut inner, rest, value);
            message.set_field_by_name(field, Value::Message(inner));
        }
    }
}

/// Sets the fields of a message, and of the messages in it, that hold a secret.
fn fill_secrets(message: &mut DynamicMessage, secret: &str) {
    for field in message.descriptor().fields().filter(|field| !field.is_list() && !field.is_map()) {
        let is_secret = ["password", "secret", "token", "assertion"].iter().any(|word| field.name().contains(word));
        match field.kind() {
            Kind::String if is_secret && field.name() != "page_token" => {
                message.set_field(&field, Value::String(secret.to_owned()));
            }
            Kind::Message(inner) if inner.package_name() == message.descriptor().package_name() => {
                let mut inner = DynamicMessage::new(inner);
                fill_secrets(&mut inner, secret);
                message.set_field(&field, Value::Message(inner));
            }
            _ => {}
        }
    }
}

/// Returns the cell that an answer belongs to. A call is allowed if the guard passed it on to validation or to the handler.
fn cell(answer: &Result<(), Status>) -> MatrixCell {
    let Err(status) = answer else { return MatrixCell::Allowed };
    match (status.code(), details(status).0.as_str()) {
        (Code::Unauthenticated, "ACCESS_TOKEN_INVALID") => {
            assert_eq!(status.message(), "a valid access token is required");
            MatrixCell::Unauthenticated
        }
        (Code::PermissionDenied, "PERMISSION_MISSING" | "ACTOR_NOT_ALLOWED") => MatrixCell::Denied,
        _ => MatrixCell::Allowed,
    }
}
