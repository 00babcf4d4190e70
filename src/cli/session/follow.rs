//! `honeyweave session follow`: what an attacker sees while it happens, until the session is over.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use miette::{IntoDiagnostic, miette};

use super::super::table;
use super::replay::{RESET, casts, next_of, open};
use super::{Which, directory, events, unreadable};
use crate::control::place::Live;
use crate::event::{EventId, SessionId};
use crate::record::tape::TAPE;
use crate::record::transcript::{Harmless, Moment, What};
use crate::record::{Record, Tail, open_regular, session};
use crate::sys::clock;
use crate::sys::signal::Signals;

/// How often a cast that is being written is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked whether all is over, in microseconds.
const ASK: i64 = 1_000_000;
/// How long something may be on its way to the disk once all is over, in microseconds.
const LAST: i64 = 1_000_000;
/// Octets at the end of a tape that have its last line in them.
const END: u64 = 4096;

/// Why there will be nothing more.
struct Watch {
    dir: PathBuf,
    id: SessionId,
    log: Tail,
    asked: i64,
    /// What is over, and since when.
    over: Option<(&'static str, i64)>,
    signals: Signals,
    /// The tape of a connection of which it was told that it is over.
    told: Option<PathBuf>,
}

impl Watch {
    fn new(dir: PathBuf, id: SessionId) -> miette::Result<Watch> {
        let signals = Signals::take(&[libc::SIGINT, libc::SIGTERM]).into_diagnostic()?;
        let log = events(&dir);
        // What is added while the log is read is seen afterward.
        let tail = Tail::new(&log).map_err(|error| unreadable(&log, &error))?;
        let found = session(&log, id, |_, _| Ok(())).map_err(|error| unreadable(&log, &error))?;
        let over = found.is_some_and(|found| found.ended).then(|| ("the session is over", clock::monotonic_micros()));
        Ok(Watch { dir, id, log: tail, asked: i64::MIN, over, signals, told: None })
    }

    /// Whether it was interrupted.
    fn is_interrupted(&self) -> bool {
        self.signals.next().is_some()
    }

    /// Why nothing more will come, if so; waits a moment otherwise. `cast` is what is shown.
    fn rest(&mut self, cast: &Path) -> miette::Result<Option<&'static str>> {
        let now = clock::monotonic_micros();
        if self.over.is_none() && now.saturating_sub(self.asked) >= ASK {
            self.asked = now;
            self.ask(now)?;
            self.tell_end_of(cast)?;
        }
        if let Some((why, _)) = self.over.filter(|(_, since)| now - since >= LAST) {
            return Ok(Some(why));
        }
        std::thread::sleep(LOOK);
        Ok(None)
    }

    fn ask(&mut self, now: i64) -> miette::Result<()> {
        let (id, mut has_ended) = (self.id, false);
        self.log
            .look(|line| {
                // Most lines are about something else, and need not be read.
                has_ended |= line.contains(EventId::SessionEnd.as_str())
                    && serde_json::from_str::<Record>(line)
                        .is_ok_and(|record| record.event == EventId::SessionEnd && record.session == Some(id));
            })
            .map_err(|error| unreadable(&self.dir, &error))?;
        let name = self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Whoever cannot tell waits on.
        let is_down = Live::find(name).is_ok_and(|live| live.is_none());
        self.over = match (has_ended, is_down) {
            (true, _) => Some(("the session is over", now)),
            (_, true) => Some(("the honeynet has ended", now)),
            _ => None,
        };
        Ok(())
    }

    /// Says once that the connection whose cast that is has ended.
    fn tell_end_of(&mut self, cast: &Path) -> miette::Result<()> {
        let Some(tape) = tape_of(cast) else { return Ok(()) };
        if self.told.as_ref() != Some(&tape) && has_end(&tape) {
            let word = "(the connection is over; another one of the session would be shown, Ctrl-C ends this)\n";
            table::put(&format!("{RESET}{word}"))?;
            self.told = Some(tape);
        }
        Ok(())
    }
}

/// The tape of the connection that a cast belongs to: `STEM.ndjson` of `STEM-CHANNEL-NNNN.cast`.
fn tape_of(cast: &Path) -> Option<PathBuf> {
    let name = cast.file_stem()?.to_str()?;
    let (stem, _) = name.rsplit_once('-')?;
    let (stem, _) = stem.rsplit_once('-')?;
    Some(cast.with_file_name(format!("{stem}{TAPE}")))
}

/// Whether the last line of a tape is there.
fn has_end(tape: &Path) -> bool {
    let read = || -> std::io::Result<String> {
        let mut file: File = open_regular(tape)?;
        let from = file.metadata()?.len().saturating_sub(END);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        file.take(END).read_to_end(&mut end).map(|_| String::from_utf8_lossy(&end).into_owned())
    };
    let last = |text: String| text.trim_end().rsplit('\n').next().is_some_and(|line| line.contains("\"total\":"));
    read().is_ok_and(last)
}

/// Shows it.
pub fn run(which: &Which) -> miette::Result<ExitCode> {
    let dir = directory(&which.target)?;
    // The newest, and then those that follow it.
    let Some(mut path) = casts(&dir, which.id)?.pop() else {
        return Err(miette!("there is no transcript of session {} yet", which.id));
    };
    let mut watch = Watch::new(dir.clone(), which.id)?;
    let why = loop {
        let (mut cast, mut harmless) = (open(&path)?, Harmless::default());
        let next = loop {
            if watch.is_interrupted() {
                break Err("");
            }
            match next_of(&mut cast, &path)? {
                Some(Moment { what: What::Output(output), .. }) => {
                    if !table::put(&harmless.push(&output))? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Some(_) => {}
                None => {
                    if let Some(later) = casts(&dir, which.id)?.into_iter().find(|later| *later > path) {
                        break Ok(later);
                    }
                    if let Some(why) = watch.rest(&path)? {
                        break Err(why);
                    }
                }
            }
        };
        match next {
            Ok(later) => path = later,
            Err(why) => break why,
        }
    };
    let word = if why.is_empty() { String::new() } else { format!("({why})\n") };
    table::put(&format!("{RESET}{word}"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cast_and_its_tape() {
        let tape = tape_of(Path::new("/x/20261130T025429Z-ssh-00000000000000a7-0003-0001.cast"));
        assert_eq!(tape, Some("/x/20261130T025429Z-ssh-00000000000000a7.ndjson".into()));
        assert_eq!(tape_of(Path::new("/x/other.cast")), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tape");
        for (text, is_over) in
            [("", false), ("{\"at\":1,\"opened\":{}}\n", false), ("{\"at\":1}\n{\"at\":2,\"total\":{}}\n", true)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(has_end(&path), is_over, "{text}");
        }
        assert!(!has_end(&dir.path().join("none")));
    }
}
