//! Sends the same requests to two services that begin with the same data: to one by gRPC, to the other over HTTP, and compares
//! the answers.

use std::{collections::HashMap, fmt::Write, net::SocketAddr};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde::de::DeserializeSeed;
use serde_json::{Map, Value};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    assertions::with_token,
    http::{self, Answer},
    raw_codec::Raw,
};

/// Two services with the same data, and the names of values in their answers.
pub struct Parity {
    pool: DescriptorPool,
    statuses: MessageDescriptor,
    grpc: Channel,
    http: SocketAddr,
    /// The values of the `$name` placeholders in requests, for each of the two.
    names: [HashMap<String, String>; 2],
    /// Ids, keys and tokens, which are random: they count as the same where they come at the same places.
    seen: [HashMap<String, usize>; 2],
    calls: usize,
}

impl std::fmt::Debug for Parity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Parity").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Parity {
    /// Creates the comparison of the service behind `grpc` with the one at `http`.
    ///
    /// # Panics
    ///
    /// Panics if `descriptors` is not a valid `FileDescriptorSet`.
    pub fn new(descriptors: &[u8], grpc: Channel, http: SocketAddr) -> Self {
        let details = DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET).expect("descriptors");
        Self {
            pool: DescriptorPool::decode(descriptors).expect("descriptors"),
            statuses: details.get_message_by_name("google.rpc.Status").expect("a status"),
            grpc,
            http,
            names: [HashMap::new(), HashMap::new()],
            seen: [HashMap::new(), HashMap::new()],
            calls: 0,
        }
    }

    /// Sets the value of `$name` in later requests to both services.
    pub fn name(&mut self, name: &str, value: &str) {
        for names in &mut self.names {
            names.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Returns the number of requests that were sent to each service.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Calls a method of both services, such as `auth.v1.UserService/GetUser`, with the access token that has the name `token`,
    /// or without one if the name is empty. Later requests can refer to a string of the answer as `$name.field`.
    ///
    /// # Panics
    ///
    /// Panics if the answers differ, or if the code is not `expected`.
    pub async fn call(&mut self, name: &str, token: &str, method: &str, request: Value, expected: Code) {
        self.calls += 1;
        let (service, called) = method.split_once('/').expect("a service and a method");
        let descriptor = self.pool.get_service_by_name(service).expect("a service");
        let descriptor = descriptor.methods().find(|method| method.name() == called).expect("a method");
        let what = format!("call {} {method} {request}", self.calls);

        let tokens = [0, 1].map(|side| self.names[side].get(token).cloned());
        assert!(token.is_empty() || tokens[0].is_some(), "{what}: {token} is no name");
        let requests = [0, 1].map(|side| filled(&self.names[side], request.clone()));
        let [grpc_request, http_request] = requests;
        let by_grpc = self.by_grpc(&descriptor, grpc_request, tokens[0].as_deref()).await;
        let (answer, by_http) = self.by_http(&descriptor, http_request, tokens[1].as_deref()).await;

        let code = by_grpc.as_ref().err().map_or(Code::Ok, Status::code);
        assert_eq!(code, expected, "{what}: {by_grpc:?}");
        assert_eq!(answer.status, http_status(code), "{what}: {}", answer.text());
        let by_grpc = match by_grpc {
            Ok(messages) => Value::Array(messages),
            Err(status) => {
                let status = DynamicMessage::decode(self.statuses.clone(), status.details()).expect("details");
                to_json(&status)
            }
        };
        let mut answers = [by_grpc, by_http];
        for (side, answer) in answers.iter_mut().enumerate() {
            remember(&mut self.names[side], name, answer);
            alike(&mut self.seen[side], answer);
        }
        assert_eq!(answers[0], answers[1], "{what}");
    }

    async fn by_grpc(&self, method: &MethodDescriptor, request: Value, token: Option<&str>) -> Result<Vec<Value>, Status> {
        let message = method.input().deserialize(request).expect("a request of the method's type");
        let bytes: bytes::Bytes = message.encode_to_vec().into();
        let request = token.map_or_else(|| Request::new(bytes.clone()), |token| with_token(token, bytes.clone()));
        let mut client = tonic::client::Grpc::new(self.grpc.clone());
        client.ready().await.expect("a server");
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name()).parse().expect("a path");
        let mut answers = client.server_streaming(request, path, Raw).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(bytes) = answers.message().await? {
            let message = DynamicMessage::decode(method.output(), bytes).expect("an answer of the method's type");
            messages.push(to_json(&message));
        }
        Ok(messages)
    }

    async fn by_http(&self, method: &MethodDescriptor, request: Value, token: Option<&str>) -> (Answer, Value) {
        let (line, body) = transcoded(&self.pool, method, request);
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers = Vec::new();
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let answer = http::send(self.http, &line, &headers, body.unwrap_or_default().as_bytes()).await;
        let json = match (answer.status, method.is_server_streaming()) {
            (200, true) => {
                let line = |line: &str| serde_json::from_str::<Value>(line).expect("a line of JSON")["result"].take();
                Value::Array(answer.text().lines().map(line).collect())
            }
            (200, false) => Value::Array(vec![answer.json()]),
            _ => answer.json(),
        };
        (answer, json)
    }
}

/// The request line and the body, by the first rule of `google.api.http`.
fn transcoded(pool: &DescriptorPool, method: &MethodDescriptor, mut request: Value) -> (String, Option<String>) {
    let extension = pool.get_extension_by_name("google.api.http").expect("google.api.http");
    let options = method.options();
    let rule = options.get_extension(&extension);
    let rule = rule.as_message().expect("a rule");
    let text = |name: &str| rule.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let verb = ["get", "post", "put", "patch", "delete"].into_iter().find(|verb| rule.has_field_by_name(verb)).expect("a verb");
    let mut path = String::new();
    for piece in text(verb).split_inclusive('}') {
        let (literal, variable) = piece.split_once('{').unwrap_or((piece, ""));
        path.push_str(literal);
        if let Some(field) = variable.strip_suffix('}') {
            let value = taken(&mut request, field).unwrap_or_else(|| panic!("{} needs {field}", method.full_name()));
            encode(&mut path, value.as_str().expect("a string in a path"));
        }
    }
    let body = match text("body").as_str() {
        "" => None,
        "*" => Some(std::mem::take(&mut request)),
        field => taken(&mut request, field),
    };
    let mut query = Vec::new();
    flatten("", &request, &mut query);
    let query = query.iter().enumerate().map(|(n, (key, value))| {
        let mut pair = format!("{}{key}=", if n == 0 { '?' } else { '&' });
        encode(&mut pair, value);
        pair
    });
    (format!("{} {path}{}", verb.to_uppercase(), query.collect::<String>()), body.map(|body| body.to_string()))
}

fn taken(request: &mut Value, field: &str) -> Option<Value> {
    let (first, rest) = field.split_once('.').map_or((field, None), |(first, rest)| (first, Some(rest)));
    let mut name = String::new();
    for (n, word) in first.split('_').enumerate() {
        let (head, tail) = word.split_at(1);
        name.push_str(&if n == 0 { head.to_owned() } else { head.to_uppercase() });
        name.push_str(tail);
    }
    match rest {
        None => request.as_object_mut()?.remove(&name),
        Some(rest) => taken(request.get_mut(&name)?, rest),
    }
}

fn flatten(prefix: &str, value: &Value, query: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), value, query);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| flatten(prefix, item, query)),
        Value::String(text) => query.push((prefix.to_owned(), text.clone())),
        Value::Null => {}
        other => query.push((prefix.to_owned(), other.to_string())),
    }
}

fn encode(to: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            let _ = write!(to, "%{byte:02X}");
        }
    }
}

fn filled(names: &HashMap<String, String>, value: Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('$') {
            Some(name) => Value::String(names.get(name).unwrap_or_else(|| panic!("${name} stands for nothing")).clone()),
            None => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(|item| filled(names, item)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, filled(names, value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

fn remember(names: &mut HashMap<String, String>, name: &str, answer: &Value) {
    let mut found = Vec::new();
    flatten(name, answer, &mut found);
    // The first of a list.
    for (path, text) in found.into_iter().rev() {
        names.insert(path, text);
    }
}

/// Replaces what is random. What a client calls itself differs for a reason.
fn alike(seen: &mut HashMap<String, usize>, value: &mut Value) {
    match value {
        Value::String(text) => {
            let is_long = text.len() >= 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if is_long || uuid::Uuid::try_parse(text).is_ok() {
                let next = seen.len();
                *text = format!("random {}", seen.entry(text.clone()).or_insert(next));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| alike(seen, item)),
        Value::Object(fields) => {
            fields.remove("userAgent");
            fields.values_mut().for_each(|value| alike(seen, value));
        }
        _ => {}
    }
}

/// As grpc-gateway documents it.
fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    }
}

/// Returns the JSON form of a message in which fields with default values are written, as the gateway writes them.
fn to_json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON")
}
