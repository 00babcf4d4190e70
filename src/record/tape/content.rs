//! The content of a file that moves.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use super::channel::Place;
use super::room::{Kind, Scarce};
use super::store::Store;
use crate::event::SessionId;
use crate::record::file::Appender;
use crate::record::open_regular;
use crate::relay::tape::{Direction, PIECE, Text};
use crate::wire::hex;

/// Why not all of a file is kept: a piece of it went with the process that was to keep it.
pub const INTERRUPTED: &str = "interrupted";
/// Why nothing of it is kept: credentials are left out, and it may have some.
pub const REDACTED: &str = "redacted";
/// How often that may be in one file: each time a process has died.
const GAPS: usize = 16;
/// More than waits anywhere for a process that may die.
const ON_ITS_WAY: u64 = 8 << 20;

/// A file that moves.
pub struct Content {
    /// Its name, as the attacker's program wrote it.
    pub path: Text,
    /// Which way.
    pub direction: Direction,
    /// Through which channel.
    pub channel: u32,
    part: PathBuf,
    file: Option<Appender>,
    /// Of what is in the file; none if another process has begun it, as that takes its time.
    digest: Option<Context>,
    /// Octets that came, and those before them that did not.
    pub came: u64,
    /// Where some are missing, and how many: there are zeros in their place.
    missing: Vec<(u64, u64)>,
    /// Why the rest is not kept.
    cut: Option<&'static str>,
}

/// What is kept of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// The name of a file in the session's directory; none if nothing is kept, or there was nothing.
    pub content: Option<String>,
    /// Octets of that.
    pub octets: u64,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// Whether it was in that file before.
    pub duplicate: bool,
    /// Why it is not all that came.
    pub cut: Option<&'static str>,
    /// Where zeros stand for what is missing, and how many.
    pub missing: Vec<(u64, u64)>,
    /// Whether another process has begun it, which may have put zeros there, too.
    pub resumed: bool,
}

impl Content {
    /// File `number` of a connection begins to move, through `channel`.
    pub fn new(number: u32, path: Text, (direction, channel): (Direction, u32), place: &Place<'_>) -> Content {
        Content {
            path,
            direction,
            channel,
            part: place.dir.join(format!("{}-file-{number:04}.part", place.stem)),
            file: None,
            digest: Some(Context::new(&SHA256)),
            came: 0,
            missing: Vec::new(),
            cut: None,
        }
    }

    /// Has nothing of it kept.
    pub fn leave_out(&mut self) {
        self.cut = Some(REDACTED);
    }

    /// Goes on with what another process has kept of it. What that has not kept, the next piece shows to be missing.
    pub fn resume(&mut self, place: &Place<'_>, store: &mut Store) {
        self.digest = None;
        match Appender::reopen(&self.part, u64::MAX) {
            Ok(file) if store.begin_part_again(place.session) => {
                self.came = file.len();
                self.file = Some(file);
            }
            Ok(_) => self.cut = Some("too-many"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                store.refuse_of(place.session, &error);
                self.cut = Some("disk");
            }
        }
    }

    /// Takes the piece that belongs at `offset`; returns how many octets more are in no file.
    pub fn take(&mut self, offset: u64, data: &[u8], place: &Place<'_>, store: &mut Store) -> u64 {
        let (count, missing) = (data.len() as u64, offset.saturating_sub(self.came));
        if missing > 0 && self.cut.is_none() {
            self.cut = self.pass_over(missing, place, store).err();
        }
        self.came = offset.saturating_add(count);
        if self.cut.is_none() {
            self.cut = self.keep(data, place, store).err();
        }
        missing.saturating_add(if self.cut.is_some() { count } else { 0 })
    }

    /// Has what comes next stand where it belongs.
    fn pass_over(&mut self, missing: u64, place: &Place<'_>, store: &mut Store) -> Result<(), &'static str> {
        let kept = self.file.as_ref().map_or(0, Appender::len);
        // Nothing is missing but what was on its way when another process died.
        let may_be = self.digest.is_none() && missing <= ON_ITS_WAY && self.missing.len() < GAPS;
        if !may_be || kept.saturating_add(missing) > place.limits.content {
            return Err(INTERRUPTED);
        }
        self.missing.push((self.came, missing));
        let mut left = missing;
        while left > 0 {
            let zeros = &[0; PIECE][..left.min(PIECE as u64) as usize];
            self.keep(zeros, place, store)?;
            left -= zeros.len() as u64;
        }
        Ok(())
    }

    fn keep(&mut self, data: &[u8], place: &Place<'_>, store: &mut Store) -> Result<(), &'static str> {
        let (count, kept) = (data.len() as u64, self.file.as_ref().map_or(0, Appender::len));
        if kept + count > place.limits.content {
            return Err("file-too-large");
        }
        if !place.keeps || !store.has_room(place.session, Kind::Content, kept, count) {
            return Err("too-much");
        }
        if store.scarce() > Scarce::Nothing {
            return Err("disk");
        }
        let refused = |store: &mut Store, error| {
            store.refuse_of(place.session, &error);
            "disk"
        };
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if !store.begin_part(place.session, Kind::Content) {
                    return Err("too-many");
                }
                match Appender::create(&self.part) {
                    Ok(file) => {
                        store.created(place.session);
                        self.file.insert(file)
                    }
                    Err(error) => {
                        store.end_part(place.session);
                        return Err(refused(store, error));
                    }
                }
            }
        };
        file.append(data).map_err(|error| refused(store, error))?;
        store.wrote(place.session, count);
        if let Some(digest) = &mut self.digest {
            digest.update(data);
        }
        Ok(())
    }

    /// Nothing more of it comes. What is kept gets its digest for a name, unless there is such a file already.
    pub fn finish(self, session: SessionId, store: &mut Store) -> Kept {
        let cut = self.cut.or((!self.missing.is_empty()).then_some(INTERRUPTED));
        let kept = Kept { cut, missing: self.missing, resumed: self.digest.is_none(), ..Kept::default() };
        let Some(file) = self.file else { return kept };
        store.end_part(session);
        let octets = file.len();
        if octets == 0 {
            // The disk has taken a name and nothing else.
            if std::fs::remove_file(&self.part).is_ok() {
                store.removed(session, 0);
            }
            return kept;
        }
        let digest = self.digest.map(Ok).unwrap_or_else(|| digest_of(&self.part)).map(Context::finish);
        let Ok(digest) = digest else { return Kept { content: name_of(&self.part), octets, ..kept } };
        let sha256 = hex(digest.as_ref());
        let name = format!("sha256-{sha256}");
        let path = self.part.with_file_name(&name);
        let duplicate = path.symlink_metadata().is_ok();
        let moved = if duplicate {
            std::fs::remove_file(&self.part).map(|()| store.removed(session, octets))
        } else {
            std::fs::rename(&self.part, &path)
        };
        if let Err(error) = moved {
            tracing::warn!(%error, path = %self.part.display(), "the content of a file keeps the name that it had meanwhile");
            return Kept { content: name_of(&self.part), octets, sha256: Some(sha256), ..kept };
        }
        Kept { content: Some(name), octets, sha256: Some(sha256), duplicate, ..kept }
    }
}

fn name_of(part: &Path) -> Option<String> {
    part.file_name().and_then(|name| name.to_str()).map(str::to_owned)
}

fn digest_of(part: &Path) -> io::Result<Context> {
    let (mut file, mut digest, mut piece) = (open_regular(part)?, Context::new(&SHA256), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(digest),
            count => digest.update(&piece[..count]),
        }
    }
}
