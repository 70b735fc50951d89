//! A row of a Django table, and the types of its values.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A row: its values by column. The column with the empty name has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(pub(super) Map<String, Value>);

/// The error for a value of the wrong type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}` is not {expected}")]
pub struct RowError {
    column: String,
    expected: &'static str,
}

impl Row {
    fn value(&self, column: &str) -> Option<&Value> {
        self.0.get(column).filter(|value| !value.is_null())
    }

    fn read<T>(&self, column: &str, expected: &'static str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, RowError> {
        let read = |value| read(value).ok_or_else(|| RowError { column: column.to_owned(), expected });
        self.value(column).map(read).transpose()
    }

    /// Returns a key, which is a number or a text. A UUID is returned in its hyphenated form.
    pub fn key(&self, column: &str) -> Result<Option<String>, RowError> {
        self.read(column, "a key", key)
    }

    /// Returns a text without NUL characters. NULL is the empty text.
    pub fn text(&self, column: &str) -> Result<String, RowError> {
        let text = |value: &Value| value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned);
        Ok(self.read(column, "a text", text)?.unwrap_or_default())
    }

    /// Returns a Boolean, or `default` for NULL.
    pub fn flag(&self, column: &str, default: bool) -> Result<bool, RowError> {
        let flag = |value: &Value| match value {
            Value::Bool(flag) => Some(*flag),
            // SQLite stores Booleans as numbers.
            value => value.as_i64().filter(|number| (0..=1).contains(number)).map(|number| number == 1),
        };
        Ok(self.read(column, "true or false", flag)?.unwrap_or(default))
    }

    /// Returns a time from 1970 to 9999. Without an offset it is in UTC.
    pub fn time(&self, column: &str) -> Result<Option<DateTime<Utc>>, RowError> {
        self.read(column, "a time", |value| time(value.as_str()?))
    }

    /// Returns a date.
    pub fn date(&self, column: &str) -> Result<Option<NaiveDate>, RowError> {
        self.read(column, "a date", |value| value.as_str()?.get(..10)?.parse().ok())
    }
}

/// Returns the one form of a key.
pub(crate) fn key(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(text) if text.is_empty() || text.contains('\0') => None,
        // Django stores UUIDs on SQLite without hyphens.
        Value::String(text) => {
            let uuid = Uuid::try_parse(text).ok().filter(|_| matches!(text.len(), 32 | 36));
            Some(uuid.map_or_else(|| text.clone(), |uuid| uuid.to_string()))
        }
        _ => None,
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    let with_zone = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let naive = || NaiveDateTime::parse_from_str(&text.replace('T', " "), "%Y-%m-%d %H:%M:%S%.f").map(|time| time.and_utc());
    let time = with_zone.or_else(|_| naive()).ok()?.trunc_subsecs(6);
    // Both engines can store this range.
    (0..=253_402_300_799).contains(&time.timestamp()).then_some(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_read_as_each_source_writes_it() {
        let expected = "2026-11-24T11:00:00.123Z".parse::<DateTime<Utc>>().expect("a time");
        for text in [
            "2026-11-24T11:00:00.123Z",
            "2026-11-24 11:00:00.123",
            "2026-11-24T11:00:00.123",
            "2026-11-24T12:00:00.123+01:00",
            "2026-11-24T11:00:00.1230004+00:00",
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        for bad in ["", "2026-11-24", "2026-13-24 11:00:00", "infinity", "-0044-03-15T12:00:00Z", "12026-11-24T11:00:00Z"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_has_one_form() {
        let uuid = "3f2b8c1e-0c63-4d57-9d3e-5c4f6a7b8c9d";
        for same in [json!(uuid), json!(uuid.replace('-', "")), json!(uuid.to_uppercase())] {
            assert_eq!(key(&same).as_deref(), Some(uuid));
        }
        assert_eq!(key(&json!(7)).as_deref(), Some("7"));
        assert_eq!(key(&json!("7")).as_deref(), Some("7"));
        for bad in [json!(null), json!(""), json!("a\0"), json!([1]), json!(1.5), json!(true)] {
            assert_eq!(key(&bad), None, "{bad}");
        }
    }
}
