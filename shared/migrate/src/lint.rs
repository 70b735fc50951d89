//! What of a migration the previous release can't run beside, or what keeps everybody waiting while it is done.
//!
//! While a new version is rolled out the old one still runs, on the schema of the new one. So what is taken away, or asked for, is
//! released in two steps. Only PostgreSQL is looked at: a file of SQLite has one process.

use std::{collections::BTreeSet, fmt};

use crate::sql::{Engine, Statement, Token, select_section, split, statements};

/// What a comment above a statement begins with that says why it is safe all the same.
const SAFE: &str = "-- safe:";

/// A statement that should not be released like this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    migration: String,
    line: usize,
    what: String,
    way: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: {}: {}", self.migration, self.line, self.what, self.way)
    }
}

const DROP: &str = "stop using it in one release, and drop it in the next";
const RENAME: &str = "add the new one and write both in one release, and drop the old one in the next";
const TYPE: &str = "add a column of the new type and write both in one release, and drop the old one in the next";
const NO_VALUE: &str = "give it a DEFAULT, or add it without NOT NULL and require it in the next release";
const REQUIRE: &str = "write it always in one release and fill the rows that have none, and require it in the next";
const DEFAULT: &str = "write it always in one release, and drop the default in the next";
const INDEX: &str = "make it CONCURRENTLY `-- on postgres:`, in a file that begins with `-- no-transaction`";
const CONSTRAINT: &str = "add it NOT VALID, and VALIDATE it in a file that begins with `-- no-transaction`";
const UNIQUE: &str =
    "make a UNIQUE INDEX CONCURRENTLY, in a file that begins with `-- no-transaction`, and add the constraint USING it";

/// The statements of the text that goes forwards, except those above which `-- safe: ` and a reason stand.
pub(super) fn findings(migration: &str, text: &str) -> Vec<Finding> {
    // A section that is none is said by whoever runs it.
    let Ok(text) = select_section(text, Engine::Postgres) else { return Vec::new() };
    let statements = statements(&text);
    // What nobody uses yet, nobody misses.
    let mut new_tables = BTreeSet::new();
    let mut findings = Vec::new();
    for statement in &statements {
        let is_safe =
            statement.comments.lines().any(|line| line.trim().strip_prefix(SAFE).is_some_and(|why| !why.trim().is_empty()));
        for (what, way) in look(statement, &statements, &mut new_tables) {
            if !is_safe {
                findings.push(Finding { migration: migration.to_owned(), line: statement.line, what, way });
            }
        }
    }
    findings
}

type Found = Vec<(String, &'static str)>;

fn look(statement: &Statement<'_>, all: &[Statement<'_>], new_tables: &mut BTreeSet<String>) -> Found {
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
            return vec![(format!("nobody writes to {table} while the index is made"), INDEX)];
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

/// One action of ALTER TABLE.
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
        // The column may be called as one of the keywords is.
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
    let waits = || format!("nobody writes to {table} while every row is looked at");
    if has(&["PRIMARY"]) || has(&["UNIQUE"]) {
        (!has(&["USING", "INDEX"])).then(|| (waits(), UNIQUE))
    } else {
        ((has(&["CHECK"]) || has(&["REFERENCES"])) && !has(&["NOT", "VALID"])).then(|| (waits(), CONSTRAINT))
    }
}

/// True where the file gives the column a default.
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
    fn what_the_previous_release_can_t_run_beside_is_found_with_the_way_around_it() {
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
            ("CREATE INDEX i ON t (c)", "nobody writes to t while the index is made", INDEX),
            ("CREATE UNIQUE INDEX i ON t (c)", "nobody writes to t while the index is made", INDEX),
            ("ALTER TABLE t ADD CHECK (c > 0)", "nobody writes to t while every row is looked at", CONSTRAINT),
            ("ALTER TABLE t ADD COLUMN c UUID REFERENCES u", "nobody writes to t while every row is looked at", CONSTRAINT),
            ("ALTER TABLE t ADD CONSTRAINT n UNIQUE (c)", "nobody writes to t while every row is looked at", UNIQUE),
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
    fn what_disturbs_nobody_is_not_found() {
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
