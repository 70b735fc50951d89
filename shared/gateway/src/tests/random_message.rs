//! Random messages.

use proptest::{prelude::Rng, test_runner::TestRng};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Field};
use serde_json::json;

use crate::json_to_message;

/// A generator of random messages. Each field is absent, or has an ordinary value or one at the edge of its range.
pub(super) struct RandomMessage(pub(super) TestRng);

impl RandomMessage {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[usize::try_from(self.below(values.len() as u64)).expect("an index")].clone()
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 24] = [
            "",
            "a",
            "note",
            " ",
            "  ",
            "\t",
            "\n",
            "\r",
            "\r\n",
            "&",
            "<b>",
            "]]>",
            "\"'",
            "&amp;",
            "\\u0000",
            "\\",
            "\0",
            "\u{1}\u{1f}",
            "\u{7f}\u{85}",
            "\u{fffe}\u{ffff}",
            "é\u{301}",
            "\u{1F980}",
            "\u{2028}",
            "\u{feff}",
        ];
        (0..self.below(5)).map(|_| self.pick(&PIECES)).collect()
    }

    pub(super) fn message(&mut self, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        if let Some(name) = json_to_message::well_known_name(descriptor.full_name()) {
            self.well_known(&mut message, name, depth);
            return message;
        }
        for field in descriptor.fields() {
            if self.below(3) > 0 && depth < 4 {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Field {
        let kind = field.kind();
        if field.is_map() {
            let entry = kind.as_message().expect("an entry").clone();
            let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            let entries = (0..self.below(4)).map(|_| (self.key(&key), self.value(&value, depth)));
            return Field::Map(entries.collect());
        }
        if field.is_list() {
            return Field::List((0..self.below(4)).map(|_| self.value(&kind, depth)).collect());
        }
        self.value(&kind, depth)
    }

    fn key(&mut self, kind: &Kind) -> MapKey {
        match kind {
            Kind::String => MapKey::String(self.text()),
            Kind::Bool => MapKey::Bool(self.below(2) == 0),
            _ => MapKey::I64(self.0.next_u64().cast_signed()),
        }
    }

    fn value(&mut self, kind: &Kind, depth: u32) -> Field {
        let bits = self.0.next_u64();
        let small = u32::try_from(bits >> 32).expect("32 bits");
        match kind {
            Kind::Double => {
                Field::F64(self.pick(&[0.0, -0.5, 1e300, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY, f64::NEG_INFINITY]))
            }
            Kind::Float => Field::F32(self.pick(&[0.0, 0.1, 1e-40, f32::MAX, f32::NEG_INFINITY, 16_777_217.0])),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                Field::I32(self.pick(&[0, -1, i32::MIN, i32::MAX, small.cast_signed()]))
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                Field::I64(self.pick(&[0, -1, i64::MIN, i64::MAX, bits.cast_signed()]))
            }
            Kind::Uint32 | Kind::Fixed32 => Field::U32(self.pick(&[0, u32::MAX, small])),
            Kind::Uint64 | Kind::Fixed64 => Field::U64(self.pick(&[0, u64::MAX, bits])),
            Kind::Bool => Field::Bool(bits.is_multiple_of(2)),
            Kind::String => Field::String(self.text()),
            Kind::Bytes => Field::Bytes(bits.to_be_bytes()[..usize::try_from(bits % 9).expect("a length")].to_vec().into()),
            Kind::Enum(descriptor) => {
                let numbers: Vec<_> = descriptor.values().map(|value| value.number()).chain([77, -1]).collect();
                Field::EnumNumber(self.pick(&numbers))
            }
            Kind::Message(descriptor) => Field::Message(self.message(descriptor, depth + 1)),
        }
    }

    fn well_known(&mut self, message: &mut DynamicMessage, name: &str, depth: u32) {
        let tree = match name {
            "Timestamp" => {
                json!(self.pick(&["0001-01-01T00:00:00Z", "2001-02-03T04:05:06.000007Z", "9999-12-31T23:59:59.999999999Z"]))
            }
            "Duration" => json!(self.pick(&["0s", "-3.500s", "315576000000s", "0.000000001s"])),
            "FieldMask" => json!(self.pick(&["", "bio", "bio,birthDate", "note.title"])),
            "Any" => {
                let text = self.text();
                self.pick(&[
                    json!({ "@type": "type.googleapis.com/everything.v1.Inner", "name": text, "numbers": [1, 2] }),
                    json!({ "@type": "type.googleapis.com/google.protobuf.Duration", "value": "2s" }),
                    json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": { "a": [text] } }),
                ])
            }
            "Struct" => json!({ self.text(): self.tree(depth), "b": self.tree(depth) }),
            "ListValue" => json!([self.tree(depth), self.tree(depth)]),
            "Value" => self.tree(depth),
            "Empty" => json!({}),
            _ => {
                let field = message.descriptor().get_field(1).expect("a wrapper");
                // `prost-reflect` writes a wrapper of an infinite number as null.
                let value = match field.kind() {
                    Kind::Double => Field::F64(-0.5),
                    Kind::Float => Field::F32(0.1),
                    kind => self.value(&kind, depth),
                };
                message.set_field(&field, value);
                return;
            }
        };
        *message = serde::de::DeserializeSeed::deserialize(message.descriptor(), tree).expect("JSON of a well-known type");
    }

    fn tree(&mut self, depth: u32) -> serde_json::Value {
        let text = self.text();
        match self.below(if depth < 4 { 8 } else { 5 }) {
            0 => json!(null),
            1 => json!(true),
            2 => json!(-1.5),
            3 => json!(7.0),
            4 | 5 => json!(text),
            6 => json!([self.tree(depth + 1), text]),
            _ => json!({ text: self.tree(depth + 1) }),
        }
    }
}
