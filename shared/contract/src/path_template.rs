//! Path templates of `google.api.http`, such as `/v1/{name=users/*/notes/*}:publish`.

use std::ops::Range;

/// A parsed path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    /// The segments of the path.
    pub segments: Vec<Segment>,
    /// The custom verb behind the last colon.
    pub verb: Option<String>,
    /// The variables.
    pub captures: Vec<Capture>,
}

/// One segment of a path template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text.
    Literal(String),
    /// `*`: any one segment.
    One,
    /// `**`: any number of segments. It can only be the last segment.
    Rest,
}

/// A variable of a path template: a request field and the segments that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The path of the field, such as `note.user_id`.
    pub field: String,
    /// The indexes of the segments that the variable matches.
    pub segments: Range<usize>,
    /// True if the value may contain slashes. `%2F` in the path then stays encoded, so that it differs from a separator.
    pub is_deep: bool,
}

impl PathTemplate {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// Returns a sentence that quotes the template and says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
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

    /// Returns the path with bare variables, as `OpenAPI` writes it. `variable` returns the name of a captured field's parameter.
    pub fn with_variables(&self, variable: impl Fn(&str) -> String) -> String {
        let mut path = String::new();
        let mut index = 0;
        while index < self.segments.len() {
            path.push('/');
            if let Some(capture) = self.captures.iter().find(|capture| capture.segments.start == index) {
                path.extend(["{", &variable(&capture.field), "}"]);
                index = capture.segments.end;
            } else {
                path.push_str(match &self.segments[index] {
                    Segment::Literal(text) => text,
                    Segment::One => "*",
                    Segment::Rest => "**",
                });
                index += 1;
            }
        }
        if let Some(verb) = &self.verb {
            path.extend([":", verb]);
        }
        path
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
        let template = PathTemplate::parse("/v1/{name=users/*/notes/*}:publish").expect("a template");
        assert_eq!(template.segments, [literal("v1"), literal("users"), Segment::One, literal("notes"), Segment::One]);
        assert_eq!(template.verb.as_deref(), Some("publish"));
        assert_eq!(template.captures, [Capture { field: "name".to_owned(), segments: 1..5, is_deep: true }]);

        let template = PathTemplate::parse("/v1/profiles/{note.user_id}/notes/{note.note_id}").expect("a template");
        assert_eq!(template.captures.len(), 2);
        assert_eq!((template.captures[1].segments.clone(), template.captures[1].is_deep), (4..5, false));

        let template = PathTemplate::parse("/files/{path=**}").expect("a template");
        assert_eq!((template.segments[1].clone(), template.captures[0].is_deep), (Segment::Rest, true));
        assert_eq!(PathTemplate::parse("/v1/tokens:login").expect("a template").verb.as_deref(), Some("login"));
        assert_eq!(PathTemplate::parse("/.well-known/jwks.json").expect("a template").segments.len(), 2);
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
            assert!(PathTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_pattern_of_a_variable_is_left_out_of_the_path_with_variables() {
        for (template, path) in [
            ("/v1/me", "/v1/me"),
            ("/v1/notes/{note.note_id}", "/v1/notes/{note_note_id}"),
            ("/v1/{name=users/*/notes/*}:copy", "/v1/{name}:copy"),
            ("/v1/{a}/{b=**}", "/v1/{a}/{b}"),
        ] {
            let template = PathTemplate::parse(template).expect("a template");
            assert_eq!(template.with_variables(|field| field.replace('.', "_")), path);
        }
    }
}
