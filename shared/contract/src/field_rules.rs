//! `buf.validate`: the rules of a field, as they are declared.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, OneofDescriptor, Value};

use crate::{ContractError, option::option};

/// `buf.validate.Ignore.IGNORE_IF_ZERO_VALUE`.
const IF_ZERO_VALUE: i32 = 1;

/// The name of the field of `buf.validate` that has examples.
const EXAMPLE: &str = "example";

/// The rules of one field.
#[derive(Debug, Clone, Default)]
pub struct FieldRules {
    /// The field must be set.
    pub required: bool,
    /// No rule applies while the field has its default value.
    pub ignore_zero: bool,
    /// The rules of the value itself, or of the list.
    pub value: Vec<ValueRule>,
    /// The rules of each item of a list.
    pub items: Vec<ValueRule>,
    /// The first `example` of the value, which is no rule.
    pub example: Option<Value>,
}

/// One rule, such as `string.max_len = 100`.
#[derive(Debug, Clone)]
pub struct ValueRule {
    /// The kind of value: `string`, `int32`, `repeated`, …
    pub kind: String,
    /// The name of the rule inside its kind: `max_len`. It is empty if the kind is itself a rule, such as `cel`.
    pub name: String,
    /// The argument.
    pub argument: Value,
}

impl ValueRule {
    /// Returns the rule's name as protovalidate writes it: `string.max_len`.
    pub fn id(&self) -> String {
        if self.name.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.name) }
    }
}

impl FieldRules {
    /// Reads the rules of a field. Rules that this project does not support are returned too.
    ///
    /// # Errors
    ///
    /// Returns an error that names the field for an `ignore` other than `IGNORE_IF_ZERO_VALUE`.
    pub fn read(field: &FieldDescriptor) -> Result<Self, ContractError> {
        let mut rules = Self::default();
        let Some(declared) = option(field.parent_pool(), &field.options(), "buf.validate.field") else { return Ok(rules) };
        for (rule, value) in declared.fields() {
            match (rule.name(), value) {
                ("required", value) => rules.required = value.as_bool().unwrap_or_default(),
                ("ignore", value) => match value.as_enum_number() {
                    Some(0) => {}
                    Some(IF_ZERO_VALUE) => rules.ignore_zero = true,
                    _ => {
                        let problem = "this `ignore` of buf.validate is not supported: use IGNORE_IF_ZERO_VALUE or none";
                        return Err(ContractError::new(field.full_name(), problem));
                    }
                },
                ("repeated", Value::Message(list)) => rules.read_list(list),
                (kind, value) => {
                    rules.value.extend(typed(kind, value));
                    rules.example = example(value).or(rules.example);
                }
            }
        }
        Ok(rules)
    }

    fn read_list(&mut self, list: &DynamicMessage) {
        for (rule, value) in list.fields() {
            match (rule.name(), value) {
                ("items", Value::Message(items)) => {
                    let items = items.fields().flat_map(|(kind, value)| typed(kind.name(), value));
                    self.items.extend(items.collect::<Vec<_>>());
                }
                (name, value) => {
                    self.value.push(ValueRule { kind: "repeated".to_owned(), name: name.to_owned(), argument: value.clone() });
                }
            }
        }
    }
}

/// Returns the first example in the rules of one kind of value.
fn example(rules: &Value) -> Option<Value> {
    let examples = rules.as_message()?.get_field_by_name(EXAMPLE)?;
    examples.as_list()?.first().cloned()
}

/// The rules of one kind of value.
fn typed(kind: &str, value: &Value) -> Vec<ValueRule> {
    let rule =
        |name: &str, argument: &Value| ValueRule { kind: kind.to_owned(), name: name.to_owned(), argument: argument.clone() };
    match value {
        Value::Message(rules) if rules.fields().next().is_some() => {
            rules.fields().filter(|(field, _)| field.name() != EXAMPLE).map(|(field, value)| rule(field.name(), value)).collect()
        }
        value => vec![rule("", value)],
    }
}

/// Returns true if one field of the oneof must be set.
///
/// # Errors
///
/// Returns an error that names the oneof for a rule other than `required`.
pub fn oneof_is_required(oneof: &OneofDescriptor) -> Result<bool, ContractError> {
    let Some(rules) = option(oneof.parent_pool(), &oneof.options(), "buf.validate.oneof") else { return Ok(false) };
    if let Some((other, _)) = rules.fields().find(|(rule, _)| rule.name() != "required") {
        let problem = format!("`{}` of buf.validate is not supported", other.name());
        return Err(ContractError::new(oneof.full_name(), problem));
    }
    Ok(rules.get_field_by_name("required").and_then(|value| value.as_bool()).unwrap_or_default())
}

/// Returns true if the message has rules of its own (`buf.validate.message`).
pub fn has_message_rules(message: &MessageDescriptor) -> bool {
    let extension = message.parent_pool().get_extension_by_name("buf.validate.message");
    extension.is_some_and(|extension| message.options().has_extension(&extension))
}
