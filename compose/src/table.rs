//! Tables that fit a terminal's width.
//!
//! What stands in a cell was chosen by clients: control characters are shown instead of sent, and those that
//! turn the direction of writing around are replaced, so that a row looks like what it is.

use std::borrow::Cow;
use std::io;

use rustix::termios::tcgetwinsize;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Assumed of a terminal that does not say how wide it is.
const WIDTH_DEFAULT: usize = 80;
/// Wider cells are cut.
const CELL_WIDTH_MAX: usize = 40;
const GAP: &str = "  ";

/// How wide the terminal is that standard output goes to; `None` if it goes elsewhere.
pub(crate) fn terminal_width() -> Option<usize> {
    use std::io::IsTerminal as _;
    let stdout = io::stdout();
    stdout.is_terminal().then(|| match tcgetwinsize(&stdout) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => WIDTH_DEFAULT,
    })
}

/// A column and its cells.
#[derive(Clone, Debug)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    /// Numbers stand to the right.
    pub(crate) is_number: bool,
    /// Those that say most have the lowest rank.
    pub(crate) rank: usize,
    pub(crate) cells: Vec<String>,
}

impl TableColumn {
    fn width(&self) -> usize {
        let cells = self.cells.iter().chain([&self.name]);
        let width = cells.map(|cell| cell.width()).max();
        width.unwrap_or(0).min(CELL_WIDTH_MAX)
    }
}

/// The columns that fit, with those that say most first to have room, and how many do not.
pub(crate) fn fitting(mut columns: Vec<TableColumn>, width: usize) -> (Vec<TableColumn>, usize) {
    let mut by_rank: Vec<(usize, usize, usize)> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| (column.rank, at, column.width()))
        .collect();
    by_rank.sort_unstable();
    let mut room = width + GAP.len();
    let mut kept = vec![false; columns.len()];
    for (place, (_, at, wide)) in by_rank.into_iter().enumerate() {
        if place == 0 || wide + GAP.len() <= room {
            kept[at] = true;
            room = room.saturating_sub(wide + GAP.len());
        }
    }
    let all = columns.len();
    let mut kept = kept.into_iter();
    columns.retain(|_| kept.next().unwrap_or(false));
    let left_out = all - columns.len();
    (columns, left_out)
}

/// A header, and a line for each row.
pub(crate) fn write(out: &mut impl io::Write, columns: &[TableColumn]) -> io::Result<()> {
    let widths: Vec<usize> = columns.iter().map(TableColumn::width).collect();
    let rows = columns.iter().map(|column| column.cells.len()).max();
    let header = columns.iter().map(|column| column.name.as_str());
    write_line(out, columns, &widths, header)?;
    for row in 0..rows.unwrap_or(0) {
        let cells = columns.iter();
        let cells = cells.map(|column| column.cells.get(row).map_or("", String::as_str));
        write_line(out, columns, &widths, cells)?;
    }
    Ok(())
}

fn write_line<'a>(
    out: &mut impl io::Write,
    columns: &[TableColumn],
    widths: &[usize],
    cells: impl Iterator<Item = &'a str>,
) -> io::Result<()> {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(widths).zip(cells) {
        if !line.is_empty() {
            line.push_str(GAP);
        }
        line.push_str(&padded(cell, *width, column.is_number));
    }
    writeln!(out, "{}", line.trim_end())
}

/// A text that is exactly so wide.
pub(crate) fn padded(text: &str, width: usize, to_the_right: bool) -> String {
    let text = cut(text, width);
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    match to_the_right {
        true => format!("{blanks}{text}"),
        false => format!("{text}{blanks}"),
    }
}

/// A text that is at most so wide; `…` stands for the rest.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut room = width.saturating_sub(1);
    let fits = |character: &char| {
        let wide = character.width().unwrap_or(0);
        let fits = wide <= room;
        room = room.saturating_sub(wide);
        fits
    };
    let kept: String = text.chars().take_while(fits).collect();
    Cow::Owned(kept + "…")
}

/// A text as a cell: one line, without what a terminal takes for a command.
pub(crate) fn cell(text: &str) -> String {
    let shown = |character: char| match character {
        control @ '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(control)),
        '\u{7f}' => Some('\u{2421}'),
        '\u{80}'..='\u{9f}' | '\u{200e}'..='\u{200f}' => None,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
        plain => Some(plain),
    };
    let shown = |character| shown(character).unwrap_or('\u{fffd}');
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, rank: usize, cells: &[&str]) -> TableColumn {
        TableColumn {
            name: name.into(),
            is_number: name == "cost",
            rank,
            cells: cells.iter().map(|text| cell(text)).collect(),
        }
    }

    fn lines(columns: Vec<TableColumn>, width: usize) -> Vec<String> {
        let mut out = Vec::new();
        write(&mut out, &fitting(columns, width).0).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_says_most_stays_in_its_place() {
        let columns = || {
            vec![
                column("id", 3, &["0123456789", "1"]),
                column("user", 1, &["ana", "bo"]),
                column("cost", 2, &["1.5", "10.25"]),
            ]
        };
        let wide = [
            "id          user   cost",
            "0123456789  ana     1.5",
            "1           bo    10.25",
        ];
        assert_eq!(lines(columns(), 23), wide);
        assert_eq!(
            lines(columns(), 22),
            ["user   cost", "ana     1.5", "bo    10.25"]
        );
        assert_eq!(lines(columns(), 10), ["user", "ana", "bo"]);
        assert_eq!(lines(columns(), 1), ["user", "ana", "bo"]);
        assert_eq!(fitting(columns(), 22).1, 1);
    }

    #[test]
    fn wide_characters_count_twice_and_long_cells_are_cut() {
        assert_eq!(padded("日本", 6, false), "日本  ");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("abcd", 0), "…");
        let long = "x".repeat(100);
        let lines = lines(vec![column("a", 0, &[&long])], 200);
        assert_eq!(lines[1].width(), CELL_WIDTH_MAX);
    }

    #[test]
    fn a_cell_is_one_line_without_commands() {
        assert_eq!(
            cell("a\n\u{1b}[2J\u{9b}\u{202e}b\tü"),
            "a␊␛[2J\u{fffd}\u{fffd}b␉ü"
        );
    }
}
