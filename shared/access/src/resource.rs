//! The fields of a resource that an Update method writes (AIP-134).

/// The resource of an Update method: the message beside `update_mask` in its request. Generated code implements it.
pub trait Resource {
    /// The fields of the resource, in the order of the proto.
    const FIELDS: &'static [ResourceField];
}

/// A field of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceField {
    /// The name in the proto.
    pub name: &'static str,
    /// False for output-only fields, identifiers and the etag. An update ignores them, also in its mask (AIP-203).
    pub is_writable: bool,
    /// The names of the fields inside this field, if it is a message.
    pub inner: &'static [&'static str],
}

impl ResourceField {
    /// Returns true if a path of a mask leads to this field, or to a part of it.
    pub fn contains(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(self.name) else { return false };
        let part = rest.strip_prefix('.').and_then(|inner| inner.split('.').next());
        rest.is_empty() || part.is_some_and(|part| self.inner.contains(&part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_field_or_to_a_part_of_it() {
        let field = ResourceField { name: "birth_date", is_writable: true, inner: &["year", "month"] };
        for (path, expected) in [
            ("birth_date", true),
            ("birth_date.year", true),
            ("birth_date.century", false),
            ("birth_date.", false),
            ("birth_date_", false),
            ("birth", false),
            ("", false),
        ] {
            assert_eq!(field.contains(path), expected, "{path}");
        }
    }
}
