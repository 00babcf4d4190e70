//! Texts of others, quoted for YAML, comments and terminals.

use std::fmt::Write;

/// Longest piece of somebody's text that a message or a comment repeats, in characters.
const MAX_SHOWN: usize = 80;

/// `text` for a person's eyes: one line of printable ASCII, so that neither a control sequence nor
/// a character that turns the writing direction gets through.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            out.push_str("...");
            break;
        }
        match c {
            ' '..='~' => out.push(c),
            _ => drop(write!(out, "{}", c.escape_unicode())),
        }
    }
    out
}

/// `text` as a double-quoted scalar (YAML 1.2, 5.7), in ASCII.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if u32::from(c) <= 0xff => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c if u32::from(c) <= 0xffff => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => drop(write!(out, "\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// `text` as a scalar, plain where no reader of YAML could take it for anything but a text.
pub fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.')
        && !WORDS.contains(&&*text.to_lowercase());
    if plain { text.to_owned() } else { quoted(text) }
}

/// A name that nodes and templates may have, made of `text`.
pub fn plain_name(text: &str, otherwise: &str) -> String {
    let mut name = String::new();
    for c in text.chars().take(40) {
        match c {
            c if c.is_ascii_alphanumeric() || c == '.' || c == '_' => name.push(c.to_ascii_lowercase()),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_raw_gets_through() {
        assert_eq!(shown("a\x1b[31m\u{202e}ß\n"), "a\\u{1b}[31m\\u{202e}\\u{df}\\u{a}");
        assert_eq!(shown(&"x".repeat(200)).len(), MAX_SHOWN + 3);
        assert_eq!(quoted("a\"b\\c\r\n\u{1b}\u{2028}\u{1f600}"), r#""a\"b\\c\r\n\x1b\u2028\U0001f600""#);
        assert_eq!(scalar("web-1"), "web-1");
        for odd in ["", "no", "Null", "- a", "1.5", "~", "*a", "a: b", "a #b", "&x"] {
            assert!(scalar(odd).starts_with('"'), "{odd}");
        }
        assert_eq!(plain_name("Web Server #1 ", "h"), "web-server-1");
        assert_eq!(plain_name("\u{1b}]0;", "h"), "0");
        assert_eq!(plain_name("日本", "h"), "h");
    }
}
