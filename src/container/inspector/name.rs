//! Names that an attacker chose: any octets, shown and stored as text that does nothing to whoever reads it.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path or the target of a link, as the container's kernel has it.
///
/// As text, printable ASCII and letters and digits of all scripts stay; the
/// backslash is `\\`, and every octet of anything else is `\xNN`: what a terminal
/// acts upon, what is invisible or turns the direction of reading, and what is no
/// UTF-8. No two names have the same text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(Vec<u8>);

/// The text is not one that [`Name`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a name has a backslash that begins neither `\\\\` nor `\\xNN`, or a character that is written as `\\xNN`")]
pub struct ParseNameError;

impl Name {
    /// The name of these octets.
    pub fn new(octets: impl Into<Vec<u8>>) -> Name {
        Name(octets.into())
    }

    /// Its octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what `Display` writes.
    ///
    /// # Errors
    /// If it is no such text: only one text means a name.
    pub fn parse(text: &str) -> Result<Name, ParseNameError> {
        let mut octets = Vec::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '\\' {
                octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            match rest.next() {
                Some('\\') => octets.push(b'\\'),
                Some('x') => {
                    let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16)).ok_or(ParseNameError);
                    octets.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8);
                }
                _ => return Err(ParseNameError),
            }
        }
        let name = Name(octets);
        if name.to_string() == text { Ok(name) } else { Err(ParseNameError) }
    }
}

fn is_plain(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() && c != '\\' || !c.is_ascii() && c.is_alphanumeric()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if is_plain(c) => write!(f, "{c}")?,
                    c => {
                        for octet in c.encode_utf8(&mut [0; 4]).bytes() {
                            write!(f, "\\x{octet:02x}")?;
                        }
                    }
                }
            }
            for octet in chunk.invalid() {
                write!(f, "\\x{octet:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        Name::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_upon_stays() {
        for (octets, text) in [
            (&b"/etc/passwd"[..], "/etc/passwd"),
            (b"a b", "a b"),
            ("/home/\u{444}\u{430}\u{439}\u{43b}".as_bytes(), "/home/\u{444}\u{430}\u{439}\u{43b}"),
            (b"a\nb\x1b[2J", "a\\x0ab\\x1b[2J"),
            (b"back\\slash", "back\\\\slash"),
            (b"\xff\xfe.so", "\\xff\\xfe.so"),
            (b"cut \xe2\x82", "cut \\xe2\\x82"),
            ("exe.\u{202e}txt".as_bytes(), "exe.\\xe2\\x80\\xaetxt"),
        ] {
            let name = Name::new(octets);
            assert_eq!(name.to_string(), text);
            assert_eq!(Name::parse(text), Ok(name));
        }
    }

    #[test]
    fn only_one_text_means_a_name() {
        for text in ["\\", "\\q", "\\x", "\\x1", "\\x41", "\\xFF", "a\nb", "\u{202e}", "\\xd1\\x84"] {
            assert_eq!(Name::parse(text), Err(ParseNameError), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_name_round_trips(octets: Vec<u8>) {
            let name = Name::new(octets);
            let json = serde_json::to_string(&name).unwrap();
            proptest::prop_assert!(json.bytes().all(|octet| octet >= b' '));
            proptest::prop_assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name);
        }

        #[test]
        fn every_text_is_one_names_or_refused(text: String) {
            if let Ok(name) = Name::parse(&text) {
                proptest::prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
