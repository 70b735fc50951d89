//! How a call can fail: the statuses, and the reasons that come with each.

use std::sync::LazyLock;

use contract::comment;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::{access::Access, schema::Schemas};

/// The values of `access.v1.Reason` and the comments before them, which begin with the code.
static REASONS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(access::proto::DESCRIPTORS).expect("the descriptors were built with this program");
    let reasons = pool.get_enum_by_name("access.v1.Reason").expect("access.v1 declares its reasons");
    let file = reasons.parent_file();
    reasons.values().map(|value| (value.name().to_owned(), comment(&file, value.path()).replace('\n', " "))).collect()
});

/// The details that a status can carry.
const DETAILS: [&str; 3] = ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"];

/// An HTTP status, its name here, and the codes of gRPC that become it.
struct HttpError(&'static str, &'static str, &'static [&'static str]);

const INVALID: HttpError = HttpError("400", "Invalid", &["INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"]);
const UNAUTHENTICATED: HttpError = HttpError("401", "Unauthenticated", &["UNAUTHENTICATED"]);
const DENIED: HttpError = HttpError("403", "Denied", &["PERMISSION_DENIED"]);
const NOT_FOUND: HttpError = HttpError("404", "NotFound", &["NOT_FOUND"]);
const CONFLICT: HttpError = HttpError("409", "Conflict", &["ALREADY_EXISTS", "ABORTED"]);
const CONDITION: HttpError = HttpError("412", "ConditionFailed", &["ABORTED"]);
const TOO_LARGE: HttpError = HttpError("413", "TooLarge", &["RESOURCE_EXHAUSTED"]);
const MEDIA_TYPE: HttpError = HttpError("415", "MediaType", &["INVALID_ARGUMENT"]);
const EXHAUSTED: HttpError = HttpError("429", "Exhausted", &["RESOURCE_EXHAUSTED"]);
const INTERNAL: HttpError = HttpError("500", "Internal", &["INTERNAL"]);
const UNAVAILABLE: HttpError = HttpError("503", "Unavailable", &["UNAVAILABLE"]);
const TOO_LATE: HttpError = HttpError("504", "DeadlineExceeded", &["DEADLINE_EXCEEDED"]);
const ALL: [&HttpError; 12] = [
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

/// What the document has under `components/responses`.
pub(super) fn responses(pool: &DescriptorPool, schemas: &mut Schemas) -> Map<String, Value> {
    schemas.add("google.rpc.Status", |schemas| {
        let details: Vec<_> =
            DETAILS.iter().filter_map(|name| pool.get_message_by_name(name)).map(|detail| schemas.detail(&detail)).collect();
        json!({
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
        })
    });
    ALL.iter()
        .map(|HttpError(_, name, codes)| {
            let reasons = codes.iter().flat_map(|code| {
                let of_code = REASONS.iter().filter_map(move |(reason, comment)| Some((reason, comment.strip_prefix(code)?)));
                of_code.map(move |(reason, comment)| format!("- `{}` ({code}){comment}", reason.trim_start_matches("REASON_")))
            });
            let response = json!({
                "description": reasons.collect::<Vec<_>>().join("\n"),
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/google.rpc.Status" } } },
            });
            ((*name).to_owned(), response)
        })
        .collect()
}

/// The refusals of one method, by status. What may be refused follows from its access rule and its request, by the conventions that
/// every method here keeps: who makes something may find it there (Create, Register), who gives an etag may be late, who names an
/// id may name nothing, who gives a password or a token may give the wrong one, or too many of them.
pub(super) fn of(method: &MethodDescriptor, access: &Access, has_body: bool) -> Map<String, Value> {
    let input = method.input();
    let makes = ["Create", "Register", "Add"].iter().any(|verb| method.name().starts_with(verb));
    let names_something = any_field(&input, &|name| (name.ends_with("_id") && name != "request_id") || name.ends_with("_ids"));
    let has_a_password = any_field(&input, &|name| name.contains("password"));
    let has_a_credential =
        has_a_password || any_field(&input, &|name| ["refresh_token", "client_secret", "assertion"].contains(&name));
    let has_etag = has_etag(&input);
    let is_narrow = !access.is_public && (!access.is_for_anyone_with_a_token || !access.actors.is_empty());
    let found = [
        (&INVALID, true),
        (&UNAUTHENTICATED, !access.is_public || (has_a_credential && !makes)),
        (&DENIED, is_narrow || (access.is_public && makes)),
        (&NOT_FOUND, names_something),
        (&CONFLICT, makes || has_etag || method.name().starts_with("Update")),
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
        .map(|(HttpError(status, name, _), _)| {
            ((*status).to_owned(), json!({ "$ref": format!("#/components/responses/{name}") }))
        })
        .collect()
}

/// True where a request, or the resource in it, has an etag, which `if-match` may give too.
pub(super) fn has_etag(input: &MessageDescriptor) -> bool {
    any_field(input, &|name| name == "etag")
}

/// True where a field of the message, or of a message in it, has such a name.
fn any_field(message: &MessageDescriptor, has: &dyn Fn(&str) -> bool) -> bool {
    message.fields().any(|field| {
        has(field.name())
            || matches!(field.kind(), Kind::Message(inner)
                if inner.package_name() == message.package_name() && inner.full_name() != message.full_name() && any_field(&inner, has))
    })
}
