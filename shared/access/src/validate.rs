//! The validation rules of the protos, with the meaning that <https://protovalidate.com> gives them. Generated code calls one
//! function for each rule.

use uuid::Uuid;

use crate::{
    FieldPath, PathStep,
    error::{Error, Reason, Result, Violation},
};

/// Implemented by generated code for every message of a service.
pub trait Validate {
    /// Adds to `into` the rules that the message violates. `at` is the place of the message in the request.
    fn validate(&self, at: &At<'_>, into: &mut Violations);
}

impl Validate for () {
    fn validate(&self, _: &At<'_>, _: &mut Violations) {}
}

/// Checks a whole request.
///
/// # Errors
///
/// Returns INVALID_ARGUMENT with one violation for each rule that the request violates.
pub fn check(request: &impl Validate) -> Result<()> {
    check_with(request, |_, _| {})
}

/// Checks a whole request, and adds the violations that `further` finds.
///
/// # Errors
///
/// Returns INVALID_ARGUMENT with all violations.
pub fn check_with<T: Validate>(request: &T, further: impl FnOnce(&T, &mut Violations)) -> Result<()> {
    let mut violations = Violations::default();
    request.validate(&At::Request, &mut violations);
    further(request, &mut violations);
    violations.into_result()
}

/// A place in a request. It is cheap to create, because the text of the path is built only for a violation.
#[derive(Debug, Clone, Copy)]
pub enum At<'a> {
    /// The request itself.
    Request,
    /// A field of a message.
    Field(&'a At<'a>, &'static str),
    /// An item of a list.
    Item(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// Returns the place of a field of the message at this place.
    #[must_use]
    pub fn field(&'a self, name: &'static str) -> At<'a> {
        At::Field(self, name)
    }

    /// Returns the place of an item of the list at this place.
    #[must_use]
    pub fn item(&'a self, index: usize) -> At<'a> {
        At::Item(self, index)
    }
}

impl From<&At<'_>> for FieldPath {
    fn from(mut at: &At<'_>) -> Self {
        let mut steps = Vec::new();
        loop {
            at = match at {
                At::Request => break,
                At::Field(message, name) => {
                    steps.push(PathStep::Field((*name).into()));
                    message
                }
                At::Item(list, index) => {
                    steps.push(PathStep::Index(*index));
                    list
                }
            };
        }
        steps.reverse();
        Self::Value(steps)
    }
}

/// The rules that a request violates.
#[derive(Debug, Default)]
pub struct Violations {
    found: Vec<Violation>,
    /// The reason of the error: that of all violations if they have the same, and otherwise `FIELD_INVALID`.
    reason: Option<Reason>,
}

impl Violations {
    /// Returns true if no violation was found so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds a violation, if there is one. A field that already has a violation gets no second one.
    pub fn push(&mut self, violation: Option<Violation>) {
        self.extend(Reason::FieldInvalid, violation);
    }

    /// Runs a check of a field, unless the field already has a violation, and returns the value of a success. Adds the violations of an
    /// INVALID_ARGUMENT. Other errors are not added, because the handler returns them.
    pub fn check<T>(&mut self, field: &str, check: impl FnOnce() -> Result<T>) -> Option<T> {
        if self.found.iter().any(|other| other.field.to_string() == field) {
            return None;
        }
        match check() {
            Ok(value) => Some(value),
            Err(Error::Invalid(reason, violations)) => {
                self.extend(reason, violations);
                None
            }
            Err(_) => None,
        }
    }

    /// Returns INVALID_ARGUMENT with all violations, if there are any.
    pub fn into_result(self) -> Result<()> {
        match self.reason {
            Some(reason) => Err(Error::Invalid(reason, self.found)),
            None => Ok(()),
        }
    }

    fn extend(&mut self, reason: Reason, violations: impl IntoIterator<Item = Violation>) {
        for violation in violations {
            let field = violation.field.to_string();
            if !self.found.iter().any(|other| other.field.to_string() == field) {
                self.add_with(reason, violation);
            }
        }
    }

    fn add_with(&mut self, reason: Reason, violation: Violation) {
        self.reason = Some(self.reason.filter(|other| *other != reason).map_or(reason, |_| Reason::FieldInvalid));
        self.found.push(violation);
    }
}

/// One function for each rule, named as the rule. Lengths of strings are counted in Unicode code points.
#[allow(missing_docs)]
impl Violations {
    pub fn required(&mut self, at: &At<'_>) {
        self.add(at, "required", "must be set");
    }

    pub fn string_min_len(&mut self, at: &At<'_>, value: &str, limit: usize) {
        if value.chars().count() < limit {
            self.add(at, "string.min_len", at_least(limit, "character"));
        }
    }

    pub fn string_max_len(&mut self, at: &At<'_>, value: &str, limit: usize) {
        if value.chars().count() > limit {
            self.add(at, "string.max_len", at_most(limit, "character"));
        }
    }

    pub fn string_max_bytes(&mut self, at: &At<'_>, value: &str, limit: usize) {
        if value.len() > limit {
            self.add(at, "string.max_bytes", at_most(limit, "byte"));
        }
    }

    /// Checks that a string contains no NUL. It applies to every string, even without declared rules.
    pub fn string_no_nul(&mut self, at: &At<'_>, value: &str) {
        if value.contains('\0') {
            self.add(at, "string.no_nul", "must not hold a NUL character");
        }
    }

    /// Checks for a UUID in the hyphenated form of RFC 9562, in upper or lower case.
    pub fn string_uuid(&mut self, at: &At<'_>, value: &str) {
        if value.len() != 36 || Uuid::try_parse(value).is_err() {
            self.add(at, "string.uuid", "must be a UUID");
        }
    }

    /// Checks for an email address in the form that HTML's `<input type=email>` accepts.
    pub fn string_email(&mut self, at: &At<'_>, value: &str) {
        if !is_email(value) {
            self.add(at, "string.email", "must be an e-mail address");
        }
    }

    pub fn bytes_min_len(&mut self, at: &At<'_>, value: &[u8], limit: usize) {
        if value.len() < limit {
            self.add(at, "bytes.min_len", at_least(limit, "byte"));
        }
    }

    pub fn bytes_max_len(&mut self, at: &At<'_>, value: &[u8], limit: usize) {
        if value.len() > limit {
            self.add(at, "bytes.max_len", at_most(limit, "byte"));
        }
    }

    pub fn min_items(&mut self, at: &At<'_>, items: usize, limit: usize) {
        if items < limit {
            self.add(at, "repeated.min_items", at_least(limit, "item"));
        }
    }

    pub fn max_items(&mut self, at: &At<'_>, items: usize, limit: usize) {
        if items > limit {
            self.add(at, "repeated.max_items", at_most(limit, "item"));
        }
    }

    pub fn number_gt(&mut self, at: &At<'_>, value: i128, limit: i128, rule: &'static str) {
        if value <= limit {
            self.add(at, rule, format!("must be greater than {limit}"));
        }
    }

    pub fn number_gte(&mut self, at: &At<'_>, value: i128, limit: i128, rule: &'static str) {
        if value < limit {
            self.add(at, rule, format!("must be at least {limit}"));
        }
    }

    pub fn number_lt(&mut self, at: &At<'_>, value: i128, limit: i128, rule: &'static str) {
        if value >= limit {
            self.add(at, rule, format!("must be less than {limit}"));
        }
    }

    pub fn number_lte(&mut self, at: &At<'_>, value: i128, limit: i128, rule: &'static str) {
        if value > limit {
            self.add(at, rule, format!("must be at most {limit}"));
        }
    }

    pub fn defined_only(&mut self, at: &At<'_>, defined: bool) {
        if !defined {
            self.add(at, "enum.defined_only", "must be a value that the enum defines");
        }
    }

    fn add(&mut self, at: &At<'_>, rule: &'static str, description: impl Into<std::borrow::Cow<'static, str>>) {
        self.add_with(Reason::FieldInvalid, Violation::new(at, rule, description));
    }
}

fn at_least(limit: usize, unit: &str) -> String {
    format!("must have at least {limit} {unit}{}", if limit == 1 { "" } else { "s" })
}

fn at_most(limit: usize, unit: &str) -> String {
    format!("must have at most {limit} {unit}{}", if limit == 1 { "" } else { "s" })
}

fn is_email(value: &str) -> bool {
    let Some((local, domain)) = value.split_once('@') else { return false };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !local.is_empty() && local.bytes().all(atom) && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(check: impl Fn(&mut Violations)) -> Vec<&'static str> {
        let mut violations = Violations::default();
        check(&mut violations);
        violations.found.iter().map(|violation| violation.rule.as_str()).collect()
    }

    #[test]
    fn lengths_are_code_points() {
        assert!(broken(|v| v.string_max_len(&At::Request, "ééé", 3)).is_empty());
        assert_eq!(broken(|v| v.string_max_len(&At::Request, "éééé", 3)), ["string.max_len"]);
        assert_eq!(broken(|v| v.string_max_bytes(&At::Request, "éé", 3)), ["string.max_bytes"]);
        assert_eq!(broken(|v| v.string_min_len(&At::Request, "é", 2)), ["string.min_len"]);
    }

    #[test]
    fn further_violations_are_added_for_other_fields_only() {
        let mut violations = Violations::default();
        violations.required(&At::Request.field("title"));
        violations.push(Some(Violation::new("title", "title.not_blank", "must not be blank")));
        violations.push(None);
        let mask = Violation::new("update_mask", "update_mask.path", "may name title");
        let refused = || Err::<(), _>(Error::Invalid(Reason::MaskPathInvalid, vec![mask.clone()]));
        assert_eq!(violations.check("update_mask", refused), None);
        assert_eq!(violations.check("body", || Ok(7)), Some(7));
        assert_eq!(violations.check("title", || -> Result<()> { unreachable!("the title has a violation") }), None);
        let found: Vec<_> = violations.found.iter().map(|violation| violation.rule.as_str()).collect();
        assert_eq!((found.as_slice(), violations.reason), (&["required", "update_mask.path"][..], Some(Reason::FieldInvalid)));

        let mut alone = Violations::default();
        alone.check("update_mask", refused);
        assert_eq!(alone.reason, Some(Reason::MaskPathInvalid));
    }

    #[test]
    fn a_uuid_is_hyphenated() {
        for good in ["01890a5d-ac96-774b-bcce-b302099a8057", "01890A5D-AC96-774B-BCCE-B302099A8057"] {
            assert!(broken(|v| v.string_uuid(&At::Request, good)).is_empty(), "{good}");
        }
        for bad in [
            "",
            "me",
            "01890a5dac96774bbcceb302099a8057",
            "{01890a5d-ac96-774b-bcce-b302099a8057}",
            "01890a5d-ac96-774b-bcce-b302099a805g",
        ] {
            assert_eq!(broken(|v| v.string_uuid(&At::Request, bad)), ["string.uuid"], "{bad}");
        }
    }

    #[test]
    fn an_email_address_is_html_s() {
        for good in ["a@b", "first.last+tag@example.co.uk", "x_{1}@1.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@-b.c", "a@b..c", "ä@b.c", "a@b\n"] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn a_place_reads_as_a_path() {
        let (request, note) = (At::Request, "note");
        let note = request.field(note);
        let tags = note.field("tags");
        assert_eq!(FieldPath::from(&tags.item(3)).to_string(), "note.tags[3]");
    }
}
