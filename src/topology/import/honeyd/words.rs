//! Words of a line: separated by blanks, or in double quotes; `#` begins a comment.

/// The words that are left.
pub struct Words<'a> {
    rest: &'a str,
    /// Whether the last word was in quotes.
    pub quoted: bool,
}

impl<'a> Words<'a> {
    /// The words of `line`.
    pub fn new(line: &'a str) -> Words<'a> {
        Words { rest: line, quoted: false }
    }

    /// What has not been read, without a comment that it begins with.
    pub fn rest(&self) -> &'a str {
        let rest = self.rest.trim();
        if rest.starts_with('#') { "" } else { rest }
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.quoted = false;
        let rest = self.rest.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            self.rest = "";
            return None;
        }
        if let Some(inner) = rest.strip_prefix('"') {
            self.quoted = true;
            // Without its end it goes to the end of the line.
            let end = inner.find('"').unwrap_or(inner.len());
            self.rest = inner.get(end + 1..).unwrap_or("");
            return Some(inner[..end].to_owned());
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
        self.rest = &rest[end..];
        Some(rest[..end].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_comments() {
        let words = |line| Words::new(line).collect::<Vec<_>>();
        assert_eq!(words("  set a personality \"Linux 2.6 #1\" # why"), ["set", "a", "personality", "Linux 2.6 #1"]);
        assert_eq!(words("add a \"open"), ["add", "a", "open"]);
        assert_eq!(words("x\"y\"\"\""), ["x", "y", ""]);
        assert!(words("# all of it").is_empty() && words("\t").is_empty());
    }
}
