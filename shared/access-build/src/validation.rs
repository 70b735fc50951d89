//! Implements `access::validate::Validate` for a message from its `buf.validate` options.
//!
//! A subset of the rules is supported, with the meaning that <https://protovalidate.com> gives them. A rule outside the subset fails
//! the build, so that every declared rule is enforced.

use std::fmt::Write;

use contract::{FieldRules, ValueRule, has_message_rules, oneof_is_required};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, Value};

use crate::{ACCESS_ALIAS, Error, names};

pub(crate) fn generate(message: &MessageDescriptor, code: &mut String) -> Result<(), Error> {
    if message.is_map_entry() {
        return Ok(());
    }
    if has_message_rules(message) {
        return Err(format!("{}: (buf.validate.message) is not supported", message.full_name()).into());
    }
    let mut checks = String::new();
    for field in message.fields() {
        let check = Check::new(&field)?;
        checks += &check.map(|check| check.code()).transpose()?.unwrap_or_default();
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        checks += &oneof_check(&oneof)?;
    }
    let name = names::Scope { package: message.package_name(), own: "self", access: ACCESS_ALIAS }.message(message);
    let (at, into) = if checks.is_empty() { ("_at", "_into") } else { ("at", "into") };
    write!(
        code,
        r"
impl {ACCESS_ALIAS}::validate::Validate for {name} {{
    fn validate(&self, {at}: &{ACCESS_ALIAS}::validate::At<'_>, {into}: &mut {ACCESS_ALIAS}::validate::Violations) {{{checks}
    }}
}}
"
    )?;
    for nested in message.child_messages() {
        generate(&nested, code)?;
    }
    Ok(())
}

/// One field and the rules that are checked for it.
struct Check {
    field: FieldDescriptor,
    required: bool,
    ignore_zero: bool,
    /// The calls that check the value. They use the variables `value` and `at`, the place of the value.
    rules: Vec<String>,
    /// The calls that check each item of a list or each entry of a map.
    items: Vec<String>,
    /// True if the value, or each item of the list, is a message with its own validation.
    nested: bool,
}

impl Check {
    fn new(field: &FieldDescriptor) -> Result<Option<Self>, Error> {
        let declared = FieldRules::read(field)?;
        let mut check = Self {
            field: field.clone(),
            required: declared.required,
            ignore_zero: declared.ignore_zero,
            rules: Vec::new(),
            items: Vec::new(),
            nested: matches!(field.kind(), Kind::Message(message) if validates_itself(&message)),
        };
        check.rules = declared.value.iter().map(|rule| check.call(rule)).collect::<Result<Vec<_>, _>>()?.concat();
        check.items = declared.items.iter().map(|rule| check.call(rule)).collect::<Result<Vec<_>, _>>()?.concat();
        if matches!(field.kind(), Kind::String) && !field.is_map() {
            // PostgreSQL cannot store a NUL in a text, so every string is checked for it.
            let texts = if field.is_list() { &mut check.items } else { &mut check.rules };
            texts.push("into.string_no_nul(at, value);".to_owned());
        }
        if field.is_map() {
            check.read_entries()?;
        }
        let empty = !check.required && check.rules.is_empty() && check.items.is_empty() && !check.nested;
        if empty {
            return Ok(None);
        }
        Ok(Some(check))
    }

    /// Adds the checks of the entries of a map. Rules of the map itself are not supported.
    fn read_entries(&mut self) -> Result<(), Error> {
        if self.required || !self.rules.is_empty() {
            return Err(self.not_supported("a rule of a map"));
        }
        let Kind::Message(entry) = self.field.kind() else { return Ok(()) };
        for (name, field) in [("key", entry.map_entry_key_field()), ("value", entry.map_entry_value_field())] {
            match field.kind() {
                Kind::String => self.items.push(format!("into.string_no_nul(at, {name});")),
                Kind::Message(message) if validates_itself(&message) => {
                    self.items.push(format!("{ACCESS_ALIAS}::validate::Validate::validate({name}, at, into);"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the path of the enum variant that prost generates for this field of a oneof.
    fn variant(&self, oneof: &OneofDescriptor) -> String {
        let parent = self.field.parent_message();
        let scope = names::Scope { package: parent.package_name(), own: "self", access: ACCESS_ALIAS };
        scope.variant(parent, oneof.name(), self.field.name())
    }

    fn not_supported(&self, what: &str) -> Error {
        format!("{}: {what} of buf.validate is not supported", self.field.full_name()).into()
    }

    /// Returns the call that enforces one rule. It returns none for a rule that is set to false.
    fn call(&self, rule: &ValueRule) -> Result<Vec<String>, Error> {
        let supported: &[&str] = match rule.kind.as_str() {
            "string" => &["min_len", "max_len", "max_bytes", "uuid", "email"],
            "bytes" => &["min_len", "max_len"],
            "int32" | "int64" | "uint32" | "uint64" => &["gt", "gte", "lt", "lte"],
            "enum" => &["defined_only"],
            "repeated" => &["min_items", "max_items"],
            kind => return Err(self.not_supported(&format!("`{kind}`"))),
        };
        let (kind, name) = (rule.kind.as_str(), rule.name.as_str());
        if !supported.contains(&name) {
            return Err(self.not_supported(&format!("`{}`", rule.id())));
        }
        let argument = || literal(&rule.argument).ok_or_else(|| self.not_supported(&format!("`{}`", rule.id())));
        Ok(match (kind, &rule.argument) {
            (_, Value::Bool(false)) => Vec::new(),
            ("enum", Value::Bool(true)) => {
                let Kind::Enum(enumeration) = self.field.kind() else { return Err(self.not_supported("`enum`")) };
                let parent = self.field.parent_message();
                let scope = names::Scope { package: parent.package_name(), own: "self", access: ACCESS_ALIAS };
                vec![format!("into.defined_only(at, {}::try_from(*value).is_ok());", scope.enumeration(&enumeration))]
            }
            ("int32" | "int64" | "uint32" | "uint64", _) => {
                vec![format!("into.number_{name}(at, i128::from(*value), {}, {:?});", argument()?, rule.id())]
            }
            ("repeated", _) => vec![format!("into.{name}(at, value.len(), {});", argument()?)],
            (_, Value::Bool(true)) => vec![format!("into.{kind}_{name}(at, value);")],
            _ => vec![format!("into.{kind}_{name}(at, value, {});", argument()?)],
        })
    }

    /// Returns the statements that check this field of `self`.
    fn code(&self) -> Result<String, Error> {
        let name = self.field.name();
        let rust = names::field(name);
        let rules = self.rules.join(" ");
        let nested = format!("{ACCESS_ALIAS}::validate::Validate::validate(value, at, into);");
        if let Some(oneof) = self.field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            if self.required || self.ignore_zero {
                return Err(self.not_supported("`required` or `ignore` in a oneof"));
            }
            let body = if self.nested { nested } else { rules };
            let (variant, oneof) = (self.variant(&oneof), names::field(oneof.name()));
            return Ok(format!(
                "\n                if let Some({variant}(value)) = &self.{oneof} {{ let at = &at.field({name:?}); {body} }}"
            ));
        }
        let has_presence = matches!(self.field.kind(), Kind::Message(_)) || self.field.supports_presence();
        let checks = if self.field.is_map() {
            format!("for (key, value) in &self.{rust} {{ let _ = (key, value); {} }}", self.items.join(" "))
        } else if self.field.is_list() {
            if self.required || self.ignore_zero {
                return Err(self.not_supported("`required` or `ignore` on a list"));
            }
            let items = if self.nested { nested } else { self.items.join(" ") };
            let each = if items.is_empty() {
                String::new()
            } else {
                format!("for (index, value) in value.iter().enumerate() {{ let at = &at.item(index); {items} }}")
            };
            format!("let value = &self.{rust}; {rules} {each}")
        } else if has_presence && self.ignore_zero {
            return Err(self.not_supported("`ignore` on a field that may be absent"));
        } else if has_presence {
            let body = if self.nested { nested } else { rules };
            let missing = if self.required { " else { into.required(at); }" } else { "" };
            format!("if let Some(value) = &self.{rust} {{ {body} let _ = value; }}{missing}")
        } else {
            let zero = match self.field.kind() {
                Kind::String | Kind::Bytes => "value.is_empty()",
                _ => "*value == 0",
            };
            match (self.required, self.ignore_zero) {
                (true, _) => format!("let value = &self.{rust}; if {zero} {{ into.required(at); }} else {{ {rules} }}"),
                (false, true) => format!("let value = &self.{rust}; if !({zero}) {{ {rules} }}"),
                (false, false) => format!("let value = &self.{rust}; {rules}"),
            }
        };
        Ok(format!("\n                {{ let at = &at.field({name:?}); {checks} }}"))
    }
}

/// Returns the check that one field of a oneof is set, or an empty text if the oneof is not required.
fn oneof_check(oneof: &OneofDescriptor) -> Result<String, Error> {
    let (name, field) = (oneof.name(), names::field(oneof.name()));
    let check = format!("\n                if self.{field}.is_none() {{ into.required(&at.field({name:?})); }}");
    Ok(if oneof_is_required(oneof)? { check } else { String::new() })
}

/// Returns true if the message has an implementation of `Validate`. The messages of `google` packages and map entries have none.
fn validates_itself(message: &MessageDescriptor) -> bool {
    !message.package_name().starts_with("google.") && !message.is_map_entry()
}

fn literal(value: &Value) -> Option<String> {
    match value {
        Value::I32(number) => Some(number.to_string()),
        Value::I64(number) => Some(number.to_string()),
        Value::U32(number) => Some(number.to_string()),
        Value::U64(number) => Some(number.to_string()),
        _ => None,
    }
}
