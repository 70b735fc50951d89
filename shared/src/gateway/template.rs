//! Path templates, as `google.api.http` has them: `/v1/{name=users/*/notes/*}:publish`.

use std::ops::Range;

/// A parsed template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) segments: Vec<Segment>,
    pub(super) verb: Option<String>,
    pub(super) captures: Vec<Capture>,
}

/// What one segment of a path has to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    Literal(String),
    /// `*`: any one.
    One,
    /// `**`: any number of them. It stands last.
    Rest,
}

/// A field, and the segments that it is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capture {
    /// The path of the field, as in `note.user_id`.
    pub(super) field: String,
    pub(super) segments: Range<usize>,
    /// True where it may hold slashes. A `%2F` is left as it is then, to be told from one.
    pub(super) is_deep: bool,
}

impl Template {
    /// # Errors
    ///
    /// A sentence, for what is no template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("the path template {text:?} {why}");
        let path = text.strip_prefix('/').ok_or_else(|| wrong("does not begin with a slash"))?;
        let mut template = Self { segments: Vec::new(), verb: None, captures: Vec::new() };
        let mut rest = path;
        loop {
            rest = if let Some(after) = rest.strip_prefix('{') {
                let (variable, after) = after.split_once('}').ok_or_else(|| wrong("has a variable without an end"))?;
                let (field, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
                let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !field.split('.').all(is_name) {
                    return Err(wrong("has a variable that names no field"));
                }
                let first = template.segments.len();
                for segment in pattern.split('/') {
                    template.segments.push(Segment::parse(segment).ok_or_else(|| wrong("has a segment that is none"))?);
                }
                let segments = first..template.segments.len();
                let is_deep = segments.len() > 1 || template.segments[first] == Segment::Rest;
                template.captures.push(Capture { field: field.to_owned(), segments, is_deep });
                after
            } else {
                let end = rest.find(['/', ':']).unwrap_or(rest.len());
                let (segment, after) = rest.split_at(end);
                template.segments.push(Segment::parse(segment).ok_or_else(|| wrong("has a segment that is none"))?);
                after
            };
            match rest.chars().next() {
                None => break,
                Some('/') => rest = &rest[1..],
                Some(':') if rest.len() > 1 && !rest[1..].contains(['/', ':', '{']) => {
                    template.verb = Some(rest[1..].to_owned());
                    break;
                }
                Some(_) => return Err(wrong("is none")),
            }
        }
        let last = template.segments.len() - 1;
        if template.segments[..last].contains(&Segment::Rest) {
            return Err(wrong("has a `**` that does not stand last"));
        }
        Ok(template)
    }
}

impl Segment {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::One),
            "**" => Some(Self::Rest),
            literal if !literal.is_empty() && !literal.contains(['*', '{', '}', '=', ':', '?', '#']) => {
                Some(Self::Literal(literal.to_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn a_template_is_segments_captures_and_a_verb() {
        let template = Template::parse("/v1/{name=users/*/notes/*}:publish").expect("a template");
        assert_eq!(template.segments, [literal("v1"), literal("users"), Segment::One, literal("notes"), Segment::One]);
        assert_eq!(template.verb.as_deref(), Some("publish"));
        assert_eq!(template.captures, [Capture { field: "name".to_owned(), segments: 1..5, is_deep: true }]);

        let template = Template::parse("/v1/profiles/{note.user_id}/notes/{note.note_id}").expect("a template");
        assert_eq!(template.captures.len(), 2);
        assert_eq!((template.captures[1].segments.clone(), template.captures[1].is_deep), (4..5, false));

        let template = Template::parse("/files/{path=**}").expect("a template");
        assert_eq!((template.segments[1].clone(), template.captures[0].is_deep), (Segment::Rest, true));
        assert_eq!(Template::parse("/v1/tokens:login").expect("a template").verb.as_deref(), Some("login"));
        assert_eq!(Template::parse("/.well-known/jwks.json").expect("a template").segments.len(), 2);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for wrong in [
            "",
            "v1/users",
            "/",
            "/v1/",
            "/v1//users",
            "/v1/{user_id",
            "/v1/{}",
            "/v1/{a..b}",
            "/v1/{name=}",
            "/v1/{a}b",
            "/**/users",
            "/v1/{name=**}/users",
            "/v1/us*rs",
            "/v1/users:",
            "/v1/users:a:b",
            "/v1/users:a/b",
            "/v1/{user-id}",
        ] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
