//! Fields of a head as HTTP/2 has them (RFC 7541).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::huffman;

/// Octets of the table that each side has in the beginning.
const TABLE: usize = 4096;
/// Of the largest that is kept; browsers and servers ask for as much at most.
const LARGEST: usize = 64 << 10;
/// What an entry takes beside its name and value (RFC 7541 §4.1).
const BESIDE: usize = 32;
/// Octets of all fields of a head, each with [`BESIDE`]: a few in the block may stand for many.
const LIST: usize = 256 << 10;

/// Entries that everybody has.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// A part of a field, which more than one may have.
type Part = Arc<[u8]>;

/// Reads the heads of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    entries: VecDeque<(Part, Part)>,
    /// Octets of those.
    size: usize,
    /// Most of them.
    most: usize,
    /// What whoever writes may have that be, as far as whoever reads has ever said.
    allowed: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { entries: VecDeque::new(), size: 0, most: TABLE, allowed: TABLE }
    }
}

impl Decoder {
    /// Whoever reads has said how large a table may be. When that comes into force only the two know, so the largest counts.
    pub(super) fn allow(&mut self, octets: u32) {
        self.allowed = self.allowed.max(usize::try_from(octets).unwrap_or(usize::MAX));
    }

    /// Tells the names and values of a whole head.
    pub(super) fn decode(&mut self, block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), &'static str> {
        let (mut rest, mut list) = (block, 0);
        while let Some(kind) = rest.first().copied() {
            let is_resize = kind & 0xe0 == 0x20;
            if is_resize {
                // It should come first; not everybody insists on that.
                let size = integer(&mut rest, 5)?;
                self.resize(size)?;
                continue;
            }
            let count = |name: &[u8], value: &[u8]| name.len().saturating_add(value.len()).saturating_add(BESIDE);
            if kind & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                match self.entry(index)? {
                    Found::Ours(name, value) => {
                        list += count(name.as_bytes(), value.as_bytes());
                        field(name.as_bytes(), value.as_bytes());
                    }
                    Found::Theirs(name, value) => {
                        list += count(name, value);
                        // Before it is told, as a short index may stand for much.
                        if list <= LIST {
                            field(name, value);
                        }
                    }
                }
            } else {
                let is_kept = kind & 0x40 != 0;
                let index = integer(&mut rest, if is_kept { 6 } else { 4 })?;
                let name: Part = match index {
                    0 => string(&mut rest)?.into(),
                    index => match self.entry(index)? {
                        Found::Ours(name, _) => name.as_bytes().into(),
                        Found::Theirs(name, _) => name.clone(),
                    },
                };
                let value = string(&mut rest)?;
                list += count(&name, &value);
                if list <= LIST {
                    field(&name, &value);
                }
                if is_kept {
                    self.insert(name, &value);
                }
            }
            if list > LIST {
                return Err("a head of too many octets");
            }
        }
        Ok(())
    }

    /// The entry at `index` (RFC 7541 §2.3.3).
    fn entry(&self, index: usize) -> Result<Found<'_>, &'static str> {
        let Some(index) = index.checked_sub(1) else { return Err("a field without a number") };
        if let Some((name, value)) = STATIC.get(index) {
            return Ok(Found::Ours(name, value));
        }
        let entry = self.entries.get(index - STATIC.len());
        entry.map(|(name, value)| Found::Theirs(name, value)).ok_or("a field that nobody has told")
    }

    fn insert(&mut self, name: Part, value: &[u8]) {
        let size = name.len() + value.len() + BESIDE;
        self.evict(self.most.saturating_sub(size));
        // One that is larger than the table only empties it.
        if size <= self.most {
            self.size += size;
            self.entries.push_front((name, value.into()));
        }
    }

    fn resize(&mut self, most: usize) -> Result<(), &'static str> {
        if most > self.allowed {
            return Err("a table of more octets than were agreed on");
        }
        if most > LARGEST {
            return Err("a table that is too large");
        }
        self.most = most;
        self.evict(most);
        Ok(())
    }

    /// Removes the oldest entries until there are at most so many octets.
    fn evict(&mut self, most: usize) {
        while self.size > most {
            let Some((name, value)) = self.entries.pop_back() else { return };
            self.size -= name.len() + value.len() + BESIDE;
        }
    }
}

/// An entry that has been found.
enum Found<'a> {
    Ours(&'static str, &'static str),
    Theirs(&'a Part, &'a Part),
}

/// Takes a number whose first octet has so many bits of it (RFC 7541 §5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, &'static str> {
    /// What goes on takes seven bits each; so many are far more than anything here is long.
    const OCTETS: u32 = 4;
    const CUT: &str = "a field that is cut";
    let most = (1usize << bits) - 1;
    let (first, after) = rest.split_first().ok_or(CUT)?;
    *rest = after;
    let mut number = usize::from(*first) & most;
    if number < most {
        return Ok(number);
    }
    for nth in 0..OCTETS {
        let (octet, after) = rest.split_first().ok_or(CUT)?;
        *rest = after;
        number += usize::from(octet & 0x7f) << (7 * nth);
        if octet & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number that is too large")
}

/// Takes a string (RFC 7541 §5.2).
fn string<'a>(rest: &mut &'a [u8]) -> Result<Cow<'a, [u8]>, &'static str> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (octets, after) = rest.split_at_checked(length).ok_or("a string that is cut")?;
    *rest = after;
    match is_coded {
        true => huffman::decode(octets).map(Cow::Owned).ok_or("a string in no code"),
        false => Ok(Cow::Borrowed(octets)),
    }
}

#[cfg(test)]
impl Decoder {
    /// Octets in the table, and how many may be.
    pub(super) fn size(&self) -> (usize, usize) {
        let sizes = self.entries.iter().map(|(name, value)| name.len() + value.len() + BESIDE);
        assert_eq!(self.size, sizes.sum::<usize>());
        (self.size, self.most)
    }
}
