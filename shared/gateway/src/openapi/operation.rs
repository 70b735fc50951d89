//! The operation of one route of one method.

use contract::{ContractError, comment, field_at};
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value as Json, json};

use super::{
    access::Access,
    description::with_description,
    error_responses, example,
    route::Route,
    rules::{self, Rules},
    schema::{Direction, Schemas},
};

const STATUS: &str = "#/components/schemas/google.rpc.Status";

/// The largest depth of a message whose fields are query parameters.
const DEPTH: usize = 8;

/// One route of one method.
pub(super) struct Operation<'a> {
    pub(super) method: &'a MethodDescriptor,
    pub(super) route: &'a Route,
    /// The index of the route among the routes of the method.
    pub(super) index: usize,
}

impl Operation<'_> {
    /// Returns the operation object. Adds the schemas that it refers to.
    pub(super) fn describe(&self, schemas: &mut Schemas) -> Result<Json, ContractError> {
        let method = self.method;
        let access = Access::read(method)?;
        let mut description = comment(&method.parent_file(), method.path());
        if !description.is_empty() {
            description += "\n\n";
        }
        description += &access.sentence();
        let (body, body_field) = self.body(schemas, &access)?;
        let mut responses = Map::new();
        responses.insert("200".to_owned(), self.success(schemas)?);
        responses.extend(error_responses::of_method(method, &access, body.is_some()));
        let mut parameters = self.path_parameters(schemas, &access)?;
        if self.route.body != "*" {
            let is_elsewhere =
                |path: &str| body_field.as_deref() == Some(path) || self.route.bound.iter().any(|(_, bound)| bound == path);
            query_parameters(&method.input(), "", "", schemas, &mut parameters, &is_elsewhere)?;
        }
        if error_responses::has_etag(method) {
            parameters.push(header("If-Match", "The etag that was read: 412 where the resource has changed since."));
        }
        if self.route.verb == "GET" && method.output().get_field_by_name("etag").is_some() {
            parameters.push(header("If-None-Match", "Etags that are known: 304 where the resource has one of them."));
            responses.insert("304".to_owned(), json!({ "description": "It has not changed." }));
        }
        let service = method.parent_service();
        let suffix = if self.index == 0 { String::new() } else { format!("_{}", self.index + 1) };
        let mut operation = json!({
            "operationId": format!("{}_{}{suffix}", service.name(), method.name()),
            "tags": [service.name()],
            "summary": words(method.name()),
            "description": description,
            "x-grpc-method": format!("/{}/{}", service.full_name(), method.name()),
            "x-access": access.to_json(),
            "x-body": self.route.body,
            "x-path-fields": self.route.bound.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "security": if access.is_public { json!([]) } else { json!([{ "bearer": [] }]) },
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(body) = body {
            operation["requestBody"] = body;
        }
        operation["responses"] = responses.into();
        Ok(operation)
    }

    fn path_parameters(&self, schemas: &mut Schemas, access: &Access) -> Result<Vec<Json>, ContractError> {
        let mut parameters = Vec::new();
        for (name, bound) in &self.route.bound {
            let Some(field) = field_at(&self.method.input(), bound) else { continue };
            let (schema, _) = schemas.field(&field, Direction::Update)?;
            let is_owner = access.owner.as_deref() == Some(bound) && matches!(field.kind(), Kind::String);
            let schema = if is_owner { with_description(rules::owner(), "An id, or `me`.".to_owned()) } else { schema };
            let mut parameter = parameter(name, "path", true, schema);
            if is_owner {
                parameter["example"] = "me".into();
            }
            parameters.push(parameter);
        }
        Ok(parameters)
    }

    /// Returns the request body, and the name of the field that it holds if it is not the whole message.
    fn body(&self, schemas: &mut Schemas, access: &Access) -> Result<(Option<Json>, Option<String>), ContractError> {
        let input = self.method.input();
        let is_update = input.get_field_by_name("update_mask").is_some() && self.route.body != "*";
        let direction = if is_update { Direction::Update } else { Direction::Request };
        let (message, prefix, is_required) = match self.route.body.as_str() {
            "" => return Ok((None, None)),
            "*" => (input, String::new(), false),
            name => match input.get_field_by_name(name) {
                Some(field) => match field.kind() {
                    Kind::Message(message) if !field.is_list() && !field.is_map() => {
                        (message, format!("{name}."), Rules::read(&field)?.required)
                    }
                    _ => {
                        let (schema, is_required) = schemas.field(&field, Direction::Request)?;
                        return Ok((Some(body(&schema, is_required, None)), Some(name.to_owned())));
                    }
                },
                None => return Ok((None, None)),
            },
        };
        let bound: Vec<_> = self.route.bound.iter().filter_map(|(_, bound)| bound.strip_prefix(&prefix)).collect();
        let mut object = schemas.object(&message, &bound, direction)?;
        let is_required = is_required || object.get("required").is_some();
        let owner = access.owner.as_deref().and_then(|owner| owner.strip_prefix(&prefix));
        let owner_field = owner.and_then(|owner| message.get_field_by_name(owner));
        let owner_field = owner_field.filter(|field| !bound.contains(&field.name()) && matches!(field.kind(), Kind::String));
        if let Some(field) = &owner_field {
            object["properties"][field.json_name()] = with_description(rules::owner(), "An id, or `me`.".to_owned());
        }
        // Other methods may use the same message with another rule.
        let is_reusable = bound.is_empty() && direction == Direction::Request && owner_field.is_none();
        let schema = if is_reusable { schemas.message(&message, direction)? } else { object };
        let example = example::request(&message, &bound, owner, direction)?;
        Ok((Some(body(&schema, is_required, Some(example))), prefix.strip_suffix('.').map(str::to_owned)))
    }

    /// Returns the response with status 200.
    fn success(&self, schemas: &mut Schemas) -> Result<Json, ContractError> {
        let output = self.method.output();
        let field = output.get_field_by_name(&self.route.response_body);
        let schema = match field {
            Some(field) => schemas.field(&field, Direction::Response)?.0,
            None => schemas.message(&output, Direction::Response)?,
        };
        if self.method.is_server_streaming() {
            let line = json!({
                "oneOf": [
                    { "type": "object", "properties": { "result": schema }, "required": ["result"] },
                    { "type": "object", "properties": { "error": { "$ref": STATUS } }, "required": ["error"] },
                ],
            });
            return Ok(json!({
                "description": "A stream: one JSON value a line, or one message an event. An error ends it.",
                "content": { "application/x-ndjson": { "schema": line }, "text/event-stream": { "schema": { "type": "string" } } },
            }));
        }
        Ok(json!({ "description": "The answer.", "content": { "application/json": { "schema": schema } } }))
    }
}

/// Adds the query parameters for the fields of a message, except the fields that are in the path or in the body.
fn query_parameters(
    message: &MessageDescriptor,
    path: &str,
    name: &str,
    schemas: &mut Schemas,
    parameters: &mut Vec<Json>,
    is_elsewhere: &dyn Fn(&str) -> bool,
) -> Result<(), ContractError> {
    for field in message.fields() {
        let path = format!("{path}{}", field.name());
        let name = format!("{name}{}", field.json_name());
        if is_elsewhere(&path) || field.is_map() {
            continue;
        }
        let (schema, is_required) = schemas.field(&field, Direction::Request)?;
        match field.kind() {
            Kind::Message(inner) if inner.full_name() == "google.type.Date" => {
                let day = json!({ "type": "string", "format": "date" });
                let schema = with_description(day, comment(&field.parent_file(), field.path()));
                parameters.push(parameter(&name, "query", is_required, schema));
            }
            Kind::Message(inner) if schema.get("$ref").is_some() || field.is_list() => {
                // A query cannot hold a list of messages.
                if !field.is_list() && path.matches('.').count() < DEPTH {
                    query_parameters(&inner, &format!("{path}."), &format!("{name}."), schemas, parameters, is_elsewhere)?;
                }
            }
            _ => parameters.push(parameter(&name, "query", is_required, schema)),
        }
    }
    Ok(())
}

fn header(name: &str, description: &str) -> Json {
    parameter(name, "header", false, json!({ "type": "string", "description": description }))
}

/// Returns a parameter. The description moves from the schema to the parameter, where `OpenAPI` tools show it.
fn parameter(name: &str, place: &str, is_required: bool, mut schema: Json) -> Json {
    let description = schema.as_object_mut().and_then(|schema| schema.shift_remove("description"));
    let mut parameter = json!({ "name": name, "in": place, "required": is_required });
    if let Some(description) = description {
        parameter["description"] = description;
    }
    parameter["schema"] = schema;
    parameter
}

fn body(schema: &Json, is_required: bool, example: Option<Json>) -> Json {
    let mut content = json!({ "schema": schema });
    if let Some(example) = example {
        content["example"] = example;
    }
    json!({ "required": is_required, "content": { "application/json": content } })
}

/// Splits a name into words: `ListFavoritedBy` becomes `List favorited by`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_uppercase() {
            words.push(' ');
            words.extend(letter.to_lowercase());
        } else {
            words.push(letter);
        }
    }
    words
}
