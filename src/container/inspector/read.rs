//! Reading an archive of evidence: what it says of itself, and whether that is true.
//!
//! An archive may have been in other hands, so it is taken for what anybody could have
//! made: bounded in every respect, and refused as soon as it is not what is written here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::archive::{FILES, MANIFEST};
use super::manifest::{How, Manifest, Sha256Hex, VERSION};

/// How what zstd has compressed begins (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Octets that an archive may have when it is unpacked.
const UNPACKED: u64 = 16 << 30;
/// Octets of its manifest.
const MANIFEST_OCTETS: u64 = 256 << 20;
/// Entries.
const ENTRIES: usize = 1_000_000;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or unpacked.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It has something else in it than archives of evidence have.
    #[error("it is no archive of evidence: {0}")]
    Other(&'static str),
    /// It ends too early.
    #[error("it is cut off")]
    Ends,
    /// The manifest is not one.
    #[error("its manifest cannot be read: {0}")]
    Manifest(serde_json::Error),
    /// The manifest is of another version.
    #[error("its manifest is of version {0}, and this honeyweave reads version {VERSION}")]
    Version(u32),
}

/// An archive that was read to its end.
#[derive(Clone, PartialEq, Debug)]
pub struct Archive {
    /// What it says.
    pub manifest: Manifest,
    /// The contents that it has, with their octets.
    pub files: BTreeMap<Sha256Hex, u64>,
    /// Contents that are not what their name says.
    pub damaged: Vec<Sha256Hex>,
}

/// Reads the archive in file `path`, with all its contents.
///
/// # Errors
/// If it is none, or damaged so that it cannot be unpacked.
pub fn open(path: &Path) -> Result<Archive, ReadError> {
    // Should a pipe have got in its place, nobody waits for that.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ReadError::Other("it is no regular file"));
    }
    let mut magic = Vec::new();
    (&file).take(ZSTD.len() as u64).read_to_end(&mut magic)?;
    match &magic[..] {
        [] => return Err(ReadError::Other("it is empty")),
        magic if magic.len() < ZSTD.len() && ZSTD.starts_with(magic) => return Err(ReadError::Ends),
        magic if magic != ZSTD => return Err(ReadError::Other("it is not compressed by zstd")),
        _ => {}
    }
    read(zstd::Decoder::new(io::Cursor::new(magic).chain(file))?).map_err(|error| match error {
        ReadError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => ReadError::Ends,
        error => error,
    })
}

/// The manifest of the archive in `file`, and nothing else of it. As that is its last entry, all before it is unpacked, and
/// passed over: `most` octets, with the manifest.
///
/// # Errors
/// See [`open`]; that there is none within so many octets is one.
pub fn manifest(file: File, most: u64) -> Result<Manifest, ReadError> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(file)?.take(most.min(UNPACKED)));
    for entry in tar.entries()?.raw(true).take(ENTRIES) {
        let mut entry = entry?;
        if *entry.path_bytes() == *MANIFEST.as_bytes() {
            return read_manifest(&mut entry);
        }
    }
    Err(ReadError::Other("it has no manifest"))
}

/// Reads an unpacked archive.
///
/// # Errors
/// See [`open`].
pub fn read(unpacked: impl Read) -> Result<Archive, ReadError> {
    let mut tar = tar::Archive::new(unpacked.take(UNPACKED));
    let (mut files, mut damaged, mut manifest) = (BTreeMap::new(), Vec::new(), None);
    // Raw: no entry changes what the next one is called or how long it is.
    for (number, entry) in tar.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if manifest.is_some() {
            return Err(ReadError::Other("something follows its manifest"));
        }
        if number >= ENTRIES {
            return Err(ReadError::Other("it has too many entries"));
        }
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(ReadError::Other("it has an entry that is no regular file"));
        }
        let name = entry.path_bytes().into_owned();
        if name == MANIFEST.as_bytes() {
            manifest = Some(read_manifest(&mut entry)?);
            continue;
        }
        let hash = std::str::from_utf8(&name).ok().and_then(|name| Sha256Hex::parse(name.strip_prefix(FILES)?));
        let Some(hash) = hash else { return Err(ReadError::Other("it has an entry of another name")) };
        let mut digest = Sha256::new();
        let mut buffer = [0; 16 * 1024];
        let mut octets = 0;
        loop {
            match entry.read(&mut buffer)? {
                0 => break,
                n => {
                    digest.update(&buffer[..n]);
                    octets += n as u64;
                }
            }
        }
        if octets != entry.header().entry_size()? {
            return Err(ReadError::Other("it ends within an entry"));
        }
        if digest.finalize()[..] != hash.0 {
            damaged.push(hash);
        }
        if files.insert(hash, octets).is_some() {
            return Err(ReadError::Other("it has the same contents twice"));
        }
    }
    let manifest = manifest.ok_or(ReadError::Other("it has no manifest"))?;
    Ok(Archive { manifest, files, damaged })
}

/// Reads a manifest.
///
/// # Errors
/// If it is none, is too long, or is of another version.
pub fn read_manifest(text: impl Read) -> Result<Manifest, ReadError> {
    /// What every version has.
    #[derive(serde::Deserialize)]
    struct Any {
        version: u32,
    }
    let mut json = Vec::new();
    if text.take(MANIFEST_OCTETS + 1).read_to_end(&mut json)? as u64 > MANIFEST_OCTETS {
        return Err(ReadError::Other("its manifest is too long"));
    }
    let any: Any = serde_json::from_slice(&json).map_err(ReadError::Manifest)?;
    if any.version != VERSION {
        return Err(ReadError::Version(any.version));
    }
    serde_json::from_slice(&json).map_err(ReadError::Manifest)
}

impl Archive {
    /// What is not as the manifest says, in words; nothing if all is well. `sample` tells the hash of what is
    /// kept as a sample of that hash, if it is there.
    pub fn mistakes(&self, mut sample: impl FnMut(&Sha256Hex) -> Option<io::Result<Sha256Hex>>) -> Vec<String> {
        let mut mistakes: Vec<String> =
            self.damaged.iter().map(|hash| format!("files/{hash} has other contents than its name says")).collect();
        let mut meant: BTreeMap<&Sha256Hex, u64> = BTreeMap::new();
        let (mut counted, mut samples) = ([0; 3], BTreeMap::new());
        for change in &self.manifest.changes {
            counted[match change.change {
                How::Added => 0,
                How::Changed => 1,
                How::Deleted => 2,
            }] += 1;
            let Some(hash) = &change.sha256 else {
                if change.kept {
                    mistakes.push(format!("{} is kept, but has no hash", change.path));
                }
                continue;
            };
            if change.sample {
                samples.entry(hash).or_insert(&change.path);
            }
            if !change.kept {
                continue;
            }
            meant.insert(hash, change.entry.size);
            match self.files.get(hash) {
                None => mistakes.push(format!("{}: files/{hash} is missing", change.path)),
                Some(octets) if change.why.is_none() && *octets != change.entry.size => mistakes
                    .push(format!("{} has {} octets, files/{hash} has {octets}", change.path, change.entry.size)),
                Some(_) => {}
            }
        }
        for hash in self.files.keys().filter(|hash| !meant.contains_key(hash)) {
            mistakes.push(format!("files/{hash} is nowhere in the manifest"));
        }
        let counts = &self.manifest.counts;
        if counted != [counts.added, counts.changed, counts.deleted] {
            mistakes.push("the manifest counts other changes than it lists".into());
        }
        for (hash, path) in samples {
            match sample(hash) {
                Some(Ok(found)) if found != *hash => {
                    mistakes.push(format!("{path}: samples/{hash}.zst has other contents than its name says"));
                }
                Some(Err(error)) => mistakes.push(format!("{path}: samples/{hash}.zst cannot be read: {error}")),
                // One that was too large to be kept, or that went when room was needed.
                None | Some(Ok(_)) => {}
            }
        }
        mistakes
    }
}
