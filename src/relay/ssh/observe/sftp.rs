//! SFTP, version 3 (draft-ietf-secsh-filexfer-02), which is what OpenSSH speaks.
//!
//! A packet's name, handle and numbers are looked at; a file's octets are taken from the packet as they come.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Files, Moving, Strange};
use crate::relay::tape::{Direction, Entry, FileAct, Stream, Text};

/// Longest packet: OpenSSH's limit.
const PACKET: usize = 256 * 1024;
/// Most of one that is looked at: two paths of 4 KiB, attributes.
const HEAD: usize = 16 * 1024;
/// Longest handle (§6.2).
const HANDLE: usize = 256;
/// Files open at a time, and answers to wait for. OpenSSH's server has at most some hundred handles.
const OPEN: usize = 256;
/// Reads that are on their way. Paramiko asks for a whole file at once, 32 KiB by 32 KiB: this is a file of 1 GiB.
const READS: usize = 32 * 1024;

mod kind {
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const SETSTAT: u8 = 9;
    pub const OPENDIR: u8 = 11;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const RENAME: u8 = 18;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const EXTENDED: u8 = 200;
}
/// `SSH_FXF_WRITE`.
const FOR_WRITING: u32 = 2;

/// What is left of a packet that is looked at field by field.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }

    fn long(&mut self) -> Option<u64> {
        let (long, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*long))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.word()? as usize;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}

/// One direction: where in a packet it is.
#[derive(Default)]
struct Reader {
    /// Of the packet, from its length on.
    head: Vec<u8>,
    /// Octets of it that follow.
    left: usize,
    /// The rest of it belongs to this file, from there on.
    into: Option<(u32, u64)>,
}

impl Reader {
    /// How many octets of the packet have to be there before it can be looked at.
    fn wanted(&self) -> usize {
        let Some((length, rest)) = self.head.split_first_chunk() else { return 4 };
        let whole = 4 + u32::from_be_bytes(*length) as usize;
        let wanted = match rest.first() {
            None => 5,
            // An identifier, a length.
            Some(&kind::DATA) => 4 + 1 + 4 + 4,
            // An identifier, a handle, an offset, a length.
            Some(&kind::WRITE) => match Fields(rest.get(5..).unwrap_or_default()).word() {
                None => 4 + 1 + 4 + 4,
                Some(handle) => 4 + 1 + 4 + 4 + (handle as usize).min(HANDLE) + 8 + 4,
            },
            Some(_) => HEAD,
        };
        wanted.min(whole)
    }
}

/// What a channel carries by it.
pub(in crate::relay::ssh) struct Sftp {
    files: Files,
    requests: Reader,
    answers: Reader,
    /// Files that are to be opened, by request: as much of their paths as is shown.
    opening: HashMap<u32, (Text, Direction)>,
    /// Those that are open, by handle.
    open: HashMap<Vec<u8>, u32>,
    moving: HashMap<u32, (Direction, Moving)>,
    /// Reads that are to be answered: of which file, from where on.
    reads: HashMap<u32, (u32, u64)>,
}

impl Sftp {
    pub(super) fn new(files: Files) -> Sftp {
        Sftp {
            files,
            requests: Reader::default(),
            answers: Reader::default(),
            opening: HashMap::new(),
            open: HashMap::new(),
            moving: HashMap::new(),
            reads: HashMap::new(),
        }
    }

    pub(super) fn look(&mut self, stream: Stream, data: &Bytes, told: &mut Vec<Entry>) -> Result<(), Strange> {
        // Out of the way while it is read from: packets touch everything else.
        let mut reader = std::mem::take(self.reader(stream));
        let mut rest = data.clone();
        while !rest.is_empty() {
            self.step(stream, &mut reader, &mut rest, told)?;
        }
        *self.reader(stream) = reader;
        Ok(())
    }

    fn reader(&mut self, stream: Stream) -> &mut Reader {
        match stream {
            Stream::Input => &mut self.requests,
            Stream::Output | Stream::Error => &mut self.answers,
        }
    }

    /// Takes some of `rest`.
    fn step(
        &mut self,
        stream: Stream,
        reader: &mut Reader,
        rest: &mut Bytes,
        told: &mut Vec<Entry>,
    ) -> Result<(), Strange> {
        if reader.left > 0 {
            let piece = rest.split_to(rest.len().min(reader.left));
            reader.left -= piece.len();
            if let Some((file, offset)) = &mut reader.into {
                let length = piece.len() as u64;
                if let Some((_, moving)) = self.moving.get_mut(file) {
                    moving.data(*offset, piece, told);
                }
                *offset = offset.saturating_add(length);
            }
            return Ok(());
        }
        let wanted = reader.wanted();
        reader.head.extend_from_slice(&rest.split_to(rest.len().min(wanted - reader.head.len())));
        let mut fields = Fields(&reader.head);
        let Some(length) = fields.word() else { return Ok(()) };
        let length = length as usize;
        if length == 0 || length > PACKET {
            return Err(Strange("no SFTP packet"));
        }
        if reader.head.len() < reader.wanted() {
            return Ok(());
        }
        let head = std::mem::take(&mut reader.head);
        let fields = Fields(head.get(4..).unwrap_or_default());
        reader.left = (4 + length).saturating_sub(head.len());
        reader.into = match stream {
            Stream::Input => self.request(fields, told),
            Stream::Output | Stream::Error => self.answer(fields, told),
        };
        Ok(())
    }

    /// A request; the file that its last field is written to.
    fn request(&mut self, mut fields: Fields<'_>, told: &mut Vec<Entry>) -> Option<(u32, u64)> {
        let (kind, rest) = fields.0.split_first()?;
        fields.0 = rest;
        let id = fields.word()?;
        let mut act = |act, path: &[u8], to: Option<&[u8]>| {
            let channel = self.files.channel;
            told.push(Entry::File { channel, act, path: Text::new(path), to: to.map(Text::new) });
        };
        match *kind {
            kind::OPEN => {
                let path = Text::new(fields.string()?);
                let writes = fields.word()? & FOR_WRITING != 0;
                let direction = if writes { Direction::Upload } else { Direction::Download };
                if self.opening.len() < OPEN {
                    self.opening.insert(id, (path, direction));
                }
            }
            kind::CLOSE => {
                told.push(self.close(fields.string()?)?.end());
            }
            kind::READ => {
                let file = *self.open.get(fields.string()?)?;
                let offset = fields.long()?;
                if self.reads.len() < READS {
                    self.reads.insert(id, (file, offset));
                } else if let Some((_, moving)) = self.moving.get_mut(&file) {
                    moving.miss();
                }
            }
            kind::WRITE => {
                let file = *self.open.get(fields.string()?)?;
                return Some((file, fields.long()?));
            }
            kind::SETSTAT => act(FileAct::SetAttributes, fields.string()?, None),
            kind::OPENDIR => act(FileAct::List, fields.string()?, None),
            kind::REMOVE => act(FileAct::Remove, fields.string()?, None),
            kind::MKDIR => act(FileAct::MakeDirectory, fields.string()?, None),
            kind::RMDIR => act(FileAct::RemoveDirectory, fields.string()?, None),
            kind::RENAME => act(FileAct::Rename, fields.string()?, Some(fields.string()?)),
            // OpenSSH's server has these two the wrong way round, and clients know: the target first.
            kind::SYMLINK => {
                let target = fields.string()?;
                act(FileAct::Link, fields.string()?, Some(target));
            }
            kind::EXTENDED => match fields.string()? {
                b"posix-rename@openssh.com" => act(FileAct::Rename, fields.string()?, Some(fields.string()?)),
                b"hardlink@openssh.com" => {
                    let target = fields.string()?;
                    act(FileAct::Link, fields.string()?, Some(target));
                }
                _ => {}
            },
            _ => {}
        }
        None
    }

    /// An answer; the file that its last field was read from.
    fn answer(&mut self, mut fields: Fields<'_>, told: &mut Vec<Entry>) -> Option<(u32, u64)> {
        let (kind, rest) = fields.0.split_first()?;
        fields.0 = rest;
        let id = fields.word()?;
        match *kind {
            kind::HANDLE => {
                let (path, direction) = self.opening.remove(&id)?;
                let handle = fields.string()?;
                // A server that gives the same handle twice has forgotten the first file.
                if let Some(mut forgotten) = self.close(handle) {
                    forgotten.miss();
                    told.push(forgotten.end());
                }
                if handle.len() <= HANDLE && self.open.len() < OPEN {
                    let moving = self.files.begin(path, direction, told);
                    self.open.insert(handle.to_vec(), moving.file());
                    self.moving.insert(moving.file(), (direction, moving));
                }
            }
            kind::STATUS => {
                self.opening.remove(&id);
                self.reads.remove(&id);
            }
            kind::DATA => {
                let (file, offset) = self.reads.remove(&id)?;
                let (direction, _) = self.moving.get(&file)?;
                return (*direction == Direction::Download).then_some((file, offset));
            }
            _ => {}
        }
        None
    }

    /// The file of `handle`, which is no longer one.
    fn close(&mut self, handle: &[u8]) -> Option<Moving> {
        let file = self.open.remove(handle)?;
        let (_, moving) = self.moving.remove(&file)?;
        self.reads.retain(|_, (of, _)| *of != file);
        Some(moving)
    }

    /// Requests and files that are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.opening.len() + self.open.len() + self.moving.len() + self.reads.len()
    }

    pub(super) fn end(self) -> Vec<Entry> {
        let mut left: Vec<_> = self.moving.into_values().map(|(_, moving)| moving).collect();
        left.sort_by_key(Moving::file);
        // Nobody has closed them: they may not be whole.
        left.into_iter().map(|mut moving| (moving.miss(), moving.end()).1).collect()
    }
}
