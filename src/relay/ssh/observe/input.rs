//! What a program without a terminal reads. It is octets, and kept as they are besides: what is no text, such as a program
//! that `cat` writes to a file, is in no transcript.

use bytes::Bytes;

use super::{Files, Moving};
use crate::relay::tape::{Direction, Entry, Text};

/// Of one program.
pub(in crate::relay::ssh) struct Input {
    program: Text,
    files: Files,
    /// What it has read; most programs read nothing.
    moving: Option<Moving>,
}

impl Input {
    pub(super) fn new(program: Text, files: Files) -> Input {
        Input { program, files, moving: None }
    }

    /// The next octets.
    pub(super) fn next(&mut self, data: &Bytes, told: &mut Vec<Entry>) {
        if data.is_empty() {
            return;
        }
        let Input { program, files, moving } = self;
        moving.get_or_insert_with(|| files.begin(program.clone(), Direction::Input, told)).next(data.clone(), told);
    }

    /// Nothing more comes.
    pub(super) fn end(self) -> Vec<Entry> {
        self.moving.map(Moving::end).into_iter().collect()
    }
}
