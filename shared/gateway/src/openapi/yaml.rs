//! Writes a JSON value as YAML 1.2.

use std::fmt::Write;

use serde_json::Value;

/// Returns the value as YAML. Objects and arrays with content are blocks; everything else is JSON, which is valid YAML.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (index, (key, value)) in members.iter().enumerate() {
                indent(if index == 0 && text.ends_with("- ") { 0 } else { depth }, text);
                if is_plain(key) {
                    text.push_str(key);
                } else {
                    let _ = write!(text, "{}", Value::from(key.as_str()));
                }
                text.push(':');
                nested(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(depth, text);
                text.push('-');
                match item {
                    Value::Object(members) if !members.is_empty() => {
                        text.push(' ');
                        write(item, depth + 1, text);
                    }
                    item => nested(item, depth + 1, text),
                }
            }
        }
        scalar => {
            let _ = writeln!(text, "{scalar}");
        }
    }
}

/// Writes the value after `key:` or `-`.
fn nested(value: &Value, depth: usize, text: &mut String) {
    let is_block =
        value.as_object().is_some_and(|members| !members.is_empty()) || value.as_array().is_some_and(|items| !items.is_empty());
    text.push(if is_block { '\n' } else { ' ' });
    write(value, depth, text);
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Returns true if a key needs no quotes, because YAML reads it as a string.
fn is_plain(key: &str) -> bool {
    let is_word = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    is_word && !["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&key.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_value_stays_on_its_line_and_an_ambiguous_key_is_quoted() {
        let value = json!({
            "a": { "200": "x: y", "no": [], "ref": {} },
            "b": [{ "one": 1, "two": [true, null] }, "line\nline", [[1]]],
        });
        let expected = r#"a:
  "200": "x: y"
  "no": []
  ref: {}
b:
  - one: 1
    two:
      - true
      - null
  - "line\nline"
  -
    -
      - 1
"#;
        assert_eq!(to_yaml(&value), expected);
    }
}
