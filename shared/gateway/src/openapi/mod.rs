//! Describes the HTTP API of a service as an `OpenAPI` 3.1 document.
//!
//! Everything comes from the descriptors: the routes from `google.api.http`, the schemas from the messages, their keywords from
//! `buf.validate`, the access rules from `access.v1.rule`, and the descriptions from the comments in the protos.

mod access;
mod description;
mod error_responses;
mod example;
mod operation;
mod route;
mod rules;
mod schema;

use contract::{ContractError, comment};
use prost_reflect::{DescriptorError, DescriptorPool, ServiceDescriptor};
use serde_json::{Map, Value, json};

use self::{description::with_description, operation::Operation, route::Route, schema::Schemas};

/// The parts of a document that are not in the descriptors.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The name of the API.
    pub title: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The full names of the services that are served.
    pub services: &'a [&'a str],
    /// Path items of routes that are not in the protos, by their paths.
    pub other_paths: &'a Map<String, Value>,
}

/// The reason why a document cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are not a valid `FileDescriptorSet`.
    #[error("the descriptors are not a valid FileDescriptorSet: {0}")]
    Descriptors(#[from] DescriptorError),
    /// A declaration in the protos contradicts itself.
    #[error(transparent)]
    Contract(#[from] ContractError),
}

/// Creates the document of the services that `about` names. `descriptors` is the encoded `FileDescriptorSet` of their protos, with the
/// comments: the file `descriptors.bin` that `access-build` writes.
///
/// # Errors
///
/// Returns an error if `descriptors` is not a valid `FileDescriptorSet`. It names the method or the field if an option in the protos is
/// invalid or, like the access rule, absent.
pub fn document(descriptors: &[u8], about: &About<'_>) -> Result<Value, DocumentError> {
    let mut pool = DescriptorPool::decode(descriptors)?;
    // The messages of the details of `google.rpc.Status`.
    pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    let mut tags = Vec::new();
    let served = |service: &ServiceDescriptor| about.services.contains(&service.full_name());
    for service in pool.services().filter(served) {
        let mut is_tagged = false;
        for method in service.methods() {
            for (index, route) in Route::read_all(&method)?.into_iter().enumerate() {
                let operation = Operation { method: &method, route: &route, index };
                let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
                if let Some(path) = path.as_object_mut() {
                    path.insert(route.verb.to_lowercase(), operation.describe(&mut schemas)?);
                }
                is_tagged = true;
            }
        }
        if is_tagged {
            let comment = comment(&service.parent_file(), service.path());
            tags.push(with_description(json!({ "name": service.name() }), comment));
        }
    }
    let other_tags = about.other_paths.values().flat_map(|item| item.as_object().into_iter().flat_map(Map::values));
    for tag in other_tags.filter_map(|operation| operation["tags"][0].as_str()) {
        if !tags.iter().any(|known| known["name"] == tag) {
            tags.push(json!({ "name": tag, "description": "Endpoints for clients of this standard." }));
        }
    }
    paths.extend(about.other_paths.clone());
    error_responses::add_schemas(&pool, &mut schemas)?;
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": about.version,
            "description": DESCRIPTION,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.into_components(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of the auth service (RFC 9068).",
                },
            },
        },
    }))
}

const DESCRIPTION: &str = "Every method is also a gRPC method on the same port. Bodies are canonical proto3 JSON: a field that has its \
    default value may be omitted in a request, and is present in a response; a message or an optional field that is not set is absent. A string must not contain a NUL character. An error response is a \
    `google.rpc.Status`, whose details contain the reason and every invalid field with the rule that it violates; each method lists \
    its reasons. With `Accept: application/xml` the same content is returned as XML.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{InMemory, compiled};

    /// A service whose request has a field rule that cannot be described.
    const UNSUPPORTED: &str = r#"
syntax = "proto3";
package test.v1;
import "access/v1/access.proto";
import "buf/validate/validate.proto";
import "google/api/annotations.proto";
service TestService {
  rpc Get(GetRequest) returns (GetResponse) {
    option (access.v1.rule) = {public: true};
    option (google.api.http) = {post: "/v1/test" body: "*"};
  }
}
message GetRequest {
  string name = 1 [(buf.validate.field) = {ignore: IGNORE_ALWAYS, string: {min_len: 1}}];
}
message GetResponse {}
"#;

    #[test]
    fn an_unsupported_field_rule_is_an_error() {
        let descriptors = compiled(&["test.proto".to_owned()], InMemory("test.proto", UNSUPPORTED));
        let about = About { title: "Test", version: "1", services: &["test.v1.TestService"], other_paths: &Map::new() };
        let error = document(&descriptors, &about).expect_err("the rule is unsupported");
        assert!(error.to_string().starts_with("test.v1.GetRequest.name: this `ignore` of buf.validate"), "{error}");
    }
}
