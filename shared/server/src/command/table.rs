//! Aligned tables for terminals.

use std::io::{self, IsTerminal, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The number of spaces between two columns.
const GAP: usize = 2;
/// The width to which a column shrinks at most.
const MIN_WIDTH: usize = 8;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    title: &'static str,
    /// Its texts may be shortened so that the table fits the terminal.
    is_flexible: bool,
    /// It is left out if the table does not fit the terminal.
    is_optional: bool,
}

impl Column {
    /// Creates a column whose texts are never shortened.
    pub const fn new(title: &'static str) -> Self {
        Self { title, is_flexible: false, is_optional: false }
    }

    /// Creates a column whose texts are shortened if the table is wider than the terminal.
    pub const fn flexible(title: &'static str) -> Self {
        Self { title, is_flexible: true, is_optional: false }
    }

    /// Creates a column that is left out if the table is wider than the terminal.
    pub const fn optional(title: &'static str) -> Self {
        Self { title, is_flexible: false, is_optional: true }
    }
}

/// Returns the text with control characters and invisible format characters escaped as in Rust, so that data cannot change the terminal,
/// begin a new line, or be displayed in another order.
pub fn escape(text: &str) -> String {
    let is_hidden = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_hidden(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// The columns of a table that are displayed, with their widths.
#[derive(Debug)]
pub(super) struct Layout {
    columns: Vec<Column>,
    /// The width of each column, or `None` for a column that is left out.
    widths: Vec<Option<usize>>,
}

impl Layout {
    /// Chooses the widths for these rows of escaped texts, so that the table fits `limit` if that is possible.
    pub(super) fn new(columns: &[Column], rows: &[Vec<String>], limit: Option<usize>) -> Self {
        let width = |(index, column): (usize, &Column)| {
            let cells = rows.iter().map(|row| row[index].width()).max().unwrap_or_default();
            Some(cells.max(column.title.width()))
        };
        let mut layout = Self { columns: columns.to_vec(), widths: columns.iter().enumerate().map(width).collect() };
        let Some(limit) = limit else { return layout };
        for index in (0..columns.len()).rev().filter(|index| columns[*index].is_optional) {
            if layout.total() <= limit {
                break;
            }
            layout.widths[index] = None;
        }
        while layout.total() > limit {
            let flexible = (0..columns.len()).filter(|index| columns[*index].is_flexible);
            let widest = flexible.filter_map(|index| Some((layout.widths[index]?, index))).max();
            match widest {
                Some((width, index)) if width > MIN_WIDTH => layout.widths[index] = Some(width - 1),
                _ => break,
            }
        }
        layout
    }

    fn total(&self) -> usize {
        let widths = self.widths.iter().flatten();
        widths.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
    }

    pub(super) fn write_titles(&self, to: &mut impl Write) -> io::Result<()> {
        let titles: Vec<_> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.write_row(to, &titles)
    }

    pub(super) fn write_row(&self, to: &mut impl Write, cells: &[String]) -> io::Result<()> {
        let mut line = String::new();
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(&self.widths) {
            let Some(width) = *width else { continue };
            let cell = if column.is_flexible { shorten(cell, width) } else { cell.clone() };
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width()) + GAP));
        }
        writeln!(to, "{}", line.trim_end())
    }
}

/// Cuts a text to at most `width` columns of a terminal. A text that was cut ends with an ellipsis.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or_default();
        used <= width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Returns the width of the terminal that shows standard output, or `None` if it is not a terminal.
pub(super) fn terminal_width() -> Option<usize> {
    let output = io::stdout();
    if !output.is_terminal() {
        return None;
    }
    // A terminal of unknown size, such as a serial line, has the width of a VT100.
    let size = rustix::termios::tcgetwinsize(&output).ok();
    Some(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [Column::flexible("NAME"), Column::new("STATE"), Column::optional("CREATED"), Column::optional("USED")];

    fn table(rows: &[[&str; 4]], limit: Option<usize>) -> String {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
        let layout = Layout::new(&COLUMNS, &rows, limit);
        let mut text = Vec::new();
        layout.write_titles(&mut text).expect("a write");
        for row in &rows {
            layout.write_row(&mut text, row).expect("a write");
        }
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn columns_are_aligned_by_display_width() {
        let rows = [["alice", "ACTIVE", "2026-01-01", "-"], ["田中", "INACTIVE", "2026-01-02", "-"]];
        let expected = "NAME   STATE     CREATED     USED\nalice  ACTIVE    2026-01-01  -\n田中   INACTIVE  2026-01-02  -\n";
        assert_eq!(table(&rows, None), expected);
        assert_eq!(table(&rows, Some(33)), expected);
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_then_shorter_texts() {
        let rows = [["a-name-that-is-long", "ACTIVE", "2026-01-01", "2026-02-01"]];
        assert_eq!(table(&rows, Some(42)), "NAME                 STATE   CREATED\na-name-that-is-long  ACTIVE  2026-01-01\n");
        assert_eq!(table(&rows, Some(20)), "NAME          STATE\na-name-that…  ACTIVE\n");
        assert_eq!(table(&rows, Some(5)), "NAME      STATE\na-name-…  ACTIVE\n");
        assert_eq!(table(&[["田中田中田中", "A", "", ""]], Some(15)).lines().nth(1), Some("田中田…   A"));
    }

    #[test]
    fn data_cannot_control_the_terminal() {
        assert_eq!(escape("a\u{1b}[2Jb\nc\t\u{202e}d\u{200b}é田"), "a\\u{1b}[2Jb\\nc\\t\\u{202e}d\\u{200b}é田");
    }
}
