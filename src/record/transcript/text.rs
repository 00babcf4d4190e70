//! The text that output leaves: what a person would read, line by line.
//!
//! Colors, titles and the like are left out. What corrects a line (backspaces, carriage returns, and the sequences that
//! shells edit a line with) is carried out in it. Programs that use the whole screen leave their lines in the order in
//! which they wrote them.

use vte::{Params, Parser, Perform};

use crate::record::is_harmless;

/// Characters of a line; a longer one becomes several.
const COLUMNS: usize = 4096;
const TAB: usize = 8;

/// Makes text of output.
pub struct PlainText {
    parser: Parser,
    line: Line,
}

struct Line {
    cells: Vec<char>,
    column: usize,
    done: String,
}

impl Default for PlainText {
    fn default() -> PlainText {
        PlainText { parser: Parser::new(), line: Line { cells: Vec::new(), column: 0, done: String::new() } }
    }
}

impl PlainText {
    /// Takes output and returns the lines that are whole by that, each with its line feed.
    pub fn push(&mut self, output: &str) -> String {
        self.parser.advance(&mut self.line, output.as_bytes());
        std::mem::take(&mut self.line.done)
    }

    /// The last line, if it was not ended.
    pub fn finish(mut self) -> String {
        if !self.line.cells.is_empty() {
            self.line.end();
        }
        self.line.done
    }
}

impl Line {
    fn end(&mut self) {
        let text: String = self.cells.drain(..).collect();
        self.done.push_str(text.trim_end());
        self.done.push('\n');
        self.column = 0;
    }

    /// Columns that `params` tell to move by, or to; 1 if they tell nothing.
    fn number(params: &Params) -> usize {
        usize::from(params.iter().next().and_then(|param| param.first().copied()).unwrap_or(1).max(1))
    }
}

impl Perform for Line {
    fn print(&mut self, c: char) {
        if !is_harmless(c) && c != char::REPLACEMENT_CHARACTER {
            return;
        }
        if self.column >= COLUMNS {
            self.end();
        }
        // Where the cursor was moved beyond the end there is nothing yet.
        while self.cells.len() <= self.column {
            self.cells.push(' ');
        }
        if let Some(cell) = self.cells.get_mut(self.column) {
            *cell = c;
        }
        self.column += 1;
    }

    fn execute(&mut self, octet: u8) {
        match octet {
            b'\n' | 0x0b | 0x0c => self.end(),
            b'\r' => self.column = 0,
            0x08 => self.column = self.column.saturating_sub(1),
            b'\t' => self.column = ((self.column / TAB + 1) * TAB).min(COLUMNS),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let n = Line::number(params);
        let at = self.column.min(self.cells.len());
        match action {
            'C' => self.column = (self.column + n).min(COLUMNS),
            'D' => self.column = self.column.saturating_sub(n),
            'G' => self.column = (n - 1).min(COLUMNS),
            'P' => drop(self.cells.drain(at..(at + n).min(self.cells.len()))),
            '@' => {
                let room = COLUMNS.saturating_sub(self.cells.len());
                self.cells.splice(at..at, std::iter::repeat_n(' ', n.min(room)));
            }
            'K' => match params.iter().next().and_then(|param| param.first().copied()).unwrap_or(0) {
                0 => self.cells.truncate(at),
                1 => self.cells.iter_mut().take(self.column + 1).for_each(|cell| *cell = ' '),
                _ => self.cells.clear(),
            },
            // Another line, wherever that is: who redraws a screen begins one.
            'H' | 'f' | 'd' | 'A' | 'B' | 'E' | 'F' if !self.cells.is_empty() => self.end(),
            _ => {}
        }
    }
}
