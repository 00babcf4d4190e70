//! The text of a topology and places in it.

use std::sync::Arc;

/// Octets `start..end` of the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span {
    /// The first.
    pub start: usize,
    /// One behind the last; may equal `start` where a collection begins.
    pub end: usize,
}

/// Lines longer than this are cut where they are shown.
const MAX_LINE: usize = 200;

/// A topology's text and the name that messages give it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// `text`, which messages call `name`.
    pub fn new(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands at `span`.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// Line and column of an offset, both counted from 1, columns in characters.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.floor(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The line that an offset lies in, without its end.
    pub fn line_at(&self, offset: usize) -> &str {
        let offset = self.floor(offset);
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |at| offset + at);
        self.text[start..end].trim_end_matches('\r')
    }

    /// The line that an offset lies in, cut to what a person can read around that offset, and where in the text that begins.
    pub fn excerpt(&self, offset: usize) -> (&str, usize) {
        let line = self.line_at(offset);
        let offset = self.floor(offset);
        let start = self.text[..offset].rfind('\n').map_or(0, |at| at + 1);
        if line.len() <= MAX_LINE {
            return (line, start);
        }
        let from = self.floor(offset.saturating_sub(MAX_LINE / 2).max(start));
        let to = self.floor((from + MAX_LINE).min(start + line.len()));
        (&self.text[from..to], from)
    }

    /// Whether the line of `offset` or one of its neighbors is too long to be shown whole.
    pub fn is_long_around(&self, offset: usize) -> bool {
        let offset = self.floor(offset);
        let before = self.text[..offset].rsplit('\n').take(2).any(|part| part.len() > MAX_LINE / 2);
        before || self.text[offset..].split('\n').take(2).any(|part| part.len() > MAX_LINE / 2)
    }

    /// The offset of a line and a column, both counted from 1, columns in characters.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let mut start = 0;
        for _ in 1..line {
            match self.text[start..].find('\n') {
                Some(at) => start += at + 1,
                None => return self.text.len(),
            }
        }
        let rest = self.text[start..].split('\n').next().unwrap_or("");
        let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
        start + within
    }

    /// Where `key` is written whose value stands at `value`; the value's place if it is not found.
    pub fn key_before(&self, key: &str, value: Span) -> Span {
        let at = self.floor(value.start);
        // A key that is further away than this is not found, which only makes the message a little worse.
        let from = self.floor(at.saturating_sub(65_536));
        let before = &self.text[from..at];
        let mut end = before.len();
        while let Some(at) = before[..end].rfind(key) {
            let after = before[at + key.len()..].trim_start_matches(['"', '\'', ' ']);
            let whole = !before[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
            if whole && after.starts_with(':') {
                return Span { start: from + at, end: from + at + key.len() };
            }
            end = at;
        }
        value
    }

    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_lines_and_columns() {
        let source = Source::new("t", "ab\nçd: x\r\nlast");
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(5), (2, 2));
        assert_eq!(source.line_at(5), "çd: x");
        assert_eq!(source.line_column(999), (3, 5));
        assert_eq!(source.line_at(999), "last");
        assert_eq!(source.offset(2, 2), 5);
        assert_eq!(source.offset(3, 1), 11);
        assert_eq!(source.offset(9, 9), 15);
    }

    #[test]
    fn finds_the_key_of_a_value() {
        let source = Source::new("t", "gateway: a\nother_gateway: b\n\"gateway\" : c");
        let at = |value: &str| source.text().find(value).map(|start| Span { start, end: start + 1 }).unwrap();
        assert_eq!(source.key_before("gateway", at("c")).start, 29);
        assert_eq!(source.key_before("gateway", at("b")).start, 0);
        assert_eq!(source.key_before("nothing", at("b")), at("b"));
    }
}
