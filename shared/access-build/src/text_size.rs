//! Implements `access::text_size::TextSize` for a message: an upper bound of its size in JSON and XML.

use std::fmt::Write;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::{ACCESS_ALIAS, Error, names};

/// The size of a value: the same for every value of its kind, or the source of an expression over the variable `value`.
enum Size {
    Constant(usize),
    Of(String),
}

pub(crate) fn generate(message: &MessageDescriptor, code: &mut String) -> Result<(), Error> {
    if message.is_map_entry() {
        return Ok(());
    }
    let scope = names::Scope { package: message.package_name(), own: "self", access: ACCESS_ALIAS };
    let mut constant = 2;
    let mut terms = String::new();
    for field in message.fields().filter(|field| !in_oneof(field)) {
        match field_size(&field) {
            Size::Constant(size) => constant += size,
            Size::Of(term) => write!(terms, "\n            + {term}")?,
        }
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        let arms: String = oneof
            .fields()
            .map(|field| {
                let variant = scope.variant(message, oneof.name(), field.name());
                let overhead = overhead(&field);
                match value_size(&field.kind()) {
                    Size::Constant(size) => format!("\n                Some({variant}(_)) => {},", overhead + size),
                    Size::Of(size) => format!("\n                Some({variant}(value)) => {overhead} + {size},"),
                }
            })
            .collect();
        let field = names::field(oneof.name());
        write!(terms, "\n            + match &self.{field} {{{arms}\n                None => 0,\n            }}")?;
    }
    write!(
        code,
        r"
impl {ACCESS_ALIAS}::text_size::TextSize for {name} {{
    fn text_size(&self) -> usize {{
        {constant}{terms}
    }}
}}
",
        name = scope.message(message)
    )?;
    for nested in message.child_messages() {
        generate(&nested, code)?;
    }
    Ok(())
}

fn in_oneof(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

/// Returns the size that the name of a field adds to a value: that of two tags and of the attribute `escape` in XML. In JSON it is less.
fn overhead(field: &FieldDescriptor) -> usize {
    field.json_name().len() * 2 + "<></>".len() + " escape=\"json\"".len()
}

fn field_size(field: &FieldDescriptor) -> Size {
    let (rust, overhead) = (names::field(field.name()), overhead(field));
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { unreachable!("the entry of a map field is a message") };
        let (key, value) = (value_size(&entry.map_entry_key_field().kind()), value_size(&entry.map_entry_value_field().kind()));
        let key = match key {
            Size::Constant(size) => size.to_string(),
            Size::Of(_) => format!("{ACCESS_ALIAS}::text_size::of_text(key)"),
        };
        let value = match value {
            Size::Constant(size) => size.to_string(),
            Size::Of(size) => size,
        };
        let entry = overhead + " key=\"\"".len();
        let each = format!("|(key, value)| {{ let _ = (key, value); {entry} + {key} + {value} }}");
        return Size::Of(format!("{overhead} + self.{rust}.iter().map({each}).sum::<usize>()"));
    }
    let size = value_size(&field.kind());
    if field.is_list() {
        return Size::Of(match size {
            Size::Constant(size) => format!("{overhead} + self.{rust}.len() * {}", overhead + size),
            Size::Of(size) => format!("{overhead} + self.{rust}.iter().map(|value| {overhead} + {size}).sum::<usize>()"),
        });
    }
    match size {
        Size::Constant(size) => Size::Constant(overhead + size),
        Size::Of(size) if field.supports_presence() => {
            Size::Of(format!("self.{rust}.as_ref().map_or(0, |value| {overhead} + {size})"))
        }
        Size::Of(size) => Size::Of(format!("{{ let value = &self.{rust}; {overhead} + {size} }}")),
    }
}

fn value_size(kind: &Kind) -> Size {
    let text = || Size::Of(format!("{ACCESS_ALIAS}::text_size::of_text(value)"));
    let bytes = || Size::Of(format!("{ACCESS_ALIAS}::text_size::of_bytes(value)"));
    match kind {
        Kind::Bool => Size::Constant("false".len()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => Size::Constant("-2147483648".len()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            Size::Constant("\"-9223372036854775808\"".len())
        }
        Kind::Float | Kind::Double => Size::Constant("-2.2250738585072014e-308".len() * 20),
        Kind::String => text(),
        Kind::Bytes => bytes(),
        Kind::Enum(enumeration) => {
            let names = enumeration.values().map(|value| value.name().len() + 2);
            Size::Constant(names.max().unwrap_or_default().max("-2147483648".len()))
        }
        Kind::Message(message) => match message.full_name() {
            // prost represents the wrappers as plain values.
            "google.protobuf.StringValue" => text(),
            "google.protobuf.BytesValue" => bytes(),
            name if name.starts_with("google.protobuf.")
                && message.get_field_by_name("value").is_some_and(|_| name != "google.protobuf.Any") =>
            {
                Size::Constant(32)
            }
            _ => Size::Of(format!("{ACCESS_ALIAS}::text_size::TextSize::text_size(value)")),
        },
    }
}
