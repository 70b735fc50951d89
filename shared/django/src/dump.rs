//! Reads a file that `dumpdata` wrote, in JSON or JSON lines, into memory.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Join, Row, SourceError, Table, row};

/// A dump: its objects by table.
pub struct Dump(HashMap<String, Vec<Object>>);

#[derive(Deserialize)]
struct Object {
    model: String,
    pk: Option<Value>,
    fields: Map<String, Value>,
}

impl Dump {
    pub(super) fn read(path: &Path) -> Result<Self, SourceError> {
        let text = fs::read_to_string(path).map_err(|source| SourceError::File { path: path.to_owned(), source })?;
        let objects = if text.trim_start().starts_with('[') {
            serde_json::from_str(&text)
        } else {
            text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect::<Result<Vec<Object>, _>>()
        };
        let failed = |error: serde_json::Error| SourceError::Dump {
            path: PathBuf::from(path),
            reason: format!("not the output of `dumpdata --format json`: {error}"),
        };
        let mut tables: HashMap<String, Vec<Object>> = HashMap::new();
        for object in objects.map_err(failed)? {
            tables.entry(table_of(&object.model)).or_default().push(object);
        }
        Ok(Self(tables))
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.0.contains_key(table)
    }

    pub(super) fn tables(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn count(&self, table: &str) -> u64 {
        self.0.get(table).map_or(0, |objects| objects.len() as u64)
    }

    pub(super) fn rows(&self, table: Table<'_>) -> Result<Vec<Row>, SourceError> {
        let objects = self.0.get(table.name).ok_or_else(|| SourceError::NoTable(table.name.to_owned()))?;
        let mut rows = Vec::with_capacity(objects.len());
        for object in objects {
            let key = object.pk.clone().ok_or_else(|| SourceError::NaturalKeys(table.name.to_owned()))?;
            let mut row = Map::from_iter([(table.key.to_owned(), key)]);
            for column in table.columns.iter().filter(|column| !column.is_empty()) {
                let value = field(&object.fields, column);
                let value = value.ok_or_else(|| SourceError::NoColumn(table.name.to_owned(), (*column).to_owned()))?;
                if value.is_array() && column.ends_with("_id") {
                    return Err(SourceError::NaturalKeys(table.name.to_owned()));
                }
                row.insert((*column).to_owned(), value.clone());
            }
            rows.push(Row(row));
        }
        // The rows have the same order as in a database, which sorts numbers by value and texts by character.
        rows.sort_by_cached_key(|row| (row.0.get(table.key).and_then(Value::as_i64), row.key(table.key).ok().flatten()));
        Ok(rows)
    }

    /// Returns the pairs of a many-to-many field, which a dump writes into the objects that own the field.
    pub(super) fn inlined(&self, join: Join<'_>) -> Result<Vec<(String, String)>, SourceError> {
        let Some(owners) = self.0.get(join.owner) else { return Ok(Vec::new()) };
        let name = join.name.strip_prefix(join.owner).and_then(|rest| rest.strip_prefix('_'));
        let name = name.ok_or_else(|| SourceError::NoTable(join.name.to_owned()))?;
        let mut pairs = Vec::new();
        for owner in owners {
            let Some(others) = owner.fields.get(name).and_then(Value::as_array) else { continue };
            let natural = || SourceError::NaturalKeys(join.owner.to_owned());
            let from = owner.pk.as_ref().and_then(row::key).ok_or_else(natural)?;
            for to in others {
                pairs.push((from.clone(), row::key(to).ok_or_else(natural)?));
            }
        }
        Ok(pairs)
    }
}

/// Returns the table of a model. Of Django's own models that an import reads, only the content type has a table whose name does
/// not follow from the label of the model.
fn table_of(model: &str) -> String {
    if model == "contenttypes.contenttype" { "django_content_type".to_owned() } else { model.replace('.', "_") }
}

/// Returns the value of a column. The field of a foreign key has the name of its column without `_id`.
fn field<'a>(fields: &'a Map<String, Value>, column: &str) -> Option<&'a Value> {
    fields.get(column).or_else(|| fields.get(column.strip_suffix("_id")?))
}
