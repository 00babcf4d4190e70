//! What of a session is over: a channel, or its connection, as the tape tells it.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::record::open_regular;
use crate::record::tape::TAPE;

/// Octets of a line of a tape.
const LINE: usize = 1 << 20;

/// What a cast's name says: `STEM-CHANNEL-NNNN.cast`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The tape of the connection: `STEM.ndjson`.
    pub tape: PathBuf,
    /// `STEM-CHANNEL`.
    pub channel: String,
    /// The channel's number.
    pub number: u64,
    /// Which of its casts it is.
    pub part: u32,
}

impl Names {
    /// Whether SSH is spoken in the connection.
    pub fn is_ssh(&self) -> bool {
        self.tape.file_name().is_some_and(|name| name.to_string_lossy().contains("-ssh-"))
    }

    /// Those of a cast; none if it is no connection's.
    pub fn of(cast: &Path) -> Option<Names> {
        let (channel, part) = cast.file_stem()?.to_str()?.rsplit_once('-')?;
        let (stem, number) = channel.rsplit_once('-')?;
        Some(Names {
            tape: cast.with_file_name(format!("{stem}{TAPE}")),
            channel: channel.to_owned(),
            number: number.parse().ok()?,
            part: part.parse().ok()?,
        })
    }
}

/// What a tape tells of ends, as far as it was read.
#[derive(Default, Debug)]
pub struct Ends {
    read: u64,
    /// A line whose end is not there yet.
    line: Vec<u8>,
    closed: HashSet<u64>,
    is_all: bool,
}

impl Ends {
    /// Whether that channel is over.
    pub fn have(&self, channel: u64) -> bool {
        self.is_all || self.closed.contains(&channel)
    }

    /// Whether the connection is.
    pub fn is_all(&self) -> bool {
        self.is_all
    }

    /// Reads what is new on `tape`. Of one that cannot be read nothing is known: it may not be there yet.
    pub fn look(&mut self, tape: &Path) {
        if !self.is_all {
            let _ = self.read(tape);
        }
    }

    fn read(&mut self, tape: &Path) -> io::Result<()> {
        let mut file = open_regular(tape)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::new(file);
        loop {
            let room = LINE.saturating_sub(self.line.len()) as u64;
            let got = (&mut reader).take(room).read_until(b'\n', &mut self.line)?;
            if got == 0 {
                return Ok(());
            }
            self.read += got as u64;
            if self.line.last() == Some(&b'\n') || self.line.len() >= LINE {
                self.learn();
                self.line.clear();
            }
        }
    }

    fn learn(&mut self) {
        // Most lines are about something else, and need not be read: within a text a quote has a backslash before it.
        let is_about = |line: &str| line.contains("\"closed\":") || line.contains("\"total\":");
        let Some(line) = std::str::from_utf8(&self.line).ok().filter(|line| is_about(line)) else { return };
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        self.closed.extend(line["closed"]["channel"].as_u64());
        self.is_all |= line["total"].is_object();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_cast_and_its_tape() {
        let names = Names::of(Path::new("/x/20261130T025429Z-ssh-00000000000000a7-0003-0001.cast"));
        let expected = Names {
            tape: "/x/20261130T025429Z-ssh-00000000000000a7.ndjson".into(),
            channel: "20261130T025429Z-ssh-00000000000000a7-0003".into(),
            number: 3,
            part: 1,
        };
        assert_eq!(names, Some(expected));
        for other in ["/x/other.cast", "/x/a-b-c.cast", "/x/a-1-c.cast", "/"] {
            assert_eq!(Names::of(Path::new(other)), None);
        }
    }

    #[test]
    fn ends_are_read_as_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tape");
        let mut ends = Ends::default();
        ends.look(&path);
        let mut file = File::create(&path).unwrap();
        let mut look = |text: &str| {
            file.write_all(text.as_bytes()).unwrap();
            ends.look(&path);
            ([1, 2, 3].map(|channel| ends.have(channel)), ends.is_all())
        };
        assert_eq!(look("{\"at\":1,\"opened\":{}}\n{\"at\":1,\"closed\":{\"cha"), ([false; 3], false));
        assert_eq!(look("nnel\":2}}\n"), ([false, true, false], false));
        // What an attacker says is none.
        let text = serde_json::to_string("\"closed\":{\"channel\":1},\"total\":{}").unwrap();
        assert_eq!(look(&format!("{{\"at\":1,\"exec\":{text}}}\n\"total\": []\n")), ([false, true, false], false));
        assert_eq!(look("{\"at\":2,\"total\":{}}"), ([false, true, false], false));
        assert_eq!(look("\n"), ([true; 3], true));
    }
}
