//! What an archive of evidence says about itself: `manifest.json`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::name::Name;
use crate::event::{AddressMask, Utc};

/// The version of the form below; a reader refuses others.
pub const VERSION: u32 = 1;

/// All that is known of a container's evidence.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// When it was taken.
    pub taken: Utc,
    /// The number of the container, which no other of its honeynet's since that was started had.
    pub number: u32,
    /// What the container was for.
    pub leased: Leased,
    /// Whether the archive has the contents of files, or they are only listed.
    pub contents: Contents,
    /// How many changes of each kind there are.
    pub counts: Counts,
    /// What is not told, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Cut>,
    /// What was added, changed and deleted, by path.
    pub changes: Vec<Change>,
}

/// What a container was for. What is not known is left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leased {
    /// Name of the honeynet.
    pub honeynet: String,
    /// Name of the container.
    pub container: String,
    /// Name of the node.
    pub node: String,
    /// The address that stands for the host.
    pub host: IpAddr,
    /// The host's name.
    pub hostname: String,
    /// What kind of host it is.
    pub template: String,
    /// What it was started from.
    pub image: String,
    /// What the image was built of.
    pub image_hash: String,
    /// Who brought it to life first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attacker: Option<IpAddr>,
    /// The session in which that happened, as in events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When it became this host's.
    pub began: Utc,
    /// When its processes ended, if they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Utc>,
    /// Why its files were destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Each time that it came to life: the first one, and the last ones of many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Visit>,
    /// How many there were between the first one and the others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_leases: u32,
}

impl Leased {
    /// With as much of addresses as `mask` leaves.
    #[must_use]
    pub fn masked(mut self, mask: &AddressMask) -> Leased {
        let visits = self.leases.iter_mut().map(|visit| &mut visit.attacker);
        for attacker in visits.chain([&mut self.attacker]) {
            *attacker = attacker.map(|ip| mask.ip(ip));
        }
        self
    }
}

/// A time that a container was somebody's: from its start until its processes ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// When it was asked for.
    pub began: Utc,
    /// When its processes ended, if they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Utc>,
    /// Why they ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Who brought it to life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attacker: Option<IpAddr>,
    /// The session in which that happened, as in events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// What is kept of changed files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contents {
    /// Their contents, in the archive; executables and scripts also by hash beside it.
    All,
    /// Executables and scripts by hash, beside the archive.
    Samples,
}

/// Changes by kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// What the image lacks.
    pub added: u64,
    /// What the image has otherwise.
    pub changed: u64,
    /// What only the image has.
    pub deleted: u64,
    /// Files whose contents are in the archive.
    pub kept: u64,
    /// Octets of those contents.
    pub octets: u64,
    /// Executables and scripts among added and changed files.
    pub samples: u64,
    /// Files that honeyweave itself made, and those that were opened for writing but are as the image has them. They are not listed.
    pub passed_over: u64,
}

/// Something that is not told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Where.
    pub path: Name,
    /// Why.
    pub why: Why,
}

/// Why something is not told, or not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The list has as many changes as it may have.
    TooManyChanges,
    /// The directory has more entries than are looked at in one.
    TooManyEntries,
    /// Its path is longer than a kernel takes.
    PathTooLong,
    /// The file is larger than what is kept of one.
    FileTooLarge,
    /// The archive has as much as it may have.
    ArchiveFull,
    /// As much was read as may be read for one container, or for as long.
    ReadEnough,
    /// It became something else, or changed, while it was looked at.
    ChangedMeanwhile,
    /// It could not be read.
    Unreadable,
    /// The container went on before it was read.
    WentOn,
}

/// One entry of the container's file system that is not as the image has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Its path inside, from the root.
    pub path: Name,
    /// What happened to it.
    pub change: How,
    /// What differs from the image's, for what is changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<Differs>,
    /// What it is; of what is deleted, what it was.
    #[serde(flatten)]
    pub entry: Entry,
    /// A directory took the place of the image's: nothing of what that held is there any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub opaque: bool,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// Another path of the same file (a hard link), by which it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<Name>,
    /// SHA-256 of the file's contents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Hex>,
    /// Whether the archive has the contents, as `files/SHA256`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub kept: bool,
    /// Whether it is an executable or a script, which is kept as `samples/SHA256.zst`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sample: bool,
    /// Why hash or contents are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// What the image has in its place, for what is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Entry>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What happened to an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The image lacks it.
    Added,
    /// The image has it otherwise.
    Changed,
    /// Only the image has it.
    Deleted,
}

/// In what an entry differs from the image's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Differs {
    /// It is something else.
    Kind,
    /// Its contents, or where it leads.
    Content,
    /// Its mode.
    Mode,
    /// Its owner or group.
    Owner,
    /// When it was last written.
    Time,
}

/// What is known of an entry without reading it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Octets.
    pub size: u64,
    /// Octets on the disk, which are fewer for a file with holes.
    pub allocated: u64,
    /// Permissions with set-id and sticky bits, octal.
    pub mode: Mode,
    /// Its owner, as inside.
    pub uid: u32,
    /// Its group, as inside.
    pub gid: u32,
    /// When it was last written, or what it was told to say about that.
    pub mtime: Utc,
    /// When anything about it last changed. Nobody inside can set that.
    pub ctime: Utc,
    /// Major and minor number of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
}

/// Kinds of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    Unknown,
}

/// Permission bits, written as four octal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u16);

impl From<Mode> for String {
    fn from(mode: Mode) -> String {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Mode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Mode, Self::Error> {
        let wrong = "a mode is four octal digits";
        if text.len() != 4 || !text.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) {
            return Err(wrong);
        }
        u16::from_str_radix(&text, 8).map(Mode).map_err(|_| wrong)
    }
}

/// A SHA-256, written as 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(pub [u8; 32]);

impl std::fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl From<Sha256Hex> for String {
    fn from(hash: Sha256Hex) -> String {
        hash.to_string()
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Sha256Hex, Self::Error> {
        Sha256Hex::parse(&text).ok_or("a SHA-256 is 64 hexadecimal digits in lower case")
    }
}

impl Sha256Hex {
    /// Reads 64 digits in lower case.
    pub fn parse(text: &str) -> Option<Sha256Hex> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        for (octet, at) in hash.iter_mut().zip((0..64).step_by(2)) {
            *octet = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Sha256Hex(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_hashes_have_one_form() {
        assert_eq!(serde_json::to_string(&Mode(0o4755)).unwrap(), "\"4755\"");
        assert_eq!(serde_json::from_str::<Mode>("\"0644\"").unwrap(), Mode(0o644));
        for text in ["\"644\"", "\"0688\"", "\"+644\"", "\"00644\"", "420"] {
            assert!(serde_json::from_str::<Mode>(text).is_err(), "{text}");
        }
        let hash = Sha256Hex([0xab; 32]);
        assert_eq!(Sha256Hex::parse(&hash.to_string()), Some(hash));
        for text in ["", &"AB".repeat(32), &"ab".repeat(31), &"+a".repeat(32), &"\u{e9}".repeat(32)] {
            assert_eq!(Sha256Hex::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_seed_of_the_fuzz_target_is_an_archive() {
        let archive =
            super::super::read::read(&include_bytes!("../../../fuzz/seeds/evidence/archive.tar")[..]).unwrap();
        assert_eq!(archive.mistakes(|_| None), Vec::<String>::new());
        let text = include_bytes!("../../../fuzz/seeds/evidence/manifest.json");
        assert_eq!(super::super::read::read_manifest(&text[..]).unwrap(), archive.manifest);
    }
}
