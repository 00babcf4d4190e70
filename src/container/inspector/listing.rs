//! Listings: what had been changed in a container each time that it rested, so that of two visitors it is known what
//! either of them did.
//!
//! ```text
//! STATE/NAME/evidence/listings/20260131T225959Z-10.1.0.10-7-20260131T235959Z.123456.json.zst
//!                              when it became that host's, which host, which container; when it rested
//! ```
//! A listing is a manifest without an archive: kinds, modes, owners and hashes. Where nothing has changed since the last
//! one there is no other, and that one is said to hold until then. Of too many those go whose neighbors are nearest, so
//! that who makes a container rest over and over joins his own visits, and nobody else's.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

use super::archive::{ENDING, LEVEL, UNFINISHED, create, host_of, stem};
use super::manifest::{Change, Counts, Cut, How, Leased, Sha256Hex, Why};
use super::name::Name;
use super::read::ReadError;
use super::tree;
use crate::event::{MaskedIp, Utc};

/// The directory of listings, in that of evidence.
pub const LISTINGS: &str = "listings";
/// What the name of one ends in.
pub const LISTING_ENDING: &str = ".json.zst";
/// The version of the form below; a reader refuses others.
const VERSION: u32 = 1;
/// Listings of one container.
const MOST: usize = 64;
/// Octets of those, as they lie on the disk.
const OCTETS: u64 = 64 << 20;
/// Octets of one when it is unpacked.
const UNPACKED: u64 = 256 << 20;
/// Entries of the directory that are looked at.
const ENTRIES: usize = 1_000_000;
/// A file that was written by a mapping of memory gets its time when the kernel writes it to the disk, half a minute
/// later; what is that new is read again.
const UNSETTLED: i64 = 120_000_000;

/// Why a container rests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// Its processes are frozen.
    Frozen,
    /// They have ended, and its files stay for who comes back.
    Stopped,
    /// Its files go.
    Ended,
}

/// What a listing is made for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// Why it rests.
    pub occasion: Occasion,
    /// All addresses of the host.
    pub addresses: Vec<IpAddr>,
    /// The attacker that it was granted to, where each has one of its own, or the network if no more is to be told.
    pub granted: Option<MaskedIp>,
}

/// What had been changed in a container when it rested.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// 1.
    pub version: u32,
    /// When it was made. The container rested by then.
    pub taken: Utc,
    /// When nothing had changed since, if it rested again.
    pub until: Utc,
    /// The container's number.
    pub number: u32,
    /// Why it rested last.
    pub occasion: Occasion,
    /// What the container was for.
    pub leased: Leased,
    /// All addresses of the host.
    pub addresses: Vec<IpAddr>,
    /// The attacker that it was granted to, where each has one of its own, or the network if no more is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<MaskedIp>,
    /// It went on before all files were read.
    pub partial: bool,
    /// Octets of samples that were new in this one and in those before.
    pub sampled: u64,
    /// How many changes of each kind there are.
    pub counts: Counts,
    /// What is not told, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Cut>,
    /// How it differed from its image, by path.
    pub changes: Vec<Change>,
}

impl Listing {
    /// Version 1 of a listing of nothing.
    pub fn new(number: u32, taken: Utc, leased: Leased, note: &Note) -> Listing {
        Listing {
            version: VERSION,
            taken,
            until: taken,
            number,
            occasion: note.occasion,
            leased,
            addresses: note.addresses.clone(),
            granted: note.granted,
            partial: false,
            sampled: 0,
            counts: Counts::default(),
            cut: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Whether the container went on before all files were read.
    pub fn is_unread(&self) -> bool {
        self.changes.iter().any(|change| change.why == Some(Why::WentOn))
    }

    /// Whether the container is as it was: then the later of the two tells nothing but that, or what could not be read
    /// before.
    fn is_as(&self, before: &Listing) -> bool {
        let same = |a: &Change, b: &Change| {
            // Blocks on the disk come later than what is in them.
            let entry = |change: &Change| super::Entry { allocated: 0, ..change.entry.clone() };
            let hash = |a: Option<Sha256Hex>, b: Option<Sha256Hex>| a.is_none() || b.is_none() || a == b;
            (&a.path, a.change, a.opaque, &a.target, &a.same_as) == (&b.path, b.change, b.opaque, &b.target, &b.same_as)
                && entry(a) == entry(b)
                && hash(a.sha256, b.sha256)
        };
        self.cut == before.cut
            && self.changes.len() == before.changes.len()
            && self.changes.iter().zip(&before.changes).all(|(a, b)| same(a, b))
    }
}

/// What was read before, so that it need not be read again.
pub struct Known<'a> {
    changes: HashMap<&'a Name, &'a Change>,
    /// What last changed after that is read all the same.
    settled: Utc,
}

impl<'a> Known<'a> {
    /// Nothing.
    pub fn nothing() -> Known<'a> {
        Known { changes: HashMap::new(), settled: Utc::EPOCH }
    }

    /// What `listing` tells.
    pub fn by(listing: &'a Listing) -> Known<'a> {
        let read = listing.changes.iter().filter(|change| change.sha256.is_some() && change.why.is_none());
        let settled = Utc::from_micros(listing.taken.micros().saturating_sub(UNSETTLED));
        Known { changes: read.map(|change| (&change.path, change)).collect(), settled }
    }

    /// What is known of a file that nobody has touched since. Nobody inside can set when that was.
    pub fn of(&self, change: &Change) -> Option<&'a Change> {
        let (is, before) = (&change.entry, self.changes.get(&change.path)?);
        let was = &before.entry;
        let untouched = (is.ctime, is.mtime, is.size) == (was.ctime, was.mtime, was.size) && is.ctime < self.settled;
        (untouched && change.change == before.change && change.change != How::Deleted).then_some(*before)
    }
}

/// Name of the listing of container `number`, which became `host`'s at `began` and rested at `taken`.
pub fn listing_name(began: Utc, host: IpAddr, number: u32, taken: Utc) -> String {
    let micros = taken.micros().rem_euclid(1_000_000);
    format!("{}-{}.{micros:06}{LISTING_ENDING}", stem(began, host, number), taken.compact())
}

/// What a listing's name tells: the part that all of one container have in common, its host, and when it rested.
pub fn listing_of(name: &str) -> Option<(&str, IpAddr, Utc)> {
    let (container, taken) = name.strip_suffix(LISTING_ENDING)?.rsplit_once('-')?;
    let (host, number) = host_of(&format!("{container}{ENDING}")).map(|(host, number)| (host, number.to_owned()))?;
    let part = |from: usize, to: usize| taken.get(from..to);
    let time = format!(
        "{}-{}-{}T{}:{}:{}{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?,
        part(16, taken.len())?
    );
    let taken = time
        .parse()
        .ok()
        .filter(|utc: &Utc| format!("{}.{:06}", utc.compact(), utc.micros().rem_euclid(1_000_000)) == taken)?;
    (!number.contains('.')).then_some((container, host, taken))
}

/// Reads a listing, packed as it lies on the disk.
///
/// # Errors
/// If it is none, is too long, or is of another version.
pub fn read_listing(packed: impl Read) -> Result<Listing, ReadError> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Any {
        version: u32,
    }
    let mut json = Vec::new();
    let mut unpacked = zstd::Decoder::new(packed)?;
    unpacked.window_log_max(27)?;
    if unpacked.take(UNPACKED + 1).read_to_end(&mut json)? as u64 > UNPACKED {
        return Err(ReadError::Other("its list is too long"));
    }
    let any: Any = serde_json::from_slice(&json).map_err(ReadError::Manifest)?;
    if any.version != VERSION {
        return Err(ReadError::Version(any.version));
    }
    serde_json::from_slice(&json).map_err(ReadError::Manifest)
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The name of the listing that tells how the container is.
    pub name: String,
    /// Whether that is another one than before.
    pub is_new: bool,
}

/// The listings of one container.
pub struct Shelf<'a> {
    directory: &'a File,
    began: Utc,
    host: IpAddr,
    number: u32,
}

impl<'a> Shelf<'a> {
    /// Those of container `number` of what `leased` tells, in `directory`.
    pub fn new(directory: &'a File, number: u32, leased: &Leased) -> Shelf<'a> {
        Shelf { directory, began: leased.began, host: leased.host, number }
    }

    /// Their names, the oldest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let own = stem(self.began, self.host, self.number);
        // Opened anew: a directory is read from where its descriptor stands.
        let (names, _) = tree::names(&tree::directory(self.directory, b"")?, ENTRIES)?;
        let names = names.into_iter().filter_map(|name| String::from_utf8(name).ok());
        Ok(names.filter(|name| listing_of(name).is_some_and(|(container, ..)| container == own)).collect())
    }

    /// The last one, if it can be read.
    pub fn last(&self) -> Option<(String, Listing)> {
        let name = self.names().ok()?.pop()?;
        let listing = read_listing(tree::file(self.directory, name.as_bytes()).ok()?).ok()?;
        (listing.leased.began == self.began).then_some((name, listing))
    }

    /// Puts a listing beside the last one, or in its place if nothing has changed since.
    ///
    /// # Errors
    /// If the disk is full; then the last one stays as it was.
    pub fn put(&self, mut listing: Listing, last: Option<(String, Listing)>) -> io::Result<Written> {
        let own = listing_name(self.began, self.host, self.number, listing.taken);
        // No two inspectors have the same, though both may write in the place of the same one.
        let unfinished = format!("{UNFINISHED}{own}");
        let (mut name, mut is_new) = (own, true);
        if let Some((before, last)) = last
            && listing.is_as(&last)
        {
            (name, is_new) = (before, false);
            listing.taken = last.taken;
            // What could not be read now is as it was.
            for (change, before) in listing.changes.iter_mut().zip(last.changes) {
                if change.why == Some(Why::WentOn) && before.sha256.is_some() {
                    *change = before;
                }
            }
            listing.partial = listing.is_unread();
        }
        let written = create(self.directory, &unfinished).and_then(|file| {
            let mut packed = zstd::Encoder::new(io::BufWriter::new(file), LEVEL)?;
            serde_json::to_writer(&mut packed, &listing)?;
            let mut file = packed.finish()?;
            file.flush()?;
            // The archive beside it outlives a loss of power, and the honeynet may be waiting for its end.
            if listing.occasion != Occasion::Ended {
                file.get_ref().sync_all()?;
            }
            Ok(rustix::fs::renameat(self.directory, &*unfinished, self.directory, &*name)?)
        });
        if let Err(error) = written {
            let _ = rustix::fs::unlinkat(self.directory, &*unfinished, AtFlags::empty());
            return Err(error);
        }
        let until = Timespec { tv_sec: listing.until.micros() / 1_000_000, tv_nsec: 0 };
        let times = Timestamps { last_access: until, last_modification: until };
        let _ = rustix::fs::utimensat(self.directory, &*name, &times, AtFlags::SYMLINK_NOFOLLOW);
        self.thin()?;
        Ok(Written { name, is_new })
    }

    /// Removes what is too much of this container's.
    fn thin(&self) -> io::Result<()> {
        let mut kept: Vec<(i64, u64, String)> = Vec::new();
        for name in self.names()? {
            let Some((_, _, taken)) = listing_of(&name) else { continue };
            let stat = rustix::fs::statat(self.directory, &*name, AtFlags::SYMLINK_NOFOLLOW);
            let octets = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
            kept.push((taken.micros(), octets, name));
        }
        while let Some(at) = surplus(self.began.micros(), &kept) {
            let (_, _, name) = kept.remove(at);
            rustix::fs::unlinkat(self.directory, &*name, AtFlags::empty())?;
        }
        Ok(())
    }
}

/// Which of these is one too many: not the last one, and of the others the one whose neighbors are nearest. The first
/// one's neighbor is the image.
fn surplus(began: i64, kept: &[(i64, u64, String)]) -> Option<usize> {
    let octets = kept.iter().fold(0u64, |sum, (_, octets, _)| sum.saturating_add(*octets));
    if kept.len() <= MOST && octets <= OCTETS {
        return None;
    }
    let at = |at: usize| kept.get(at).map_or(began, |(taken, ..)| *taken);
    let gap = |index: usize| {
        let before = index.checked_sub(1).map_or(began, at);
        at(index + 1).saturating_sub(before)
    };
    (0..kept.len().saturating_sub(1)).min_by_key(|index| gap(*index))
}

/// The directory of listings in that of evidence.
///
/// # Errors
/// If there is none.
pub fn shelves(evidence: impl AsFd) -> io::Result<File> {
    tree::directory(evidence, LISTINGS.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Utc {
        Utc::from_micros(1_769_903_999_000_000 + seconds * 1_000_000 + 123_456)
    }

    #[test]
    fn a_name_tells_of_what_it_is() {
        for host in ["10.1.0.10", "fd00:1111:2222:3333:4444:5555:6666:7777"] {
            let host: IpAddr = host.parse().unwrap();
            let name = listing_name(at(0), host, u32::MAX, at(5));
            assert!(name.len() <= 100, "{name}");
            let own = stem(at(0), host, u32::MAX);
            assert_eq!(listing_of(&name), Some((own.as_str(), host, at(5))));
        }
        let name = listing_name(at(0), "10.1.0.10".parse().unwrap(), 7, at(5));
        assert_eq!(name, "20260131T235959Z-10.1.0.10-7-20260201T000004Z.123456.json.zst");
        for name in [
            "",
            "20260131T235959Z-10.1.0.10-7.json.zst",
            "20260131T235959Z-10.1.0.10-7-20260201T000004Z.json.zst",
            "20260131T235959Z-10.1.0.10-7-20260231T000004Z.123456.json.zst",
            "20260131T235959Z-10.1.0.10-7-20260201T00:004Z.123456.json.zst",
            "20260131T235959Z-10.1.0.10-7.1-20260201T000004Z.123456.json.zst",
            "20260131T235959Z-10.1.0.10-7-20260201T000004Z.123456.json.zst.zst",
            "20260131T235959Z-\u{e9}\u{e9}-7-\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}.json.zst",
        ] {
            assert_eq!(listing_of(name), None, "{name}");
        }
    }

    #[test]
    fn who_has_it_rest_over_and_over_joins_his_own_visits() {
        // One an hour, then one every second.
        let mut kept: Vec<(i64, u64, String)> = Vec::new();
        let add = |kept: &mut Vec<(i64, u64, String)>, taken: i64| {
            kept.push((taken, 1, taken.to_string()));
            while let Some(at) = surplus(0, kept) {
                kept.remove(at);
            }
        };
        for hour in 1..=10 {
            add(&mut kept, hour * 3_600_000_000);
        }
        for second in 1..=1000 {
            add(&mut kept, 36_000_000_000 + second * 1_000_000);
        }
        assert_eq!(kept.len(), MOST);
        let hours = kept.iter().filter(|(taken, ..)| taken % 3_600_000_000 == 0).count();
        assert!(hours >= 9, "{kept:?}");
        assert_eq!(kept.last().unwrap().0, 37_000_000_000);
        // Large ones.
        kept.iter_mut().for_each(|(_, octets, _)| *octets = 4 << 20);
        let mut count = 0;
        while let Some(at) = surplus(0, &kept) {
            kept.remove(at);
            count += 1;
        }
        assert_eq!((kept.len(), count), (16, MOST - 16));
        kept.iter_mut().for_each(|(_, octets, _)| *octets = u64::MAX);
        while let Some(at) = surplus(0, &kept) {
            kept.remove(at);
        }
        assert_eq!(kept.len(), 1, "the last one stays whatever it takes");
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for json in ["", "{}", "[]", r#"{"version": 2}"#, r#"{"version": 1, "more": 1}"#] {
            assert!(read_listing(&zstd::encode_all(json.as_bytes(), 1).unwrap()[..]).is_err(), "{json}");
        }
        assert!(read_listing(&b"no zstd"[..]).is_err());
    }
}
