//! The size of messages in JSON and XML, from which lists determine how many rows a page holds.

use prost::Message;

/// Implemented by generated code for every message.
pub trait TextSize {
    /// Returns an upper bound of the size of the message in JSON and in XML, in bytes. The binary encoding is smaller.
    fn text_size(&self) -> usize;
}

/// Returns an upper bound of the size of a text inside JSON and XML, in bytes.
pub fn of_text(text: &str) -> usize {
    text.chars().map(of_char).sum()
}

/// Returns the size of the longest form that a character has in JSON, in XML, or in XML with the escapes of JSON.
fn of_char(c: char) -> usize {
    match c {
        // `\&quot;`
        '"' => 7,
        // `&amp;`, `&#10;`, `&#13;`
        '&' | '\n' | '\r' => 5,
        // `&lt;`, `&gt;`, `&#9;`
        '<' | '>' | '\t' => 4,
        '\\' => 2,
        // `\u0001`
        '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => 6,
        c => c.len_utf8(),
    }
}

/// Returns an upper bound of the size of bytes in base64.
pub fn of_bytes(bytes: &[u8]) -> usize {
    bytes.len().div_ceil(3) * 4
}

impl<T: TextSize + ?Sized> TextSize for Box<T> {
    fn text_size(&self) -> usize {
        (**self).text_size()
    }
}

/// The size of `google.protobuf.Empty`.
impl TextSize for () {
    fn text_size(&self) -> usize {
        2
    }
}

/// Implements the trait for messages that have a short text as their JSON form.
macro_rules! with_short_text {
    ($($message:ty: $size:literal),*) => {
        $(impl TextSize for $message {
            fn text_size(&self) -> usize {
                $size
            }
        })*
    };
}

with_short_text!(prost_types::Timestamp: 37, prost_types::Duration: 32);

impl TextSize for prost_types::FieldMask {
    fn text_size(&self) -> usize {
        self.paths.iter().map(|path| of_text(path) + 1).sum::<usize>() + 2
    }
}

/// Implements the trait for messages whose JSON form depends on their content. Each byte of the encoded message becomes a few
/// characters of JSON or XML.
macro_rules! with_dynamic_content {
    ($($message:ty),*) => {
        $(impl TextSize for $message {
            fn text_size(&self) -> usize {
                self.encoded_len() * 16 + 64
            }
        })*
    };
}

with_dynamic_content!(prost_types::Any, prost_types::Struct, prost_types::Value, prost_types::ListValue);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_counts_with_its_longest_form() {
        for (text, expected) in [("", 0), ("a", 1), ("é", 2), ("\u{1F980}", 4), ("\u{1}", 6), ("\"", 7), ("a&\n", 11)] {
            assert_eq!(of_text(text), expected, "{text:?}");
        }
    }
}
