//! Members of archives to files below a root.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::{Content, Member, Whole, members};
use super::compression::Compression;
use super::layout::{Digesting, Layout, Section, matches};
use super::manifest::{Descriptor, layers};
use super::{Limits, ReadError, bad, shown};
use crate::container::ID_COUNT;
use crate::container::image::root::{Attributes, Root};
use crate::container::image::shift::bind_capability;

/// What whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of everything that lower layers have in a folder.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Whiteouts of a layer.
const MAX_WHITEOUTS: usize = 200_000;
/// Whose files are those of owners that a container does not have.
const NOBODY: u64 = 65_534;

/// What was done and what was left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Files, folders and links that were made.
    pub made: u64,
    /// Octets of files.
    pub octets: u64,
    /// Device nodes, which were left out.
    pub devices: u64,
    /// Sockets, FIFOs and the like, which were left out.
    pub others: u64,
}

/// Where things are unpacked to.
pub struct Unpacker<'r> {
    /// The root.
    pub root: &'r Root,
    /// What is added to every owner and group.
    pub id_base: u32,
    /// What may still come.
    pub left: Limits,
    /// What came.
    pub tally: Tally,
}

impl Unpacker<'_> {
    /// Unpacks a whole system: a tar archive, compressed or not. Returns the archive's SHA-256.
    ///
    /// # Errors
    /// If it is broken, leads out of the root, is too large, or the disk is full.
    pub fn archive(&mut self, section: Section) -> Result<String, ReadError> {
        let compression = compression(&section)?;
        let mut digest = Digesting::new(section);
        let mut left = self.left;
        let result =
            members(compression.reader(&mut digest), &mut left, &mut |member, content| self.put(member, content));
        self.left = left;
        result?;
        digest.finish().map_err(ReadError::io("the archive cannot be read"))
    }

    /// Unpacks the image of `layout`, layer upon layer. Returns the digest of its manifest.
    ///
    /// # Errors
    /// If it is broken, was altered, leads out of the root, is too large, or the disk is full.
    pub fn layout(&mut self, layout: &Layout) -> Result<String, ReadError> {
        let (layers, digest) = layers(layout)?;
        for layer in &layers {
            self.layer(layout, layer).map_err(|error| bad!("layer {}: {error}", &layer.digest))?;
        }
        Ok(digest)
    }

    fn layer(&mut self, layout: &Layout, layer: &Descriptor) -> Result<(), ReadError> {
        let section = layout.blob(layer)?;
        let compression = compression(&section)?;
        // First what it removes of the layers below, and whether it is what it should be; nothing is written for a
        // layer that was altered. What it removes is not what it brings itself, wherever in it that stands.
        let mut whiteouts: Vec<PathBuf> = Vec::new();
        let mut digest = Digesting::new(section.clone());
        let mut left = self.left;
        members(Whole::of(compression.reader(&mut digest)), &mut left, &mut |member, _| {
            if is_whiteout(&member.path) {
                whiteouts.push(member.path);
            }
            match whiteouts.len() > MAX_WHITEOUTS {
                true => Err(bad!("it removes too much")),
                false => Ok(()),
            }
        })?;
        matches(layer, &digest.finish().map_err(ReadError::io("it cannot be read"))?)?;
        for whiteout in whiteouts {
            self.white_out(&whiteout)?;
        }
        let mut left = self.left;
        let result = members(Whole::of(compression.reader(section)), &mut left, &mut |member, content| {
            if is_whiteout(&member.path) { Ok(()) } else { self.put(member, content) }
        });
        self.left = left;
        result
    }

    fn white_out(&self, path: &Path) -> Result<(), ReadError> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let folder = path.parent().unwrap_or(Path::new(""));
        let removed = match name {
            OPAQUE => self.root.empty(folder),
            // Other names that begin with two of them belong to the union file systems of long ago.
            _ if name.starts_with(b".wh..wh.") => Ok(()),
            _ => match &name[WHITEOUT.len()..] {
                b"" | b"." | b".." => Ok(()),
                gone => self.root.remove(&folder.join(OsStr::from_bytes(gone))),
            },
        };
        removed.map_err(ReadError::io(format!("cannot remove what `{}` says", shown(path.as_os_str().as_bytes()))))
    }

    fn id(&self, id: u64) -> u32 {
        let id = if id < u64::from(ID_COUNT) { id } else { NOBODY };
        self.id_base + id as u32
    }

    /// Makes `member`.
    pub fn put(&mut self, member: Member, content: &mut dyn Read) -> Result<(), ReadError> {
        let attributes = Attributes {
            mode: member.mode,
            uid: self.id(member.uid),
            gid: self.id(member.gid),
            mtime: member.mtime,
            capability: member.capability.as_deref().and_then(|value| bind_capability(value, self.id_base)),
        };
        let path = member.path.as_path();
        let root = self.root;
        let is_root = path.as_os_str().is_empty();
        let made = match &member.content {
            Content::Folder => root.put_folder(path, &attributes),
            _ if is_root => return Err(bad!("its root is no folder")),
            Content::File(_) => root.put_file(path, &attributes, content).map(|octets| self.tally.octets += octets),
            Content::Link(target) => root.put_link(path, OsStr::from_bytes(target), &attributes),
            Content::SecondName(target) => root.put_second_name(path, target, &attributes),
            Content::Device => {
                self.tally.devices += 1;
                return Ok(());
            }
            Content::Other => {
                self.tally.others += 1;
                return Ok(());
            }
        };
        self.tally.made += 1;
        made.map_err(ReadError::io(format!("cannot make `{}`", shown(path.as_os_str().as_bytes()))))
    }
}

fn is_whiteout(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(WHITEOUT))
}

fn compression(section: &Section) -> Result<Compression, ReadError> {
    let mut head = Vec::new();
    let read = section.clone().take(6).read_to_end(&mut head);
    read.map_err(ReadError::io("it cannot be read"))?;
    Ok(Compression::of(&head))
}
