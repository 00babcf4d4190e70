//! Where the running kernel's structures have what programs read, as it says itself (`Documentation/bpf/btf.rst`).

use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Where the kernel tells its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// What the file begins with, on this machine's side.
const MAGIC: u16 = 0xeb9f;
/// The longest that such a file is.
const MOST: u64 = 64 << 20;
/// How deep structures without names are in each other.
const DEPTH: u32 = 8;

const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// The kernel's structures.
#[derive(Debug)]
pub struct Types {
    octets: Vec<u8>,
    names: usize,
    /// Where each type is, by its number less one.
    types: Vec<usize>,
    structs: HashMap<String, u32>,
}

/// A member of a structure: its name, its type, and the octets before it. What begins within an octet is left out.
struct Member {
    name: usize,
    kind: u32,
    offset: u32,
}

impl Types {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// If it does not tell any, or in another form.
    pub fn of_kernel() -> io::Result<Types> {
        let path = Path::new(VMLINUX);
        let said = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let octets = std::fs::File::open(path).and_then(|file| {
            let mut octets = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, MOST), &mut octets)?;
            Ok(octets)
        });
        Types::parse(octets.map_err(said)?)
            .ok_or_else(|| said(io::Error::new(io::ErrorKind::InvalidData, "it is not in the form of types for BPF")))
    }

    fn parse(octets: Vec<u8>) -> Option<Types> {
        if octets.first_chunk()? != &MAGIC.to_ne_bytes() {
            return None;
        }
        let header = word(&octets, 4)? as usize;
        let part = |at: usize| Some(header.checked_add(word(&octets, at)? as usize)?);
        let (begin, length, names) = (part(8)?, word(&octets, 12)? as usize, part(16)?);
        let end = begin.checked_add(length)?;
        let (mut at, mut types, mut structs) = (begin, Vec::new(), HashMap::new());
        while at < end {
            let info = word(&octets, at + 4)?;
            let count = (info & 0xffff) as usize;
            let behind = match kind_of(info) {
                // An integer, a variable, a tag.
                1 | 14 | 17 => 4,
                // An array.
                3 => 12,
                // Members, ranges of memory, and values of 64 bits.
                STRUCT | UNION | 15 | 19 => count * 12,
                // Values and arguments.
                6 | 13 => count * 8,
                2 | 7..=12 | 16 | 18 => 0,
                _ => return None,
            };
            types.push(at);
            if kind_of(info) == STRUCT {
                let name = name_at(&octets, names.checked_add(word(&octets, at)? as usize)?)?;
                structs.entry(name.to_owned()).or_insert(u32::try_from(types.len()).ok()?);
            }
            at = at.checked_add(12 + behind)?;
        }
        Some(Types { octets, names, types, structs })
    }

    /// How many octets lie before `member` in `structure`, also if it is in one without a name in that.
    pub fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.within(*self.structs.get(structure)?, member, DEPTH)
    }

    fn within(&self, structure: u32, member: &str, depth: u32) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        self.members(structure)?.into_iter().find_map(|one| match name_at(&self.octets, one.name)? {
            "" => Some(one.offset + self.within(one.kind, member, depth)?),
            name => (name == member).then_some(one.offset),
        })
    }

    /// The members of a structure or union; none of anything else.
    fn members(&self, number: u32) -> Option<Vec<Member>> {
        let at = *self.types.get((number as usize).checked_sub(1)?)?;
        let info = word(&self.octets, at + 4)?;
        if !matches!(kind_of(info), STRUCT | UNION) {
            return None;
        }
        let has_bitfields = info >> 31 == 1;
        let member = |index: usize| {
            let at = at + 12 + 12 * index;
            let place = word(&self.octets, at + 8)?;
            let bits = if has_bitfields { place & 0xff_ffff } else { place };
            let name = self.names.checked_add(word(&self.octets, at)? as usize)?;
            Some(Member { name, kind: word(&self.octets, at + 4)?, offset: bits / 8 })
        };
        (0..(info & 0xffff) as usize).map(member).collect()
    }
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn word(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn name_at(octets: &[u8], at: usize) -> Option<&str> {
    let name = octets.get(at..)?;
    let end = name.iter().position(|octet| *octet == 0)?;
    std::str::from_utf8(name.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_tells_where_its_structures_have_what() {
        let types = Types::of_kernel().unwrap();
        // What has been so ever since there is a form for programs to rely on.
        assert_eq!(types.offset("list_head", "next"), Some(0));
        assert_eq!(types.offset("list_head", "prev"), Some(8));
        assert_eq!(types.offset("sock", "__sk_common"), Some(0));
        // In a structure without a name, in a union without one.
        assert_eq!(types.offset("sock_common", "skc_daddr"), Some(0));
        assert_eq!(types.offset("sock_common", "skc_rcv_saddr"), Some(4));
        assert_eq!(types.offset("sock_common", "skc_num"), types.offset("sock_common", "skc_dport").map(|at| at + 2));
        assert_eq!(types.offset("sock_common", "nothing"), None);
        assert_eq!(types.offset("nothing", "next"), None);
    }

    #[test]
    fn what_is_cut_off_or_something_else_is_no_error_but_no_types() {
        let whole = std::fs::read(VMLINUX).unwrap();
        for length in [0, 1, 2, 8, 23, 24, 100, 1000, whole.len() / 2] {
            assert!(Types::parse(whole[..length].to_vec()).is_none(), "{length}");
        }
        let mut other = whole;
        other[0] ^= 1;
        assert!(Types::parse(other).is_none());
    }
}
