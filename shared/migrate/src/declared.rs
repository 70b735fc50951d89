//! The tables that `schema.sql` declares.

use crate::sql::{parenthesized, split, statements};

/// The keywords with which a table constraint begins. Every other element is a column.
const CONSTRAINTS: [&str; 5] = ["CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK"];

/// A table and its columns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeclaredTable {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
}

/// Returns the tables of a schema in the order of their declaration.
pub(crate) fn declared_tables(schema: &str) -> Vec<DeclaredTable> {
    let mut tables = Vec::new();
    for statement in statements(schema) {
        let [create, table, name, rest @ ..] = statement.tokens.as_slice() else { continue };
        let Some((inside, _)) = parenthesized(rest).filter(|_| create.is("CREATE") && table.is("TABLE")) else { continue };
        let elements = split(inside).filter_map(|element| element.first());
        let columns = elements.filter(|first| !CONSTRAINTS.iter().any(|constraint| first.is(constraint)));
        let columns = columns.map(|column| column.name().into_owned()).collect();
        tables.push(DeclaredTable { name: name.name().into_owned(), columns });
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_declares_tables_with_columns() {
        let schema = "CREATE TABLE a (id UUID PRIMARY KEY, n BIGINT CHECK (n IN (1, 2)), UNIQUE (id, n));
            CREATE INDEX i ON a (n); -- CREATE TABLE c (x)
            CREATE TABLE \"B\" (a_id UUID REFERENCES a (id))";
        let table = |name: &str, columns: &[&str]| DeclaredTable {
            name: name.to_owned(),
            columns: columns.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(declared_tables(schema), [table("a", &["id", "n"]), table("B", &["a_id"])]);
    }
}
