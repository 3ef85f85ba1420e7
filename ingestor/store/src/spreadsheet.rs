//! Cells that a spreadsheet would take for formulas.
//!
//! Clients choose what stands in some columns: the user, the model, tags. A cell that begins like a
//! formula runs when somebody opens the file, so it gets an apostrophe in front, which spreadsheets
//! read as "this is text" (OWASP, CSV injection; ASVS 5 1.2.10). Numbers stay as they are, negative ones too.

/// How the cells of a text are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// Text is quoted and numbers are not, as ClickHouse writes CSV.
    Csv,
    /// Tabs and line breaks end cells; within them they are escaped.
    Tsv,
}

impl Cells {
    /// Those of a ClickHouse format: `CSV`, `CSVWithNames` …
    #[must_use]
    pub fn of(format: &str) -> Option<Self> {
        let format = format.to_ascii_lowercase();
        let names = [
            ("csv", Self::Csv),
            ("tsv", Self::Tsv),
            ("tabseparated", Self::Tsv),
        ];
        let cells = names.into_iter().find(|(name, _)| format.starts_with(name));
        cells.map(|(_, cells)| cells)
    }
}

/// Bytes of blanks at a text's beginning that are looked through. More of them hide a formula.
const BLANKS_MAX: usize = 64;

/// Puts apostrophes in front of formulas, in pieces of any size.
#[derive(Debug)]
pub struct Neutraliser {
    cells: Cells,
    state: State,
    /// The beginning of a text that does not tell yet what it is, or a cell of TSV that may be a number.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of a cell, or between cells.
    CellStart,
    /// In a text, whose beginning is held.
    TextStart,
    Text,
    /// Behind a quote that closes a cell, or is the first of two.
    TextEnd,
    /// In a cell of TSV that begins like a number with a sign.
    Signed,
}

impl Neutraliser {
    #[must_use]
    pub const fn new(cells: Cells) -> Self {
        Self {
            cells,
            state: State::CellStart,
            held: Vec::new(),
        }
    }

    /// Takes the next piece and returns what is decided.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() + 16);
        for &byte in piece {
            match self.cells {
                Cells::Csv => self.push_csv(byte, &mut out),
                Cells::Tsv => self.push_tsv(byte, &mut out),
            }
        }
        out
    }

    /// What is still held when the text ends.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.release(&mut out);
        out
    }

    fn push_csv(&mut self, byte: u8, out: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::TextStart | State::Text, b'"') => {
                out.append(&mut self.held);
                out.push(byte);
                self.state = State::TextEnd;
            }
            (State::TextStart, _) => self.hold(byte, out),
            (State::Text, _) => out.push(byte),
            // A quote within a text is doubled.
            (State::TextEnd, b'"') => {
                out.push(byte);
                self.state = State::Text;
            }
            // Whatever the delimiter is: only a text has quotes.
            (_, b'"') => {
                out.push(byte);
                self.state = State::TextStart;
            }
            _ => {
                out.push(byte);
                self.state = State::CellStart;
            }
        }
    }

    fn push_tsv(&mut self, byte: u8, out: &mut Vec<u8>) {
        if matches!(byte, b'\t' | b'\n') {
            self.release(out);
            self.state = State::CellStart;
            return out.push(byte);
        }
        match self.state {
            State::CellStart if matches!(byte, b'+' | b'-') => {
                self.state = State::Signed;
                self.held.push(byte);
            }
            State::Signed => self.held.push(byte),
            State::CellStart | State::TextStart => {
                self.state = State::TextStart;
                self.hold(byte, out);
            }
            _ => out.push(byte),
        }
    }

    /// Takes a byte of a text's beginning, and lets go of it once it tells what it is.
    fn hold(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push(byte);
        if let Some(is_formula) = is_formula(&self.held) {
            if is_formula {
                out.push(b'\'');
            }
            out.append(&mut self.held);
            self.state = State::Text;
        }
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        let is_number =
            std::str::from_utf8(&self.held).is_ok_and(|cell| cell.parse::<f64>().is_ok());
        if self.state == State::Signed && !is_number {
            out.push(b'\'');
        }
        out.append(&mut self.held);
    }
}

/// Whether a text is a formula, as its beginning tells; `None` if it does not tell yet.
///
/// Some spreadsheets skip blanks in front, and some read signs of full width (U+FF0B and the like) as
/// the narrow ones.
fn is_formula(beginning: &[u8]) -> Option<bool> {
    if beginning.len() > BLANKS_MAX {
        return Some(true);
    }
    let mut rest = beginning;
    loop {
        rest = match rest {
            [b' ', rest @ ..] | [0xc2, 0xa0, rest @ ..] => rest,
            [] | [0xc2] | [0xef] | [0xef, 0xbc] => return None,
            [b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\n' | 0, ..] => return Some(true),
            [0xef, 0xbc, sign, ..] => return Some(matches!(sign, 0x8b | 0x8d | 0x9d | 0xa0)),
            _ => return Some(false),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(cells: Cells, text: &str, expected: &str) {
        for size in [1, 2, 3, 1000] {
            let mut neutraliser = Neutraliser::new(cells);
            let mut out: Vec<u8> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| neutraliser.push(piece))
                .collect();
            out.extend(neutraliser.finish());
            assert_eq!(
                String::from_utf8(out).unwrap(),
                expected,
                "{cells:?} by {size}"
            );
        }
    }

    #[test]
    fn formulas_become_text_and_numbers_stay() {
        let csv = "\"user\",\"cost\"\n\"=1+1\",-1.5\n\"ana\",\\N\n\"@x\",+2\n\"-5\",-5\n\"\",0\n";
        let safe =
            "\"user\",\"cost\"\n\"'=1+1\",-1.5\n\"ana\",\\N\n\"'@x\",+2\n\"'-5\",-5\n\"\",0\n";
        check(Cells::Csv, csv, safe);
        let tsv =
            "user\tcost\n=1+1\t-1.5\nana\t\\N\n@x\t+2\n-x\t-5\n\t-1e-9\n+cmd|' /C calc'!A0\t-";
        let safe =
            "user\tcost\n'=1+1\t-1.5\nana\t\\N\n'@x\t+2\n'-x\t-5\n\t-1e-9\n'+cmd|' /C calc'!A0\t'-";
        check(Cells::Tsv, tsv, safe);
    }

    #[test]
    fn quotes_and_line_breaks_within_a_text_begin_no_cell() {
        let csv = "\"a\"\"=b\",\"x,=y\n=z\"\n\"\"\"=q\",\"\t=1\"\n\"=\"\"A1\"\"\"\n";
        let safe = "\"a\"\"=b\",\"x,=y\n=z\"\n\"\"\"=q\",\"'\t=1\"\n\"'=\"\"A1\"\"\"\n";
        check(Cells::Csv, csv, safe);
    }

    #[test]
    fn signs_of_full_width_and_blanks_in_front_are_seen() {
        let csv = "\" =1\",\"\u{ff1d}1\",\"\u{a0}\u{ff20}a\",\"\u{ff1a}\",\" a=1\",\"\u{e9}\",\"  \",\"\u{ff1d}\"\n";
        let safe = "\"' =1\",\"'\u{ff1d}1\",\"'\u{a0}\u{ff20}a\",\"\u{ff1a}\",\" a=1\",\"\u{e9}\",\"  \",\"'\u{ff1d}\"\n";
        check(Cells::Csv, csv, safe);
        let tsv = " =1\t\u{ff0b}1\t \t\u{c2}\n-\u{e9}\t\u{ff0d}";
        let safe = "' =1\t'\u{ff0b}1\t \t\u{c2}\n'-\u{e9}\t'\u{ff0d}";
        check(Cells::Tsv, tsv, safe);
        let blanks = " ".repeat(1000);
        let row = format!("\"{blanks}=1\"");
        check(Cells::Csv, &row, &format!("\"'{}", &row[1..]));
    }

    /// A cell as ClickHouse has it.
    #[derive(Clone, Debug)]
    enum Cell {
        Text(String),
        Number(f64),
    }

    fn cell() -> impl Strategy<Value = Cell> {
        let text = prop_oneof![
            "[ \u{0}\u{a0}]{0,3}[-=+@\t\r\n\u{ff0b}\u{ff0d}\u{ff1d}\u{ff20}].{0,6}",
            "[\"',;\\\\a\u{e9}\u{ff1a}]{0,4}[-=+@\",\t\n]{0,3}",
            ".{0,8}",
        ];
        prop_oneof![
            4 => text.prop_map(Cell::Text),
            1 => any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Cell::Number),
        ]
    }

    fn escaped(text: &str) -> String {
        let escapes = [
            ("\\", "\\\\"),
            ("\t", "\\t"),
            ("\n", "\\n"),
            ("\r", "\\r"),
            ("\0", "\\0"),
        ];
        escapes
            .iter()
            .fold(text.to_owned(), |text, (plain, escape)| {
                text.replace(plain, escape)
            })
    }

    fn written(cells: Cells, cell: &Cell) -> String {
        match (cells, cell) {
            (_, Cell::Number(number)) => number.to_string(),
            (Cells::Csv, Cell::Text(text)) => format!("\"{}\"", text.replace('"', "\"\"")),
            (Cells::Tsv, Cell::Text(text)) => escaped(text),
        }
    }

    /// A program that only knows that spreadsheets skip blanks and fold signs of full width.
    fn begins_like_a_formula(text: &str) -> bool {
        let text = text.trim_start_matches([' ', '\u{a0}']);
        text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\0'])
            || text.starts_with(['\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
    }

    /// A text gets an apostrophe if it begins like a formula, and only then.
    fn expected(cells: Cells, cell: &Cell) -> String {
        let shown = written(cells, cell);
        let Cell::Text(text) = cell else {
            return shown;
        };
        match cells {
            Cells::Csv if begins_like_a_formula(text) => format!("\"'{}", &shown[1..]),
            // In TSV a text may look like a number, which then it is.
            Cells::Tsv if begins_like_a_formula(&shown) && shown.parse::<f64>().is_err() => {
                format!("'{shown}")
            }
            _ => shown,
        }
    }

    proptest! {
        #[test]
        fn no_cell_of_an_export_begins_like_a_formula(
            rows in prop::collection::vec(prop::collection::vec(cell(), 1..5), 1..5),
        ) {
            for (cells, separator) in [(Cells::Csv, ","), (Cells::Tsv, "\t")] {
                let table = |of: fn(Cells, &Cell) -> String| -> String {
                    let row = |row: &Vec<Cell>| {
                        let row: Vec<_> = row.iter().map(|cell| of(cells, cell)).collect();
                        row.join(separator) + "\n"
                    };
                    rows.iter().map(row).collect()
                };
                check(cells, &table(written), &table(expected));
            }
        }
    }

    #[test]
    fn formats_are_known_by_name() {
        assert_eq!(Cells::of("CSVWithNamesAndTypes"), Some(Cells::Csv));
        assert_eq!(Cells::of("csv"), Some(Cells::Csv));
        assert_eq!(Cells::of("TabSeparatedWithNames"), Some(Cells::Tsv));
        assert_eq!(Cells::of("TSV"), Some(Cells::Tsv));
        assert_eq!(Cells::of("JSONEachRow"), None);
    }
}
