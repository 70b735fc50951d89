//! `google.api.field_behavior`: how clients use a field (AIP-203).

use prost_reflect::FieldDescriptor;

/// One behavior of a field. A field of a resource that is [`Required`](Self::Required) must be set in Create; an update needs only the
/// fields that its mask names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldBehavior {
    /// A request may omit the field.
    Optional,
    /// A request must set the field.
    Required,
    /// Only responses have the field. It is ignored in a request.
    OutputOnly,
    /// The field can be set in Create, and cannot be changed.
    Immutable,
    /// The field identifies the resource. It is in the path of a request, and cannot be changed.
    Identifier,
}

impl FieldBehavior {
    /// Returns the declared behaviors of a field. Values of the enum that have no effect here are skipped.
    pub fn read(field: &FieldDescriptor) -> Vec<Self> {
        let Some(extension) = field.parent_pool().get_extension_by_name("google.api.field_behavior") else { return Vec::new() };
        let options = field.options();
        let declared = options.get_extension(&extension);
        let numbers = declared.as_list().unwrap_or_default().iter().filter_map(prost_reflect::Value::as_enum_number);
        numbers.filter_map(Self::from_number).collect()
    }

    fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Optional),
            2 => Some(Self::Required),
            3 => Some(Self::OutputOnly),
            5 => Some(Self::Immutable),
            8 => Some(Self::Identifier),
            _ => None,
        }
    }
}
