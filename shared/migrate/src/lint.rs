//! Finds statements of a migration that break the previous release while it still runs, or that block writes for long.
//!
//! During a rollout the previous release runs on the schema of the new one. So columns and tables are removed, and new requirements
//! added, in two releases. Only the statements for PostgreSQL are checked, because an SQLite file has one process.

use std::{collections::BTreeSet, fmt};

use crate::sql::{Engine, Statement, Token, select_section, split, statements};

/// A comment above a statement that begins with this, and gives a reason, turns the check off.
const SAFE: &str = "-- safe:";

/// A statement that is not safe to release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    migration: String,
    line: usize,
    problem: String,
    remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: {}: {}", self.migration, self.line, self.problem, self.remedy)
    }
}

const DROP: &str = "stop using it in one release, and drop it in the next one";
const RENAME: &str = "add the new one and write both in one release, and drop the old one in the next";
const TYPE: &str = "add a column of the new type and write both in one release, and drop the old one in the next";
const NO_VALUE: &str = "give it a DEFAULT, or add it without NOT NULL and require it in the next release";
const REQUIRE: &str = "always write it in one release and fill the existing rows, and require it in the next one";
const DEFAULT: &str = "always write it in one release, and drop the default in the next one";
const INDEX: &str = "create it CONCURRENTLY under `-- on postgres:`, in a file that begins with `-- no-transaction`";
const CONSTRAINT: &str = "add it NOT VALID, and VALIDATE it in a file that begins with `-- no-transaction`";
const UNIQUE: &str =
    "create a UNIQUE INDEX CONCURRENTLY, in a file that begins with `-- no-transaction`, and add the constraint USING INDEX";

/// Returns the findings in the text of an up file.
pub(super) fn findings(migration: &str, text: &str) -> Vec<Finding> {
    // `migrate` reports an invalid section.
    let Ok(text) = select_section(text, Engine::Postgres) else { return Vec::new() };
    let statements = statements(&text);
    // The previous release does not use a table that this file creates.
    let mut new_tables = BTreeSet::new();
    let mut findings = Vec::new();
    for statement in &statements {
        let is_safe =
            statement.comments.lines().any(|line| line.trim().strip_prefix(SAFE).is_some_and(|why| !why.trim().is_empty()));
        for (problem, remedy) in check(statement, &statements, &mut new_tables) {
            if !is_safe {
                findings.push(Finding { migration: migration.to_owned(), line: statement.line, problem, remedy });
            }
        }
    }
    findings
}

type Found = Vec<(String, &'static str)>;

/// Returns the problems of a statement, and remembers the tables that it creates.
fn check(statement: &Statement<'_>, all: &[Statement<'_>], new_tables: &mut BTreeSet<String>) -> Found {
    let optional = |word: &&Token<'_>| !["IF", "NOT", "EXISTS", "ONLY", "UNIQUE"].iter().any(|optional| word.is(optional));
    let head: Vec<_> = statement.tokens.iter().filter(optional).copied().collect();
    let (Some(verb), Some(object)) = (head.first(), head.get(1)) else { return Found::new() };
    if verb.is("CREATE") && object.is("TABLE") {
        new_tables.extend(head.get(2).map(|name| name.name().into_owned()));
    } else if verb.is("CREATE") && object.is("INDEX") {
        let Some(table) = head.iter().skip_while(|word| !word.is("ON")).nth(1).map(|name| name.name().into_owned()) else {
            return Found::new();
        };
        if !head[2..].iter().any(|word| word.is("CONCURRENTLY")) && !new_tables.contains(&table) {
            return vec![(format!("writes to {table} wait while the index is built"), INDEX)];
        }
    } else if verb.is("DROP") && object.is("TABLE") {
        let tables = split(&head[2..]).filter_map(|tokens| Some(tokens.first()?.name().into_owned()));
        let in_use = tables.filter(|table| !new_tables.contains(table));
        return in_use.map(|table| (format!("the previous release uses the table {table}"), DROP)).collect();
    } else if verb.is("ALTER")
        && object.is("TABLE")
        && let Some(table) = head.get(2)
        && !new_tables.contains(&*table.name())
    {
        let begin = statement.tokens.iter().position(|word| word == table).map_or(0, |place| place + 1);
        return split(&statement.tokens[begin..]).filter_map(|action| alter(&table.name(), action, all)).collect();
    }
    Found::new()
}

/// Returns the problem of one action of ALTER TABLE.
fn alter(table: &str, action: &[Token<'_>], all: &[Statement<'_>]) -> Option<(String, &'static str)> {
    let optional = |word: &&Token<'_>| !["COLUMN", "IF", "EXISTS"].iter().any(|optional| word.is(optional));
    let has = |sequence: &[&str]| {
        action.windows(sequence.len()).any(|tokens| tokens.iter().zip(sequence).all(|(word, keyword)| word.is(keyword)))
    };
    let tokens: Vec<_> = action.iter().filter(optional).copied().collect();
    let second = tokens.get(1)?;
    let column = || format!("{table}.{}", second.name());
    let is_constraint = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"].iter().any(|keyword| second.is(keyword));
    if tokens[0].is("RENAME") && second.is("TO") {
        Some((format!("the previous release uses the table {table}"), RENAME))
    } else if tokens[0].is("RENAME") && !is_constraint {
        Some((format!("the previous release uses the column {}", column()), RENAME))
    } else if tokens[0].is("DROP") && !is_constraint {
        Some((format!("the previous release uses the column {}", column()), DROP))
    } else if tokens[0].is("ADD") && is_constraint {
        add_constraint(table, &has)
    } else if tokens[0].is("ADD") {
        if has(&["NOT", "NULL"]) && !has(&["DEFAULT"]) && !has(&["GENERATED"]) {
            return Some((format!("the previous release writes no {}", column()), NO_VALUE));
        }
        add_constraint(table, &has)
    } else if tokens[0].is("ALTER") {
        // The column may have the name of a keyword.
        let does = |sequence: &[&str]| {
            tokens[2..].windows(sequence.len()).any(|tokens| tokens.iter().zip(sequence).all(|(word, keyword)| word.is(keyword)))
        };
        if does(&["TYPE"]) {
            Some((format!("the previous release reads and writes another type in {}", column()), TYPE))
        } else if does(&["SET", "NOT", "NULL"]) {
            Some((format!("the previous release may write NULL into {}", column()), REQUIRE))
        } else if does(&["DROP", "DEFAULT"]) && !sets_default(second, all) {
            Some((format!("the previous release may leave out {}", column()), DEFAULT))
        } else {
            None
        }
    } else {
        None
    }
}

fn add_constraint(table: &str, has: &dyn Fn(&[&str]) -> bool) -> Option<(String, &'static str)> {
    let problem = || format!("writes to {table} wait while every row is checked");
    if has(&["PRIMARY"]) || has(&["UNIQUE"]) {
        (!has(&["USING", "INDEX"])).then(|| (problem(), UNIQUE))
    } else {
        ((has(&["CHECK"]) || has(&["REFERENCES"])) && !has(&["NOT", "VALID"])).then(|| (problem(), CONSTRAINT))
    }
}

/// Returns true if the file sets a default of the column.
fn sets_default(column: &Token<'_>, all: &[Statement<'_>]) -> bool {
    all.iter().any(|statement| {
        let mut tokens = statement.tokens.windows(3);
        tokens.any(|tokens| tokens[0].name() == column.name() && tokens[1].is("SET") && tokens[2].is("DEFAULT"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        findings("0002_x", text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_unsafe_statement_is_found_with_its_remedy() {
        for (statement, what, way) in [
            ("DROP TABLE t", "the previous release uses the table t", DROP),
            ("DROP TABLE IF EXISTS \"t\" CASCADE", "the previous release uses the table t", DROP),
            ("ALTER TABLE t DROP COLUMN c", "the previous release uses the column t.c", DROP),
            ("alter table only t drop c", "the previous release uses the column t.c", DROP),
            ("ALTER TABLE t RENAME TO u", "the previous release uses the table t", RENAME),
            ("ALTER TABLE t RENAME COLUMN c TO d", "the previous release uses the column t.c", RENAME),
            ("ALTER TABLE t RENAME c TO d", "the previous release uses the column t.c", RENAME),
            ("ALTER TABLE t ADD COLUMN c TEXT NOT NULL", "the previous release writes no t.c", NO_VALUE),
            ("ALTER TABLE t ADD c TEXT, ADD d TEXT NOT NULL", "the previous release writes no t.d", NO_VALUE),
            ("ALTER TABLE t ALTER c TYPE BIGINT", "the previous release reads and writes another type in t.c", TYPE),
            ("ALTER TABLE t ALTER COLUMN c SET NOT NULL", "the previous release may write NULL into t.c", REQUIRE),
            ("ALTER TABLE t ALTER COLUMN c DROP DEFAULT", "the previous release may leave out t.c", DEFAULT),
            ("CREATE INDEX i ON t (c)", "writes to t wait while the index is built", INDEX),
            ("CREATE UNIQUE INDEX i ON t (c)", "writes to t wait while the index is built", INDEX),
            ("ALTER TABLE t ADD CHECK (c > 0)", "writes to t wait while every row is checked", CONSTRAINT),
            ("ALTER TABLE t ADD COLUMN c UUID REFERENCES u", "writes to t wait while every row is checked", CONSTRAINT),
            ("ALTER TABLE t ADD CONSTRAINT n UNIQUE (c)", "writes to t wait while every row is checked", UNIQUE),
        ] {
            assert_eq!(found(&format!("\n{statement};")), [format!("0002_x, line 2: {what}: {way}")], "{statement}");
            assert_eq!(found(&format!("-- on postgres:\n{statement}")).len(), 1, "{statement}");
            for safe in [format!("-- safe: why\n{statement}"), format!("-- on sqlite:\n{statement}")] {
                assert_eq!(found(&safe), [""; 0], "{safe}");
            }
            assert_eq!(found(&format!("-- safe:\n{statement};\n-- safe: another\nSELECT 1")).len(), 1, "{statement}");
        }
    }

    #[test]
    fn a_safe_statement_is_not_found() {
        for text in [
            "CREATE TABLE t (a TEXT NOT NULL); CREATE INDEX i ON t (a); ALTER TABLE t ADD b TEXT NOT NULL; DROP TABLE t",
            "ALTER TABLE t ADD COLUMN c TEXT; ALTER TABLE t ADD COLUMN d BIGINT NOT NULL DEFAULT 0",
            "CREATE INDEX CONCURRENTLY i ON t (c); DROP INDEX i",
            "ALTER TABLE t ADD CONSTRAINT n CHECK (c > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT n; ALTER TABLE t DROP CONSTRAINT n",
            "ALTER TABLE t ALTER COLUMN type SET DEFAULT 1",
            "ALTER TABLE t ADD CONSTRAINT n UNIQUE USING INDEX n; ALTER TABLE t RENAME CONSTRAINT n TO m",
            "ALTER TABLE t ALTER c DROP NOT NULL; ALTER TABLE t ALTER c DROP DEFAULT; ALTER TABLE t ALTER c SET DEFAULT 1",
            "INSERT INTO t VALUES ('DROP TABLE t'); -- DROP TABLE t",
            "ALTER",
            "",
            "DROP TABLE",
            "ALTER TABLE",
            "ALTER TABLE t",
            "ALTER TABLE t ADD",
            "CREATE INDEX",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
