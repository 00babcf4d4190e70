//! tar archives (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU's long names), member
//! by member and with bounds on everything that an archive may ask for.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::{Archive, EntryType, PaxExtensions};

use super::{Limits, ReadError, bad, shown};
use crate::container::image::root::{MAX_DEPTH, inside};

/// Octets of a path.
const MAX_PATH: usize = 4096;
/// Octets of a block of an archive.
const BLOCK: u64 = 512;
/// Octets of an extended header.
const MAX_HEADER: u64 = 1 << 20;
/// The attribute that holds a program's capabilities.
const CAPABILITY: &[u8] = b"SCHILY.xattr.security.capability";

/// What a member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// A folder.
    Folder,
    /// A regular file of so many octets.
    File(u64),
    /// A symbolic link to whatever it says.
    Link(Vec<u8>),
    /// Another name of a member before it.
    SecondName(PathBuf),
    /// A device node.
    Device,
    /// Anything else, such as a FIFO.
    Other,
}

/// A member of an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Where it belongs, without a slash in front and without `..`; empty for the root itself.
    pub path: PathBuf,
    /// What it is.
    pub content: Content,
    /// Permissions with set-uid, set-gid and sticky bits.
    pub mode: u32,
    /// Owner, as the archive has it.
    pub uid: u64,
    /// Group, as the archive has it.
    pub gid: u64,
    /// Last written, in seconds since 1970.
    pub mtime: i64,
    /// `security.capability`, as the archive has it.
    pub capability: Option<Vec<u8>>,
}

/// Reads the members of the tar archive `source`, which is not compressed, and gives each with its content to
/// `each`. What is read counts against `left`.
///
/// # Errors
/// If the archive is broken, leads out of its root or is larger than what is `left`; and those of `each`.
pub fn members(
    source: impl Read,
    left: &mut Limits,
    each: &mut dyn FnMut(Member, &mut dyn Read) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut source = Bounded { source, left: left.octets };
    let result = read_members(&mut source, &mut left.members, each);
    left.octets = source.left;
    result
}

fn read_members(
    source: impl Read,
    left: &mut u64,
    each: &mut dyn FnMut(Member, &mut dyn Read) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let broken = || ReadError::io("the archive cannot be read");
    let mut archive = Archive::new(source);
    let mut said = Said::default();
    for entry in archive.entries().map_err(broken())?.raw(true) {
        let mut entry = entry.map_err(broken())?;
        *left = left.checked_sub(1).ok_or_else(|| bad!("it has too many members"))?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::XHeader => {
                said.pax(&short(&mut entry)?)?;
                continue;
            }
            EntryType::GNULongName => {
                said.path = Some(text(short(&mut entry)?));
                continue;
            }
            EntryType::GNULongLink => {
                said.link = Some(text(short(&mut entry)?));
                continue;
            }
            EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let said = std::mem::take(&mut said);
        let header = entry.header();
        let number = |result: io::Result<u64>| result.map_err(broken());
        let path = said.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = said.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        let size = number(header.entry_size())?;
        if said.size.is_some_and(|other| other != size) {
            return Err(bad!("`{}` is too large, or not as large as it says", shown(&path)));
        }
        let content = match kind {
            EntryType::Directory => Content::Folder,
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Content::Folder,
            EntryType::Regular | EntryType::Continuous => Content::File(size),
            EntryType::Symlink if link.is_empty() || link.len() >= MAX_PATH || link.contains(&0) => {
                return Err(bad!("the link `{}` leads nowhere", shown(&path)));
            }
            EntryType::Symlink => Content::Link(link),
            EntryType::Link => Content::SecondName(place(&link)?),
            EntryType::Char | EntryType::Block => Content::Device,
            _ => Content::Other,
        };
        let member = Member {
            path: place(&path)?,
            content,
            mode: header.mode().map_err(broken())? & 0o7777,
            uid: said.uid.map_or_else(|| number(header.uid()), Ok)?,
            gid: said.gid.map_or_else(|| number(header.gid()), Ok)?,
            mtime: said.mtime.map_or_else(|| number(header.mtime()), Ok)?.try_into().unwrap_or(0),
            capability: said.capability,
        };
        each(member, &mut entry)?;
    }
    Ok(())
}

/// What extended headers say about the member behind them.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    capability: Option<Vec<u8>>,
}

impl Said {
    fn pax(&mut self, header: &[u8]) -> Result<(), ReadError> {
        for record in PaxExtensions::new(header) {
            let record = record.map_err(ReadError::io("an extended header cannot be read"))?;
            let value = record.value_bytes();
            let number = || -> Option<u64> {
                // Times have fractions.
                let text = std::str::from_utf8(value).ok()?;
                text.split('.').next()?.parse().ok()
            };
            match record.key_bytes() {
                b"path" => self.path = Some(value.to_owned()),
                b"linkpath" => self.link = Some(value.to_owned()),
                b"size" => self.size = number(),
                b"uid" => self.uid = number(),
                b"gid" => self.gid = number(),
                b"mtime" => self.mtime = number(),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(bad!("it has sparse files: make it anew without `--sparse`"));
                }
                key if key == CAPABILITY && value.len() <= 64 => self.capability = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The content of an extended header.
fn short(entry: &mut impl Read) -> Result<Vec<u8>, ReadError> {
    let mut content = Vec::new();
    let read = entry.take(MAX_HEADER + 1).read_to_end(&mut content);
    match read.map_err(ReadError::io("an extended header cannot be read"))? as u64 > MAX_HEADER {
        true => Err(bad!("an extended header is larger than 1 MiB")),
        false => Ok(content),
    }
}

fn text(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|b| *b == 0) {
        name.truncate(end);
    }
    name
}

/// The path of a member.
fn place(name: &[u8]) -> Result<PathBuf, ReadError> {
    if name.len() > MAX_PATH || name.contains(&0) {
        return Err(bad!("the name `{}` is too long, or none", shown(name)));
    }
    let path = inside(Path::new(OsStr::from_bytes(name)));
    let path = path.ok_or_else(|| bad!("the name `{}` leads out of the archive by `..`", shown(name)))?;
    match path.components().count() > MAX_DEPTH {
        true => Err(bad!("`{}` lies too deep", shown(name))),
        false => Ok(path),
    }
}

/// Reads whole blocks: some tools (umoci's `insert`) end an archive with the content of its last member. Only for what is
/// known to be all of it, as one that was cut off looks alike.
pub struct Whole<R> {
    source: R,
    read: u64,
    ended: bool,
}

impl<R: Read> Whole<R> {
    /// What `source` gives, and zeros until the block is full.
    pub fn of(source: R) -> Whole<R> {
        Whole { source, read: 0, ended: false }
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut got = if self.ended { 0 } else { self.source.read(buffer)? };
        if got == 0 && !buffer.is_empty() {
            self.ended = true;
            got = usize::try_from(self.read.next_multiple_of(BLOCK) - self.read).unwrap_or(0).min(buffer.len());
            buffer[..got].fill(0);
        }
        self.read += got as u64;
        Ok(got)
    }
}

/// Reads so many octets and fails at the next.
pub struct Bounded<R> {
    /// Where they come from.
    pub source: R,
    /// How many may still come.
    pub left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        // One more than allowed tells an end from too much.
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).saturating_add(1).min(buffer.len());
        let got = self.source.read(&mut buffer[..most])?;
        match self.left.checked_sub(got as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other("it unpacks to more than is allowed")),
        }
        Ok(got)
    }
}
