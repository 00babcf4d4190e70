//! SFTP, version 3 (draft-ietf-secsh-filexfer-02), which is what OpenSSH speaks.
//!
//! A packet's name, handle and numbers are looked at; a file's octets are taken from the packet as they come. Which file it is
//! follows from numbers that the client chooses, so there is no guessing: what a server could understand otherwise than it is
//! understood here is strange.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Files, Moving, Strange, pieces};
use crate::relay::tape::{Direction, Entry, FileAct, Stream, Text};

/// Longest packet: OpenSSH's limit.
const PACKET: usize = 256 * 1024;
/// Most of one that is looked at: two paths of 4 KiB, attributes.
const HEAD: usize = 16 * 1024;
/// Longest handle (§6.2).
const HANDLE: usize = 256;
/// Files open at a time, and as many that are being opened. OpenSSH's client has one, sshfs some dozens.
const OPEN: usize = 256;
/// Reads that are on their way. Paramiko asks for a whole file at once, 32 KiB by 32 KiB: this is a file of 1 GiB.
const READS: usize = 32 * 1024;

mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
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
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}
/// `SSH_FXF_WRITE`.
const FOR_WRITING: u32 = 2;

/// Said of a packet that has no room for its fields.
const SHORT: &str = "a field that reaches beyond its packet";

/// What is left of a packet that is looked at field by field.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Result<u32, &'static str> {
        let (word, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }

    fn long(&mut self) -> Result<u64, &'static str> {
        let (long, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*long))
    }

    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.word()? as usize;
        let (string, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(string)
    }
}

/// Where octets of a file belong.
struct Place {
    /// What was opened.
    open: u32,
    direction: Direction,
    offset: u64,
}

/// One direction: where in a packet it is.
#[derive(Default)]
struct Reader {
    /// Of the packet, from its length on.
    head: Vec<u8>,
    /// Octets of it that follow.
    left: usize,
    /// The rest of it belongs there.
    into: Option<Place>,
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
                Err(_) => 4 + 1 + 4 + 4,
                Ok(handle) => 4 + 1 + 4 + 4 + (handle as usize).min(HANDLE) + 8 + 4,
            },
            Some(_) => HEAD,
        };
        wanted.min(whole)
    }
}

/// Something that is open: by one handle a file may be both written and read.
struct Open {
    path: Text,
    upload: Option<Moving>,
    download: Option<Moving>,
}

/// What a channel carries by it.
pub(in crate::relay::ssh) struct Sftp {
    files: Files,
    requests: Reader,
    answers: Reader,
    /// What is to be opened, by request: a file, with what for, or a directory. As much of its path as is shown.
    opening: HashMap<u32, Option<(Text, Direction)>>,
    /// What is open, by handle.
    handles: HashMap<Vec<u8>, u32>,
    open: HashMap<u32, Open>,
    /// How many there were.
    opened: u32,
    /// What is to be closed, by request. Reads that came before are answered before.
    closing: HashMap<u32, u32>,
    /// Reads that are to be answered: of what, from where on.
    reads: HashMap<u32, (u32, u64)>,
    /// There were more reads than are remembered, or such as were answered late.
    has_forgotten: bool,
}

impl Sftp {
    pub(super) fn new(files: Files) -> Sftp {
        Sftp {
            files,
            requests: Reader::default(),
            answers: Reader::default(),
            opening: HashMap::new(),
            handles: HashMap::new(),
            open: HashMap::new(),
            opened: 0,
            closing: HashMap::new(),
            reads: HashMap::new(),
            has_forgotten: false,
        }
    }

    pub(super) fn look(&mut self, stream: Stream, data: &Bytes, told: &mut Vec<Entry>) -> Result<(), Strange> {
        // Out of the way while it is read from: packets touch everything else.
        let mut reader = std::mem::take(self.reader(stream));
        let mut rest = data.clone();
        while !rest.is_empty() {
            if let Err(reason) = self.step(stream, &mut reader, &mut rest, told) {
                return Err(Strange::new(reason, &reader.head, &rest));
            }
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
    ) -> Result<(), &'static str> {
        if reader.left > 0 {
            let piece = rest.split_to(rest.len().min(reader.left));
            reader.left -= piece.len();
            if let Some(Place { open, direction, offset }) = &mut reader.into {
                let (at, length) = (*offset, piece.len() as u64);
                if let Some(moving) = self.moving(*open, *direction, told) {
                    moving.data(at, piece, told);
                }
                *offset = offset.saturating_add(length);
            }
            return Ok(());
        }
        let wanted = reader.wanted();
        reader.head.extend_from_slice(&rest.split_to(rest.len().min(wanted - reader.head.len())));
        let Ok(length) = Fields(&reader.head).word() else { return Ok(()) };
        let length = length as usize;
        if length == 0 || length > PACKET {
            return Err("no SFTP packet");
        }
        if reader.head.len() < reader.wanted() {
            return Ok(());
        }
        let left = (4 + length).saturating_sub(reader.head.len());
        let fields = Fields(reader.head.get(4..).unwrap_or_default());
        // What is in the head is told as octets if it is not understood.
        reader.into = match stream {
            Stream::Input => self.request(fields, left, told),
            Stream::Output | Stream::Error => self.answer(fields, left, told),
        }?;
        if let Some(Place { open, direction, offset }) = &reader.into
            && left > 0
            && let Some(moving) = self.moving(*open, *direction, told)
        {
            moving.begins(*offset);
        }
        reader.head.clear();
        reader.left = left;
        Ok(())
    }

    /// A file that is written or read by what is open.
    fn moving(&mut self, open: u32, direction: Direction, told: &mut Vec<Entry>) -> Option<&mut Moving> {
        let Open { path, upload, download } = self.open.get_mut(&open)?;
        match direction {
            Direction::Upload | Direction::Input => upload.as_mut(),
            // Who opens a file for both may read it, or not.
            Direction::Download | Direction::Output => {
                Some(download.get_or_insert_with(|| self.files.begin(path.clone(), Direction::Download, told)))
            }
        }
    }

    /// Whether no other request has this number whose answer makes a difference.
    fn is_fresh(&self, id: u32) -> Result<(), &'static str> {
        let is_used = self.opening.contains_key(&id) || self.closing.contains_key(&id) || self.reads.contains_key(&id);
        if is_used { Err("two requests of one number") } else { Ok(()) }
    }

    /// What a handle stands for.
    fn by_handle(&self, handle: &[u8]) -> Result<u32, &'static str> {
        self.handles.get(handle).copied().ok_or("a handle that nobody was given")
    }

    /// A request, of whose packet `left` octets follow; where they belong.
    fn request(
        &mut self,
        mut fields: Fields<'_>,
        left: usize,
        told: &mut Vec<Entry>,
    ) -> Result<Option<Place>, &'static str> {
        let (kind, rest) = fields.0.split_first().ok_or(SHORT)?;
        fields.0 = rest;
        let id = fields.word()?;
        let mut act = |act, path: &[u8], to: Option<&[u8]>| {
            let channel = self.files.channel;
            told.push(Entry::File { channel, act, path: Text::new(path), to: to.map(Text::new) });
        };
        match *kind {
            kind::OPEN | kind::OPENDIR => {
                let path = fields.string()?;
                self.is_fresh(id)?;
                if self.opening.len() >= OPEN {
                    return Err("more to be opened than is told apart");
                }
                if *kind == kind::OPENDIR {
                    act(FileAct::List, path, None);
                    self.opening.insert(id, None);
                    return Ok(None);
                }
                let writes = fields.word()? & FOR_WRITING != 0;
                let direction = if writes { Direction::Upload } else { Direction::Download };
                self.opening.insert(id, Some((Text::new(path), direction)));
            }
            kind::CLOSE => {
                let handle = fields.string()?;
                self.is_fresh(id)?;
                // Otherwise it is a directory's.
                if let Some(open) = self.handles.remove(handle) {
                    self.closing.insert(id, open);
                }
            }
            kind::READ => {
                let open = self.by_handle(fields.string()?)?;
                let offset = fields.long()?;
                self.is_fresh(id)?;
                if self.reads.len() < READS {
                    self.reads.insert(id, (open, offset));
                } else {
                    self.has_forgotten = true;
                    if let Some(moving) = self.moving(open, Direction::Download, told) {
                        moving.miss();
                    }
                }
            }
            kind::WRITE => {
                let open = self.by_handle(fields.string()?)?;
                let offset = fields.long()?;
                if fields.word()? as usize != left {
                    return Err("a write that is longer or shorter than its packet");
                }
                if self.open.get(&open).is_none_or(|open| open.upload.is_none()) {
                    return Err("a write to what was opened for reading");
                }
                return Ok(Some(Place { open, direction: Direction::Upload, offset }));
            }
            kind::SETSTAT => act(FileAct::SetAttributes, fields.string()?, None),
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
                b"lsetstat@openssh.com" => act(FileAct::SetAttributes, fields.string()?, None),
                // Octets that pass nobody: from a handle, an offset, a length, to a handle.
                b"copy-data" => {
                    let _ = (fields.string()?, fields.long()?, fields.long()?);
                    let open = self.by_handle(fields.string()?)?;
                    if let Some(moving) = self.moving(open, Direction::Upload, told) {
                        moving.miss();
                    }
                }
                _ => {}
            },
            kind::INIT | kind::OPEN..=kind::SYMLINK => {}
            _ => return Err("no SFTP request"),
        }
        Ok(None)
    }

    /// An answer, of whose packet `left` octets follow; where they belong.
    fn answer(
        &mut self,
        mut fields: Fields<'_>,
        left: usize,
        told: &mut Vec<Entry>,
    ) -> Result<Option<Place>, &'static str> {
        let (kind, rest) = fields.0.split_first().ok_or(SHORT)?;
        fields.0 = rest;
        let id = fields.word()?;
        match *kind {
            kind::HANDLE => {
                let handle = fields.string()?;
                let Some((path, direction)) = self.opening.remove(&id).ok_or("a handle for nothing")? else {
                    return Ok(None);
                };
                if handle.len() > HANDLE || self.handles.contains_key(handle) {
                    return Err("a handle that is none");
                }
                if self.open.len() >= OPEN {
                    return Err("more files open than are told apart");
                }
                let moving = Some(self.files.begin(path.clone(), direction, told));
                let (upload, download) = match direction {
                    Direction::Upload | Direction::Input => (moving, None),
                    Direction::Download | Direction::Output => (None, moving),
                };
                self.opened = self.opened.wrapping_add(1);
                self.handles.insert(handle.to_vec(), self.opened);
                self.open.insert(self.opened, Open { path, upload, download });
            }
            kind::STATUS => {
                self.opening.remove(&id);
                self.reads.remove(&id);
                if let Some(open) = self.closing.remove(&id) {
                    self.closed(open, told);
                }
            }
            kind::DATA => {
                let read = self.reads.remove(&id);
                if fields.word()? as usize != left {
                    return Err("an answer that is longer or shorter than its packet");
                }
                return match read {
                    Some((open, offset)) => Ok(Some(Place { open, direction: Direction::Download, offset })),
                    None if self.has_forgotten => Ok(None),
                    None => Err("an answer to nothing"),
                };
            }
            kind::VERSION | kind::STATUS..=kind::ATTRS | kind::EXTENDED_REPLY => {}
            _ => return Err("no SFTP answer"),
        }
        Ok(None)
    }

    /// What was open is closed.
    fn closed(&mut self, open: u32, told: &mut Vec<Entry>) {
        let Some(Open { upload, mut download, .. }) = self.open.remove(&open) else { return };
        let before = self.reads.len();
        self.reads.retain(|_, (of, _)| *of != open);
        if self.reads.len() < before {
            self.has_forgotten = true;
            if let Some(download) = &mut download {
                download.miss();
            }
        }
        told.extend(upload.into_iter().chain(download).map(Moving::end));
    }

    /// Requests and files that are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.opening.len() + self.handles.len() + self.open.len() + self.closing.len() + self.reads.len()
    }

    pub(super) fn end(mut self) -> Vec<Entry> {
        let mut told = Vec::new();
        // Whose end nobody has waited for.
        let mut closing: Vec<_> = self.closing.drain().map(|(_, open)| open).collect();
        closing.sort_unstable();
        for open in closing {
            self.closed(open, &mut told);
        }
        let mut left: Vec<_> =
            self.open.into_values().flat_map(|open| open.upload.into_iter().chain(open.download)).collect();
        left.sort_by_key(Moving::file);
        // Nobody has closed them: they may not be whole.
        told.extend(left.into_iter().map(|mut moving| (moving.miss(), moving.end()).1));
        for (stream, reader) in [(Stream::Input, self.requests), (Stream::Output, self.answers)] {
            told.extend(pieces(self.files.channel, stream, &reader.head.into()));
        }
        told
    }
}
