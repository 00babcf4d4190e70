//! Captures as they lie there: written still, over, or compressed meanwhile.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::record::capture::packed;
use crate::record::file::open_regular;

/// What a compressed file begins with (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Octets that a reader holds of a compressed file (2^23): more than any of ours asks for.
const WINDOW: u32 = 23;

/// Opens the capture at `path`, or what it was compressed into since it was listed.
///
/// # Errors
/// What the disk says, or that it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open_regular(&packed(path)).map_err(|_| error),
        opened => opened,
    }
}

/// Whether a file is compressed.
fn is_packed(file: &File) -> bool {
    let mut begin = [0; ZSTD.len()];
    file.read_at(&mut begin, 0).is_ok_and(|len| begin.get(..len) == Some(&ZSTD[..]))
}

/// A capture in the clear, as far as `extent` says.
///
/// # Errors
/// If there is no memory to unpack it.
pub fn clear(file: File, extent: Extent) -> io::Result<Box<dyn Read>> {
    if !is_packed(&file) {
        return Ok(Box::new(file.take(extent.octets)));
    }
    // What was counted as it lay there before it was compressed is to be counted as it comes out.
    let (of_file, in_the_clear) = if extent.is_packed { (extent.octets, u64::MAX) } else { (u64::MAX, extent.octets) };
    let mut file = zstd::Decoder::new(file.take(of_file))?;
    file.window_log_max(WINDOW)?;
    Ok(Box::new(file.take(in_the_clear)))
}

/// Whether an error is about what was compressed, and not about the disk.
pub fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

/// How much of a capture there is.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Octets of the file.
    octets: u64,
    /// Whether that is compressed.
    is_packed: bool,
}

impl Extent {
    /// Whatever there is, in the clear.
    pub const ALL: Extent = Extent { octets: u64::MAX, is_packed: false };
}

/// A file of frames.
pub struct Capture {
    /// Where it lies, or lay before it was compressed.
    pub path: PathBuf,
    /// How much of it there was when it was opened first.
    extent: Option<Extent>,
    /// The file itself, as long as it stays open.
    pub opened: Option<File>,
    /// Frames that are wanted, and what was dropped and lost: of one without frames that is all there is to know.
    pub told: Told,
    /// Whether that is known.
    pub was_read: bool,
}

/// What there is in a capture.
#[derive(Clone, Copy, Default)]
pub struct Told {
    /// Frames that are wanted.
    pub frames: u64,
    /// Frames that the disk did not take.
    pub dropped: u64,
    /// Frames that were lost on their way to it.
    pub lost: u64,
}

impl Capture {
    /// Nobody has opened it yet.
    pub fn new(path: PathBuf) -> Capture {
        Capture { path, extent: None, opened: None, told: Told::default(), was_read: false }
    }

    /// Opens it, and tells what it has in the clear. What was appended since it was opened first is left for another time.
    ///
    /// # Errors
    /// What the disk says, or that it is no regular file.
    pub fn open(&mut self) -> io::Result<Box<dyn Read>> {
        let mut file = match self.opened.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        file.rewind()?;
        let extent = match self.extent {
            Some(extent) => extent,
            None => Extent { octets: file.metadata()?.len(), is_packed: is_packed(&file) },
        };
        self.extent = Some(extent);
        clear(self.opened.insert(file).try_clone()?, extent)
    }
}
