//! Walks every method of a service's descriptors, to see that each lets in whom its access rule names and nobody else.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage, Value};
use tonic::{Code, Status, transport::Channel};

use crate::{
    assertions::{details, with_token},
    raw_codec::Raw,
};
use access::{Actor, token::Claims};

/// The owner of what a request names, where it is not the caller.
const ANOTHER: &str = "018f0000-0000-7000-8000-000000000000";

/// Calls every method of `package` that the server's descriptors know: without a token, with the token of a user who has no
/// permission, with the token of another user than the owner, with the owner's, with the permission, and with the token of
/// the wrong kind of caller. `claims` are those of a user who exists and holds no permission, `sign` makes tokens that the
/// server accepts. Answers the paths that it has called.
///
/// # Panics
///
/// Where a method lets in whom it must not, or keeps out whom it must let in.
pub async fn access_matrix(
    channel: Channel,
    descriptors: &[u8],
    package: &str,
    claims: &Claims,
    sign: impl Fn(&Claims) -> String,
) -> BTreeSet<String> {
    let pool = DescriptorPool::decode(descriptors).expect("descriptors");
    let services = pool.services().filter(|service| service.package_name() == package);
    let methods: Vec<_> = services.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    assert!(!methods.is_empty(), "{package} has no methods");
    let mut called = BTreeSet::new();
    for method in methods {
        let method = MatrixRow::new(&pool, method);
        method.check(&channel, claims.clone(), &sign).await;
        called.insert(method.path);
    }
    called
}

/// A method and its rule, read again from the descriptors: what generated code made of them is what is being tested.
struct MatrixRow {
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

    async fn check(&self, channel: &Channel, mut claims: Claims, sign: &impl Fn(&Claims) -> String) {
        let path = &self.path;
        let user = sign(&claims);
        let for_services = self.actors() == [Value::EnumNumber(2)];
        if for_services {
            claims.actor = Actor::Service;
        }
        let token = sign(&claims);
        let of_another = self.request(ANOTHER);

        let stranger = self.call(channel, None, &of_another).await;
        if self.flag("public") {
            assert!(admitted(&stranger), "{path} is public, and refuses a stranger: {stranger:?}");
            return;
        }
        assert_unauthenticated(&stranger, path);
        assert_unauthenticated(&self.call(channel, Some("nonsense"), &of_another).await, path);

        let permission = self.text("permission");
        let lets_anybody = self.flag("authenticated");
        let answer = self.call(channel, Some(&token), &of_another).await;
        assert_eq!(admitted(&answer), lets_anybody, "{path}, with a token of no permission: {answer:?}");

        if !self.text("owner").is_empty() {
            for own in ["me".to_owned(), claims.sub.clone(), claims.sub.to_uppercase()] {
                let answer = self.call(channel, Some(&token), &self.request(&own)).await;
                assert!(admitted(&answer), "{path}, by the owner as {own}: {answer:?}");
            }
        }
        if !permission.is_empty() {
            claims.scope = format!("other.view_thing {permission} other.change_thing");
            let answer = self.call(channel, Some(&sign(&claims)), &of_another).await;
            assert!(admitted(&answer), "{path}, with {permission}: {answer:?}");
            let user = sign(&Claims { actor: Actor::User, ..claims.clone() });
            if for_services {
                let answer = self.call(channel, Some(&user), &of_another).await;
                assert!(!admitted(&answer), "{path}, by a user with {permission}: {answer:?}");
            }
            claims.scope = format!("{permission}s x{permission} {}", permission.to_uppercase());
            let answer = self.call(channel, Some(&sign(&claims)), &of_another).await;
            assert!(!admitted(&answer), "{path}, with permissions that only look like {permission}: {answer:?}");
        }
        if !self.text("owner").is_empty() && !lets_anybody {
            let service = sign(&Claims { actor: Actor::Service, scope: String::new(), ..claims.clone() });
            let answer = self.call(channel, Some(&service), &self.request("me")).await;
            assert!(!admitted(&answer), "{path}, by a service, which owns nothing: {answer:?}");
        }
        if for_services {
            let answer = self.call(channel, Some(&user), &of_another).await;
            assert!(!admitted(&answer), "{path}, by a user: {answer:?}");
        }
        if self.actors() == [Value::EnumNumber(1)] {
            claims.actor = Actor::Service;
            let answer = self.call(channel, Some(&sign(&claims)), &self.request("me")).await;
            assert!(!admitted(&answer), "{path}, by a service: {answer:?}");
        }
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

    /// A request whose owner field names `owner`, otherwise empty but for an etag that is nothing's: users may delete themselves,
    /// and then there would be nobody to walk on.
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

/// True where the guard let the call through to validation or to the handler.
fn admitted(answer: &Result<(), Status>) -> bool {
    answer.as_ref().err().is_none_or(|status| {
        let reason = details(status).0;
        !matches!(reason.as_str(), "ACCESS_TOKEN_INVALID" | "PERMISSION_MISSING" | "ACTOR_NOT_ALLOWED")
    })
}

fn assert_unauthenticated(answer: &Result<(), Status>, path: &str) {
    let status = answer.as_ref().expect_err("a refusal");
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "a valid access token is required"), "{path}");
}
