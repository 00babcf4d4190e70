//! Checking a bundle that was in other hands: it is taken for what anybody could have made.
//!
//! It is read once, from its beginning to its end, in constant memory, and only hashed: nothing is unpacked to disk,
//! shown or run. It is refused as soon as it is not of the form that we write; what is of that form and untrue is told
//! member by member.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use super::files::Hashing;
use super::key::PublicKey;
use super::manifest::{KIND, MANIFEST, Manifest, SIGNATURE, VERSION, is_path};
use super::{MANIFEST_OCTETS, MEMBERS, UNPACKED};
use crate::record::escape;

/// How what zstd has compressed begins (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Octets of a signature.
const SIGNATURE_OCTETS: u64 = 64;
/// Mistakes that are told.
const MISTAKES: usize = 1000;
/// The largest window that unpacking may need, as a power of two: 8 MiB are what our level takes.
const WINDOW: u32 = 27;

/// Why a bundle cannot be checked to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be unpacked.
    #[error("it is damaged: it cannot be unpacked beyond {after}: {source}")]
    Broken {
        /// The last member that was whole, or its beginning.
        after: String,
        /// Why.
        source: io::Error,
    },
    /// It ends too early.
    #[error("it is cut off: it ends within {0}")]
    Ends(String),
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is nothing that an export writes.
    #[error("it is no bundle of a session: it is neither compressed by zstd nor encrypted by age")]
    Foreign,
    /// It has something else in it than bundles have.
    #[error("it is no bundle of a session: {0}")]
    Other(String),
    /// It was read to its end, and there is no key for what it says of itself.
    #[error("it says that it is of the honeynet {0}, and there is no key of one of that name")]
    NoKey(String),
}

/// Whose signature a manifest bears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Signature {
    /// That of the key that was asked for.
    Good,
    /// Not that of this key: the manifest, the signature, or both were changed.
    Bad,
    /// It tells that it is signed with another key, of this fingerprint.
    OtherKey(String),
    /// There is none.
    Missing,
}

/// A bundle that was read to its end.
#[derive(Clone, PartialEq, Debug)]
pub struct Verified {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Who vouches for that.
    pub signature: Signature,
    /// The key that its signature was held against.
    pub key: PublicKey,
    /// What is not as the manifest says, in words that a terminal may show.
    pub mistakes: Vec<String>,
    /// Octets of all members that a manifest tells: of all but itself and its signature.
    pub octets: u64,
}

impl ReadError {
    /// What can be done about it.
    pub fn help(&self) -> &'static str {
        match self {
            ReadError::Empty | ReadError::Ends(_) => {
                "copy it once more from where it was exported, and compare the sizes; or export the session again"
            }
            ReadError::Broken { .. } => {
                "copy it once more from where it was exported, in binary, and compare the sizes; as it is, nothing in it is proven"
            }
            ReadError::Foreign | ReadError::Other(_) => {
                "`honeyweave session export ID` writes bundles (ID.tar.zst, ID.tar.zst.age); archives of evidence are checked by \
                 `honeyweave evidence verify`"
            }
            ReadError::NoKey(_) => {
                "--name NAME says which honeynet's key on this machine is meant, or --key FILE whose: the file has what `honeyweave \
                 session key` prints where it was exported"
            }
        }
    }
}

impl Verified {
    /// Whether all is as the owner of the key says.
    pub fn is_good(&self) -> bool {
        self.signature == Signature::Good && self.mistakes.is_empty()
    }
}

/// Refuses to go on after so many octets.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!("it has more than {UNPACKED} octets")));
        }
        let n = self.reader.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left -= n as u64;
        Ok(n)
    }
}

/// That a bundle, decrypted, may begin like that.
///
/// # Errors
/// If none does.
pub fn check_beginning(octets: &[u8]) -> Result<(), ReadError> {
    match octets.get(..ZSTD.len()) {
        Some(magic) if magic == ZSTD => Ok(()),
        None if octets.is_empty() => Err(ReadError::Empty),
        None if ZSTD.starts_with(octets) => Err(ReadError::Ends("its first octets".into())),
        _ => Err(ReadError::Foreign),
    }
}

/// Checks the bundle in `packed`, decrypted, against the signature of `key`.
///
/// # Errors
/// See [`ReadError`].
pub fn verify(packed: impl Read, key: &PublicKey) -> Result<Verified, ReadError> {
    verify_by(packed, |_| Some(*key))
}

/// The same with the key that `choose` has for what the bundle says of itself, which anybody may have written.
///
/// # Errors
/// See [`ReadError`].
pub fn verify_by(
    mut packed: impl Read,
    choose: impl FnOnce(&Manifest) -> Option<PublicKey>,
) -> Result<Verified, ReadError> {
    let begin = |source| ReadError::Broken { after: "its beginning".into(), source };
    let mut magic = Vec::new();
    (&mut packed).take(ZSTD.len() as u64).read_to_end(&mut magic).map_err(begin)?;
    check_beginning(&magic)?;
    let mut unpacked = zstd::Decoder::new(io::Cursor::new(magic).chain(packed)).map_err(begin)?;
    unpacked.window_log_max(WINDOW).map_err(begin)?;
    verify_unpacked_by(unpacked, choose)
}

/// The same for what was unpacked already.
///
/// # Errors
/// See [`ReadError`].
pub fn verify_unpacked(unpacked: impl Read, key: &PublicKey) -> Result<Verified, ReadError> {
    verify_unpacked_by(unpacked, |_| Some(*key))
}

fn verify_unpacked_by(
    unpacked: impl Read,
    choose: impl FnOnce(&Manifest) -> Option<PublicKey>,
) -> Result<Verified, ReadError> {
    let mut unpacked = Bounded { reader: unpacked, left: UNPACKED };
    let mut found: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let (mut manifest, mut signature): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
    let mut after = "its beginning".to_owned();
    let mut octets = 0;
    {
        let mut tar = tar::Archive::new(&mut unpacked);
        let broken = |after: &str| {
            let after = after.to_owned();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::UnexpectedEof => ReadError::Ends(format!("what follows {after}")),
                _ => ReadError::Broken { after, source },
            }
        };
        // Raw: no entry changes what the next one is called or how long it is.
        for entry in tar.entries().map_err(broken(&after))?.raw(true) {
            let mut entry = entry.map_err(broken(&after))?;
            let path = path_of(&entry)?;
            if signature.is_some() {
                return Err(ReadError::Other(format!("{path} follows its signature")));
            }
            if manifest.is_some() && path != SIGNATURE {
                return Err(ReadError::Other(format!("{path} follows its manifest")));
            }
            if found.len() >= MEMBERS {
                return Err(ReadError::Other(format!("it has more than {MEMBERS} members")));
            }
            let size = entry.header().entry_size().map_err(broken(&after))?;
            let most = match path.as_str() {
                MANIFEST => MANIFEST_OCTETS,
                SIGNATURE => SIGNATURE_OCTETS,
                _ => UNPACKED,
            };
            if size > most {
                return Err(ReadError::Other(format!("its {path} has {size} octets, and none has more than {most}")));
            }
            let kept = match path.as_str() {
                MANIFEST => Some(manifest.insert(Vec::new())),
                SIGNATURE => Some(signature.insert(Vec::new())),
                _ => None,
            };
            let (read, sha256) = hash(&mut entry, kept).map_err(broken(&after))?;
            if read != size {
                return Err(ReadError::Ends(path));
            }
            if !matches!(path.as_str(), MANIFEST | SIGNATURE) {
                octets += size;
                if found.insert(path.clone(), (size, sha256)).is_some() {
                    return Err(ReadError::Other(format!("it has {path} twice")));
                }
            }
            after = path;
        }
    }
    nothing_more(&mut unpacked, &after)?;
    let text = manifest.ok_or_else(|| ReadError::Other("it has no manifest".into()))?;
    let manifest = read_manifest(&text)?;
    let key = choose(&manifest).ok_or_else(|| ReadError::NoKey(escape(&manifest.honeynet).into_owned()))?;
    let signature = match signature {
        None => Signature::Missing,
        Some(signature) if key.verify(&text, &signature) => Signature::Good,
        Some(_) if manifest.key != key.fingerprint() => Signature::OtherKey(escape(&manifest.key).into_owned()),
        Some(_) => Signature::Bad,
    };
    let mistakes = mistakes(&manifest, &found);
    Ok(Verified { manifest, signature, key, mistakes, octets })
}

fn path_of(entry: &tar::Entry<'_, impl Read>) -> Result<String, ReadError> {
    let octets = entry.path_bytes();
    let shown = || escape(&String::from_utf8_lossy(&octets).chars().take(200).collect::<String>()).into_owned();
    let path = std::str::from_utf8(&octets).ok().filter(|path| is_path(path));
    let path = path.ok_or_else(|| ReadError::Other(format!("it has a member called `{}`", shown())))?;
    if entry.header().entry_type() != tar::EntryType::Regular {
        return Err(ReadError::Other(format!("its {path} is no regular file")));
    }
    Ok(path.to_owned())
}

/// Reads `entry` to its end, and keeps it if there is somewhere to.
fn hash(entry: impl Read, mut kept: Option<&mut Vec<u8>>) -> io::Result<(u64, String)> {
    let mut entry = Hashing::new(entry);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match entry.read(&mut buffer)? {
            0 => return Ok(entry.finish()),
            n => {
                if let Some(kept) = &mut kept {
                    kept.extend_from_slice(&buffer[..n]);
                }
            }
        }
    }
}

/// Behind the end of an archive there are zeros at most.
fn nothing_more(unpacked: &mut impl Read, after: &str) -> Result<(), ReadError> {
    let mut buffer = [0; 4096];
    loop {
        match unpacked.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) if buffer[..n].iter().all(|octet| *octet == 0) => {}
            Ok(_) => return Err(ReadError::Other(format!("something follows its end, behind {after}"))),
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ReadError::Ends(format!("what follows {after}")));
            }
            Err(source) => return Err(ReadError::Broken { after: after.to_owned(), source }),
        }
    }
}

fn read_manifest(text: &[u8]) -> Result<Manifest, ReadError> {
    /// What every version has.
    #[derive(serde::Deserialize)]
    struct Any {
        kind: String,
        version: u32,
    }
    let wrong = |error: serde_json::Error| {
        ReadError::Other(format!("its manifest cannot be read: {}", escape(&error.to_string())))
    };
    let any: Any = serde_json::from_slice(text).map_err(wrong)?;
    if any.kind != KIND {
        return Err(ReadError::Other("its manifest is that of something else".into()));
    }
    if any.version != VERSION {
        return Err(ReadError::Other(format!(
            "its manifest is of version {}, and this honeyweave reads version {VERSION}",
            any.version
        )));
    }
    serde_json::from_slice(text).map_err(wrong)
}

/// What of `found` is not as `manifest` says.
fn mistakes(manifest: &Manifest, found: &BTreeMap<String, (u64, String)>) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut told = BTreeSet::new();
    for member in &manifest.members {
        let path = escape(&member.path);
        if !told.insert(member.path.as_str()) {
            mistakes.push(format!("{path} is in the manifest twice"));
            continue;
        }
        match found.get(&member.path) {
            None => mistakes.push(format!("{path} is missing")),
            Some((octets, _)) if *octets != member.octets => {
                mistakes.push(format!("{path} has {octets} octets, and {} in the manifest", member.octets));
            }
            Some((_, sha256)) if *sha256 != member.sha256 => {
                mistakes.push(format!("{path} was changed: its SHA-256 is {sha256}"));
            }
            Some(_) => {}
        }
    }
    for path in found.keys().filter(|path| !told.contains(path.as_str())) {
        mistakes.push(format!("{path} is not in the manifest"));
    }
    let more = mistakes.len().saturating_sub(MISTAKES);
    mistakes.truncate(MISTAKES);
    if more > 0 {
        mistakes.push(format!("and {more} more"));
    }
    mistakes
}
