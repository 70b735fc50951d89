//! The attributes, element names and characters that the parser, the reader and the writer agree on.

/// The attribute that holds the key of a map entry.
pub(super) const KEY: &str = "key";
/// The attribute that holds the type of the content of a `google.protobuf.Any` or `google.protobuf.Value`.
pub(super) const TYPE: &str = "type";
/// The attribute that has the value `json` if the text is escaped as a JSON string, because it has a character that XML forbids.
pub(super) const ESCAPE: &str = "escape";
pub(super) const ESCAPE_JSON: &str = "json";
/// The element of a list item that is not inside a message.
pub(super) const ITEM: &str = "item";

/// Returns true if a document may contain the character (XML 1.0 section 2.2, production 2).
pub(super) fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Returns true for white space as XML defines it (XML 1.0 section 2.3, production 3).
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
