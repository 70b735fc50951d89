//! The names of Django projects.

/// Returns the name if it can be the name of a Django project.
pub(crate) fn project_name(name: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    Err("a project name must have 1 to 64 letters, digits, `-`, `_` and `.`".to_owned())
}
