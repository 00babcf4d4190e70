//! The captures of a honeynet: a series of pcapng files for each uplink and each
//! container, each bounded in size and in time, and compressed when it is over.
//!
//! What lies on the disk is bounded for each series and all together: the oldest goes first, and is told. Of each flow so
//! much is kept whole, and of what follows the headers, so that nobody who moves gigabytes pushes out the rest.
//!
//! * `names`: what the files are called; `compress`: the thread that compresses them; `room`: which of them go

mod compress;
mod names;
mod room;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::contacts::Contacts;
use super::file::is_full;
use super::flow::{Ends, Kept as KeptOfFlows};
use super::pcap::{Direction, PcapFile};
use crate::event::SessionId;
use compress::{Compressor, Done};
pub(super) use names::{captures, packed};
pub use room::Deleted;
use room::{Deletion, Relief};

/// Octets that are kept of a frame of a flow of which enough was kept whole.
const HEADERS: usize = 128;

/// Bounds of the captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureLimits {
    /// Octets after which a file is followed by the next, or less: half of all is for those that are over.
    pub file_bytes: u64,
    /// Seconds after which it is, too.
    pub age_secs: u64,
    /// Octets of all files of a series, as they lie on the disk.
    pub series_bytes: u64,
    /// Octets of all files together.
    pub total_bytes: u64,
    /// Octets of a flow that are kept whole; `u64::MAX` without limit.
    pub flow_bytes: u64,
    /// Octets a second of each device that whoever tells of frames tells whole; `u64::MAX` without limit.
    pub rate_bytes: u64,
    /// Whether files are compressed when they are no longer written.
    pub compress: bool,
    /// Files of all series together.
    pub total_files: usize,
    /// Descriptors of files that are written; where there are more files, the rest do without between two writes.
    pub open_files: usize,
    /// Seconds without a frame after which a file is closed.
    pub idle_secs: u64,
}

impl Default for CaptureLimits {
    fn default() -> CaptureLimits {
        CaptureLimits {
            file_bytes: 64 << 20,
            age_secs: 3600,
            series_bytes: 512 << 20,
            total_bytes: 2 << 30,
            flow_bytes: 64 << 20,
            rate_bytes: 32 << 20,
            compress: true,
            total_files: 4096,
            open_files: 64,
            idle_secs: 600,
        }
    }
}

/// Where captured frames come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CaptureSource {
    /// Begins the names of its files, made safe for a file system.
    pub series: String,
    /// Name of the interface, for the reader of the capture.
    pub interface: String,
    /// What it is.
    pub about: String,
}

/// What became of captured frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct CaptureStats {
    /// Frames written.
    pub frames: u64,
    /// Frames that the disk did not take.
    pub dropped: u64,
    /// Frames lost on their way here.
    pub ring_lost: u64,
    /// Files deleted to keep within the limits.
    pub deleted: u64,
    /// Frames of which only the headers were kept, as of their flow enough was.
    pub cut: u64,
    /// Frames of which everything was kept.
    pub whole: u64,
    /// Octets that all frames had.
    pub octets: u64,
    /// The same of frames of which everything was kept.
    pub octets_whole: u64,
    /// Files that were compressed.
    pub compressed: u64,
    /// The last failure, until a write succeeds.
    pub failing: Option<String>,
}

struct Series {
    file: PcapFile,
    opened_nanos: u64,
    used_nanos: u64,
}

/// What is to become of a file that is no longer written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Nobody has begun to compress it.
    Plain,
    /// It is being compressed.
    Taken,
    /// It stays as it is: it is compressed, or cannot be.
    Last,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    series: String,
    bytes: u64,
    form: Form,
}

/// Writes frames to the files they belong to.
pub struct CaptureSet {
    dir: PathBuf,
    limits: CaptureLimits,
    open: HashMap<CaptureSource, Series>,
    // Files that are no longer written, oldest first.
    kept: VecDeque<Kept>,
    numbers: HashMap<String, u64>,
    retry_nanos: u64,
    relief: Relief,
    flows: KeptOfFlows,
    compressor: Option<Compressor>,
    deleted: Vec<Deletion>,
    stats: CaptureStats,
    edit: Option<Edit>,
    /// Who the frames are from and for: a file ends with the sessions that are in it.
    pub contacts: Contacts,
}

/// Makes of a frame what is written of it.
pub type Edit = Box<dyn Fn(&mut Vec<u8>) + Send>;

impl CaptureSet {
    /// Captures into `dir`, which must exist. Files of former runs count towards the limits.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn open(dir: &Path, limits: CaptureLimits) -> io::Result<CaptureSet> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if names::is_half(name) {
                // Somebody died over it: the capture that it was to be is still there.
                let _ = fs::remove_file(entry.path());
            }
            let Some((series, number, is_packed)) = names::parse(name) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            if !meta.is_file() {
                continue;
            }
            if !is_packed && packed(&entry.path()).is_file() && fs::remove_file(entry.path()).is_ok() {
                // Its compressed form was whole when it got its name.
                continue;
            }
            let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let form = if is_packed { Form::Last } else { Form::Plain };
            let file = Kept { path: entry.path(), series: series.to_owned(), bytes: meta.len(), form };
            kept.push((modified, number, file));
        }
        // Within a series the number decides: a clock that was set back must not.
        kept.sort_by(|(_, a_number, a), (_, b_number, b)| (&a.series, a_number).cmp(&(&b.series, b_number)));
        for at in 1..kept.len() {
            if let Some([(earlier, _, before), (time, _, file)]) = kept.get_mut(at - 1..=at)
                && before.series == file.series
            {
                *time = (*time).max(*earlier);
            }
        }
        kept.sort_by(|(a_time, a_number, a), (b_time, b_number, b)| {
            (a_time, &a.series, a_number).cmp(&(b_time, &b.series, b_number))
        });
        let mut numbers = HashMap::new();
        for (_, number, file) in &kept {
            let highest = numbers.entry(file.series.clone()).or_insert(*number);
            *highest = (*number).max(*highest);
        }
        let compressor = limits.compress.then(Compressor::start).and_then(|started| {
            started.inspect_err(|error| tracing::warn!(%error, "captures are not compressed: there is no thread")).ok()
        });
        let mut set = CaptureSet {
            dir: dir.to_owned(),
            limits,
            open: HashMap::new(),
            kept: kept.into_iter().map(|(.., file)| file).collect(),
            numbers,
            retry_nanos: 0,
            relief: Relief::default(),
            flows: KeptOfFlows::new(limits.flow_bytes),
            compressor,
            deleted: Vec::new(),
            stats: CaptureStats::default(),
            edit: None,
            contacts: Contacts::default(),
        };
        set.prune();
        set.hand_over();
        Ok(set)
    }

    /// What is written of each frame from now on is what `edit` makes of it.
    pub fn edit(&mut self, edit: Edit) {
        self.edit = Some(edit);
    }

    /// What happened so far.
    pub fn stats(&self) -> &CaptureStats {
        &self.stats
    }

    /// Writes a frame of `source` that passed at `nanos` (UTC, since 1970).
    /// What cannot be written is dropped and counted.
    pub fn frame(&mut self, source: &CaptureSource, nanos: u64, direction: Direction, original_len: u32, bytes: &[u8]) {
        if !self.has_room(source, bytes.len() as u64) {
            return;
        }
        let is_over = self.open.get(source).map(|series| self.is_over(series, nanos));
        if is_over == Some(true) {
            self.close(source);
        }
        if is_over != Some(false) {
            // A disk that takes no new file is not asked again for each frame.
            if nanos < self.retry_nanos && self.retry_nanos - nanos <= 1_000_000_000 {
                self.stats.dropped += 1;
                return;
            }
            match self.create(source, nanos) {
                Ok(file) => {
                    self.open.insert(source.clone(), Series { file, opened_nanos: nanos, used_nanos: nanos });
                    self.set_down(source);
                }
                Err(error) => {
                    self.failed(&error);
                    self.retry_nanos = nanos.saturating_add(1_000_000_000);
                    self.stats.dropped += 1;
                    return;
                }
            }
        }
        let files = self.open.len();
        let Some(series) = self.open.get_mut(source) else { return };
        series.used_nanos = nanos;
        self.stats.frames += 1;
        let mut bytes = bytes;
        if let Some(ends) = Ends::of(bytes) {
            series.file.between(ends.pair(), files);
            if bytes.len() > HEADERS && !self.flows.take(&source.series, &ends, original_len as usize) {
                bytes = bytes.get(..HEADERS).unwrap_or(bytes);
                series.file.count_cut();
                self.stats.cut += 1;
            }
        }
        let mut edited = Vec::new();
        if let Some(edit) = &self.edit {
            edited.extend_from_slice(bytes);
            edit(&mut edited);
            bytes = &edited;
        }
        self.stats.octets += u64::from(original_len);
        if bytes.len() == original_len as usize {
            self.stats.whole += 1;
            self.stats.octets_whole += u64::from(original_len);
        }
        self.relief.took(bytes.len() as u64);
        let (before, was_held) = (series.file.dropped(), series.file.is_held());
        let result = series.file.frame(nanos, direction, original_len, bytes, files);
        let dropped = series.file.dropped() - before;
        if !was_held && series.file.is_held() {
            self.set_down(source);
        }
        self.settle(dropped, result);
    }

    /// Counts `n` frames that were lost on their way here.
    pub fn count_ring_lost(&mut self, n: u64) {
        self.stats.ring_lost += n;
        for series in self.open.values_mut() {
            series.file.count_ring_lost(n);
        }
    }

    /// Hands everything to the kernel, and closes the files that had no frame for long.
    pub fn flush(&mut self, now_nanos: u64) {
        let mut results = Vec::new();
        let mut held = self.held();
        for series in self.open.values_mut() {
            // Where the clock was set back, what it said before would keep the file open for as long.
            series.opened_nanos = series.opened_nanos.min(now_nanos);
            series.used_nanos = series.used_nanos.min(now_nanos);
            let (before, was_held) = (series.file.dropped(), series.file.is_held());
            let result = series.file.flush();
            results.push((series.file.dropped() - before, result));
            if !was_held && series.file.is_held() {
                // Who has a descriptor keeps it: if the next one took it, each would be opened anew each time.
                if held < self.limits.open_files { held += 1 } else { series.file.set_down() }
            }
        }
        for (dropped, result) in results {
            self.settle(dropped, result);
        }
        let idle = self.limits.idle_secs.saturating_mul(1_000_000_000);
        let old: Vec<CaptureSource> = self
            .open
            .iter()
            .filter(|(_, series)| {
                now_nanos.saturating_sub(series.used_nanos) >= idle || self.is_over(series, now_nanos)
            })
            .map(|(source, _)| source.clone())
            .collect();
        for source in old {
            self.close(&source);
        }
        self.settle_compressed();
        self.prune();
        self.relieve(now_nanos);
        self.hand_over();
    }

    fn is_over(&self, series: &Series, now_nanos: u64) -> bool {
        let age = now_nanos.saturating_sub(series.opened_nanos);
        let is_old = age >= self.limits.age_secs.saturating_mul(1_000_000_000);
        is_old || series.file.bytes() >= self.most_of_file() || series.file.is_gone()
    }

    fn held(&self) -> usize {
        self.open.values().filter(|series| series.file.is_held()).count()
    }

    /// Sets down the file of `source`, which has been opened, if there are too many.
    fn set_down(&mut self, source: &CaptureSource) {
        if self.held() > self.limits.open_files
            && let Some(series) = self.open.get_mut(source)
        {
            series.file.set_down();
        }
    }

    /// Gives the compressor what there is to compress.
    fn hand_over(&mut self) {
        let Some(compressor) = &self.compressor else { return };
        for file in self.kept.iter_mut().filter(|file| file.form == Form::Plain) {
            // For a while there are both.
            if !self.relief.has_room(file.bytes) || !compressor.take(&file.path) {
                return;
            }
            self.relief.took(file.bytes);
            file.form = Form::Taken;
        }
    }

    /// Puts what was compressed in the place of what it was made from.
    fn settle_compressed(&mut self) {
        let Some(compressor) = &self.compressor else { return };
        for Done { path, result } in compressor.done() {
            let half = names::half(&path);
            let octets = *result.as_ref().unwrap_or(&0);
            let named = result.and_then(|_| match self.kept.iter_mut().find(|file| file.path == path) {
                Some(file) => {
                    fs::rename(&half, packed(&path))?;
                    (file.path, file.bytes, file.form) = (packed(&path), octets, Form::Last);
                    self.stats.compressed += 1;
                    fs::remove_file(&path)
                }
                // A limit took it meanwhile.
                None => fs::remove_file(&half),
            });
            compressor.settled(octets);
            if let Err(error) = named {
                let lasts = self.kept.iter_mut().find(|file| file.path == path);
                if let Some(file) = lasts {
                    file.form = Form::Last;
                    tracing::warn!(%error, path = %path.display(), "a capture cannot be compressed, and stays as it is");
                }
            }
        }
    }

    /// Ends every file.
    pub fn close_all(&mut self) {
        let sources: Vec<CaptureSource> = self.open.keys().cloned().collect();
        for source in sources {
            self.close(&source);
        }
    }

    fn create(&mut self, source: &CaptureSource, nanos: u64) -> io::Result<PcapFile> {
        self.make_place(nanos)?;
        let series = names::safe(&source.series);
        let number = self.numbers.get(&series).map_or(1, |number| number + 1);
        let path = self.dir.join(format!("{series}-{number:06}.pcapng"));
        self.prune();
        let file = PcapFile::create(path, &clean(&source.interface), &clean(&source.about))?;
        if self.numbers.len() >= 2 * self.limits.total_files {
            // Series whose files are all gone may count from one again.
            let kept: std::collections::HashSet<&str> = self.kept.iter().map(|file| file.series.as_str()).collect();
            let open: std::collections::HashSet<String> = self.open.keys().map(|s| names::safe(&s.series)).collect();
            self.numbers.retain(|series, _| kept.contains(series.as_str()) || open.contains(series));
        }
        self.numbers.insert(series, number);
        Ok(file)
    }

    fn close(&mut self, source: &CaptureSource) {
        let Some(series) = self.open.remove(source) else { return };
        let (path, span) = (series.file.path().to_owned(), series.file.span());
        let sessions = series.file.pairs().flat_map(|pair| self.contacts.between(pair, span.0, span.1));
        let about = told_sessions(sessions.collect());
        let (bytes, result) = series.file.close(&about);
        let is_gone = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        self.settle(0, result);
        if is_gone {
            return;
        }
        self.kept.push_back(Kept { path, series: names::safe(&source.series), bytes, form: Form::Plain });
        self.prune();
    }

    fn settle(&mut self, dropped: u64, result: io::Result<bool>) {
        self.stats.dropped += dropped;
        self.stats.frames = self.stats.frames.saturating_sub(dropped);
        match result {
            Ok(true) if !self.relief.leaves_out() => self.stats.failing = None,
            // Nothing was asked of the disk, which may still be full, or its last room is not for frames.
            Ok(_) => {}
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if self.stats.failing.is_none() {
            let dir = self.dir.display();
            tracing::error!(%error, %dir, "frames cannot be captured to the disk and are counted as dropped");
        }
        if is_full(error) {
            self.make_room();
        }
        self.stats.failing = Some(error.to_string());
    }
}

impl Drop for CaptureSet {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// What a file says at its end of the sessions that are in it.
fn told_sessions(mut sessions: Vec<SessionId>) -> String {
    /// Sessions that are named.
    const NAMED: usize = 256;
    sessions.sort_unstable();
    sessions.dedup();
    let more = sessions.len().saturating_sub(NAMED);
    let mut text = sessions.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

// The crate's options are text of at most 65,535 octets.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect()
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
