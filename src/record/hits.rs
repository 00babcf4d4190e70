//! Records that were found in the log, by where they lie: they may be all of a log, which nobody wants in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::search::{Filter, gather, time_of};
use crate::event::Utc;

/// Such records.
#[derive(Debug)]
pub struct Hits {
    files: Vec<File>,
    /// From the oldest to the newest.
    places: Vec<Place>,
}

/// Where one lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    time: Utc,
    file: u32,
    len: u32,
    at: u64,
}

impl Hits {
    /// The last `last` records of the log in `dir` that fit `filter`, and whether there are others before them.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn find(dir: &Path, filter: &Filter, last: usize) -> io::Result<(Hits, bool)> {
        let place = |file: usize, at, line: &str| {
            // What has no time comes first, as it is.
            let time = time_of(line).parse().unwrap_or_else(|_| Utc::from_micros(i64::MIN));
            // There are few files, and no line is longer than a record.
            Place { time, file: file as u32, len: line.len() as u32, at }
        };
        // One more tells whether there are more.
        let (mut places, files) = gather(dir, filter, last.saturating_add(1), place)?;
        let has_more = places.len() > last;
        if has_more {
            places.pop_front();
        }
        Ok((Hits { files, places: places.into() }, has_more))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Their lines, without line feeds, in the order of [`by_time`](super::by_time).
    pub fn by_time(mut self) -> impl Iterator<Item = io::Result<String>> {
        // Those that have the same time keep the order in which they are.
        self.places.sort_by_key(|place| place.time);
        let Hits { files, places } = self;
        places.into_iter().filter_map(move |place| {
            let mut line = vec![0; place.len as usize];
            match files.get(place.file as usize)?.read_exact_at(&mut line, place.at) {
                Ok(()) => String::from_utf8(line).ok().map(Ok),
                // It was cut off since: it is no record any more.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => Some(Err(error)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, SessionId};
    use crate::record::{EventLog, LogLimits, Record, by_time, search};

    #[test]
    fn they_are_what_a_search_finds() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { file_bytes: 1000, total_bytes: 1 << 20, ..LogLimits::default() };
        let mut log = EventLog::open(dir.path(), limits, Utc::EPOCH).unwrap();
        for number in 0..100i64 {
            // Nearly in the order of their times.
            let mut record = Record::bare(0, Utc::from_micros((number ^ 5) / 2 * 1_000_000), EventId::TcpOpen);
            record.session = Some(SessionId(1 + number as u64 % 3));
            record.reason = Some("ä".repeat(number as usize % 7));
            log.push(&mut record);
            log.flush(Utc::EPOCH);
        }
        assert!(std::fs::read_dir(dir.path()).unwrap().count() > 10, "it has several files");
        std::fs::write(dir.path().join("events-00000000000000000000.ndjson"), "\n\u{fffd}\nnone\n").unwrap();
        let rare = Filter { session: Some("0000000000000002".into()), ..Filter::default() };
        let none = Filter { session: Some("2".into()), ..Filter::default() };
        for (filter, all) in [(Filter::default(), 100), (rare, 33), (none, 0)] {
            for last in [0, 1, 2, 7, 32, 33, 34, 99, 100, 1000, usize::MAX] {
                let (hits, has_more) = Hits::find(dir.path(), &filter, last).unwrap();
                assert_eq!(
                    (hits.len(), has_more, hits.is_empty()),
                    (all.min(last), all > last, all.min(last) == 0),
                    "{last}"
                );
                let lines: Vec<String> = hits.by_time().collect::<Result<_, _>>().unwrap();
                assert_eq!(lines, by_time(search(dir.path(), &filter, last).unwrap()), "{last}");
            }
        }
    }

    #[test]
    fn what_is_deleted_or_cut_meanwhile_harms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        let line = r#"{"v":1,"seq":1,"time":"2026-01-31T12:00:00.000000Z","event":"tcp.open"}"#;
        std::fs::write(&path, format!("{line}\n{line}\n")).unwrap();
        let (hits, _) = Hits::find(dir.path(), &Filter::default(), 10).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(line.len() as u64 + 5).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(hits.by_time().collect::<Result<Vec<_>, _>>().unwrap(), [line]);
        let (hits, has_more) = Hits::find(dir.path(), &Filter::default(), 10).unwrap();
        assert!(hits.is_empty() && !has_more);
        assert!(Hits::find(Path::new("/nowhere"), &Filter::default(), 1).is_err());
    }
}
