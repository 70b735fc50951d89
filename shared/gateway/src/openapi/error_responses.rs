//! The error responses: the HTTP statuses, and the reasons that each can carry.

use std::sync::LazyLock;

use contract::{ContractError, comment};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::{access::Access, schema::Schemas};

/// The values of `access.v1.Reason` with their comments. Each comment begins with the gRPC code of the reason.
static REASONS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(access::proto::DESCRIPTORS).expect("the descriptors of access are valid");
    let reasons = pool.get_enum_by_name("access.v1.Reason").expect("access.v1 declares Reason");
    let file = reasons.parent_file();
    reasons.values().map(|value| (value.name().to_owned(), comment(&file, value.path()).replace('\n', " "))).collect()
});

/// The messages that a status can carry as details.
const DETAILS: [&str; 3] = ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"];

/// An error response: its HTTP status, its name in the document, and the gRPC codes that map to it.
struct ErrorResponse(&'static str, &'static str, &'static [&'static str]);

const INVALID: ErrorResponse = ErrorResponse("400", "Invalid", &["INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"]);
const UNAUTHENTICATED: ErrorResponse = ErrorResponse("401", "Unauthenticated", &["UNAUTHENTICATED"]);
const DENIED: ErrorResponse = ErrorResponse("403", "Denied", &["PERMISSION_DENIED"]);
const NOT_FOUND: ErrorResponse = ErrorResponse("404", "NotFound", &["NOT_FOUND"]);
const CONFLICT: ErrorResponse = ErrorResponse("409", "Conflict", &["ALREADY_EXISTS", "ABORTED"]);
const CONDITION: ErrorResponse = ErrorResponse("412", "ConditionFailed", &["ABORTED"]);
const TOO_LARGE: ErrorResponse = ErrorResponse("413", "TooLarge", &["RESOURCE_EXHAUSTED"]);
const MEDIA_TYPE: ErrorResponse = ErrorResponse("415", "MediaType", &["INVALID_ARGUMENT"]);
const EXHAUSTED: ErrorResponse = ErrorResponse("429", "Exhausted", &["RESOURCE_EXHAUSTED"]);
const INTERNAL: ErrorResponse = ErrorResponse("500", "Internal", &["INTERNAL"]);
const UNAVAILABLE: ErrorResponse = ErrorResponse("503", "Unavailable", &["UNAVAILABLE"]);
const TOO_LATE: ErrorResponse = ErrorResponse("504", "DeadlineExceeded", &["DEADLINE_EXCEEDED"]);
const ALL: [&ErrorResponse; 12] = [
    &INVALID,
    &UNAUTHENTICATED,
    &DENIED,
    &NOT_FOUND,
    &CONFLICT,
    &CONDITION,
    &TOO_LARGE,
    &MEDIA_TYPE,
    &EXHAUSTED,
    &INTERNAL,
    &UNAVAILABLE,
    &TOO_LATE,
];

/// Returns the value of `components/responses`. Adds the schemas of `google.rpc.Status` and of its details.
pub(super) fn components(pool: &DescriptorPool, schemas: &mut Schemas) -> Result<Map<String, Value>, ContractError> {
    let details = DETAILS.iter().filter_map(|name| pool.get_message_by_name(name));
    let details = details.map(|detail| schemas.detail(&detail)).collect::<Result<Vec<_>, _>>()?;
    let status = json!({
        "type": "object",
        "description": "Why a call was refused.",
        "properties": {
            "code": { "type": "integer", "description": "The code of gRPC." },
            "message": { "type": "string", "description": "A sentence for people. It never carries a secret." },
            "details": {
                "type": "array",
                "items": { "type": "object", "required": ["@type"], "anyOf": details },
            },
        },
        "required": ["code", "message"],
    });
    schemas.add("google.rpc.Status", status);
    let responses = ALL.iter().map(|ErrorResponse(_, name, codes)| {
        let reasons = codes.iter().flat_map(|code| {
            let of_code = REASONS.iter().filter_map(move |(reason, comment)| Some((reason, comment.strip_prefix(code)?)));
            of_code.map(move |(reason, comment)| format!("- `{}` ({code}){comment}", reason.trim_start_matches("REASON_")))
        });
        let response = json!({
            "description": reasons.collect::<Vec<_>>().join("\n"),
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/google.rpc.Status" } } },
        });
        ((*name).to_owned(), response)
    });
    Ok(responses.collect())
}

/// Returns the error responses of one method, by status. They follow from its access rule and from its request, by the conventions of
/// every method here: a method that creates something can find that it exists, an etag can be stale, an id can name nothing, and a
/// password or a token can be wrong or be tried too often.
pub(super) fn of_method(method: &MethodDescriptor, access: &Access, has_body: bool) -> Map<String, Value> {
    let input = method.input();
    let creates = ["Create", "Register", "Add"].iter().any(|verb| method.name().starts_with(verb));
    let names_something = any_field(&input, &|name| (name.ends_with("_id") && name != "request_id") || name.ends_with("_ids"));
    let has_a_password = any_field(&input, &|name| name.contains("password"));
    let has_a_credential =
        has_a_password || any_field(&input, &|name| ["refresh_token", "client_secret", "assertion"].contains(&name));
    let has_etag = has_etag(&input);
    let is_narrow = !access.is_public && (!access.is_authenticated || !access.actors.is_empty());
    let found = [
        (&INVALID, true),
        (&UNAUTHENTICATED, !access.is_public || (has_a_credential && !creates)),
        (&DENIED, is_narrow || (access.is_public && creates)),
        (&NOT_FOUND, names_something),
        (&CONFLICT, creates || has_etag || method.name().starts_with("Update")),
        (&CONDITION, has_etag),
        (&TOO_LARGE, has_body),
        (&MEDIA_TYPE, has_body),
        (&EXHAUSTED, has_a_credential || (access.is_public && has_body)),
        (&INTERNAL, true),
        (&UNAVAILABLE, true),
        (&TOO_LATE, true),
    ];
    let found = found.into_iter().filter(|(_, applies)| *applies);
    found
        .map(|(ErrorResponse(status, name, _), _)| {
            ((*status).to_owned(), json!({ "$ref": format!("#/components/responses/{name}") }))
        })
        .collect()
}

/// Returns true if the request or the resource in it has an etag, which `If-Match` can set.
pub(super) fn has_etag(input: &MessageDescriptor) -> bool {
    any_field(input, &|name| name == "etag")
}

/// Returns true if `has` holds for the name of a field of the message, or of a message of the same package in it.
fn any_field(message: &MessageDescriptor, has: &dyn Fn(&str) -> bool) -> bool {
    message.fields().any(|field| {
        has(field.name())
            || matches!(field.kind(), Kind::Message(inner)
                if inner.package_name() == message.package_name() && inner.full_name() != message.full_name() && any_field(&inner, has))
    })
}
