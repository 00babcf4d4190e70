//! What a program without a terminal reads, and what it says. Both are octets, and kept as they are besides: what is no text,
//! such as a program that `cat` writes to a file, or an archive that `tar` makes, is in no transcript.
//!
//! Of what it reads everything is kept. What it says is kept if it is no text, or more than a few words: those the
//! transcript has as they are, and most programs say no more.

use bytes::Bytes;

use super::{Files, Moving};
use crate::relay::tape::{Direction, Entry, Stream, Text};

/// Octets that a program may say, and no file has them if they are text.
const WORDS: usize = 4 * 1024;

/// One program.
pub(in crate::relay::ssh) struct Program {
    program: Text,
    files: Files,
    /// What it has read; most programs read nothing.
    reads: Option<Moving>,
    says: Says,
}

/// What it has said.
enum Says {
    /// Text so far, and not much.
    Words(Vec<u8>),
    File(Box<Moving>),
}

impl Program {
    pub(super) fn new(program: Text, files: Files) -> Program {
        Program { program, files, reads: None, says: Says::Words(Vec::new()) }
    }

    /// The next octets that it reads, or says; its errors are text.
    pub(super) fn next(&mut self, stream: Stream, data: &Bytes, told: &mut Vec<Entry>) {
        match stream {
            _ if data.is_empty() => {}
            Stream::Input => self.reads(data, told),
            Stream::Output => self.says(data, told),
            Stream::Error => {}
        }
    }

    fn reads(&mut self, data: &Bytes, told: &mut Vec<Entry>) {
        let Program { program, files, reads, .. } = self;
        reads.get_or_insert_with(|| files.begin(program.clone(), Direction::Input, told)).next(data.clone(), told);
    }

    fn says(&mut self, data: &Bytes, told: &mut Vec<Entry>) {
        let words = match &mut self.says {
            Says::File(file) => return file.next(data.clone(), told),
            Says::Words(words) => words,
        };
        let before = words.len();
        if before + data.len() <= WORDS {
            words.extend_from_slice(data);
            if is_text(words, false) {
                return;
            }
            words.truncate(before);
        }
        let words = std::mem::take(words);
        let mut file = self.files.begin(self.program.clone(), Direction::Output, told);
        file.next(words.into(), told);
        file.next(data.clone(), told);
        self.says = Says::File(Box::new(file));
    }

    /// Nothing more comes.
    pub(super) fn end(self) -> Vec<Entry> {
        let mut told = Vec::new();
        let said = match self.says {
            Says::Words(words) if is_text(&words, true) => None,
            Says::Words(words) => {
                let mut file = self.files.begin(self.program, Direction::Output, &mut told);
                file.next(words.into(), &mut told);
                Some(file)
            }
            Says::File(file) => Some(*file),
        };
        told.extend(self.reads.into_iter().chain(said).map(Moving::end));
        told
    }
}

/// Whether octets are text that a transcript has as it is. If they are not the `whole` of it, a character may go on.
fn is_text(octets: &[u8], whole: bool) -> bool {
    let is_utf8 = match std::str::from_utf8(octets) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && !whole,
    };
    // A NUL is UTF-8, and in no text.
    is_utf8 && !octets.contains(&0)
}
