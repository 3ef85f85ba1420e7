//! Cells that a spreadsheet would take for formulas.
//!
//! Clients choose what stands in some columns: the user, the model, tags. A cell that begins like a
//! formula runs when somebody opens the file, so it gets an apostrophe in front, which spreadsheets
//! read as "this is text" (OWASP, CSV injection). Numbers stay as they are, negative ones too.

/// How the cells of a text are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cells {
    /// Text is quoted and numbers are not, as ClickHouse writes CSV.
    Csv,
    /// Tabs and line breaks end cells; within them they are escaped.
    Tsv,
}

impl Cells {
    /// Those of a ClickHouse format: `CSV`, `CSVWithNames` …
    pub(crate) fn of(format: &str) -> Option<Self> {
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

/// Puts apostrophes in front of formulas, in pieces of any size.
#[derive(Debug)]
pub(crate) struct Neutraliser {
    cells: Cells,
    state: State,
    /// A cell of TSV that may yet be a number.
    held: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of a cell.
    CellStart,
    /// Behind the quote that opens a cell.
    TextStart,
    Text,
    /// Behind a quote that closes a cell, or is the first of two.
    TextEnd,
    /// In a cell without quotes, or between cells.
    Bare,
    /// In a cell of TSV that is held.
    Held,
}

impl Neutraliser {
    pub(crate) const fn new(cells: Cells) -> Self {
        Self {
            cells,
            state: State::CellStart,
            held: Vec::new(),
        }
    }

    /// Takes the next piece and returns what is decided.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
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
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.release(&mut out);
        out
    }

    fn push_csv(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.state == State::TextStart && begins_formula(byte) {
            out.push(b'\'');
        }
        self.state = match (self.state, byte) {
            (State::TextStart | State::Text, b'"') => State::TextEnd,
            (State::TextStart | State::Text, _) => State::Text,
            // A quote within a text is doubled.
            (State::TextEnd, b'"') => State::Text,
            // Whatever the delimiter is: only a text has quotes.
            (_, b'"') => State::TextStart,
            _ => State::Bare,
        };
        out.push(byte);
    }

    fn push_tsv(&mut self, byte: u8, out: &mut Vec<u8>) {
        if matches!(byte, b'\t' | b'\n') {
            self.release(out);
            self.state = State::CellStart;
            return out.push(byte);
        }
        match self.state {
            State::CellStart if matches!(byte, b'+' | b'-') => self.state = State::Held,
            State::CellStart => {
                self.state = State::Bare;
                if begins_formula(byte) {
                    out.push(b'\'');
                }
            }
            _ => {}
        }
        match self.state {
            State::Held => self.held.push(byte),
            _ => out.push(byte),
        }
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        let is_number =
            std::str::from_utf8(&self.held).is_ok_and(|cell| cell.parse::<f64>().is_ok());
        if !self.held.is_empty() && !is_number {
            out.push(b'\'');
        }
        out.append(&mut self.held);
    }
}

const fn begins_formula(byte: u8) -> bool {
    matches!(byte, b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
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
    fn formats_are_known_by_name() {
        assert_eq!(Cells::of("CSVWithNamesAndTypes"), Some(Cells::Csv));
        assert_eq!(Cells::of("csv"), Some(Cells::Csv));
        assert_eq!(Cells::of("TabSeparatedWithNames"), Some(Cells::Tsv));
        assert_eq!(Cells::of("TSV"), Some(Cells::Tsv));
        assert_eq!(Cells::of("JSONEachRow"), None);
    }
}
