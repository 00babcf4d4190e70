//! The commands that were typed, as far as the keys tell: what a shell completed or fetched from its history is not
//! among them. What was not shown (a password that `su` asked for) is. Of a shell that has no terminal they are the lines
//! that it reads.

use serde::Serialize;
use vte::{Params, Parser, Perform};

use super::Utf8Pieces;
use super::script::Script;
use crate::relay::tape::Text;

/// Characters of a command.
pub(super) const LONGEST: usize = 4096;
/// Commands that are kept until somebody takes them.
pub(super) const MOST: usize = 10_000;

/// A command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Typed {
    /// When it was entered, in microseconds since the beginning of its cast.
    pub at: i64,
    /// What it is, with its controls written out as tapes have them.
    pub command: String,
}

impl Typed {
    /// One that was entered at `at`, or as much of it as is kept.
    pub(super) fn new(at: i64, command: &str, is_cut: bool) -> Typed {
        let mut command = Text::command(command).to_string();
        command.extend(is_cut.then_some('…'));
        Typed { at, command }
    }
}

/// Makes commands of input.
pub struct Commands(How);

enum How {
    Keys(Box<Keys>),
    Script(Script),
}

/// What is typed at a terminal.
struct Keys {
    /// The parser is given whole characters: of octets that only look like the beginning of one at the end of a piece it would
    /// lose what follows, and be that the end of a line.
    text: Utf8Pieces,
    parser: Parser,
    line: Line,
}

struct Line {
    at: i64,
    keys: Vec<char>,
    cursor: usize,
    done: Vec<Typed>,
    more: u64,
}

impl Default for Commands {
    fn default() -> Commands {
        let line = Line { at: 0, keys: Vec::new(), cursor: 0, done: Vec::new(), more: 0 };
        Commands(How::Keys(Box::new(Keys { text: Utf8Pieces::default(), parser: Parser::new(), line })))
    }
}

impl Commands {
    /// Of a shell that has no terminal: what is no text in its input is counted ([`Commands::no_text`]).
    pub fn script() -> Commands {
        Commands(How::Script(Script::default()))
    }

    /// Takes what was typed at `at`, in microseconds since the beginning.
    pub fn push(&mut self, at: i64, input: impl AsRef<[u8]>) {
        match &mut self.0 {
            How::Keys(keys) => {
                keys.line.at = at;
                let mut text = String::new();
                keys.text.push(input.as_ref(), &mut text);
                keys.parser.advance(&mut keys.line, text.as_bytes());
            }
            How::Script(script) => script.push(at, input.as_ref()),
        }
    }

    /// Nothing more will come: a shell without a terminal runs a last line that has no end, too.
    pub fn end(&mut self, at: i64) {
        if let How::Script(script) = &mut self.0 {
            script.end(at);
        }
    }

    /// Lines that are no text, which are counted in place of being told.
    pub fn no_text(&self) -> u64 {
        match &self.0 {
            How::Keys(_) => 0,
            How::Script(script) => script.no_text,
        }
    }

    /// The commands since this was asked last.
    pub fn take(&mut self) -> Vec<Typed> {
        std::mem::take(match &mut self.0 {
            How::Keys(keys) => &mut keys.line.done,
            How::Script(script) => &mut script.done,
        })
    }

    /// The commands so far, and how many more there were.
    pub fn finish(self) -> (Vec<Typed>, u64) {
        match self.0 {
            How::Keys(keys) => (keys.line.done, keys.line.more),
            How::Script(script) => (script.done, script.more),
        }
    }
}

impl Line {
    fn enter(&mut self) {
        let text: String = self.keys.drain(..).collect();
        self.cursor = 0;
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if self.done.len() >= MOST {
            self.more += 1;
            return;
        }
        self.done.push(Typed::new(self.at, text, false));
    }

    fn erase(&mut self, from: usize) {
        self.keys.drain(from.min(self.cursor)..self.cursor);
        self.cursor = from.min(self.cursor);
    }

    fn word(&self) -> usize {
        let before = &self.keys[..self.cursor];
        let end = before.iter().rposition(|c| *c != ' ').map_or(0, |at| at + 1);
        before[..end].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1)
    }
}

impl Perform for Line {
    fn print(&mut self, c: char) {
        if c == '\u{7f}' {
            return self.erase(self.cursor.saturating_sub(1));
        }
        if self.keys.len() < LONGEST {
            self.keys.insert(self.cursor, c);
            self.cursor += 1;
        }
    }

    fn execute(&mut self, octet: u8) {
        const fn ctrl(letter: u8) -> u8 {
            letter & 0x1f
        }
        const A: u8 = ctrl(b'A');
        const B: u8 = ctrl(b'B');
        const C: u8 = ctrl(b'C');
        const E: u8 = ctrl(b'E');
        const F: u8 = ctrl(b'F');
        const H: u8 = ctrl(b'H');
        const K: u8 = ctrl(b'K');
        const U: u8 = ctrl(b'U');
        const W: u8 = ctrl(b'W');
        match octet {
            b'\r' | b'\n' => self.enter(),
            b'\t' => self.print('\t'),
            H => self.erase(self.cursor.saturating_sub(1)),
            U => self.erase(0),
            W => self.erase(self.word()),
            K => self.keys.truncate(self.cursor),
            A => self.cursor = 0,
            E => self.cursor = self.keys.len(),
            B => self.cursor = self.cursor.saturating_sub(1),
            F => self.cursor = (self.cursor + 1).min(self.keys.len()),
            C => {
                self.keys.clear();
                self.cursor = 0;
            }
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, _params: &Params, _intermediates: &[u8], _ignore: bool, action: char) {
        match action {
            'C' => self.cursor = (self.cursor + 1).min(self.keys.len()),
            'D' => self.cursor = self.cursor.saturating_sub(1),
            'H' => self.cursor = 0,
            'F' => self.cursor = self.keys.len(),
            _ => {}
        }
    }
}
