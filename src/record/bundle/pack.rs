//! A compressed archive that is written in one go: one thread reads and hashes, another compresses and passes on.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::files::Hashing;
use super::manifest::Member;
use super::write::{ExportError, failed};
use super::{MANIFEST_OCTETS, MEMBERS, UNPACKED};
use crate::event::Utc;
use crate::record::file::open_regular;

/// Octets that are copied at once.
pub const COPY: usize = 256 << 10;
/// How many of these wait for the compressor.
const WAITING: usize = 8;
/// Fast, and nearly as small as anything.
const LEVEL: i32 = 1;
/// Octets that a member of a tar archive is a multiple of.
const TAR: usize = 512;

/// Takes the members of a bundle.
pub struct Packer {
    to: SyncSender<Vec<u8>>,
    now: Utc,
    octets: u64,
    /// Those that are in it, but for what is added by [`Packer::member`].
    pub members: Vec<Member>,
}

/// Has `fill` make an archive, of which every member is of `now`, in what `open` opens. Returns that and what `fill` does.
///
/// # Errors
/// Those of `fill`, or what is opened says.
pub fn pack<W: Write + Send, T>(
    open: impl FnOnce() -> io::Result<W> + Send,
    now: Utc,
    fill: impl FnOnce(&mut Packer) -> Result<T, ExportError>,
) -> Result<(W, T), ExportError> {
    let bundle = || failed("write", Path::new("the bundle"));
    std::thread::scope(|scope| {
        let (to, chunks) = sync_channel(WAITING);
        let compressor = scope.spawn(move || compress(open()?, &chunks));
        let mut packer = Packer { to, now, octets: 0, members: Vec::new() };
        let filled = fill(&mut packer).and_then(|filled| {
            packer.send(vec![0; 2 * TAR]).map_err(bundle())?;
            Ok(filled)
        });
        drop(packer);
        let out = compressor.join().unwrap_or_else(|_| Err(io::Error::other("the compressor panicked")));
        // If the compressor fails, all that is noticed on this side is that it takes nothing more.
        let out = out.map_err(bundle())?;
        Ok((out, filled?))
    })
}

fn compress<W: Write>(out: W, chunks: &Receiver<Vec<u8>>) -> io::Result<W> {
    let mut out = zstd::Encoder::new(out, LEVEL)?;
    out.include_checksum(true)?;
    for chunk in chunks {
        out.write_all(&chunk)?;
    }
    out.finish()
}

impl Packer {
    /// Adds what is in a file without a name, up to where that was written.
    pub fn scratched(&mut self, path: &str, mut file: File) -> Result<(), ExportError> {
        let fail = || failed("read the part of the bundle that is", Path::new(path));
        let octets = file.stream_position().map_err(fail())?;
        file.rewind().map_err(fail())?;
        self.counted(path, file, octets)
    }

    /// Adds a file, or a sentence on why it is not there.
    pub fn file(&mut self, path: &str, from: &Path, left_out: &mut Vec<String>) -> Result<(), ExportError> {
        if self.members.len() + 2 >= MEMBERS {
            left_out.push(format!("{path}: there are too many files"));
            return Ok(());
        }
        match open_regular(from).and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((octets, file)) => self.counted(path, file, octets),
            Err(error) => {
                left_out.push(format!("{path}: {error}"));
                Ok(())
            }
        }
    }

    fn counted(&mut self, path: &str, from: impl Read, octets: u64) -> Result<(), ExportError> {
        self.octets = self.octets.saturating_add(octets);
        // What surrounds them is less than that.
        if self.octets > UNPACKED - MANIFEST_OCTETS - (MEMBERS * 4 * TAR) as u64 {
            return Err(ExportError::TooLarge);
        }
        let member = self.member(path, from, octets).map_err(failed("put into the bundle", Path::new(path)))?;
        self.members.push(member);
        Ok(())
    }

    /// Adds the first `octets` of `from`, and tells what they are.
    pub fn member(&mut self, path: &str, from: impl Read, octets: u64) -> io::Result<Member> {
        let mut header = tar::Header::new_ustar();
        header.set_path(path)?;
        header.set_size(octets);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now.micros() / 1_000_000).unwrap_or(0));
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.send(header.as_bytes().to_vec())?;
        let mut from = Hashing::new(from.take(octets));
        loop {
            let mut chunk = vec![0; COPY];
            let n = from.read(&mut chunk)?;
            if n == 0 {
                break;
            }
            chunk.truncate(n);
            self.send(chunk)?;
        }
        let (read, sha256) = from.finish();
        if read != octets {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        let surplus = (octets % TAR as u64) as usize;
        if surplus > 0 {
            self.send(vec![0; TAR - surplus])?;
        }
        Ok(Member { path: path.to_owned(), octets, sha256 })
    }

    fn send(&self, chunk: Vec<u8>) -> io::Result<()> {
        self.to.send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
