//! The output of administration commands: a table, JSON, or only names.

use std::io::{self, Stdout, Write};

use clap::Args;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::table::{Column, Layout, escape, terminal_width};

/// The number of rows that determine the widths of the columns. Later rows are written at once, so that a long list needs little memory.
const SAMPLE: usize = 1000;

/// The flags for the output of a command.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Prints JSON with the fields of the HTTP API.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Prints only the names or ids, one a line, and no messages. Errors are still printed.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A resource in the output of a command.
#[derive(Debug)]
pub struct Row {
    /// The output of `--quiet`.
    pub name: String,
    /// The text of each column. Control characters are escaped when it is written.
    pub cells: Vec<String>,
    /// The output of `--json`.
    pub json: Value,
}

impl OutputArgs {
    /// Writes a message about the outcome to standard error, unless the output is quiet.
    pub fn message(self, text: &str) {
        if !self.quiet {
            eprintln!("{}", escape(text));
        }
    }

    /// Begins a list of resources.
    pub fn list(self, columns: &[Column]) -> Listing {
        let state = if self.json { State::Json { is_first: true } } else { State::Sampling(Vec::new()) };
        Listing { output: self, columns: columns.to_vec(), state, to: io::stdout() }
    }

    /// Writes one resource: each field on a line of its own.
    pub fn show(self, name: &str, fields: &[(&str, String)], json: &Value) -> io::Result<()> {
        let mut to = io::stdout().lock();
        if self.json {
            return writeln!(to, "{json:#}");
        }
        if self.quiet {
            return writeln!(to, "{}", escape(name));
        }
        let width = fields.iter().map(|(title, _)| title.width() + 1).max().unwrap_or_default();
        for (title, value) in fields {
            writeln!(to, "{:<width$}  {}", format!("{title}:"), escape(value))?;
        }
        Ok(())
    }

    /// Writes the outcome of a change: a message, or the changed resource in JSON.
    pub fn changed(self, message: &str, json: &Value) -> io::Result<()> {
        if self.json {
            return writeln!(io::stdout().lock(), "{json:#}");
        }
        self.message(message);
        Ok(())
    }
}

/// A list of resources that is being written to standard output.
#[derive(Debug)]
pub struct Listing {
    output: OutputArgs,
    columns: Vec<Column>,
    state: State,
    to: Stdout,
}

#[derive(Debug)]
enum State {
    Json {
        is_first: bool,
    },
    /// The first rows, before the widths of the columns are known.
    Sampling(Vec<Vec<String>>),
    Writing(Layout),
}

impl Listing {
    /// Adds a resource.
    pub fn push(&mut self, row: &Row) -> io::Result<()> {
        if self.output.quiet {
            return writeln!(self.to, "{}", escape(&row.name));
        }
        match &mut self.state {
            State::Json { is_first } => {
                let separator = if std::mem::take(is_first) { "[\n" } else { ",\n" };
                write!(self.to, "{separator}{}", row.json)
            }
            State::Sampling(rows) => {
                rows.push(row.cells.iter().map(|cell| escape(cell)).collect());
                if rows.len() < SAMPLE { Ok(()) } else { self.write_sample() }
            }
            State::Writing(layout) => {
                let cells: Vec<_> = row.cells.iter().map(|cell| escape(cell)).collect();
                layout.write_row(&mut self.to, &cells)
            }
        }
    }

    /// Writes the rest.
    pub fn finish(mut self) -> io::Result<()> {
        match self.state {
            _ if self.output.quiet => {}
            State::Json { is_first: true } => writeln!(self.to, "[]")?,
            State::Json { is_first: false } => writeln!(self.to, "\n]")?,
            State::Sampling(_) => self.write_sample()?,
            State::Writing(_) => {}
        }
        self.to.flush()
    }

    fn write_sample(&mut self) -> io::Result<()> {
        let State::Sampling(rows) = &mut self.state else { return Ok(()) };
        let rows = std::mem::take(rows);
        let layout = Layout::new(&self.columns, &rows, terminal_width());
        layout.write_titles(&mut self.to)?;
        rows.iter().try_for_each(|row| layout.write_row(&mut self.to, row))?;
        self.state = State::Writing(layout);
        Ok(())
    }
}
