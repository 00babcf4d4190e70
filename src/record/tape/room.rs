//! How much room there is on a disk, and how much of it a session may have.

use std::io;
use std::path::Path;

use super::TapeLimits;

/// One session may have a quarter of what others leave of the half that sessions that go on share; and for certain, as
/// long as that lies within three quarters, a part of the whole: 8 MiB of 8 GiB.
const SHARE: u64 = 4;
const CERTAIN: u64 = 1024;

/// What one session may have of `total`, of which `others` have so much that go on, too.
pub fn share(total: u64, others: u64) -> u64 {
    let share = (total / 2).saturating_sub(others) / SHARE;
    let certain = (total / 4 * 3).saturating_sub(others).min(total / CERTAIN);
    share.max(certain)
}

/// How much room there is, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// That may be written.
    pub free: u64,
    /// Of the whole disk.
    pub size: u64,
}

impl Space {
    /// What is missing of the room that captures that are over leave: they go before anything else ends.
    pub fn lack(self) -> u64 {
        (self.for_contents() / 2 * 3).saturating_sub(self.free)
    }

    /// What captures that are written may still take: they end before contents of files do.
    pub fn for_frames(self) -> u64 {
        self.free.saturating_sub(self.for_contents() / 4 * 5)
    }

    /// Whether contents of files are not kept any more.
    pub fn is_short(self) -> bool {
        self.free < self.for_contents()
    }

    /// What stays free for other things than contents of files.
    pub fn for_contents(self) -> u64 {
        (self.size / 20).min(512 << 20)
    }

    /// What there is no room for.
    pub fn scarce(self) -> Scarce {
        let Space { free, size } = self;
        if free < (size / 100).min(64 << 20) {
            Scarce::Tapes
        } else if free < (size / 50).min(128 << 20) {
            Scarce::Transcripts
        } else if self.is_short() {
            Scarce::Contents
        } else {
            Scarce::Nothing
        }
    }
}

/// Looks at the disk that a directory is on.
pub type Look = Box<dyn Fn(&Path) -> io::Result<Space> + Send>;

/// The room on the disk that `dir` is on.
///
/// # Errors
/// What the file system says.
pub fn space(dir: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Space { free: stat.f_bavail.saturating_mul(stat.f_frsize), size: stat.f_blocks.saturating_mul(stat.f_frsize) })
}

/// What there is no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarce {
    /// There is room for everything.
    #[default]
    Nothing,
    /// Contents of files, and octets.
    Contents,
    /// Transcripts neither.
    Transcripts,
    /// Nothing of connections: what is left is for events.
    Tapes,
}

impl Scarce {
    /// What is left out, as a sentence begins.
    pub fn left_out(self) -> Option<&'static str> {
        match self {
            Scarce::Nothing => None,
            Scarce::Contents => Some("contents of files are not"),
            Scarce::Transcripts => Some("neither transcripts nor contents of files are"),
            Scarce::Tapes => Some("events go on, but connections are not"),
        }
    }
}

/// What is written, in the order in which it ends where a session has much: what tells least in most room does so first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Contents of files, and octets.
    Content,
    /// Transcripts.
    Transcript,
    /// Tapes.
    Tape,
}

impl Kind {
    /// What there may be of it, of `all` that a session may have.
    pub fn of(self, all: u64) -> u64 {
        match self {
            Kind::Content => all * 6 / 8,
            Kind::Transcript => all * 7 / 8,
            Kind::Tape => all,
        }
    }
}

/// Octets up to which a transcript, or what is kept of a file, is small; and a tape, which tells more in them.
const SMALL: u64 = 64 << 10;
const SMALL_TAPE: u64 = 1 << 20;

/// Whether one thing of a session that may have `all` and has `own` may have `octets` more than the `has` that are among
/// these; if not, whose limit that is.
///
/// What is large has half of what is free of five eighths: however much one thing takes, as much is left for others, and
/// the rest is for what is small.
pub fn takes(kind: Kind, all: u64, own: u64, has: u64, octets: u64) -> Result<(), Limit> {
    if own.saturating_add(octets) > kind.of(all) {
        return Err(Limit::Octets);
    }
    let small = if kind == Kind::Tape { SMALL_TAPE } else { SMALL };
    let free = (all / 8 * 5).saturating_sub(own.saturating_sub(has));
    let length = has.saturating_add(octets);
    if length <= small || length <= free / 2 { Ok(()) } else { Err(Limit::Large) }
}

/// Of what a session has as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Octets.
    Octets,
    /// Files.
    Files,
    /// Parts that are written at once.
    Parts,
    /// Files where somebody was not let in.
    Strangers,
    /// Files where nobody knows.
    Unsure,
    /// Octets of one thing.
    Large,
    /// What the disk takes.
    Disk,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = 7;
}

impl Limit {
    /// In words.
    pub fn told(self, limits: &TapeLimits) -> String {
        match self {
            Limit::Octets => {
                let share = share(limits.total, 0);
                format!(
                    "limit: the session has its share of recordings, {share} octets or less if many go on; more of it is not kept"
                )
            }
            Limit::Files => {
                format!(
                    "limit: the session has too many of {} files; of what comes now events tell, and what there is",
                    limits.files
                )
            }
            Limit::Strangers => {
                format!(
                    "limit: the session has more than {} files; of connections in which nobody is let in events tell from now on",
                    limits.strangers
                )
            }
            Limit::Unsure => {
                format!(
                    "limit: the session has more than {} files; of small connections without a log-in events tell from now on",
                    limits.unsure
                )
            }
            Limit::Large => {
                "limit: one transcript, tape or content has half of the session's room for large ones; the rest of it is not kept"
                    .to_owned()
            }
            Limit::Disk => "disk: some of the session's recordings are missing, as it took nothing".to_owned(),
            Limit::Parts => {
                "limit: too many transcripts and contents are written at once; more of the session's are not".to_owned()
            }
        }
    }
}
