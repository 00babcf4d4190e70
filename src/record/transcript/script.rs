//! The lines that a shell without a terminal reads: there is nobody who edits them, so each is what came.
//!
//! What comes may be anything, a program's octets as well: a line that is no text is counted, not told.

use super::Typed;
use super::commands::{LONGEST, MOST};

/// Octets of a line that are looked at.
const LOOKED: usize = 64 << 10;

/// Makes commands of lines.
#[derive(Debug, Default)]
pub(super) struct Script {
    line: Vec<u8>,
    /// Octets of the line, and whether there is a control in what is not looked at.
    octets: u64,
    has_control: bool,
    pub(super) done: Vec<Typed>,
    pub(super) more: u64,
    /// Lines that are no text.
    pub(super) no_text: u64,
}

impl Script {
    /// Takes what came at `at`.
    pub(super) fn push(&mut self, at: i64, input: &[u8]) {
        for part in input.split_inclusive(|octet| *octet == b'\n') {
            let (part, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |line| (line, true));
            self.octets += part.len() as u64;
            let (kept, beyond) = part.split_at(part.len().min(LOOKED.saturating_sub(self.line.len())));
            self.line.extend_from_slice(kept);
            // A carriage return at the end is none.
            self.has_control |= beyond.iter().any(|octet| octet.is_ascii_control() && !matches!(octet, b'\t' | b'\r'));
            if is_whole {
                self.octets += 1;
                self.enter(at);
            }
        }
    }

    /// There is nothing more: what came last is a line, too.
    pub(super) fn end(&mut self, at: i64) {
        if self.octets > 0 {
            self.enter(at);
        }
    }

    fn enter(&mut self, at: i64) {
        let (line, octets) = (std::mem::take(&mut self.line), std::mem::take(&mut self.octets));
        let has_control = std::mem::take(&mut self.has_control);
        let Some((text, is_cut)) = text(&line, octets > line.len() as u64 + 1).filter(|_| !has_control) else {
            self.no_text += 1;
            return;
        };
        if text.is_empty() {
            return;
        }
        if self.done.len() >= MOST {
            self.more += 1;
            return;
        }
        self.done.push(Typed::new(at, &text, is_cut));
    }
}

/// What a line says, if it is text, and whether it says more; of one that is cut the end may be half a character.
fn text(line: &[u8], is_cut: bool) -> Option<(String, bool)> {
    let valid = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&line[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let line = valid.strip_suffix('\r').unwrap_or(valid).trim_matches([' ', '\t']);
    // Where it came through a transcript, U+FFFD is what was no UTF-8.
    if line.chars().any(|c| (c.is_control() && c != '\t') || c == char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let text: String = line.chars().take(LONGEST).collect();
    let is_cut = is_cut || text.len() < line.len();
    Some((text, is_cut))
}
