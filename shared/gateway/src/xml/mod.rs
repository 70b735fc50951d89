//! Messages in XML, by the mapping that docs/XML.md publishes: an element a field, with the names and the texts of the JSON form.

mod parse;
mod read;
mod write;

pub(super) use read::{body, message};
pub(super) use write::{declaration, document, field_document, message_element};

/// Holds the key of an entry of a map.
const KEY: &str = "key";
/// Holds the type of what is in a `google.protobuf.Any` or `google.protobuf.Value`.
const TYPE: &str = "type";
/// `json` where the text is written with the escapes of a JSON string, since XML can't hold it.
const ESCAPE: &str = "escape";
const ESCAPE_JSON: &str = "json";
/// An element of a list that stands for itself.
const ITEM: &str = "item";

/// True for what may stand in a document (XML 1.0 section 2.2, production 2).
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
