//! The names of constraints on PostgreSQL, which are needed to drop them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    compare::Change,
    constraint::{Constraint, Kind},
    schema::Schema,
    text::{SchemaText, Table},
};

/// The names of the constraints that are added and dropped.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<(String, Constraint), String>);

impl Names {
    /// Finds the names: those that PostgreSQL reports, if the schemas were compared there, otherwise PostgreSQL's default names.
    pub(super) fn new(
        changes: &[Change],
        before: &SchemaText,
        after: &SchemaText,
        reported: Option<(&Schema, &[Change])>,
    ) -> Self {
        let mut names = Self::default();
        for table in &after.tables {
            names.add_table(table, changes, before, reported);
        }
        names
    }

    fn add_table(&mut self, table: &Table, changes: &[Change], before: &SchemaText, reported: Option<(&Schema, &[Change])>) {
        let Some(old) = before.table(&table.name) else { return };
        let mut present = default_names(old);
        if let Some((schema, seen)) = reported
            && let Some(found) = schema.0.get(&table.name)
        {
            let is_check = |constraint: &&Constraint| matches!(constraint.kind, Kind::Check(_));
            // The engines write a CHECK in different ways, so dropped CHECKs are matched by their order. All of them are dropped.
            let mut checks = dropped(&table.name, seen).filter(is_check).filter_map(|check| found.constraints.get(check));
            for constraint in dropped(&table.name, changes) {
                let name = if is_check(&constraint) { checks.next() } else { found.constraints.get(constraint) };
                if let Some(name) = name {
                    present.retain(|kind, _| !kind.means(&constraint.kind));
                    present.insert(constraint.kind.clone(), name.clone());
                }
            }
        }
        let is_dropped = |kind: &Kind| dropped(&table.name, changes).any(|constraint| kind.means(&constraint.kind));
        let mut taken: BTreeSet<_> = present.iter().filter(|(kind, _)| !is_dropped(kind)).map(|(_, name)| name.clone()).collect();
        if let Some(found) = reported.and_then(|(schema, _)| schema.0.get(&table.name)) {
            let freed: BTreeSet<_> = present.iter().filter(|(kind, _)| is_dropped(kind)).map(|(_, name)| name).collect();
            taken.extend(found.constraints.values().filter(|name| !freed.contains(name)).cloned());
        }
        for constraint in dropped(&table.name, changes) {
            let name = present.iter().find(|(kind, _)| kind.means(&constraint.kind)).map(|(_, name)| name.clone());
            let name = name.unwrap_or_else(|| constraint.default_name(&old.name, &old.column_names()));
            self.0.insert((table.name.clone(), constraint.clone()), name);
        }
        for change in changes {
            let Change::AddConstraint(of, constraint) = change else { continue };
            if *of == table.name {
                let given = table.written(constraint).and_then(|written| written.name);
                let name = given.unwrap_or_else(|| free(&constraint.default_name(of, &table.column_names()), &taken));
                taken.insert(name.clone());
                self.0.insert((of.clone(), constraint.clone()), name);
            }
        }
    }

    /// Returns the name of a constraint that is added or dropped.
    pub(super) fn get(&self, table: &str, constraint: &Constraint) -> &str {
        self.0.get(&(table.to_owned(), constraint.clone())).map_or("", String::as_str)
    }
}

fn dropped<'a>(table: &'a str, changes: &'a [Change]) -> impl Iterator<Item = &'a Constraint> {
    changes.iter().filter_map(move |change| match change {
        Change::DropConstraint(of, constraint) if of == table => Some(constraint),
        _ => None,
    })
}

/// Returns the names that PostgreSQL gives the constraints of a new table.
fn default_names(table: &Table) -> BTreeMap<Kind, String> {
    let (mut names, mut taken) = (BTreeMap::new(), BTreeSet::new());
    let columns = table.column_names();
    for written in table.constraints() {
        let name = written.name.unwrap_or_else(|| free(&written.is.default_name(&table.name, &columns), &taken));
        taken.insert(name.clone());
        names.insert(written.is.kind, name);
    }
    names
}

/// Returns the first of `name`, `name1`, `name2`, … that is not taken.
fn free(name: &str, taken: &BTreeSet<String>) -> String {
    let numbered = (1..).map(|number| format!("{name}{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}
