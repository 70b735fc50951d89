//! Compares the `OpenAPI` document at `/openapi.json` of a service with its descriptors, which this module reads independently.

use std::{collections::BTreeSet, net::SocketAddr};

use access::error::Reason;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value as Field};
use serde_json::Value;

use crate::http;

/// Asserts that the `OpenAPI` document of the service at `address` describes the routes of `package`.
///
/// It must have every route, with the access rule, the body and the response of its method, and no other route. Every reference in
/// the document must have a target.
///
/// # Panics
///
/// Panics if the document differs from the descriptors.
pub async fn assert_described(address: SocketAddr, descriptors: &[u8], package: &str) {
    let answer = http::send(address, "GET /openapi.json", &[], b"").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let pool = DescriptorPool::decode(descriptors).expect("descriptors");
    let methods = pool.services().filter(|service| service.package_name() == package);
    let mut expected = BTreeSet::new();
    for method in methods.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        for (verb, template, body) in routes(&pool, &method) {
            let path = described_path(&template);
            let operation = &document["paths"][&path][&verb];
            assert!(operation.is_object(), "{verb} {path} is not described");
            let name = format!("/{}/{}", method.parent_service().full_name(), method.name());
            assert_eq!(operation["x-grpc-method"], name.as_str());
            assert_eq!(operation.get("requestBody").is_some(), !body.is_empty(), "{verb} {path}: a body");
            let is_public = option(&pool, &method, "access.v1.rule").get_field_by_name("public").expect("a field").as_bool();
            let security = operation["security"].as_array().expect("a list");
            assert_eq!(security.is_empty(), is_public == Some(true), "{verb} {path}: who may call");
            assert!(operation["responses"]["200"]["content"].is_object(), "{verb} {path}: an answer");
            assert_reasons(&pool, &method, operation);
            let named = template.matches('{').count();
            let in_path = |parameter: &&Value| parameter["in"] == "path";
            let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
            assert_eq!(parameters.iter().filter(in_path).count(), named, "{verb} {path}: what the path names");
            expected.insert((path, verb));
        }
    }
    assert!(!expected.is_empty(), "{package} has no routes");
    let paths = document["paths"].as_object().expect("paths");
    let found = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().into_iter().flatten().map(move |(verb, operation)| (path, verb, operation)))
        // Routes that are not in the protos have no method.
        .filter(|(_, _, operation)| operation["x-grpc-method"].is_string())
        .map(|(path, verb, _)| (path.clone(), verb.clone()));
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
    assert_references(&document, &document);
    assert_usable(&document);
}

/// Asserts what client generators rely on: one path item for each path, no alternatives beside a type, closed requests, open responses,
/// and one example for each error response.
fn assert_usable(document: &Value) {
    let paths = document["paths"].as_object().expect("paths");
    let mut shapes = BTreeSet::new();
    for path in paths.keys() {
        let shape: Vec<_> = path.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment }).collect();
        let verb = path.rsplit_once('}').map_or("", |(_, verb)| verb);
        assert!(shapes.insert((shape.join("/"), verb.to_owned())), "{path} has two path items");
    }
    assert_no_alternatives_beside_a_type(document);
    for operation in paths.values().flat_map(|item| item.as_object().expect("an object").values()) {
        let name = &operation["operationId"];
        if !operation["x-grpc-method"].is_string() {
            continue;
        }
        let body = &operation["requestBody"]["content"]["application/json"];
        if body.is_object() {
            assert!(body["example"].is_object(), "{name}: an example of the request");
            assert!(body["example"].get("etag").is_none(), "{name}: an etag that no resource has");
            let schema = resolved(&body["schema"], document);
            assert_eq!(schema["additionalProperties"], false, "{name}: a request is closed");
        }
        for (status, response) in operation["responses"].as_object().expect("an object") {
            let content = &response["content"]["application/json"];
            let mut seen = BTreeSet::new();
            assert!(is_open(&content["schema"], document, &mut seen), "{name}: the response {status} is open");
            if status.starts_with(['4', '5']) {
                let reason = content["example"]["details"][0]["reason"].as_str().expect("a reason");
                assert!(response["description"].as_str().expect("a text").contains(reason), "{name} {status}: {reason}");
            }
        }
    }
}

fn assert_no_alternatives_beside_a_type(value: &Value) {
    match value {
        Value::Object(members) => {
            let alternatives = ["anyOf", "oneOf", "allOf", "not"].iter().any(|keyword| members.contains_key(*keyword));
            assert!(!(alternatives && members.contains_key("type")), "a type beside alternatives: {value}");
            members.values().for_each(assert_no_alternatives_beside_a_type);
        }
        Value::Array(items) => items.iter().for_each(assert_no_alternatives_beside_a_type),
        _ => {}
    }
}

fn resolved<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().map(|reference| reference.trim_start_matches('#'));
    reference.map_or(schema, |pointer| document.pointer(pointer).expect("a schema"))
}

/// Returns true if no object in the schema excludes additional members.
fn is_open(schema: &Value, document: &Value, seen: &mut BTreeSet<String>) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return !seen.insert(reference.to_owned()) || is_open(resolved(schema, document), document, seen);
    }
    match schema {
        Value::Object(members) => {
            members.get("additionalProperties") != Some(&Value::Bool(false))
                && members.values().all(|value| is_open(value, document, seen))
        }
        Value::Array(items) => items.iter().all(|item| is_open(item, document, seen)),
        _ => true,
    }
}

/// Asserts that an operation lists the reasons of the service that its method declares and no others, and that it lists
/// `ACCESS_TOKEN_INVALID` if and only if the method needs a token.
fn assert_reasons(pool: &DescriptorPool, method: &MethodDescriptor, operation: &Value) {
    let responses = operation["responses"].as_object().expect("an object");
    let lines = responses.values().filter_map(|response| response["description"].as_str()).flat_map(str::lines);
    let listed: BTreeSet<_> = lines.filter_map(|line| Some(line.strip_prefix("- `")?.split_once('`')?.0.to_owned())).collect();
    let rule = option(pool, method, "access.v1.rule");
    let declared = rule.get_field_by_name("reasons").expect("a field");
    let declared = declared.as_list().expect("a list").iter().filter_map(Field::as_str).map(str::to_owned);
    let general = |name: &String| Reason::from_str_name(&format!("REASON_{name}")).is_some();
    let own: BTreeSet<_> = listed.iter().filter(|name| !general(name)).cloned().collect();
    assert_eq!(own, declared.collect(), "{}", method.full_name());
    let is_public = rule.get_field_by_name("public").expect("a field").as_bool() == Some(true);
    assert_eq!(listed.contains("ACCESS_TOKEN_INVALID"), !is_public, "{}", method.full_name());
}

/// Returns the routes of a method. Each has a verb, a path template and a body.
fn routes(pool: &DescriptorPool, method: &MethodDescriptor) -> Vec<(String, String, String)> {
    let rule = option(pool, method, "google.api.http");
    let more = rule.get_field_by_name("additional_bindings").expect("a field");
    let more = more.as_list().unwrap_or_default().iter().filter_map(Field::as_message).cloned();
    let text = |rule: &DynamicMessage, name: &str| {
        rule.get_field_by_name(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let rules = std::iter::once(rule.clone()).chain(more);
    rules
        .map(|rule| {
            let verb = ["get", "put", "post", "delete", "patch"].into_iter().find(|verb| rule.has_field_by_name(verb));
            let verb = verb.expect("a verb");
            (verb.to_owned(), text(&rule, verb), text(&rule, "body"))
        })
        .collect()
}

fn option(pool: &DescriptorPool, method: &MethodDescriptor, name: &str) -> DynamicMessage {
    let extension = pool.get_extension_by_name(name).expect("an option");
    method.options().get_extension(&extension).as_message().cloned().expect("a message")
}

/// Returns the path of a template in the `OpenAPI` document. Templates in these protos have no patterns, and a variable has
/// the name of its field.
fn described_path(template: &str) -> String {
    let variable = |segment: &str| match segment.strip_prefix('{').and_then(|variable| variable.split_once('}')) {
        Some((variable, rest)) => format!("{{{}}}{rest}", variable.rsplit('.').next().unwrap_or_default()),
        None => segment.to_owned(),
    };
    template.split('/').map(variable).collect::<Vec<_>>().join("/")
}

fn assert_references(value: &Value, document: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some_and(Value::is_object), "{reference} leads nowhere");
            }
            members.values().for_each(|value| assert_references(value, document));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_references(item, document)),
        _ => {}
    }
}
