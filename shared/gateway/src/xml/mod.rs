//! Messages in XML, by the mapping in docs/reference/xml.md: one element per field, with the names and the text of the JSON form.

mod names;
mod parse;
mod read;
mod write;

pub(crate) use parse::{FORBIDDEN, SYNTAX};
pub(crate) use read::{parse_field, parse_message, parse_update};
pub(crate) use write::{declaration, document, field_document, message_element};
