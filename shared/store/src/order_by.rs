//! The field `order_by` of lists (AIP-132).

use access::error::{Error, Result};
use serde::Serialize;

/// An order of a list: a field, and a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OrderBy<F> {
    /// The field by which the list is ordered.
    pub field: F,
    /// Whether the largest value comes first.
    pub is_descending: bool,
}

impl<F: Copy> OrderBy<F> {
    /// Parses `order_by`, for example `title` or `create_time desc`. An empty text means `default`.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT that names the fields of `fields`.
    pub fn parse(order_by: &str, fields: &[(&str, F)], default: Self) -> Result<Self> {
        let words: Vec<_> = order_by.split_ascii_whitespace().collect();
        let (name, is_descending) = match words[..] {
            [] => return Ok(default),
            [name] | [name, "asc"] => (name, false),
            [name, "desc"] => (name, true),
            _ => ("", false),
        };
        let field = fields.iter().find(|(known, _)| *known == name);
        field.map(|(_, field)| Self { field: *field, is_descending }).ok_or_else(|| {
            let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
            let description =
                format!("must be one of the fields {}; ` desc` after the field reverses the order", names.join(", "));
            Error::invalid("order_by", "order_by.field", description)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(order_by: &str) -> Option<(char, bool)> {
        let default = OrderBy { field: 'c', is_descending: true };
        let order = OrderBy::parse(order_by, &[("create_time", 'c'), ("title", 't')], default);
        order.ok().map(|order| (order.field, order.is_descending))
    }

    #[test]
    fn an_order_is_a_field_and_a_direction() {
        for (text, order) in [
            ("", ('c', true)),
            ("  ", ('c', true)),
            ("create_time", ('c', false)),
            ("title asc", ('t', false)),
            (" title   desc ", ('t', true)),
        ] {
            assert_eq!(parse(text), Some(order), "{text}");
        }
        for bad in ["body", "title DESC", "title descending", "desc", "title, create_time", "title desc desc", "Title"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
