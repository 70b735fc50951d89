//! Parses a document into elements: XML 1.0 without document types and processing instructions, and with the five predefined
//! entities only.

use access::{FieldPath, RuleId, error::Violation};
use quick_xml::{
    Reader,
    events::{BytesStart, Event, attributes::Attribute},
};

use super::names::{ESCAPE, ESCAPE_JSON, KEY, TYPE, is_char, is_space};
use crate::json::DEPTH_LIMIT;

/// The rule that a body is XML.
pub(crate) const SYNTAX: RuleId = RuleId::new("xml.syntax");
/// The rule that a body has none of the parts of XML that are not allowed, such as a document type.
pub(crate) const FORBIDDEN: RuleId = RuleId::new("xml.forbidden");

/// An element with its content.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    /// The `key` attribute.
    pub(super) key: Option<String>,
    /// The `type` attribute.
    pub(super) kind: Option<String>,
    is_escaped: bool,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

/// Parses a document and returns its root.
///
/// # Errors
///
/// Returns a violation of `xml.syntax`, of `xml.depth`, or of `xml.forbidden` for valid XML that is not accepted.
pub(super) fn parse(bytes: &[u8]) -> Result<Element, Violation> {
    let text = std::str::from_utf8(bytes).map_err(|_| syntax("it is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(c) = text.chars().find(|c| !is_char(*c)) {
        return Err(syntax(&format!("U+{:04X} is no character of XML", u32::from(c))));
    }
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.check_comments = true;
    config.expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut is_first = true;
    loop {
        let event = reader.read_event().map_err(|error| syntax(&error.to_string()))?;
        match event {
            Event::Decl(declaration) if is_first => {
                let encoding = declaration.encoding().transpose().map_err(|error| syntax(&error.to_string()))?;
                if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
                    return Err(forbidden("another encoding than UTF-8"));
                }
            }
            Event::Decl(_) => return Err(syntax("its declaration does not stand first")),
            Event::Start(start) => {
                if root.is_some() {
                    return Err(syntax("it has more than one root"));
                }
                if open.len() >= DEPTH_LIMIT {
                    return Err(Violation::new(FieldPath::Body, "xml.depth", format!("stands deeper than {DEPTH_LIMIT} levels")));
                }
                open.push(Element::open(&start)?);
            }
            Event::End(_) => {
                let mut element = open.pop().ok_or_else(|| syntax("an element ends that did not begin"))?;
                element.close()?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => root = Some(element),
                }
            }
            Event::Text(text) => {
                if text.contains("]]>") {
                    return Err(syntax("`]]>` stands in a text"));
                }
                append_text(&mut open, &line_ends(&text))?;
            }
            Event::CData(data) => append_text(&mut open, &line_ends(&data))?,
            Event::GeneralRef(reference) => append_text(&mut open, resolve(&reference)?.encode_utf8(&mut [0; 4]))?,
            Event::Comment(_) => {}
            Event::DocType(_) => return Err(forbidden("a document type")),
            Event::PI(_) => return Err(forbidden("a processing instruction")),
            Event::Empty(_) => unreachable!("the reader expands empty elements"),
            Event::Eof => break,
        }
        is_first = false;
    }
    if !open.is_empty() {
        return Err(syntax("an element does not end"));
    }
    root.ok_or_else(|| syntax("it has no root"))
}

impl Element {
    /// Returns true if the element has no content and no attribute.
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty() && self.text.is_empty() && self.key.is_none() && self.kind.is_none()
    }

    fn open(start: &BytesStart<'_>) -> Result<Self, Violation> {
        let mut element = Self { name: start.name().as_ref().to_owned(), ..Self::default() };
        if !is_name(&element.name) {
            return Err(syntax("an element has a name that is none"));
        }
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| syntax(&error.to_string()))?;
            let value = attribute_value(&attribute)?;
            match attribute.key.as_ref() {
                KEY => element.key = Some(value),
                TYPE => element.kind = Some(value),
                ESCAPE if value == ESCAPE_JSON => element.is_escaped = true,
                _ => return Err(Violation::new(element.name, "xml.attribute", "has an attribute that means nothing")),
            }
        }
        Ok(element)
    }

    fn close(&mut self) -> Result<(), Violation> {
        if self.children.is_empty() {
            if self.is_escaped {
                self.text = unescape(&self.text, &self.name)?;
            }
        } else if self.text.trim_matches(is_space).is_empty() {
            self.text.clear();
        } else {
            return Err(Violation::new(self.name.clone(), "xml.mixed", "has text between its elements"));
        }
        if let Some(key) = self.key.as_mut().filter(|_| self.is_escaped) {
            *key = unescape(key, &self.name)?;
        }
        Ok(())
    }
}

/// Appends text to the innermost open element.
fn append_text(open: &mut [Element], text: &str) -> Result<(), Violation> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.trim_matches(is_space).is_empty() => {}
        None => return Err(syntax("text stands outside of the root")),
    }
    Ok(())
}

/// Returns true for a name in ASCII. Field and message names have no other characters.
fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn attribute_value(attribute: &Attribute<'_>) -> Result<String, Violation> {
    let raw = &*attribute.value;
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '<']) {
        if rest[at..].starts_with('<') {
            return Err(syntax("`<` stands in an attribute"));
        }
        value.extend(line_ends(&rest[..at]).chars().map(|c| if is_space(c) { ' ' } else { c }));
        let (name, after) = rest[at + 1..].split_once(';').ok_or_else(|| syntax("`&` begins no reference"))?;
        value.push(resolve(name)?);
        rest = after;
    }
    value.extend(line_ends(rest).chars().map(|c| if is_space(c) { ' ' } else { c }));
    Ok(value)
}

/// Returns the character of an entity or character reference.
fn resolve(name: &str) -> Result<char, Violation> {
    let number = match name.strip_prefix('#') {
        None => {
            return match name {
                "amp" => Ok('&'),
                "lt" => Ok('<'),
                "gt" => Ok('>'),
                "quot" => Ok('"'),
                "apos" => Ok('\''),
                _ => Err(forbidden("an entity that XML does not have by itself")),
            };
        }
        Some(digits) => match digits.strip_prefix('x') {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).ok(),
            None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        },
    };
    number.and_then(char::from_u32).filter(|c| is_char(*c)).ok_or_else(|| syntax("a reference stands for no character of XML"))
}

/// Normalizes line ends (XML 1.0 section 2.11).
fn line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Removes the escapes of a JSON string.
fn unescape(text: &str, name: &str) -> Result<String, Violation> {
    let error = |_| Violation::new(name, "xml.escape", "does not hold what stands between the quotes of a JSON string");
    serde_json::from_str(&format!("\"{text}\"")).map_err(error)
}

fn syntax(why: &str) -> Violation {
    Violation::new(FieldPath::Body, SYNTAX, format!("is not XML: {why}"))
}

fn forbidden(what: &str) -> Violation {
    Violation::new(FieldPath::Body, FORBIDDEN, format!("has {what}"))
}
