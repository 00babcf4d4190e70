//! Text of an attacker's: bounded, and without a character that does something to a terminal.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::PIECE;

/// Most octets of attacker-made text that are shown; a user name, a path or a terminal's type is far below it.
const TEXT: usize = 1024;
/// The same of a command: what is pasted into `ssh host '...'` is the malware itself often enough.
const COMMAND: usize = PIECE;

/// Text that somebody else has made: what is no printable character stands as `\xNN` or `\u{N}`, a backslash as
/// two, and what is too long ends with an ellipsis.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Text(String);

impl Text {
    /// `raw`, of which at most 1 KiB is shown.
    pub fn new(raw: impl AsRef<[u8]>) -> Text {
        Text::up_to(TEXT, raw.as_ref())
    }

    /// A command, of which at most 16 KiB are shown.
    pub fn command(raw: impl AsRef<[u8]>) -> Text {
        Text::up_to(COMMAND, raw.as_ref())
    }

    fn up_to(most: usize, raw: &[u8]) -> Text {
        let (mut text, mut is_cut) = (String::new(), raw.len() > most);
        let chunks = raw.get(..most).unwrap_or(raw).utf8_chunks();
        let parts = chunks.flat_map(|chunk| chunk.valid().chars().map(Ok).chain(chunk.invalid().iter().map(Err)));
        for part in parts {
            // Written out, an octet takes four: a command of them would be too long for a message between processes.
            if text.len() > 3 * most {
                is_cut = true;
                break;
            }
            match part {
                Ok('\\') => text.push_str("\\\\"),
                Ok(c @ ' '..='~') => text.push(c),
                Ok(c) if c.is_ascii() => escape(&mut text, format_args!("\\x{:02x}", u32::from(c))),
                // Letters of every script; no direction marks, joiners or private characters.
                Ok(c) if c.is_alphanumeric() => text.push(c),
                Ok(c) => escape(&mut text, format_args!("\\u{{{:x}}}", u32::from(c))),
                Err(octet) => escape(&mut text, format_args!("\\x{octet:02x}")),
            }
        }
        if is_cut {
            text.push('…');
        }
        Text(text)
    }

    /// The text as it is shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its beginning, of at most `most` octets as it is shown, and then an ellipsis; all of it if that is no more.
    pub fn beginning(&self, most: usize) -> Text {
        if self.0.len() <= most {
            return self.clone();
        }
        let (mut end, mut rest) = (0, self.0.chars());
        // No half of what was written out.
        while let Some(c) = rest.next() {
            match (c, rest.clone().next()) {
                ('\\', Some('x')) => rest.by_ref().take(3).for_each(drop),
                ('\\', Some('u')) => rest.by_ref().take_while(|c| *c != '}').for_each(drop),
                ('\\', _) => drop(rest.next()),
                _ => {}
            }
            let whole = self.0.len() - rest.as_str().len();
            if whole > most {
                break;
            }
            end = whole;
        }
        Text(format!("{}…", self.0.get(..end).unwrap_or_default()))
    }

    /// What somebody else has made, as far as that was text: nothing to show. What was no UTF-8 is U+FFFD.
    pub fn original(&self) -> String {
        let number = |code: String| u32::from_str_radix(&code, 16).ok();
        let (mut text, mut rest) = (String::with_capacity(self.0.len()), self.0.chars());
        while let Some(c) = rest.next() {
            if c != '\\' {
                text.push(c);
                continue;
            }
            let code = match rest.next() {
                Some('x') => number(rest.by_ref().take(2).collect()).filter(|octet| *octet < 0x80),
                Some('u') => number(rest.by_ref().skip(1).take_while(|c| *c != '}').collect()),
                other => other.map(u32::from),
            };
            text.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        text
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

fn escape(text: &mut String, escaped: fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _ = text.write_fmt(escaped);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::tape::Entry;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        assert_eq!(Text::new("root"), "root");
        assert_eq!(Text::new(b"\x1b]0;pwned\x07\n"), "\\x1b]0;pwned\\x07\\x0a");
        assert_eq!(Text::new("C:\\temp"), "C:\\\\temp");
        assert_eq!(Text::new(b"\xff\xfeM\xc3\xbcller"), "\\xff\\xfeMüller");
        // Right to left, a C1 control, a zero-width joiner.
        assert_eq!(Text::new("a\u{202e}b\u{9b}c\u{200d}"), "a\\u{202e}b\\u{9b}c\\u{200d}");
        assert!(Text::new(vec![0x1b; 1 << 20]).as_str().len() < 5 * TEXT);
        assert!(Text::new(vec![b'a'; TEXT + 1]).as_str().ends_with("a…"));
        assert!(!Text::new(vec![b'a'; TEXT]).as_str().ends_with('…'));
        for octet in [0x1b, 0xff, b'\\'] {
            let command = Entry::Exec { channel: 0, command: Text::command(vec![octet; COMMAND]) };
            let message = postcard::to_stdvec(&command).unwrap();
            assert!(message.len() < 60_000, "{}", message.len());
        }
    }

    #[test]
    fn a_beginning_has_no_half_of_an_escape() {
        let text = Text::new(b"a\\\xff\xc3\xbc\xe2\x80\xaez");
        assert_eq!(text, "a\\\\\\xffü\\u{202e}z");
        let begun = [
            (0, "…"),
            (1, "a…"),
            (3, "a\\\\…"),
            (7, "a\\\\\\xff…"),
            (9, "a\\\\\\xffü…"),
            (17, "a\\\\\\xffü\\u{202e}…"),
        ];
        for most in 0..18 {
            let (_, expected) = begun.iter().rfind(|(from, _)| *from <= most).unwrap();
            assert_eq!(text.beginning(most), *expected, "{most}");
        }
        assert_eq!(text.beginning(18), text);
        let command = Text::command(vec![0xff; COMMAND]).beginning(768);
        assert!(command.0.len() == 768 + '…'.len_utf8() && command.0.capacity() < 2000, "{}", command.0.capacity());
        // What another process has written has any form.
        for odd in ["\\", "\\x", "\\x1", "\\u", "\\u{20", "\\u{20…", "ü\\"] {
            let odd = Text(odd.into());
            (0..=odd.0.len()).for_each(|most| assert!(odd.beginning(most).0.len() <= most + '…'.len_utf8()));
        }
    }

    #[test]
    fn what_was_written_out_is_known_again() {
        for text in ["", "root", "C:\\temp\\", "\x1b]0;pwned\x07\n", "Müller a\u{202e}b\u{200d}", "\\x41\\u{41}"] {
            assert_eq!(Text::new(text).original(), text);
        }
        assert_eq!(Text::new("\u{9b}x").original(), "\u{9b}x");
        assert_eq!(Text::new(b"a\xffb").original(), "a\u{fffd}b");
        assert_eq!(Text("\\".into()).original(), "\u{fffd}");
        assert_eq!(Text("\\x\\u\\u{110000}".into()).original(), "\u{fffd}\u{fffd}");
    }
}
