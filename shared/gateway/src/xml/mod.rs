//! Messages in XML, by the mapping in docs/XML.md: one element per field, with the names and the text of the proto3 JSON form.

mod names;
mod parse;
mod read;
mod write;

pub(crate) use read::{parse_field, parse_message};
pub(crate) use write::{declaration, document, field_document, message_element};
