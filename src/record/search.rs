//! Finding records in the log's files.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::open_regular;
use crate::event::Utc;

/// Name of the file that is being written.
pub const CURRENT: &str = "events.ndjson";

// Longer than any record: 1,024 octets take 1,368 characters as base64 and at most 2,048 as text.
pub(super) const MAX_LINE: u64 = 64 << 10;

/// A file of the log that is no longer written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Where it is.
    pub path: PathBuf,
    /// Number of its first record.
    pub first_seq: u64,
    /// Its length.
    pub bytes: u64,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Only this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only events whose id is this or begins with it up to a dot: `tcp`, `tcp.` and `tcp.probe` all fit `tcp.probe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Only what happened then or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Utc>,
    /// Only what had happened by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Utc>,
    /// Only what came from this address (`src`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attacker: Option<IpAddr>,
    /// Only what this host was told (`dst`), or what it did (`src`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Head<'a> {
    seq: u64,
    #[serde(default)]
    time: Option<Utc>,
    event: &'a str,
    #[serde(default)]
    session: Option<&'a str>,
    #[serde(default)]
    src: End,
    #[serde(default)]
    dst: End,
}

#[derive(Deserialize, Default)]
struct End {
    #[serde(default)]
    ip: Option<IpAddr>,
}

impl Filter {
    /// Whether every record fits.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    /// The number of the record in `line` if it fits; `None` if it does not or is no record.
    pub fn matches(&self, line: &str) -> Option<u64> {
        let head: Head<'_> = serde_json::from_str(line).ok()?;
        let event = self.event.as_deref().is_none_or(|wanted| {
            let wanted = wanted.strip_suffix('.').unwrap_or(wanted);
            let rest = head.event.strip_prefix(wanted);
            rest.is_some_and(|rest| wanted.is_empty() || rest.is_empty() || rest.starts_with('.'))
        });
        let session = self.session.as_deref().is_none_or(|wanted| head.session == Some(wanted));
        let since = self.since.is_none_or(|since| head.time.is_some_and(|time| time >= since));
        let until = self.until.is_none_or(|until| head.time.is_some_and(|time| time <= until));
        let attacker = self.attacker.is_none_or(|ip| head.src.ip == Some(ip));
        let host = self.host.is_none_or(|ip| [head.src.ip, head.dst.ip].contains(&Some(ip)));
        (event && session && since && until && attacker && host).then_some(head.seq)
    }

    /// Looks for the same where that costs less than to read a line: what is in none that fits.
    fn sieve(&self) -> Sieve {
        let written = |time: Option<Utc>| time.map(|time| time.to_string());
        let addresses = [self.attacker, self.host].into_iter().flatten().map(|ip| format!("\"{ip}\""));
        Sieve {
            since: written(self.since),
            until: written(self.until),
            parts: self.session.iter().cloned().chain(addresses).collect(),
        }
    }
}

/// What a line that fits has.
struct Sieve {
    since: Option<String>,
    until: Option<String>,
    parts: Vec<String>,
}

impl Sieve {
    fn passes(&self, line: &str) -> bool {
        // Most lines begin with their time; of others the whole is read.
        let time = time_of(line);
        let since = self.since.as_deref().is_none_or(|since| time.is_empty() || time >= since);
        let until = self.until.as_deref().is_none_or(|until| time.is_empty() || time <= until);
        since && until && self.parts.iter().all(|part| line.contains(part.as_str()))
    }
}

/// The rotated files of the log in `dir`, oldest first.
pub fn rotated_files(dir: &Path) -> io::Result<Vec<LogFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("events-")?.strip_suffix(".ndjson"));
        let Some(first_seq) = number.filter(|n| n.len() == 20).and_then(|n| n.parse().ok()) else { continue };
        match entry.metadata() {
            Ok(meta) if meta.is_file() => files.push(LogFile { path: entry.path(), first_seq, bytes: meta.len() }),
            // Deleted since it was listed, or not ours.
            _ => {}
        }
    }
    files.sort_by_key(|file| file.first_seq);
    Ok(files)
}

/// The log's files in `dir`, oldest first, the one that is being written last.
pub fn log_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = rotated_files(dir)?.into_iter().map(|file| file.path).collect();
    paths.push(dir.join(CURRENT));
    Ok(paths)
}

/// Number of the first record in the file at `path`.
pub fn first_seq(path: &Path) -> Option<u64> {
    Filter::default().matches(&first_line(path)?)
}

/// Time of the first record in the file at `path`.
pub(super) fn first_time(path: &Path) -> Option<Utc> {
    #[derive(Deserialize)]
    struct Timed {
        time: Utc,
    }
    serde_json::from_str::<Timed>(&first_line(path)?).ok().map(|timed| timed.time)
}

fn first_line(path: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(open_regular(path).ok()?.take(MAX_LINE)).read_line(&mut line).ok()?;
    Some(line)
}

/// The last `last` records of the log in `dir` that fit `filter`, as lines
/// without line feeds, oldest first. Lines that are no records are skipped.
pub fn search(dir: &Path, filter: &Filter, last: usize) -> io::Result<Vec<String>> {
    let (found, _) = gather(dir, filter, last, |_, _, text| text.to_owned())?;
    Ok(found.into())
}

/// What `make` makes of the last `last` records of the log in `dir` that fit `filter`, oldest first, and the files that they are
/// in. It is given which of these that is, where in it the line begins, and the line.
pub(super) fn gather<T>(
    dir: &Path,
    filter: &Filter,
    last: usize,
    mut make: impl FnMut(usize, u64, &str) -> T,
) -> io::Result<(VecDeque<T>, Vec<File>)> {
    // The current file is opened before the others are listed, so that one that is rotated meanwhile is not missed.
    let current = match open_regular(&dir.join(CURRENT)) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut rotated = rotated_files(dir)?;
    let (mut found, mut files) = (VecDeque::new(), Vec::new());
    let mut oldest = u64::MAX;
    if let Some(file) = current {
        oldest = collect(&file, filter, last, &mut found, |at, text| make(0, at, text))?.unwrap_or(u64::MAX);
        files.push(file);
    }
    while let (Some(file), true) = (rotated.pop(), found.len() < last) {
        if file.first_seq >= oldest {
            continue;
        }
        let opened = match open_regular(&file.path) {
            Ok(opened) => opened,
            // The total limit took it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut of_file = VecDeque::new();
        collect(&opened, filter, last - found.len(), &mut of_file, |at, text| make(files.len(), at, text))?;
        // What nothing is in need not stay open.
        if !of_file.is_empty() {
            files.push(opened);
        }
        of_file.append(&mut found);
        found = of_file;
    }
    Ok((found, files))
}

/// Records as `search` finds them, in the order of their times. What is told by several processes is written down in the order
/// in which it arrived: what happens inside a container comes later than what passes the wire.
pub fn by_time(mut lines: Vec<String>) -> Vec<String> {
    // Those that have the same time keep the order in which they are.
    lines.sort_by(|one, other| time_of(one).cmp(time_of(other)));
    lines
}

/// The time of a record as it is written, which sorts as it is. Behind two numbers it is what a line begins with: nothing that
/// an attacker wrote comes before it, and to read the rest would cost more than to find the line did.
pub(super) fn time_of(line: &str) -> &str {
    const NAME: &str = "\"time\":\"";
    const LONG: usize = "2026-01-31T12:00:00.123456Z".len();
    let at = line.find(NAME).map_or(line.len(), |at| at + NAME.len());
    line.get(at..at + LONG).unwrap_or_default()
}

/// Gives `each` every line of the log in `dir` without its line feed, from the oldest to the newest.
///
/// # Errors
/// If the log cannot be read, or those of `each`.
pub(super) fn scan(dir: &Path, mut each: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    // As in `search`: the current file first, and then what was rotated before.
    let current = match open_regular(&dir.join(CURRENT)) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // One that is rotated meanwhile has two names, one that was begun meanwhile is later than what is wanted.
    let same = |file: &File| Ok::<_, io::Error>((file.metadata()?.dev(), file.metadata()?.ino()));
    let newest = current.as_ref().map(same).transpose()?;
    for file in rotated_files(dir)? {
        match open_regular(&file.path) {
            Ok(file) if newest.is_some() && Some(same(&file)?) == newest => break,
            Ok(file) => lines(&file, &mut |_, text| each(text))?,
            // The total limit took it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    current.map_or(Ok(()), |file| lines(&file, &mut |_, text| each(text)))
}

/// Gives `each` the whole lines that `file` has by now, and where they begin. Those that are no text, or longer than any record,
/// are passed over.
fn lines(file: &File, each: &mut impl FnMut(u64, &str) -> io::Result<()>) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(256 << 10, file.take(len));
    let (mut line, mut at) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(());
        }
        if line.pop() == Some(b'\n')
            && let Ok(text) = std::str::from_utf8(&line)
        {
            each(at, text)?;
        }
        at += read;
    }
}

/// The file that is being written in `dir`.
pub(super) fn open_current(dir: &Path) -> io::Result<File> {
    open_regular(&dir.join(CURRENT))
}

/// Gives `each` the lines, with their line feeds, among the last `octets` of the file that is being written in `dir`, the
/// first of which may be torn. What cannot be read is not there.
pub(super) fn tail(dir: &Path, octets: u64, mut each: impl FnMut(&[u8])) {
    let Ok(mut file) = open_current(dir) else { return };
    let from = file.metadata().map_or(0, |about| about.len()).saturating_sub(octets);
    if file.seek(SeekFrom::Start(from)).is_err() {
        return;
    }
    let (mut reader, mut line) = (BufReader::new(file.take(octets)), Vec::new());
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        each(&line);
        line.clear();
    }
}

// Returns the number of the first record in the file.
fn collect<T>(
    file: &File,
    filter: &Filter,
    last: usize,
    found: &mut VecDeque<T>,
    mut make: impl FnMut(u64, &str) -> T,
) -> io::Result<Option<u64>> {
    let (mut first, sieve) = (None, filter.sieve());
    lines(file, &mut |at, text| {
        if first.is_none() {
            first = Filter::default().matches(text);
        }
        if !sieve.passes(text) {
            return Ok(());
        }
        if filter.matches(text).is_some() {
            if found.len() == last {
                found.pop_front();
            }
            if last > 0 {
                found.push_back(make(at, text));
            }
        }
        Ok(())
    })?;
    Ok(first)
}
