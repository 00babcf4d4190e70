//! Evidence: what somebody changed in a container, taken before that is destroyed.
//!
//! A file system that an attacker had in hand is no matter for the keeper, which is
//! root. So a process of its own, `honeyweave __inspector`, looks at it, once: a user
//! of its own, with the right to read what anybody owns and no other, without
//! network, without any file but those in the overlay, the image and the directory of
//! evidence, and with few system calls. It tells the keeper nothing but figures and
//! names of its own making.

pub mod archive;
mod contents;
mod diff;
mod limits;
mod listing;
mod manifest;
mod name;
mod own;
mod process;
pub mod read;
mod retention;
mod samples;
mod tree;

#[cfg(test)]
mod listing_tests;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use rustix::fs::{Gid, MemfdFlags, Mode as Bits, OFlags, Uid};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

pub use archive::{SAMPLES, host_of, taken_of};
pub use diff::{Diff, Keep, Nothing, Offer, Ours, compare};
pub use limits::Limits;
pub use listing::{LISTING_ENDING, LISTINGS, Listing, Note, Occasion, listing_name, listing_of, read_listing};
pub use manifest::{
    Change, Contents, Counts, Cut, Differs, Entry, How, Kind, Leased, Manifest, Mode, Sha256Hex, VERSION, Visit, Why,
};
pub use name::{Name, ParseNameError};
pub use own::between;
pub use process::main;
pub use retention::{Pruned, forget};

use crate::event::Utc;
use crate::sys::handed;

/// The user and group that inspectors run as, and that owns evidence.
pub const INSPECTOR_UID: u32 = 61_983;
/// Octets of a request or an answer: no more than a pipe holds, so that nobody waits for the other.
const MESSAGE: usize = 60 * 1024;
/// What is said of an inspector that has ended without a word: another one may do better.
pub const CRASHED: &str = "the inspector was killed or crashed";

/// What an inspector is to do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Where things lie. The inspector is handed them open and never learns their names.
    #[serde(skip)]
    pub directories: Directories,
    /// The container's number, for the archive's name.
    pub number: u32,
    /// The time.
    pub now: Utc,
    /// What the container was for.
    pub leased: Leased,
    /// What in the overlay last changed before that is honeyweave's own; when the container's start was asked for.
    pub prepared: Option<Utc>,
    /// What is its own and came later: inodes, and when they changed.
    #[serde(default)]
    pub late: Vec<(u64, Utc)>,
    /// What is kept: all when a container ends; samples where there is no room for more.
    pub contents: Contents,
    /// Nothing is kept or written; the changes are told.
    #[serde(default)]
    pub list: bool,
    /// A listing is made: beside the archive of a container whose files go, and otherwise alone, for as long as the
    /// container rests.
    #[serde(default)]
    pub note: Option<Note>,
    /// How much of everything.
    pub limits: Limits,
}

impl Job {
    /// What is honeyweave's own.
    fn ours(&self) -> Ours<'_> {
        Ours { prepared: self.prepared, late: &self.late }
    }

    /// Whether it is a listing of a container that may go on any time.
    fn is_at_rest(&self) -> bool {
        self.note.as_ref().is_some_and(|note| note.occasion != Occasion::Ended)
    }
}

/// The directories that an inspector gets.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Directories {
    /// The upper directory of the container's overlay.
    pub upper: PathBuf,
    /// The files of its image.
    pub lower: PathBuf,
    /// Where evidence lies, `STATE/NAME/evidence`; it is made if it is not there.
    pub evidence: PathBuf,
}

/// What an inspector answers. Nothing of it is an attacker's but numbers, and a list, which is for those who asked for one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Taken(Taken),
    /// The changes.
    Listed(Diff),
    /// A listing was made, or nothing had changed.
    Noted(Noted),
    /// It failed, and why.
    Failed(String),
}

/// What was taken.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// Name of the archive, in the directory of evidence.
    pub archive: String,
    /// Its octets.
    pub octets: u64,
    /// How many changes it tells.
    pub counts: Counts,
    /// How many places it does not tell of; the manifest says which.
    pub cut: u64,
    /// Samples that were not there before.
    pub new_samples: u64,
    /// Archives that went because they were old or there was too much, at most 100 of them named.
    pub removed: Vec<String>,
    /// How many archives went.
    pub removed_archives: u64,
    /// How many listings went.
    #[serde(default)]
    pub removed_listings: u64,
    /// How many samples went.
    pub removed_samples: u64,
    /// Octets that went.
    pub removed_octets: u64,
    /// Why old evidence could not be looked through.
    pub retention_failed: Option<String>,
    /// Why no listing was made beside the archive, if one was to be.
    #[serde(default)]
    pub unlisted: Option<String>,
}

/// What became of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Noted {
    /// It is there.
    Made {
        /// How many changes it tells, and what went for it.
        taken: Box<Taken>,
        /// Nothing has changed since the one before.
        unchanged: bool,
        /// The container went on before all files were read.
        partial: bool,
    },
    /// The container went on before everything was listed: nothing is known of how it was.
    WentOn,
}

/// A process that takes the evidence of one container.
#[derive(Debug)]
pub struct Inspector {
    /// Its process id.
    pub pid: i32,
    output: Output,
    /// Open for as long as the container rests of which it makes a listing.
    rests: Option<ChildStdin>,
    /// When it is killed.
    pub deadline: i64,
    /// Whether that was done.
    pub killed: bool,
}

/// Where an answer goes.
#[derive(Debug)]
enum Output {
    Pipe(PipeReader),
    /// A list may be long, and is not read by who started the inspector.
    Memory(OwnedFd),
}

impl Inspector {
    /// Starts `program` as an inspector that does `job`. `deadline` is the caller's to keep.
    ///
    /// # Errors
    /// If a directory is not there or the program cannot be started.
    pub fn start(program: &Path, job: &Job, deadline: i64) -> io::Result<Inspector> {
        let mut request = serde_json::to_vec(job)?;
        // What follows has no line feed in it.
        request.push(b'\n');
        if request.len() > MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "what the container was for is told too long"));
        }
        let Directories { upper, lower, evidence } = &job.directories;
        let (upper, lower) = (open(upper)?, open(lower)?);
        let named = |error: io::Error| {
            let dir = evidence.display();
            io::Error::new(error.kind(), format!("cannot make the directory of evidence {dir}: {error}"))
        };
        let evidence = make(rustix::fs::CWD, evidence).map_err(named)?;
        let samples = make(evidence.as_fd(), Path::new(archive::SAMPLES)).map_err(named)?;
        make(evidence.as_fd(), Path::new(LISTINGS)).map_err(named)?;
        let (output, stdout) = if job.list {
            let memory = rustix::fs::memfd_create(c"honeyweave-list", MemfdFlags::CLOEXEC)?;
            let stdout = Stdio::from(memory.try_clone()?);
            (Output::Memory(memory), stdout)
        } else {
            let (answer, stdout) = io::pipe()?;
            (Output::Pipe(answer), stdout.into())
        };
        let mut command = Command::new(program);
        command.args(["__inspector", &job.leased.container]).env_clear();
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::null());
        handed::hand_down(&mut command, &[upper.as_fd(), lower.as_fd(), samples.as_fd(), evidence.as_fd()])?;
        let mut child = command.spawn()?;
        let mut rests = child.stdin.take();
        if let Some(stdin) = &mut rests {
            // The request is smaller than a pipe's buffer, so this does not wait. One that died already says why by its answer.
            let _ = stdin.write_all(&request);
        }
        let rests = rests.filter(|_| job.is_at_rest());
        Ok(Inspector { pid: child.id() as i32, output, rests, deadline, killed: false })
    }

    /// The container whose listing it makes is about to go on: it writes what it knows by now. Nobody waits for that.
    pub fn goes_on(&mut self) {
        self.rests = None;
    }

    /// The memory that its answer is in, if it was to make a list.
    pub fn list(&self) -> Option<BorrowedFd<'_>> {
        match &self.output {
            Output::Pipe(_) => None,
            Output::Memory(memory) => Some(memory.as_fd()),
        }
    }

    /// What it answered, once it has ended, if it was to take something.
    pub fn answer(mut self) -> Answer {
        let Output::Pipe(answer) = &mut self.output else {
            return Answer::Failed("the inspector was to make a list".into());
        };
        let mut text = Vec::new();
        let read = rustix::io::ioctl_fionbio(&*answer, true).map_err(io::Error::from).and_then(|()| {
            match answer.take(MESSAGE as u64).read_to_end(&mut text) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                other => other,
            }
        });
        match (read, serde_json::from_slice(&text)) {
            (_, Ok(answer)) => answer,
            (Err(error), _) => Answer::Failed(format!("the inspector's answer cannot be read: {error}")),
            (Ok(_), Err(_)) if self.killed => Answer::Failed("the inspector took too long and was killed".into()),
            (Ok(_), Err(_)) => Answer::Failed(CRASHED.into()),
        }
    }

    /// Kills it. What it had begun is removed by a later one.
    pub fn kill(&mut self) {
        self.killed = true;
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Makes a directory of evidence, or sees to it that one that is there is the inspectors'. What is in it may be an
/// inspector's making that an attacker has got hold of: a link in its place is an error and is not followed.
fn make(at: BorrowedFd<'_>, directory: &Path) -> io::Result<File> {
    match rustix::fs::mkdirat(at, directory, Bits::RWXU) {
        Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::openat(at, directory, flags, Bits::empty())?);
    let owner = INSPECTOR_UID;
    rustix::fs::fchown(&opened, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
    rustix::fs::fchmod(&opened, Bits::RWXU)?;
    Ok(opened)
}

fn open(directory: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Bits::empty());
    let named = |error| io::Error::other(format!("cannot open the directory {}: {error}", directory.display()));
    opened.map(File::from).map_err(named)
}
