//! Writes `shared::validate::Validate` for a message from its `buf.validate` options.
//!
//! A subset, whose meaning is that of <https://protovalidate.com>. A rule outside it fails the build: a rule that stands in
//! a proto is enforced, always.

use std::fmt::Write;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor, Value};

use crate::{Error, names};

pub(crate) fn generate(message: &MessageDescriptor, shared: &str, code: &mut String) -> Result<(), Error> {
    if message.is_map_entry() {
        return Ok(());
    }
    refuse_options(message)?;
    let mut checks = String::new();
    for field in message.fields() {
        let check = Check::of(&field, shared)?;
        checks += &check.map(|check| check.code()).transpose()?.unwrap_or_default();
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        checks += &oneof_check(&oneof)?;
    }
    let name = names::Scope { package: message.package_name(), own: "self", shared }.message(message);
    let (at, into) = if checks.is_empty() { ("_at", "_into") } else { ("at", "into") };
    write!(
        code,
        r"
impl {shared}::validate::Validate for {name} {{
    fn validate(&self, {at}: &{shared}::validate::At<'_>, {into}: &mut {shared}::validate::Violations) {{{checks}
    }}
}}
"
    )?;
    for nested in message.child_messages() {
        generate(&nested, shared, code)?;
    }
    Ok(())
}

/// One field and what it must keep.
struct Check {
    field: FieldDescriptor,
    shared: String,
    required: bool,
    ignore_zero: bool,
    /// Calls on a value `value` at a place `at`.
    rules: Vec<String>,
    /// The same for the items of a list.
    items: Vec<String>,
    /// The value, or the items of the list, are messages.
    nested: bool,
}

impl Check {
    fn of(field: &FieldDescriptor, shared: &str) -> Result<Option<Self>, Error> {
        let mut check = Self {
            field: field.clone(),
            shared: shared.to_owned(),
            required: false,
            ignore_zero: false,
            rules: Vec::new(),
            items: Vec::new(),
            nested: matches!(field.kind(), Kind::Message(message) if validates_itself(&message)),
        };
        if let Some(rules) = declared(field) {
            check.read(&rules)?;
        }
        if matches!(field.kind(), Kind::String) && !field.is_map() {
            // PostgreSQL has no NUL in its texts.
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

    /// A map has no rules of its own, but its entries do.
    fn read_entries(&mut self) -> Result<(), Error> {
        if self.required || !self.rules.is_empty() {
            return Err(self.not_supported("a rule of a map"));
        }
        let Kind::Message(entry) = self.field.kind() else { return Ok(()) };
        for (name, field) in [("key", entry.map_entry_key_field()), ("value", entry.map_entry_value_field())] {
            match field.kind() {
                Kind::String => self.items.push(format!("into.string_no_nul(at, {name});")),
                Kind::Message(message) if validates_itself(&message) => {
                    self.items.push(format!("{}::validate::Validate::validate({name}, at, into);", self.shared));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The pattern of a field that is one of several.
    fn variant(&self, oneof: &OneofDescriptor) -> String {
        let parent = self.field.parent_message();
        let scope = names::Scope { package: parent.package_name(), own: "self", shared: &self.shared };
        scope.variant(parent, oneof.name(), self.field.name())
    }

    fn not_supported(&self, what: &str) -> Error {
        format!("{}: {what} of buf.validate is not supported", self.field.full_name()).into()
    }

    fn read(&mut self, rules: &DynamicMessage) -> Result<(), Error> {
        for (field, value) in rules.fields() {
            match (field.name(), value) {
                ("required", value) => self.required = value.as_bool().unwrap_or_default(),
                ("ignore", value) => match value.as_enum_number() {
                    Some(0) => {}
                    Some(1) => self.ignore_zero = true,
                    _ => return Err(self.not_supported("this `ignore`")),
                },
                ("repeated", value) => {
                    let rules = value.as_message().cloned().ok_or_else(|| self.not_supported("`repeated`"))?;
                    for (rule, value) in rules.fields() {
                        match rule.name() {
                            "items" => {
                                let items = value.as_message().cloned().ok_or_else(|| self.not_supported("`items`"))?;
                                for (kind, value) in items.fields() {
                                    self.items.extend(self.typed(kind.name(), value)?);
                                }
                            }
                            "min_items" | "max_items" => {
                                let limit = literal(value).ok_or_else(|| self.not_supported(rule.name()))?;
                                self.rules.push(format!("into.{}(at, value.len(), {limit});", rule.name()));
                            }
                            other => return Err(self.not_supported(&format!("`repeated.{other}`"))),
                        }
                    }
                }
                (kind, value) => {
                    let typed = self.typed(kind, value)?;
                    self.rules.extend(typed);
                }
            }
        }
        Ok(())
    }

    /// The rules of one kind of value, such as `string`.
    fn typed(&self, kind: &str, rules: &Value) -> Result<Vec<String>, Error> {
        let supported: &[&str] = match kind {
            "string" => &["min_len", "max_len", "max_bytes", "uuid", "email"],
            "bytes" => &["min_len", "max_len"],
            "int32" | "int64" | "uint32" | "uint64" => &["gt", "gte", "lt", "lte"],
            "enum" => &["defined_only"],
            _ => return Err(self.not_supported(&format!("`{kind}`"))),
        };
        let rules = rules.as_message().ok_or_else(|| self.not_supported(kind))?;
        let mut calls = Vec::new();
        for (rule, value) in rules.fields() {
            if !supported.contains(&rule.name()) {
                return Err(self.not_supported(&format!("`{kind}.{}`", rule.name())));
            }
            match (kind, value) {
                (_, Value::Bool(false)) => {}
                ("enum", Value::Bool(true)) => {
                    let Kind::Enum(enumeration) = self.field.kind() else { return Err(self.not_supported("`enum`")) };
                    let parent = self.field.parent_message();
                    let scope = names::Scope { package: parent.package_name(), own: "self", shared: &self.shared };
                    let name = scope.enumeration(&enumeration);
                    calls.push(format!("into.defined_only(at, {name}::try_from(*value).is_ok());"));
                }
                ("int32" | "int64" | "uint32" | "uint64", value) => {
                    let bound = literal(value).ok_or_else(|| self.not_supported(rule.name()))?;
                    calls.push(format!(
                        "into.number_{}(at, i128::from(*value), {bound}, {:?});",
                        rule.name(),
                        format!("{kind}.{}", rule.name())
                    ));
                }
                (_, Value::Bool(true)) => calls.push(format!("into.{kind}_{}(at, value);", rule.name())),
                (_, value) => {
                    let argument = literal(value).ok_or_else(|| self.not_supported(rule.name()))?;
                    calls.push(format!("into.{kind}_{}(at, value, {argument});", rule.name()));
                }
            }
        }
        Ok(calls)
    }

    /// The statements that check this field of `self`.
    fn code(&self) -> Result<String, Error> {
        let name = self.field.name();
        let rust = names::field(name);
        let shared = &self.shared;
        let rules = self.rules.join(" ");
        let nested = format!("{shared}::validate::Validate::validate(value, at, into);");
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

fn declared(field: &FieldDescriptor) -> Option<DynamicMessage> {
    let extension = field.parent_pool().get_extension_by_name("buf.validate.field")?;
    let options = field.options();
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message().cloned()
}

/// One of several fields has to be set, where the oneof says so.
fn oneof_check(oneof: &OneofDescriptor) -> Result<String, Error> {
    let pool = oneof.parent_message().parent_pool();
    let options = oneof.options();
    let extension = pool.get_extension_by_name("buf.validate.oneof").filter(|extension| options.has_extension(extension));
    let Some(rules) = extension.and_then(|extension| options.get_extension(&extension).as_message().cloned()) else {
        return Ok(String::new());
    };
    if let Some((other, _)) = rules.fields().find(|(rule, _)| rule.name() != "required") {
        return Err(format!("{}: `{}` of buf.validate is not supported", oneof.full_name(), other.name()).into());
    }
    let is_required = rules.get_field_by_name("required").and_then(|value| value.as_bool()).unwrap_or_default();
    let (name, field) = (oneof.name(), names::field(oneof.name()));
    let check = format!("\n                if self.{field}.is_none() {{ into.required(&at.field({name:?})); }}");
    Ok(if is_required { check } else { String::new() })
}

/// Options of a message would be rules that nothing enforces.
fn refuse_options(message: &MessageDescriptor) -> Result<(), Error> {
    let extension = message.parent_pool().get_extension_by_name("buf.validate.message");
    if extension.is_some_and(|extension| message.options().has_extension(&extension)) {
        return Err(format!("{}: (buf.validate.message) is not supported", message.full_name()).into());
    }
    Ok(())
}

/// Messages of other people's packages come without validation.
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
