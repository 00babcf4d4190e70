//! The thread that compresses captures that are no longer written, where a processor has nothing else to do.
//!
//! It only ever writes a file under a name that no reader takes for a capture, and has the disk confirm it; whoever runs
//! the captures gives that its name, and deletes the other one. So a crash at any moment leaves a whole capture under
//! each name that is one, and whatever was deleted meanwhile does not come back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};

use super::names::half;
use crate::record::file::open_regular;
use crate::sys::sched;

/// Captures that wait for the thread.
const WAITING: usize = 64;
/// Octets that are compressed before it looks whether it is to end.
const PIECE: usize = 256 << 10;
/// As much as a frame repeats of what was sent before, at a tenth of the effort of the best there is.
const LEVEL: i32 = 3;
/// Readers hold so much of each file (2^19 octets), and may read hundreds at once.
const WINDOW: u32 = 19;

/// A capture of which the thread is done.
pub(super) struct Done {
    /// The capture.
    pub path: PathBuf,
    /// The octets of its compressed form, which lies at [`half`].
    pub result: io::Result<u64>,
}

/// The thread.
pub(super) struct Compressor {
    jobs: SyncSender<PathBuf>,
    done: Receiver<Done>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Compressor {
    /// Starts it.
    ///
    /// # Errors
    /// If the machine has no thread left.
    pub fn start() -> io::Result<Compressor> {
        let (jobs, todo) = sync_channel::<PathBuf>(WAITING);
        let (tell, done) = channel();
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, writes) = (stop.clone(), written.clone());
        std::thread::Builder::new().name("compressor".into()).spawn(move || {
            sched::give_way();
            while let Ok(path) = todo.recv() {
                let Some(result) = compress(&path, &stopping, &writes).transpose() else { return };
                if tell.send(Done { path, result }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Compressor { jobs, done, stop, written })
    }

    /// Has it compress the capture at `path`, unless it has enough to do.
    pub fn take(&self, path: &Path) -> bool {
        !matches!(self.jobs.try_send(path.to_owned()), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }

    /// What it has done since the last call.
    pub fn done(&self) -> impl Iterator<Item = Done> {
        self.done.try_iter()
    }

    /// Octets of what it has not finished, or nobody has looked at yet.
    pub fn octets(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// A compressed file has got its name, or was deleted.
    pub fn settled(&self, octets: u64) {
        self.written.fetch_sub(octets, Ordering::Relaxed);
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        // Not waited for: on a busy machine it may not run for long. Its half is removed when captures are opened next.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Compresses the file at `path`. Nothing if it is to stop.
fn compress(path: &Path, stop: &AtomicBool, written: &AtomicU64) -> io::Result<Option<u64>> {
    let to = half(path);
    let mut counted = 0;
    let result = write(path, &to, stop, &mut |octets| {
        counted += octets;
        written.fetch_add(octets, Ordering::Relaxed);
    });
    if result.is_err() {
        // What a full disk took of it is given back.
        let _ = fs::remove_file(&to);
        written.fetch_sub(counted, Ordering::Relaxed);
    }
    result
}

fn write(path: &Path, to: &Path, stop: &AtomicBool, count: &mut dyn FnMut(u64)) -> io::Result<Option<u64>> {
    let mut from = open_regular(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let mut out = zstd::Encoder::new(Counted { file: options.open(to)?, octets: 0 }, LEVEL)?;
    out.include_checksum(true)?;
    out.set_pledged_src_size(Some(from.metadata()?.len()))?;
    out.window_log(WINDOW)?;
    let (mut piece, mut told) = (vec![0; PIECE], 0);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let len = from.read(&mut piece)?;
        if len == 0 {
            break;
        }
        out.write_all(piece.get(..len).unwrap_or_default())?;
        count(out.get_ref().octets - told);
        told = out.get_ref().octets;
    }
    let out = out.finish()?;
    count(out.octets - told);
    // It is as old as what it was made from.
    out.file.set_modified(from.metadata()?.modified()?)?;
    out.file.sync_all()?;
    Ok(Some(out.octets))
}

struct Counted {
    file: File,
    octets: u64,
}

impl Write for Counted {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let len = self.file.write(octets)?;
        self.octets += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
