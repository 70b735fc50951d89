//! What constraints are called on PostgreSQL, which drops them by their names.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    compare::Change,
    constraint::{Constraint, Kind},
    schema::Schema,
    text::{SchemaText, Table},
};

/// The names of the constraints that come and go.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<(String, Constraint), String>);

impl Names {
    /// What PostgreSQL says where it was asked, and otherwise what it usually calls them.
    pub(super) fn new(changes: &[Change], before: &SchemaText, after: &SchemaText, asked: Option<(&Schema, &[Change])>) -> Self {
        let mut names = Self::default();
        for table in &after.tables {
            names.of_table(table, changes, before, asked);
        }
        names
    }

    fn of_table(&mut self, table: &Table, changes: &[Change], before: &SchemaText, asked: Option<(&Schema, &[Change])>) {
        let Some(old) = before.table(&table.name) else { return };
        let mut present = default_names(old);
        if let Some((schema, seen)) = asked
            && let Some(found) = schema.0.get(&table.name)
        {
            let is_check = |constraint: &&Constraint| matches!(constraint.kind, Kind::Check(_));
            // The engines write a CHECK in different ways. Those that go are put in the order of one another: all of them go.
            let mut checks = gone(&table.name, seen).filter(is_check).filter_map(|check| found.constraints.get(check));
            for constraint in gone(&table.name, changes) {
                let name = if is_check(&constraint) { checks.next() } else { found.constraints.get(constraint) };
                if let Some(name) = name {
                    present.retain(|kind, _| !kind.means(&constraint.kind));
                    present.insert(constraint.kind.clone(), name.clone());
                }
            }
        }
        let is_gone = |kind: &Kind| gone(&table.name, changes).any(|constraint| kind.means(&constraint.kind));
        let mut taken: BTreeSet<_> = present.iter().filter(|(kind, _)| !is_gone(kind)).map(|(_, name)| name.clone()).collect();
        if let Some(found) = asked.and_then(|(schema, _)| schema.0.get(&table.name)) {
            let going: BTreeSet<_> = present.iter().filter(|(kind, _)| is_gone(kind)).map(|(_, name)| name).collect();
            taken.extend(found.constraints.values().filter(|name| !going.contains(name)).cloned());
        }
        for constraint in gone(&table.name, changes) {
            let name = present.iter().find(|(kind, _)| kind.means(&constraint.kind)).map(|(_, name)| name.clone());
            let name = name.unwrap_or_else(|| constraint.usual_name(&old.name, &old.column_names()));
            self.0.insert((table.name.clone(), constraint.clone()), name);
        }
        for change in changes {
            let Change::AddConstraint(of, constraint) = change else { continue };
            if *of == table.name {
                let given = table.written(constraint).and_then(|written| written.name);
                let name = given.unwrap_or_else(|| free(&constraint.usual_name(of, &table.column_names()), &taken));
                taken.insert(name.clone());
                self.0.insert((of.clone(), constraint.clone()), name);
            }
        }
    }

    /// That of a constraint that comes or goes.
    pub(super) fn of(&self, table: &str, constraint: &Constraint) -> &str {
        self.0.get(&(table.to_owned(), constraint.clone())).map_or("", String::as_str)
    }
}

fn gone<'a>(table: &'a str, changes: &'a [Change]) -> impl Iterator<Item = &'a Constraint> {
    changes.iter().filter_map(move |change| match change {
        Change::DropConstraint(of, constraint) if of == table => Some(constraint),
        _ => None,
    })
}

/// What PostgreSQL calls the constraints of a table that it makes from its text.
fn default_names(table: &Table) -> BTreeMap<Kind, String> {
    let (mut names, mut taken) = (BTreeMap::new(), BTreeSet::new());
    let columns = table.column_names();
    for written in table.constraints() {
        let name = written.name.unwrap_or_else(|| free(&written.is.usual_name(&table.name, &columns), &taken));
        taken.insert(name.clone());
        names.insert(written.is.kind, name);
    }
    names
}

fn free(name: &str, taken: &BTreeSet<String>) -> String {
    let numbered = (1..).map(|number| format!("{name}{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}
