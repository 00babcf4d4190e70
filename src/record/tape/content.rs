//! The content of a file that moves.

use std::io::{self, Read, Seek};
use std::path::PathBuf;

use ring::digest::{Context, SHA256};

use super::channel::Place;
use super::room::{Kind, Scarce};
use super::store::Store;
use crate::event::SessionId;
use crate::record::file::Appender;
use crate::record::open_regular;
use crate::relay::tape::{Direction, PIECE, Text};
use crate::service::tls::hex;

/// A file that moves.
pub struct Content {
    /// Its name, as the attacker's program wrote it.
    pub path: Text,
    /// Which way.
    pub direction: Direction,
    part: PathBuf,
    file: Option<Appender>,
    /// Of what is in the file.
    digest: Context,
    /// Octets that came.
    pub came: u64,
    /// Some of it may have come to another process that kept it no longer.
    interrupted: bool,
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
    /// Why it is not all that came.
    pub cut: Option<&'static str>,
    /// Whether some of it may be missing all the same, as another process began to keep it: its digest tells.
    pub interrupted: bool,
}

impl Content {
    /// File `number` of a connection begins to move.
    pub fn new(number: u32, path: Text, direction: Direction, place: &Place<'_>) -> Content {
        Content {
            path,
            direction,
            part: place.dir.join(format!("{}-file-{number:04}.part", place.stem)),
            file: None,
            digest: Context::new(&SHA256),
            came: 0,
            interrupted: false,
            cut: None,
        }
    }

    /// Goes on with what another process has kept of it.
    pub fn resume(&mut self, place: &Place<'_>, store: &mut Store) {
        self.interrupted = true;
        match self.kept_before() {
            Ok(file) if store.begin_part(place.session, Kind::Content) => {
                self.came = file.len();
                self.file = Some(file);
            }
            Ok(_) => self.cut = Some("too-many"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                store.refuse(&error);
                self.cut = Some("disk");
            }
        }
    }

    fn kept_before(&mut self) -> io::Result<Appender> {
        let mut file = open_regular(&self.part)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Appender::reopen(&self.part, file.stream_position()?),
                count => self.digest.update(&piece[..count]),
            }
        }
    }

    /// Takes the next piece; returns how many octets of it are in no file.
    pub fn take(&mut self, data: &[u8], place: &Place<'_>, store: &mut Store) -> u64 {
        let count = data.len() as u64;
        self.came += count;
        if self.cut.is_none() {
            self.cut = self.keep(data, place, store).err();
        }
        if self.cut.is_some() { count } else { 0 }
    }

    fn keep(&mut self, data: &[u8], place: &Place<'_>, store: &mut Store) -> Result<(), &'static str> {
        let (count, kept) = (data.len() as u64, self.file.as_ref().map_or(0, Appender::len));
        if kept + count > place.limits.content {
            return Err("file-too-large");
        }
        if !place.keeps || !store.has_room(place.session, Kind::Content, count) {
            return Err("too-much");
        }
        if store.scarce() > Scarce::Nothing {
            return Err("disk");
        }
        let refused = |store: &mut Store, error| {
            store.refuse(&error);
            "disk"
        };
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if !store.begin_part(place.session, Kind::Content) {
                    return Err("too-many");
                }
                match Appender::create_private(&self.part) {
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
        self.digest.update(data);
        Ok(())
    }

    /// Nothing more of it comes. What is kept gets its digest for a name, unless there is such a file already.
    pub fn finish(self, session: SessionId, store: &mut Store) -> Kept {
        let kept = Kept { cut: self.cut, interrupted: self.interrupted, ..Kept::default() };
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
        let sha256 = hex(self.digest.finish().as_ref());
        let name = format!("sha256-{sha256}");
        let path = self.part.with_file_name(&name);
        let moved = if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&self.part).map(|()| store.removed(session, octets))
        } else {
            std::fs::rename(&self.part, &path)
        };
        if let Err(error) = moved {
            tracing::warn!(%error, path = %self.part.display(), "the content of a file keeps the name that it had meanwhile");
            let name = self.part.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            return Kept { content: name, octets, sha256: Some(sha256), ..kept };
        }
        Kept { content: Some(name), octets, sha256: Some(sha256), ..kept }
    }
}
