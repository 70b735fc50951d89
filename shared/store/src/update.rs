//! Update methods: the update mask and the etag.

use prost_types::FieldMask;

use access::error::{Error, Reason, Result, Violation};

/// The fields that an update writes (AIP-134).
#[derive(Debug)]
pub struct UpdateMask<'a> {
    paths: Option<&'a [String]>,
}

impl<'a> UpdateMask<'a> {
    /// Parses a mask over a resource whose writable fields are `writable`.
    ///
    /// # Errors
    ///
    /// Returns INVALID_ARGUMENT for any other path, and for `*` beside other paths.
    pub fn new(mask: Option<&'a FieldMask>, writable: &[&str]) -> Result<Self> {
        let paths = mask.map(|mask| mask.paths.as_slice()).filter(|paths| !paths.is_empty());
        let every = paths == Some(&["*".to_owned()]);
        let wrong = |path: &&String| !every && !writable.contains(&path.as_str());
        let violations: Vec<_> = paths
            .unwrap_or_default()
            .iter()
            .filter(wrong)
            .map(|_| Violation::new("update_mask", "update_mask.path", format!("may name {}, or be `*`", writable.join(", "))))
            .take(1)
            .collect();
        if violations.is_empty() { Ok(Self { paths }) } else { Err(Error::Invalid(Reason::MaskPathInvalid, violations)) }
    }

    /// Returns true if the update writes the field `path`. Without a mask it writes every field that is set.
    pub fn writes(&self, path: &str, is_set: bool) -> bool {
        match self.paths {
            None => is_set,
            Some(paths) => paths.iter().any(|given| given == "*" || given == path),
        }
    }
}

/// Returns the etag of a resource whose row has this version.
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
    use super::*;

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask { paths: paths.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn absent_is_every_field_that_is_set_and_a_star_every_field() {
        for absent in [None, Some(mask(&[]))] {
            let mask = UpdateMask::new(absent.as_ref(), &["bio"]).expect("a mask");
            assert!(mask.writes("bio", true) && !mask.writes("bio", false));
        }
        let (star, one) = (mask(&["*"]), mask(&["bio"]));
        assert!(UpdateMask::new(Some(&star), &["bio"]).expect("a mask").writes("bio", false));
        let one = UpdateMask::new(Some(&one), &["bio", "website"]).expect("a mask");
        assert!(one.writes("bio", false) && !one.writes("website", true));
    }

    #[test]
    fn an_unknown_path_is_refused() {
        for wrong in [&["boi"][..], &["bio", "boi"], &["*", "bio"], &["bio.length"], &[""]] {
            let wrong = mask(wrong);
            assert_eq!(UpdateMask::new(Some(&wrong), &["bio"]).expect_err("a refusal").reason(), Reason::MaskPathInvalid.into());
        }
    }

    #[test]
    fn an_etag_is_given_back_as_it_was() {
        assert!(check_etag("etag", "", 3).is_ok());
        assert!(check_etag("etag", &etag(3), 3).is_ok());
        assert_eq!(check_etag("etag", &etag(2), 3).expect_err("a refusal").reason(), Reason::EtagStale.into());
    }
}
