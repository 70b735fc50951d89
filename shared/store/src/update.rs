//! Update methods: the update mask and the etag.

use prost_types::FieldMask;

use access::{
    Resource,
    error::{Error, Reason, Result, Violation},
};

/// The fields that an update writes (AIP-134).
#[derive(Debug, PartialEq, Eq)]
pub enum UpdateMask {
    /// Every field that is set. A request without a mask asks for this.
    SetFields,
    /// Every field.
    AllFields,
    /// These fields.
    Fields(Vec<&'static str>),
}

impl UpdateMask {
    /// Parses a mask over the resource `R`. Paths of output-only fields, of identifiers and of the etag are ignored (AIP-203), so that
    /// a client can send back a whole resource. A path inside a message selects the whole message.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT for any other path, and for `*` beside other paths.
    pub fn new<R: Resource>(mask: Option<&FieldMask>) -> Result<Self> {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        match paths {
            [] => return Ok(Self::SetFields),
            [path] if path == "*" => return Ok(Self::AllFields),
            _ => {}
        }
        let mut fields = Vec::new();
        for path in paths {
            let Some(field) = R::FIELDS.iter().find(|field| field.contains(path)) else {
                let writable: Vec<_> = R::FIELDS.iter().filter(|field| field.is_writable).map(|field| field.name).collect();
                let description = format!("may name {}, or be `*`", writable.join(", "));
                let violation = Violation::new("update_mask", "update_mask.path", description);
                return Err(Error::Invalid(Reason::MaskPathInvalid, vec![violation]));
            };
            if field.is_writable {
                fields.push(field.name);
            }
        }
        Ok(Self::Fields(fields))
    }

    /// Returns true if the update writes the field `name`. `is_set` says whether the request sets the field.
    pub fn writes(&self, name: &str, is_set: bool) -> bool {
        match self {
            Self::SetFields => is_set,
            Self::AllFields => true,
            Self::Fields(fields) => fields.contains(&name),
        }
    }
}

/// Returns the etag (AIP-154) of a resource whose row has this version.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Checks the etag in the request field `field` against the version of the row. An empty etag matches every version.
///
/// # Errors
///
/// Returns ABORTED if the row has changed since the etag was read.
pub fn check_etag(field: &str, given: &str, version: i64) -> Result<()> {
    if given.is_empty() || given == etag(version) {
        return Ok(());
    }
    let description = "is not that of the current version: read the resource again, and decide again";
    Err(Error::Stale(Violation::new(field, "etag.current", description)))
}

#[cfg(test)]
mod tests {
    use access::ResourceField;

    use super::*;

    struct Profile;

    impl Resource for Profile {
        const FIELDS: &'static [ResourceField] = &[
            ResourceField { name: "user_id", is_writable: false, inner: &[] },
            ResourceField { name: "bio", is_writable: true, inner: &[] },
            ResourceField { name: "birth_date", is_writable: true, inner: &["year", "month", "day"] },
            ResourceField { name: "create_time", is_writable: false, inner: &["seconds", "nanos"] },
            ResourceField { name: "etag", is_writable: false, inner: &[] },
        ];
    }

    fn parse(paths: &[&str]) -> Result<UpdateMask> {
        UpdateMask::new::<Profile>(Some(&FieldMask { paths: paths.iter().map(ToString::to_string).collect() }))
    }

    #[test]
    fn absent_is_every_field_that_is_set_and_a_star_every_field() {
        for absent in [UpdateMask::new::<Profile>(None), parse(&[])] {
            let mask = absent.expect("a mask");
            assert!(mask.writes("bio", true) && !mask.writes("bio", false));
        }
        assert!(parse(&["*"]).expect("a mask").writes("bio", false));
        let one = parse(&["bio"]).expect("a mask");
        assert!(one.writes("bio", false) && !one.writes("birth_date", true));
    }

    #[test]
    fn fields_that_no_update_writes_are_ignored() {
        let mask = parse(&["user_id", "create_time.seconds", "etag", "bio"]).expect("a mask");
        assert_eq!(mask, UpdateMask::Fields(vec!["bio"]));
        // A mask of ignored fields alone writes nothing. Only an absent mask writes every field that is set.
        assert!(!parse(&["etag"]).expect("a mask").writes("bio", true));
    }

    #[test]
    fn a_part_of_a_message_selects_the_message() {
        assert!(parse(&["birth_date.year"]).expect("a mask").writes("birth_date", false));
    }

    #[test]
    fn an_unknown_path_is_refused() {
        for wrong in [&["boi"][..], &["bio", "boi"], &["*", "bio"], &["bio.length"], &["birth_date.century"], &[""]] {
            assert_eq!(parse(wrong).expect_err("a refusal").reason(), Reason::MaskPathInvalid.into());
        }
    }

    #[test]
    fn an_etag_is_given_back_as_it_was() {
        assert!(check_etag("etag", "", 3).is_ok());
        assert!(check_etag("etag", &etag(3), 3).is_ok());
        assert_eq!(check_etag("etag", &etag(2), 3).expect_err("a refusal").reason(), Reason::EtagStale.into());
    }
}
