//! Names of Django projects.

/// The name of a Django project.
///
/// # Errors
///
/// A sentence.
pub(crate) fn project_name(name: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain) {
        return Ok(name.to_owned());
    }
    Err("a name has letters, digits, `-`, `_` and `.`, 64 at most".to_owned())
}
