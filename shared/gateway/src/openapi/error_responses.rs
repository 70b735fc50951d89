//! The error responses: the HTTP statuses, and the reasons that each can carry.

use std::{collections::BTreeMap, sync::LazyLock};

use access::error::CODE_NAMES;
use contract::{ContractError, comment};
use prost_reflect::{DescriptorPool, EnumDescriptor, EnumValueDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::{
    access::Access,
    schema::{Direction, Schemas},
};

/// The reasons of `access.v1.Reason` with their comments.
static ACCESS_REASONS: LazyLock<Vec<Reason>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(access::proto::DESCRIPTORS).expect("the descriptors of access are valid");
    reasons(&pool.get_enum_by_name("access.v1.Reason").expect("access.v1 declares Reason"))
});

/// The messages that a status can carry as details.
const DETAILS: [&str; 3] = ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"];

/// The package of the reasons that every service has.
const ACCESS: &str = "access.v1";

/// The description of the type of a detail.
const TYPES: &str = "The type of the detail, which determines its other fields: `type.googleapis.com/google.rpc.ErrorInfo` (`reason`, \
    `domain` and `metadata`), `type.googleapis.com/google.rpc.BadRequest` (`fieldViolations`) or \
    `type.googleapis.com/google.rpc.RetryInfo` (`retryDelay`).";

/// A published reason.
struct Reason {
    /// The name without its prefix, such as `ETAG_STALE`.
    name: String,
    /// The gRPC code, which is the first word of the comment.
    code: String,
    /// The rest of the comment.
    description: String,
    /// Whether `access.v1` publishes it, which is then the domain.
    is_general: bool,
}

fn reasons(published: &EnumDescriptor) -> Vec<Reason> {
    let file = published.parent_file();
    let is_general = file.package_name() == ACCESS;
    let read = |value: EnumValueDescriptor| {
        let comment = comment(&file, value.path()).replace('\n', " ");
        let (code, description) = comment.split_once(':')?;
        let name = value.name().trim_start_matches("REASON_").to_owned();
        Some(Reason { name, code: code.to_owned(), description: description.trim().to_owned(), is_general })
    };
    published.values().filter_map(read).collect()
}

/// Returns the HTTP statuses with which the gateway sends a reason (google/rpc/code.proto).
fn http_statuses(reason: &Reason) -> &'static [&'static str] {
    match (reason.name.as_str(), reason.code.as_str()) {
        // The gateway responds with 412 to a stale `If-Match`, and with 409 to a stale etag in the body.
        ("ETAG_STALE", _) => &["409", "412"],
        ("MESSAGE_TOO_LARGE", _) => &["413"],
        ("MESSAGE_MALFORMED", _) => &["400", "415"],
        (_, "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE") => &["400"],
        (_, "UNAUTHENTICATED") => &["401"],
        (_, "PERMISSION_DENIED") => &["403"],
        (_, "NOT_FOUND") => &["404"],
        (_, "ALREADY_EXISTS" | "ABORTED") => &["409"],
        (_, "RESOURCE_EXHAUSTED") => &["429"],
        (_, "UNIMPLEMENTED") => &["501"],
        (_, "UNAVAILABLE") => &["503"],
        (_, "DEADLINE_EXCEEDED") => &["504"],
        _ => &["500"],
    }
}

/// Adds the schema of `google.rpc.Status`. The details have one schema for every type, because client generators make no usable types
/// from alternatives.
pub(super) fn add_schemas(pool: &DescriptorPool, schemas: &mut Schemas) -> Result<(), ContractError> {
    let mut properties = Map::new();
    properties.insert("@type".to_owned(), json!({ "type": "string", "description": TYPES }));
    for message in DETAILS.iter().filter_map(|name| pool.get_message_by_name(name)) {
        for field in message.fields() {
            let (mut schema, _) = schemas.field(&field, Direction::Response)?;
            if schema.get("description").is_none() && schema.get("$ref").is_none() {
                schema["description"] = format!("Of `{}`.", message.full_name()).into();
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
    }
    schemas.add("google.rpc.ErrorDetail", json!({ "type": "object", "properties": properties, "required": ["@type"] }));
    let status = json!({
        "type": "object",
        "description": "The reason why a call was rejected.",
        "properties": {
            "code": { "type": "integer", "description": "The gRPC code." },
            "message": { "type": "string", "description": "A sentence for people. It never contains a secret." },
            "details": { "type": "array", "items": { "$ref": "#/components/schemas/google.rpc.ErrorDetail" } },
        },
        "required": ["code", "message"],
    });
    schemas.add("google.rpc.Status", status);
    Ok(())
}

/// Returns the example of a response with this reason.
fn example(reason: &Reason) -> Value {
    let code = CODE_NAMES.iter().position(|code| *code == reason.code).unwrap_or_default();
    let mut info = json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason.name });
    // The domain of another reason is the name of the service, which the descriptors do not contain.
    if reason.is_general {
        info["domain"] = ACCESS.into();
    }
    json!({ "code": code, "message": reason.description, "details": [info] })
}

/// Returns the error responses of one method, by status, each with the reasons that it can carry: those that the access rule
/// declares, and those that follow from the rule and the request.
pub(super) fn of_method(method: &MethodDescriptor, access: &Access, has_body: bool) -> Map<String, Value> {
    let own = method.parent_pool().get_enum_by_name(&format!("{}.Reason", method.parent_file().package_name()));
    let own = own.map(|published| reasons(&published)).unwrap_or_default();
    let derived = derived_reasons(method, access, has_body);
    let is_possible = |reason: &&Reason| derived.contains(&reason.name.as_str()) || access.reasons.contains(&reason.name);
    let mut responses: BTreeMap<&str, (Vec<String>, Value)> = BTreeMap::new();
    for reason in ACCESS_REASONS.iter().chain(&own).filter(is_possible) {
        for status in http_statuses(reason).iter().filter(|status| has_body || **status != "415") {
            let line = format!("- `{}` ({}): {}", reason.name, reason.code, reason.description);
            responses.entry(status).or_insert_with(|| (Vec::new(), example(reason))).0.push(line);
        }
    }
    let response = |(lines, example): (Vec<String>, Value)| {
        let schema = json!({ "$ref": "#/components/schemas/google.rpc.Status" });
        json!({ "description": lines.join("\n"), "content": { "application/json": { "schema": schema, "example": example } } })
    };
    responses.into_iter().map(|(status, lines)| (status.to_owned(), response(lines))).collect()
}

/// Returns the reasons of `access.v1.Reason` that follow from the access rule and the request of a method.
fn derived_reasons(method: &MethodDescriptor, access: &Access, has_body: bool) -> Vec<&'static str> {
    let input = method.input();
    let has_field = |name: &str| input.get_field_by_name(name).is_some();
    let names_something = any_field(&input, &|name| (name.ends_with("_id") && name != "request_id") || name.ends_with("_ids"));
    let found = [
        ("ACCESS_TOKEN_INVALID", !access.is_public),
        ("PERMISSION_MISSING", !access.is_public && !access.is_authenticated),
        ("ACTOR_NOT_ALLOWED", !access.actors.is_empty()),
        ("REVOCATIONS_STALE", access.is_strict),
        ("NOT_FOUND", names_something),
        ("FIELD_INVALID", true),
        ("MESSAGE_MALFORMED", true),
        ("PAGE_TOKEN_INVALID", has_field("page_token")),
        ("MASK_PATH_INVALID", has_field("update_mask")),
        ("ETAG_STALE", has_etag(method)),
        ("MESSAGE_TOO_LARGE", has_body),
        ("OVERLOADED", true),
        ("UNAVAILABLE", true),
        ("DEADLINE_EXCEEDED", true),
        ("INTERNAL", true),
    ];
    found.into_iter().filter_map(|(name, applies)| applies.then_some(name)).collect()
}

/// Returns true if the request has an etag, or the resource that it updates, which `If-Match` can set. A new resource has no etag yet.
pub(super) fn has_etag(method: &MethodDescriptor) -> bool {
    let input = method.input();
    let is_update = input.get_field_by_name("update_mask").is_some();
    input.get_field_by_name("etag").is_some() || (is_update && any_field(&input, &|name| name == "etag"))
}

/// Returns true if `has` holds for the name of a field of the message, or of a message of the same package in it.
fn any_field(message: &MessageDescriptor, has: &dyn Fn(&str) -> bool) -> bool {
    message.fields().any(|field| {
        has(field.name())
            || matches!(field.kind(), Kind::Message(inner)
                if inner.package_name() == message.package_name() && inner.full_name() != message.full_name() && any_field(&inner, has))
    })
}
