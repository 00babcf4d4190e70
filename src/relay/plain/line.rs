//! Lines and messages out of octets that come as they come.

/// Octets of a line, or of a message's beginning, that are looked at.
pub(super) const MOST: usize = 4096;

/// Collects lines that end in LF or CRLF, of each the first [`MOST`] octets.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Takes octets up to the end of a line. The line, if it is complete, and how many octets were taken.
    pub(super) fn take(&mut self, octets: &[u8]) -> (Option<Vec<u8>>, usize) {
        let end = octets.iter().position(|octet| *octet == b'\n');
        let part = &octets[..end.unwrap_or(octets.len())];
        let room = MOST.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        match end {
            None => (None, octets.len()),
            Some(end) => {
                let mut line = std::mem::take(&mut self.line);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                (Some(line), end + 1)
            }
        }
    }

    /// What there is of a line that has not ended.
    pub(super) fn rest(&self) -> &[u8] {
        &self.line
    }

    /// Forgets it.
    pub(super) fn clear(&mut self) {
        self.line.clear();
    }
}

/// A message whose length is known: its first [`MOST`] octets are kept, the rest is counted.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) kept: Vec<u8>,
    left: u64,
}

impl Message {
    /// One of `len` octets.
    pub(super) fn new(len: u64) -> Message {
        Message { kept: Vec::new(), left: len }
    }

    /// Takes what is of it; how many octets that were.
    pub(super) fn take(&mut self, octets: &[u8]) -> usize {
        let n = octets.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let room = MOST.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&octets[..n.min(room)]);
        self.left -= n as u64;
        n
    }

    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// The octets in front of the first NUL, and those behind it.
pub(super) fn until_nul(octets: &[u8]) -> (&[u8], &[u8]) {
    match octets.iter().position(|octet| *octet == 0) {
        Some(at) => (&octets[..at], &octets[at + 1..]),
        None => (octets, &[]),
    }
}
