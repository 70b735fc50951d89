//! Comments in the protos.

use prost_reflect::FileDescriptor;

/// Returns the comment of the declaration at `path` in `file`: the comment before the declaration, or else the comment after it.
/// Each line is trimmed. The result is empty if there is no comment.
pub fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let source = file.file_descriptor_proto().source_code_info.as_ref();
    let location = source.and_then(|info| info.location.iter().find(|location| location.path == path));
    let comment = location.and_then(|location| location.leading_comments.as_ref().or(location.trailing_comments.as_ref()));
    let lines: Vec<_> = comment.map(|comment| comment.lines().map(str::trim).collect()).unwrap_or_default();
    lines.join("\n").trim().to_owned()
}
