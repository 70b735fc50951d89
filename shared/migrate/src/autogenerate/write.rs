//! The SQL of a migration, up and down.
//!
//! PostgreSQL alters a table. SQLite rebuilds the table if it cannot alter it, which keeps the rows and the references to the table.
//! Indexes and constraints are added on PostgreSQL without blocking reads and writes, outside a transaction, in repeatable statements.

use super::{
    compare::{Change, is_foreign},
    constraint::{Constraint, Kind},
    names::Names,
    rename::Rename,
    text::{Column, SchemaText, Table, quoted},
};

/// Statements, without their semicolons.
pub(super) type Statements = Vec<String>;

/// The statements of a migration.
#[derive(Debug)]
pub(super) struct Script {
    /// The renames, which run first, on both engines.
    pub(super) renames: UpDown,
    pub(super) sqlite: UpDown,
    pub(super) postgres: UpDown,
    /// Statements for PostgreSQL that run outside a transaction.
    pub(super) online: UpDown,
    /// The reason why the migration is irreversible, if it is.
    pub(super) irreversible: Option<String>,
}

/// Statements that apply and that revert.
#[derive(Debug)]
pub(super) struct UpDown {
    pub(super) up: Statements,
    pub(super) down: Statements,
}

/// Returns the statements for the changes from one schema to the other.
pub(super) fn script(changes: &[Change], renames: &[Rename], before: &SchemaText, after: &SchemaText, names: &Names) -> Script {
    let renames = UpDown {
        up: renames.iter().map(Rename::statement).collect(),
        down: renames.iter().rev().map(|rename| rename.inverse().statement()).collect(),
    };
    let is_online = |change: &&Change| {
        matches!(change, Change::AddIndex(..) | Change::AddConstraint(..))
            || matches!(change, Change::Require(table, column) if before.column(table, column).is_some())
    };
    let (online, transactional): (Vec<_>, Vec<_>) = changes.iter().partition(is_online);
    let (online, transactional): (Vec<_>, Vec<_>) =
        (online.into_iter().cloned().collect(), transactional.into_iter().cloned().collect());
    Script {
        renames,
        sqlite: UpDown { up: on_sqlite(changes, before, after), down: on_sqlite(&inverse(changes), after, before) },
        postgres: UpDown {
            up: on_postgres(&transactional, before, after, names),
            down: on_postgres(&inverse(&transactional), after, before, names),
        },
        online: UpDown {
            up: online_on_postgres(&online, after, names),
            down: on_postgres(&inverse(&online), after, before, names),
        },
        irreversible: irreversible(changes, before),
    }
}

fn inverse(changes: &[Change]) -> Vec<Change> {
    changes.iter().cloned().map(Change::inverse).collect()
}

fn irreversible(changes: &[Change], before: &SchemaText) -> Option<String> {
    let lost = changes.iter().filter_map(|change| match change {
        Change::DropColumn(table, column) if !before.column(table, column)?.can_be_added() => Some(format!("{table}.{column}")),
        _ => None,
    });
    let lost: Vec<_> = lost.collect();
    (!lost.is_empty()).then(|| format!("{} is NOT NULL without a default, and its values are lost", lost.join(", ")))
}

impl Column {
    /// Returns true if existing rows need no value for the column.
    pub(super) fn can_be_added(&self) -> bool {
        !self.is_required || self.default.is_some() || self.is_generated
    }

    fn is_constant(&self) -> bool {
        self.default.as_ref().is_none_or(|default| !default.contains('(') && !default.to_uppercase().starts_with("CURRENT"))
    }

    fn add(&self, table: &str) -> String {
        let statement = format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), self.plain);
        if self.comments.is_empty() { statement } else { format!("{}\n{statement}", self.comments) }
    }
}

fn create(table: &Table, texts: &SchemaText, statements: &mut Statements) {
    statements.push(table.text.clone());
    statements.extend(texts.indexes_of(&table.name).map(str::to_owned));
}

fn created<'a>(changes: &[Change], texts: &'a SchemaText) -> Vec<&'a Table> {
    texts.tables.iter().filter(|table| changes.contains(&Change::CreateTable(table.name.clone()))).collect()
}

/// Drops tables, those with a foreign key before the tables that they refer to.
fn drop_tables(changes: &[Change], before: &SchemaText, statements: &mut Statements) {
    let dropped = before.tables.iter().rev().filter(|table| changes.contains(&Change::DropTable(table.name.clone())));
    statements.extend(dropped.map(|table| format!("DROP TABLE {}", quoted(&table.name))));
}

fn on_sqlite(changes: &[Change], before: &SchemaText, after: &SchemaText) -> Statements {
    let mut statements = Statements::new();
    let of = |table: &str| changes.iter().filter(|change| change.table() == table).collect::<Vec<_>>();
    let is_altered = |table: &&Table| {
        before.table(&table.name).is_some()
            && of(&table.name).iter().any(|change| !matches!(change, Change::AddIndex(..) | Change::DropIndex(..)))
    };
    let altered: Vec<_> = after.tables.iter().filter(is_altered).collect();
    let is_rebuilt = |table: &str| altered.iter().any(|altered| altered.name == table && !is_simple(&of(table), before, after));
    for change in changes {
        if let Change::DropIndex(table, index) = change
            && !is_rebuilt(table)
        {
            statements.push(format!("DROP INDEX {}", quoted(index)));
        }
    }
    for table in created(changes, after) {
        create(table, after, &mut statements);
    }
    for table in &altered {
        if is_rebuilt(&table.name) {
            rebuild_table(table, before, after, &mut statements);
        } else {
            alter_columns(&of(&table.name), after, &mut statements);
        }
    }
    for change in changes {
        if let Change::AddIndex(table, index) = change
            && !is_rebuilt(table)
        {
            statements.extend(after.indexes.get(index).map(|index| index.text.clone()));
        }
    }
    drop_tables(changes, before, &mut statements);
    statements
}

/// Returns true if SQLite can alter the table: it adds columns without constraints, and drops columns without constraints.
fn is_simple(changes: &[&Change], before: &SchemaText, after: &SchemaText) -> bool {
    changes.iter().all(|change| match change {
        Change::AddColumn(table, column) => {
            after.column(table, column).is_some_and(|column| column.is_constant() && !column.is_generated)
        }
        Change::DropColumn(table, column) => before.table(table).is_some_and(|table| {
            let is_bound = |constraint: &Constraint| constraint.mentions().contains(column);
            !table.constraints().iter().any(|written| is_bound(&written.is))
                && !table.columns.iter().any(|other| other.is_generated)
        }),
        Change::AddIndex(..) | Change::DropIndex(..) => true,
        _ => false,
    })
}

fn alter_columns(changes: &[&Change], after: &SchemaText, statements: &mut Statements) {
    for change in changes {
        match change {
            Change::AddColumn(table, column) => statements.extend(after.column(table, column).map(|column| column.add(table))),
            Change::DropColumn(table, column) => {
                statements.push(format!("ALTER TABLE {} DROP COLUMN {}", quoted(table), quoted(column)));
            }
            _ => {}
        }
    }
}

/// Rebuilds a table: copies its rows into a new one and renames that. Foreign keys refer to the name, and so to the new table.
fn rebuild_table(table: &Table, before: &SchemaText, after: &SchemaText, statements: &mut Statements) {
    let (name, new) = (quoted(&table.name), quoted(&format!("new_{}", table.name)));
    let is_kept = |column: &&Column| {
        !column.is_generated && before.column(&table.name, &column.name).is_some_and(|before| !before.is_generated)
    };
    let kept: Vec<_> = table.columns.iter().filter(is_kept).map(|column| quoted(&column.name)).collect();
    statements.push(table.renamed(&new));
    if !kept.is_empty() {
        let columns = kept.join(", ");
        statements.push(format!("INSERT INTO {new} ({columns}) SELECT {columns} FROM {name}"));
    }
    statements.push(format!("DROP TABLE {name}"));
    statements.push(format!("ALTER TABLE {new} RENAME TO {name}"));
    statements.extend(after.indexes_of(&table.name).map(str::to_owned));
}

fn on_postgres(changes: &[Change], before: &SchemaText, after: &SchemaText, names: &Names) -> Statements {
    let mut statements = Statements::new();
    let each = |statement: &dyn Fn(&Change) -> Option<String>| changes.iter().filter_map(statement).collect::<Statements>();
    let drop_constraint = |change: &Change, foreign: bool| match change {
        Change::DropConstraint(table, constraint) if is_foreign(constraint) == foreign => {
            Some(format!("ALTER TABLE {} DROP CONSTRAINT {}", quoted(table), quoted(names.get(table, constraint))))
        }
        _ => None,
    };
    let add_constraint = |change: &Change, foreign: bool| match change {
        Change::AddConstraint(table, constraint) if is_foreign(constraint) == foreign => {
            let text = after.table(table)?.written(constraint)?.text;
            Some(format!("ALTER TABLE {} ADD CONSTRAINT {} {text}", quoted(table), quoted(names.get(table, constraint))))
        }
        _ => None,
    };
    statements.extend(each(&|change| match change {
        Change::DropIndex(_, index) => Some(format!("DROP INDEX {}", quoted(index))),
        _ => None,
    }));
    for foreign in [true, false] {
        statements.extend(each(&|change| drop_constraint(change, foreign)));
    }
    for table in created(changes, after) {
        create(table, after, &mut statements);
    }
    for table in &after.tables {
        let own: Vec<_> = changes.iter().filter(|change| change.table() == table.name).collect();
        change_columns(&own, before, after, &mut statements);
        alter_columns(&own, after, &mut statements);
    }
    for foreign in [false, true] {
        statements.extend(each(&|change| add_constraint(change, foreign)));
    }
    statements.extend(each(&|change| match change {
        Change::AddIndex(_, index) => Some(after.indexes.get(index)?.text.clone()),
        _ => None,
    }));
    drop_tables(changes, before, &mut statements);
    statements
}

fn change_columns(changes: &[&Change], before: &SchemaText, after: &SchemaText, statements: &mut Statements) {
    for change in changes {
        let (Change::Retype(table, name)
        | Change::Default(table, name)
        | Change::Require(table, name)
        | Change::Allow(table, name)) = change
        else {
            continue;
        };
        let (Some(old), Some(new)) = (before.column(table, name), after.column(table, name)) else { continue };
        let column = quoted(name);
        let alter_column = |action: String| format!("ALTER TABLE {} ALTER COLUMN {column} {action}", quoted(table));
        let set_default = || match &new.default {
            Some(default) => alter_column(format!("SET DEFAULT {default}")),
            None => alter_column("DROP DEFAULT".to_owned()),
        };
        match change {
            Change::Retype(..) => {
                // The default of the old type may not be valid for the new one.
                statements.extend(old.default.as_ref().map(|_| alter_column("DROP DEFAULT".to_owned())));
                let type_name = &new.type_name;
                statements.push(alter_column(format!("TYPE {type_name} USING CAST({column} AS {type_name})")));
                statements.extend(new.default.as_ref().map(|_| set_default()));
            }
            Change::Default(..) if changes.contains(&&Change::Retype(table.clone(), name.clone())) => {}
            Change::Default(..) => statements.push(set_default()),
            Change::Require(..) => statements.push(alter_column("SET NOT NULL".to_owned())),
            _ => statements.push(alter_column("DROP NOT NULL".to_owned())),
        }
    }
}

/// Returns repeatable statements. Each change first removes what an interrupted run may have left.
fn online_on_postgres(changes: &[Change], after: &SchemaText, names: &Names) -> Statements {
    let mut changes: Vec<_> = changes.iter().collect();
    // A foreign key may need a new UNIQUE, and a primary key a new NOT NULL.
    changes.sort_by_key(|change| match change {
        Change::Require(..) => 0,
        Change::AddConstraint(_, constraint) if is_foreign(constraint) => 2,
        _ => 1,
    });
    let mut statements = Statements::new();
    for change in changes {
        let table = quoted(change.table());
        match change {
            Change::Require(_, column) => {
                let (name, column) = (quoted(&format!("{}_{column}_is_set", change.table())), quoted(column));
                statements.extend([
                    format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"),
                    format!("ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({column} IS NOT NULL) NOT VALID"),
                    format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"),
                    format!("ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL"),
                    format!("ALTER TABLE {table} DROP CONSTRAINT {name}"),
                ]);
            }
            Change::AddConstraint(_, constraint) => {
                let name = quoted(names.get(change.table(), constraint));
                let Some(written) = after.table(change.table()).and_then(|table| table.written(constraint)) else { continue };
                statements.push(format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"));
                if let Kind::PrimaryKey(columns) | Kind::Unique(columns) = &constraint.kind {
                    let columns: Vec<_> = columns.iter().map(|column| quoted(column)).collect();
                    let kind = if let Kind::Unique(_) = constraint.kind { "UNIQUE" } else { "PRIMARY KEY" };
                    statements.extend([
                        format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"),
                        format!("CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({})", columns.join(", ")),
                        format!("ALTER TABLE {table} ADD CONSTRAINT {name} {kind} USING INDEX {name}"),
                    ]);
                } else {
                    statements.extend([
                        format!("ALTER TABLE {table} ADD CONSTRAINT {name} {} NOT VALID", written.text),
                        format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"),
                    ]);
                }
            }
            Change::AddIndex(_, name) => {
                statements.push(format!("DROP INDEX CONCURRENTLY IF EXISTS {}", quoted(name)));
                statements.extend(after.indexes.get(name).map(super::text::Index::concurrently));
            }
            _ => {}
        }
    }
    statements
}
