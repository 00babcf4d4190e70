//! OCI image layouts (OCI Image Specification 1.1): a directory, or a tar archive
//! of one, of files that are named by what they contain.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use sha2::{Digest, Sha256};

use super::manifest::Descriptor;
use super::{ReadError, bad};
use crate::wire::hex;

/// Octets of a JSON document.
const MAX_JSON: u64 = 4 << 20;
/// Files in a layout.
const MAX_FILES: usize = 100_000;

/// The files of a layout.
pub enum Layout {
    /// A directory.
    Folder(OwnedFd),
    /// An archive that is not compressed: what is where in it.
    Archive(Arc<File>, HashMap<String, (u64, u64)>),
}

/// A stretch of a file, with a position of its own.
#[derive(Clone, Debug)]
pub struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Section {
    /// The whole of `file`.
    ///
    /// # Errors
    /// If its size cannot be told.
    pub fn whole(file: File) -> io::Result<Section> {
        let end = file.metadata()?.len();
        Ok(Section { file: Arc::new(file), at: 0, end })
    }

    /// Its octets.
    pub fn size(&self) -> u64 {
        self.end - self.at
    }
}

impl Layout {
    /// What is in `archive`, if that is a tar archive of a layout.
    ///
    /// # Errors
    /// If the archive has too many members or lies about its size.
    pub fn in_archive(archive: File) -> Result<Option<Layout>, ReadError> {
        let broken = || ReadError::io("the archive cannot be read");
        let size = archive.metadata().map_err(broken())?.len();
        let mut files = HashMap::new();
        let reading = archive.try_clone().map_err(broken())?;
        let mut reading = tar::Archive::new(reading);
        let Ok(entries) = reading.entries_with_seek() else { return Ok(None) };
        for entry in entries.raw(true) {
            // A broken archive is told when it is read as one.
            let Ok(entry) = entry else { return Ok(None) };
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            let (at, len) = (entry.raw_file_position(), entry.size());
            if at.checked_add(len).is_none_or(|end| end > size) || files.len() >= MAX_FILES {
                return Ok(None);
            }
            // The layout's own files come early; a root of a system has thousands of others.
            if entry.header().entry_type().is_file() && (name.starts_with("blobs/") || !name.contains('/')) {
                files.insert(name, (at, len));
            }
        }
        let is_layout = files.contains_key("index.json") && files.contains_key("oci-layout");
        Ok(is_layout.then(|| Layout::Archive(Arc::new(archive), files)))
    }

    fn open(&self, name: &str) -> Result<Section, ReadError> {
        match self {
            Layout::Archive(file, files) => {
                let (at, len) = files.get(name).ok_or_else(|| bad!("`{name}` is missing"))?;
                Ok(Section { file: file.clone(), at: *at, end: at + len })
            }
            Layout::Folder(folder) => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat2(folder, Path::new(name), flags, Mode::empty(), resolve);
                let file = File::from(file.map_err(|e| ReadError::io(format!("cannot open `{name}`"))(e.into()))?);
                let is_file = file.metadata().is_ok_and(|meta| meta.is_file());
                if !is_file {
                    return Err(bad!("`{name}` is no file"));
                }
                Section::whole(file).map_err(ReadError::io(format!("cannot open `{name}`")))
            }
        }
    }

    /// The index, which nothing vouches for.
    ///
    /// # Errors
    /// If it is missing or too large.
    pub fn index(&self) -> Result<Vec<u8>, ReadError> {
        let section = self.open("index.json")?;
        document(section, "index.json")
    }

    /// The file that `descriptor` names, not verified yet.
    ///
    /// # Errors
    /// If it is missing or not as large as it should be.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Section, ReadError> {
        let digest = descriptor.sha256()?;
        let section = self.open(&format!("blobs/sha256/{digest}"))?;
        match section.size() == descriptor.size {
            true => Ok(section),
            false => Err(bad!("`{digest}` has {} octets and not {}", section.size(), descriptor.size)),
        }
    }

    /// The JSON document that `descriptor` names, verified.
    ///
    /// # Errors
    /// If it is missing, too large, or not what its digest says.
    pub fn json(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ReadError> {
        let content = document(self.blob(descriptor)?, descriptor.sha256()?)?;
        matches(descriptor, &hex(Sha256::digest(&content).as_slice())).map(|()| content)
    }
}

fn document(section: Section, name: &str) -> Result<Vec<u8>, ReadError> {
    if section.size() > MAX_JSON {
        return Err(bad!("`{name}` is larger than 4 MiB"));
    }
    let mut content = Vec::new();
    let read = section.take(MAX_JSON).read_to_end(&mut content);
    read.map_err(ReadError::io(format!("cannot read `{name}`"))).map(|_| content)
}

/// Whether `found` is the digest of `descriptor`.
pub fn matches(descriptor: &Descriptor, found: &str) -> Result<(), ReadError> {
    let wanted = descriptor.sha256()?;
    match wanted == found {
        true => Ok(()),
        false => Err(bad!("`{wanted}` was altered: its SHA-256 is {found}")),
    }
}

/// Digests what passes through it.
pub struct Digesting<R> {
    source: R,
    digest: Sha256,
}

impl<R: Read> Digesting<R> {
    /// What `source` gives.
    pub fn new(source: R) -> Digesting<R> {
        Digesting { source, digest: Sha256::new() }
    }

    /// Reads the rest and says the digest of everything, in hexadecimal.
    ///
    /// # Errors
    /// If the rest cannot be read.
    pub fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(hex(self.digest.finalize().as_slice()))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buffer)?;
        self.digest.update(&buffer[..got]);
        Ok(got)
    }
}
