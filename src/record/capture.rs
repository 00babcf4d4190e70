//! The captures of a honeynet: a series of pcapng files for each uplink and each
//! container, bounded in size, in number and all together.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::pcap::{Direction, PcapFile};

/// Bounds of the captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureLimits {
    /// Octets after which a file is followed by the next.
    pub file_bytes: u64,
    /// Files kept of each series.
    pub series_files: usize,
    /// Octets of all files together.
    pub total_bytes: u64,
    /// Files of all series together.
    pub total_files: usize,
    /// Files open at once.
    pub open_files: usize,
    /// Seconds without a frame after which a file is closed.
    pub idle_secs: u64,
}

impl Default for CaptureLimits {
    fn default() -> CaptureLimits {
        CaptureLimits {
            file_bytes: 64 << 20,
            series_files: 8,
            total_bytes: 2 << 30,
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
pub struct CaptureStats {
    /// Frames written.
    pub frames: u64,
    /// Frames that the disk did not take.
    pub dropped: u64,
    /// Frames lost on their way here.
    pub ring_lost: u64,
    /// Files deleted to keep within the limits.
    pub deleted: u64,
    /// The last failure, until a write succeeds.
    pub failing: Option<String>,
}

struct Series {
    file: PcapFile,
    used_nanos: u64,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    series: String,
    bytes: u64,
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
    stats: CaptureStats,
    edit: Option<Edit>,
}

/// Makes of a frame what is written of it.
pub type Edit = Box<dyn Fn(&mut Vec<u8>) + Send>;

impl CaptureSet {
    /// Captures into `dir`, which must exist. Files of former runs count towards the limits.
    pub fn open(dir: &Path, limits: CaptureLimits) -> io::Result<CaptureSet> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((series, _)) = name.to_str().and_then(parse_name) else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_file() {
                let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                kept.push((modified, Kept { path: entry.path(), series: series.to_owned(), bytes: meta.len() }));
            }
        }
        // Within a series the number decides: a clock that was set back must not.
        kept.sort_by(|(a_time, a), (b_time, b)| (a_time, &a.path).cmp(&(b_time, &b.path)));
        let mut numbers = HashMap::new();
        for (_, file) in &kept {
            let number = file.path.file_name().and_then(|n| n.to_str()).and_then(parse_name).map_or(0, |(_, n)| n);
            let highest = numbers.entry(file.series.clone()).or_insert(number);
            *highest = number.max(*highest);
        }
        let kept = kept.into_iter().map(|(_, file)| file).collect();
        let mut set = CaptureSet {
            dir: dir.to_owned(),
            limits,
            open: HashMap::new(),
            kept,
            numbers,
            retry_nanos: 0,
            stats: CaptureStats::default(),
            edit: None,
        };
        set.prune();
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
        let full = self.open.get(source).is_some_and(|series| series.file.bytes() >= self.limits.file_bytes);
        if full {
            self.close(source);
        }
        if !self.open.contains_key(source) {
            // A disk that takes no new file is not asked again for each frame.
            if nanos < self.retry_nanos && self.retry_nanos - nanos <= 1_000_000_000 {
                self.stats.dropped += 1;
                return;
            }
            match self.create(source) {
                Ok(file) => {
                    self.open.insert(source.clone(), Series { file, used_nanos: nanos });
                }
                Err(error) => {
                    self.failed(&error);
                    self.retry_nanos = nanos.saturating_add(1_000_000_000);
                    self.stats.dropped += 1;
                    return;
                }
            }
        }
        let Some(series) = self.open.get_mut(source) else { return };
        series.used_nanos = nanos;
        self.stats.frames += 1;
        let before = series.file.dropped();
        let result = match &self.edit {
            None => series.file.frame(nanos, direction, original_len, bytes),
            Some(edit) => {
                let mut edited = bytes.to_vec();
                edit(&mut edited);
                series.file.frame(nanos, direction, original_len, &edited)
            }
        };
        let dropped = series.file.dropped() - before;
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
        for series in self.open.values_mut() {
            let before = series.file.dropped();
            let result = series.file.flush();
            results.push((series.file.dropped() - before, result));
        }
        for (dropped, result) in results {
            self.settle(dropped, result);
        }
        let idle = self.limits.idle_secs.saturating_mul(1_000_000_000);
        let old: Vec<CaptureSource> = self
            .open
            .iter()
            .filter(|(_, series)| now_nanos.saturating_sub(series.used_nanos) >= idle)
            .map(|(source, _)| source.clone())
            .collect();
        for source in old {
            self.close(&source);
        }
        self.prune();
    }

    /// Deletes the oldest file that is written no longer, as the disk has too little room: what happens now is worth more.
    pub fn make_room(&mut self) {
        if let Some(oldest) = self.kept.pop_front() {
            let gone = fs::remove_file(&oldest.path);
            let path = oldest.path.display();
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, %path, "cannot delete an old capture");
                }
                _ => {
                    tracing::warn!(%path, "the disk is nearly full: the oldest capture is deleted");
                    self.stats.deleted += 1;
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

    fn create(&mut self, source: &CaptureSource) -> io::Result<PcapFile> {
        if self.open.len() >= self.limits.open_files
            && let Some(oldest) = self.open.iter().min_by_key(|(_, series)| series.used_nanos).map(|(s, _)| s.clone())
        {
            self.close(&oldest);
        }
        let series = safe_name(&source.series);
        let number = self.numbers.get(&series).map_or(1, |number| number + 1);
        let path = self.dir.join(format!("{series}-{number:06}.pcapng"));
        self.prune();
        let file = PcapFile::create(path, &clean(&source.interface), &clean(&source.about))?;
        if self.numbers.len() >= 2 * self.limits.total_files {
            // Series whose files are all gone may count from one again.
            let kept: std::collections::HashSet<&str> = self.kept.iter().map(|file| file.series.as_str()).collect();
            let open: std::collections::HashSet<String> = self.open.keys().map(|s| safe_name(&s.series)).collect();
            self.numbers.retain(|series, _| kept.contains(series.as_str()) || open.contains(series));
        }
        self.numbers.insert(series, number);
        Ok(file)
    }

    fn close(&mut self, source: &CaptureSource) {
        let Some(series) = self.open.remove(source) else { return };
        let kept =
            Kept { path: series.file.path().to_owned(), series: safe_name(&source.series), bytes: series.file.bytes() };
        let result = series.file.close();
        self.settle(0, result);
        self.kept.push_back(kept);
        self.prune();
    }

    fn settle(&mut self, dropped: u64, result: io::Result<bool>) {
        self.stats.dropped += dropped;
        self.stats.frames = self.stats.frames.saturating_sub(dropped);
        match result {
            Ok(true) => self.stats.failing = None,
            // Nothing was asked of the disk, which may still be full.
            Ok(false) => {}
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if self.stats.failing.is_none() {
            let dir = self.dir.display();
            tracing::error!(%error, %dir, "frames cannot be captured to the disk and are counted as dropped");
        }
        self.stats.failing = Some(error.to_string());
    }

    fn prune(&mut self) {
        let mut per_series: HashMap<&str, usize> = HashMap::new();
        for source in self.open.keys() {
            *per_series.entry(source.series.as_str()).or_default() += 1;
        }
        let mut per_series: HashMap<String, usize> =
            per_series.into_iter().map(|(series, n)| (safe_name(series), n)).collect();
        for file in &self.kept {
            *per_series.entry(file.series.clone()).or_default() += 1;
        }
        let mut bytes: u64 = self.open.values().map(|series| series.file.bytes()).sum();
        bytes += self.kept.iter().map(|file| file.bytes).sum::<u64>();
        let mut files = self.kept.len() + self.open.len();
        let mut kept = VecDeque::with_capacity(self.kept.len());
        while let Some(file) = self.kept.pop_front() {
            let of_series = per_series.entry(file.series.clone()).or_default();
            let over = bytes > self.limits.total_bytes || files > self.limits.total_files;
            if !over && *of_series <= self.limits.series_files {
                kept.push_back(file);
                continue;
            }
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %file.path.display(), "cannot delete an old capture");
                }
                _ => self.stats.deleted += 1,
            }
            *of_series -= 1;
            bytes = bytes.saturating_sub(file.bytes);
            files -= 1;
        }
        self.kept = kept;
    }
}

impl Drop for CaptureSet {
    fn drop(&mut self) {
        self.close_all();
    }
}

/// The captures that lie in `dir`, each with the name of its series: by that, and in the order in which they were written.
///
/// # Errors
/// If they cannot be listed.
pub(super) fn captures(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some((series, number)) = name.to_str().and_then(parse_name) {
            found.push((series.to_owned(), number, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(series, _, path)| (series, path)).collect())
}

fn parse_name(name: &str) -> Option<(&str, u64)> {
    let (series, number) = name.strip_suffix(".pcapng")?.rsplit_once('-')?;
    (!series.is_empty() && number.len() >= 6).then_some(())?;
    Some((series, number.parse().ok()?))
}

// Letters, digits and a few signs; what had others gets a mark of the whole, so that no two become one.
fn safe_name(name: &str) -> String {
    const LONGEST: usize = 100;
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let bare = |name: &str| name.starts_with(['.', '-']) || name.is_empty();
    if name.len() <= LONGEST && name.chars().all(fine) && !bare(name) {
        return name.to_owned();
    }
    let mark = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3));
    let safe: String = name.chars().take(LONGEST).map(|c| if fine(c) { c } else { '_' }).collect();
    format!("{}{safe}.{mark:016x}", if bare(&safe) { "_" } else { "" })
}

// The crate's options are text of at most 65,535 octets.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect()
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
