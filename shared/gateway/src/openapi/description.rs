//! Descriptions of schemas, tags and parameters.

use serde_json::Value;

/// Adds a description to an object, unless it is empty.
pub(super) fn with_description(mut value: Value, description: String) -> Value {
    if let Some(object) = value.as_object_mut().filter(|_| !description.is_empty()) {
        object.insert("description".to_owned(), description.into());
    }
    value
}
