//! Converts messages to the JSON of the HTTP API, for programs that print them.

use prost::Message;
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage};
use serde_json::Value;

use crate::json;

/// Converts the messages of a service to JSON, as the gateway does.
#[derive(Debug, Clone)]
pub struct MessageJson(DescriptorPool);

impl MessageJson {
    /// Creates the conversion for the messages of `descriptors`.
    ///
    /// # Errors
    ///
    /// Returns an error if `descriptors` is not a valid `FileDescriptorSet`.
    pub fn new(descriptors: &[u8]) -> Result<Self, DescriptorError> {
        DescriptorPool::decode(descriptors).map(Self)
    }

    /// Converts a message of the type `name`, for example `auth.v1.User`.
    ///
    /// # Panics
    ///
    /// Panics if the descriptors have no message of this name, or if the message is not of this type.
    pub fn value(&self, name: &str, message: &impl Message) -> Value {
        let descriptor = self.0.get_message_by_name(name).expect("the caller names a type of its own protos");
        let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice());
        let message = message.expect("the generated code and the descriptors are from the same proto");
        json::to_value(&message).expect("every message of a service has JSON")
    }
}
