//! Examples of requests. Each is a valid request, so that it can be sent as it stands.

use contract::{ContractError, FieldBehavior};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{rules::Rules, schema::Direction};

/// The largest depth of messages in an example.
const DEPTH: usize = 4;
/// A version 7 UUID for fields that must have one.
const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// Returns an example of a message without the fields of `without`: the fields that must be set, and those with a declared example.
/// `owner` names the field with the id of the owner.
pub(super) fn request(
    message: &MessageDescriptor,
    without: &[&str],
    owner: Option<&str>,
    direction: Direction,
) -> Result<Value, ContractError> {
    object(message, without, owner, direction, DEPTH)
}

fn object(
    message: &MessageDescriptor,
    without: &[&str],
    owner: Option<&str>,
    direction: Direction,
    depth: usize,
) -> Result<Value, ContractError> {
    let mut members = Map::new();
    let mut oneofs = Vec::new();
    for field in message.fields().filter(|field| !without.contains(&field.name())) {
        let behavior = FieldBehavior::read(&field);
        let rules = Rules::read(&field)?;
        let is_required = rules.required || (direction == Direction::Request && behavior.contains(&FieldBehavior::Required));
        // An update need not write the fields that a resource must have.
        let has_example =
            rules.example.is_some() && !(direction == Direction::Update && behavior.contains(&FieldBehavior::Required));
        let is_chosen = field.containing_oneof().is_some_and(|oneof| {
            let is_first = !oneof.is_synthetic() && !oneofs.contains(&oneof.name().to_owned());
            oneofs.push(oneof.name().to_owned());
            is_first
        });
        let is_identifier = behavior.contains(&FieldBehavior::Identifier) && !rules.required;
        let is_ignored = behavior.contains(&FieldBehavior::OutputOnly) || is_identifier;
        if owner == Some(field.name()) {
            members.insert(field.json_name().to_owned(), "me".into());
        } else if !is_ignored && (is_required || is_chosen || has_example) {
            members.insert(field.json_name().to_owned(), value(&field, rules, depth)?);
        }
    }
    Ok(members.into())
}

fn value(field: &FieldDescriptor, rules: Rules, depth: usize) -> Result<Value, ContractError> {
    if let Some(example) = rules.example {
        return Ok(example);
    }
    if field.is_map() {
        return Ok(json!({}));
    }
    let keywords = if field.is_list() { &rules.items } else { &rules.value };
    let smallest = || keywords.get("minimum").or_else(|| keywords.get("exclusiveMinimum")).and_then(Value::as_f64);
    let one = match field.kind() {
        Kind::Bool => true.into(),
        Kind::String => match keywords.get("format").and_then(Value::as_str) {
            Some("uuid") => ID.into(),
            Some("email") => "helen@example.com".into(),
            Some("uri") => "https://example.com/".into(),
            _ => "text".into(),
        },
        Kind::Bytes => "".into(),
        Kind::Enum(enumeration) => {
            let mut values = enumeration.values();
            let first = values.find(|value| value.number() != 0).unwrap_or_else(|| enumeration.default_value());
            first.name().into()
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "2026-01-31T12:00:00Z".into(),
            "google.protobuf.Duration" => "1s".into(),
            _ if depth == 0 => json!({}),
            _ => object(&message, &[], None, Direction::Request, depth - 1)?,
        },
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => "1".into(),
        #[expect(clippy::cast_possible_truncation, reason = "the limit of a 32-bit field")]
        _ => (smallest().unwrap_or_default() as i64 + 1).into(),
    };
    Ok(if field.is_list() { json!([one]) } else { one })
}
