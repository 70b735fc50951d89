//! The size of messages in JSON and XML, from which lists determine how many rows a page holds.

use prost::Message;

/// Implemented by generated code for every message.
pub trait TextSize {
    /// Returns an upper bound of the size of the message in JSON and in XML, in bytes. The binary encoding is smaller.
    fn text_size(&self) -> usize;
}

/// The number of bytes that are tested together.
const CHUNK: usize = 64;
/// The size of each byte.
const SIZES: [u8; 256] = {
    let mut sizes = [0; 256];
    let mut byte = 0;
    while byte < sizes.len() {
        #[expect(clippy::cast_possible_truncation, reason = "there are 256 bytes")]
        let size = of_byte(byte as u8);
        sizes[byte] = size;
        byte += 1;
    }
    sizes
};

/// Returns an upper bound of the size of a text inside JSON and XML, in bytes.
pub fn of_text(text: &str) -> usize {
    let size = |bytes: &[u8]| {
        // The compiler compares many bytes with one instruction, but looks up one after the other.
        let is_plain = bytes.iter().fold(true, |is_plain, byte| is_plain & is_plain_byte(*byte));
        if is_plain { bytes.len() } else { bytes.iter().map(|byte| usize::from(SIZES[usize::from(*byte)])).sum() }
    };
    text.as_bytes().chunks(CHUNK).map(size).sum()
}

/// Returns true if the size of a byte is 1.
const fn is_plain_byte(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'&' && byte != b'<' && byte != b'>' && byte != b'\\' && byte != 0xEF
}

/// Returns the size of the longest form that a byte has in JSON, in XML, or in XML with the escapes of JSON.
const fn of_byte(byte: u8) -> u8 {
    match byte {
        // `\&quot;`
        b'"' => 7,
        // `&amp;`, `&#10;`, `&#13;`
        b'&' | b'\n' | b'\r' => 5,
        // `&lt;`, `&gt;`, `&#9;`. 0xEF is the first byte of U+FFFE and U+FFFF, which become `\uFFFE` and `\uFFFF`: 6 bytes instead of 3.
        b'<' | b'>' | b'\t' | 0xEF => 4,
        b'\\' => 2,
        // `\u0001`
        0..=0x1F => 6,
        _ => 1,
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
        for (text, expected) in [
            ("", 0),
            ("a", 1),
            ("é", 2),
            ("\u{1F980}", 4),
            ("\u{1}", 6),
            ("\"", 7),
            ("a&\n", 11),
            ("\\<>", 10),
            ("\u{FFFE}\u{FFFF}", 12),
        ] {
            assert_eq!(of_text(text), expected, "{text:?}");
            let long = "a".repeat(3 * CHUNK) + text;
            assert_eq!(of_text(&long), 3 * CHUNK + expected, "{text:?}");
        }
    }

    #[test]
    fn a_byte_is_plain_if_it_becomes_one_byte() {
        for byte in 0..=u8::MAX {
            assert_eq!(is_plain_byte(byte), of_byte(byte) == 1, "{byte}");
        }
    }
}
