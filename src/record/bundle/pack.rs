//! A compressed archive that is written in one go: one thread reads and hashes, the next compresses, and a third
//! encrypts, if that is asked for, and writes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use super::files::Hashing;
use super::manifest::Member;
use super::pipe::{Inlet, Outlet, PIECE, pipe};
use super::write::{ExportError, failed};
use super::{MANIFEST_OCTETS, MEMBERS, UNPACKED};
use crate::event::Utc;
use crate::record::file::open_regular;

/// Octets that are copied at once.
pub const COPY: usize = PIECE;
/// Octets that are gathered of what is written by small pieces.
const GATHERED: usize = 64 << 10;
/// Fast, and nearly as small as anything.
const LEVEL: i32 = 1;
/// Octets that a member of a tar archive is a multiple of.
const TAR: usize = 512;

/// Takes the members of a bundle.
pub struct Packer {
    to: Inlet,
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
        let (to, plain) = pipe();
        let (compressed, packed) = pipe();
        let compressor = scope.spawn(move || compress(compressed, plain));
        let writer = scope.spawn(move || {
            let mut out = open()?;
            packed.pour(&mut out).map(|()| out)
        });
        let mut packer = Packer { to, now, octets: 0, members: Vec::new() };
        let filled = fill(&mut packer).and_then(|filled| {
            packer.to.write_all(&[0; 2 * TAR]).and_then(|()| packer.to.flush()).map_err(bundle())?;
            Ok(filled)
        });
        drop(packer);
        let compressed = compressor.join().unwrap_or_else(|_| Err(io::Error::other("the compressor panicked")));
        let out = writer.join().unwrap_or_else(|_| Err(io::Error::other("what writes panicked")));
        // Where a later one fails, all that is noticed by those before it is that it takes nothing more.
        let out = out.map_err(bundle())?;
        compressed.map_err(bundle())?;
        Ok((out, filled?))
    })
}

fn compress(out: Inlet, from: Outlet) -> io::Result<()> {
    let mut out = zstd::Encoder::new(out, LEVEL)?;
    out.include_checksum(true)?;
    from.pour(&mut out)?;
    out.finish()?.flush()
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

    /// Adds the `octets` that `write` writes.
    pub fn written(
        &mut self,
        path: &str,
        octets: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), ExportError> {
        self.count(octets)?;
        let fail = || failed("put into the bundle", Path::new(path));
        self.header(path, octets).map_err(fail())?;
        let mut to = Hashing::new(&mut self.to);
        let mut gathered = BufWriter::with_capacity(GATHERED, &mut to);
        write(&mut gathered).and_then(|()| gathered.flush()).map_err(fail())?;
        drop(gathered);
        let (written, sha256) = to.finish();
        self.end(octets, written).map_err(fail())?;
        self.members.push(Member { path: path.to_owned(), octets, sha256 });
        Ok(())
    }

    fn counted(&mut self, path: &str, from: impl Read, octets: u64) -> Result<(), ExportError> {
        self.count(octets)?;
        let member = self.member(path, from, octets).map_err(failed("put into the bundle", Path::new(path)))?;
        self.members.push(member);
        Ok(())
    }

    fn count(&mut self, octets: u64) -> Result<(), ExportError> {
        self.octets = self.octets.saturating_add(octets);
        // What surrounds them is less than that.
        let is_fine = self.octets <= UNPACKED - MANIFEST_OCTETS - (MEMBERS * 4 * TAR) as u64;
        if is_fine { Ok(()) } else { Err(ExportError::TooLarge) }
    }

    /// Adds the first `octets` of `from`, and tells what they are.
    pub fn member(&mut self, path: &str, from: impl Read, octets: u64) -> io::Result<Member> {
        self.header(path, octets)?;
        let mut from = Hashing::new(from.take(octets));
        self.to.read_from(&mut from)?;
        let (read, sha256) = from.finish();
        self.end(octets, read)?;
        Ok(Member { path: path.to_owned(), octets, sha256 })
    }

    fn header(&mut self, path: &str, octets: u64) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(path)?;
        header.set_size(octets);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.now.micros() / 1_000_000).unwrap_or(0));
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.to.write_all(header.as_bytes())
    }

    fn end(&mut self, octets: u64, written: u64) -> io::Result<()> {
        if written != octets {
            return Err(io::Error::other("it changed while it was read: export it again"));
        }
        let surplus = (octets % TAR as u64) as usize;
        if surplus > 0 { self.to.write_all(&[0; TAR][surplus..]) } else { Ok(()) }
    }
}
