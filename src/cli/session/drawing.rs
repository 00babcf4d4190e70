//! What is printed of an attacker's output: on a terminal what draws there, elsewhere the text that it leaves.
//!
//! Whoever reads by a pipe or from a file wants neither colors nor carriage returns, as of any other command.

use std::io::{self, IsTerminal};

use super::super::table;
use crate::record::transcript::{Harmless, PlainText};

/// Where it is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On a terminal.
    Screen {
        /// Whether it has colors.
        colors: bool,
    },
    /// In a file, or a pipe.
    Text,
}

impl Place {
    /// Where standard output leads, or a terminal if somebody says so: one may be behind a pipe.
    pub fn of_output(is_terminal: bool) -> Place {
        match is_terminal || io::stdout().is_terminal() {
            true => Place::Screen { colors: table::may_color() },
            false => Place::Text,
        }
    }

    /// What ends whatever an attacker began: no color, and a line of its own. Text is in whole lines already.
    pub fn reset(self) -> &'static str {
        match self {
            Place::Screen { .. } => "\u{1b}[0m\r\n",
            Place::Text => "",
        }
    }
}

/// Makes of the output of one transcript what is printed.
pub enum Drawing {
    /// As a terminal draws it.
    Screen(Box<Harmless>),
    /// As lines of text.
    Text(Box<PlainText>),
}

impl Drawing {
    /// A new one.
    pub fn new(place: Place) -> Drawing {
        match place {
            Place::Screen { colors: true } => Drawing::Screen(Box::default()),
            Place::Screen { colors: false } => Drawing::Screen(Box::new(Harmless::without_colors())),
            Place::Text => Drawing::Text(Box::default()),
        }
    }

    /// What is printed of `output`, as far as that is known yet.
    pub fn push(&mut self, output: &str) -> String {
        match self {
            Drawing::Screen(harmless) => harmless.push(output),
            Drawing::Text(text) => text.push(output),
        }
    }

    /// A note, in a line of its own: what comes behind it need not go on with what was before.
    pub fn note(&mut self, note: &str) -> String {
        match self {
            Drawing::Screen(_) => format!("\u{1b}[0m\r\n{note}\r\n"),
            Drawing::Text(text) => format!("{}{note}\n", std::mem::take(&mut **text).finish()),
        }
    }

    /// The rest, once all is there.
    pub fn finish(self) -> String {
        match self {
            Drawing::Screen(_) => String::new(),
            Drawing::Text(text) => text.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(place: Place) -> String {
        let mut drawing = Drawing::new(place);
        let mut all = drawing.push("\u{1b}[31mred\u{1b}[0m\r\n12");
        all += &drawing.push("3\u{8}4\u{1b}]0;owned\u{7}\u{1b}[3D");
        all += &drawing.finish();
        all + place.reset()
    }

    #[test]
    fn a_note_has_a_line_of_its_own() {
        let mut text = Drawing::new(Place::Text);
        let told = text.push("one\r\ntwo") + &text.note("(three)") + &text.note("(four)") + &text.push("five\r\n");
        assert_eq!(told, "one\ntwo\n(three)\n(four)\nfive\n");
    }

    #[test]
    fn only_a_terminal_gets_what_only_a_terminal_understands() {
        let colored = Place::Screen { colors: true };
        assert_eq!(drawn(colored), "\u{1b}[31mred\u{1b}[0m\r\n123\u{8}4\u{1b}[3D\u{1b}[0m\r\n");
        assert_eq!(drawn(Place::Screen { colors: false }), "red\r\n123\u{8}4\u{1b}[3D\u{1b}[0m\r\n");
        assert_eq!(drawn(Place::Text), "red\n124\n");
    }
}
