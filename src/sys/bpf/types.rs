//! Where the running kernel keeps what: the types that it describes in `/sys/kernel/btf/vmlinux`
//! (`Documentation/bpf/btf.rst` of the kernel). Of them only structures are looked into.

use std::fs::File;
use std::io::{self, Read};

/// Octets of all types; today's kernels have some 6 MiB.
const MOST: u64 = 64 << 20;
/// Octets of a type, and of a member of a structure.
const TYPE: usize = 12;
const MEMBER: usize = 12;
/// How deep structures without names lie in each other.
const DEEP: u32 = 8;

const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// `typedef`, `volatile`, `const`, `restrict`, and tags of types: another type is meant.
const MEANS_ANOTHER: [u32; 5] = [8, 9, 10, 11, 18];

/// The types of a kernel.
pub struct Types {
    octets: Vec<u8>,
    /// Where each type is, by its number.
    at: Vec<usize>,
    /// Where names are.
    names: usize,
}

/// A type's beginning.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// How many members it has, or the like, and whether these have widths in bits.
    count: usize,
    has_widths: bool,
    /// The type that is meant.
    other: u32,
}

impl Types {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// `NotFound` if it tells none; `InvalidData` if it tells them otherwise than is known here.
    pub fn of_kernel() -> io::Result<Types> {
        let mut octets = Vec::new();
        File::open("/sys/kernel/btf/vmlinux")?.take(MOST).read_to_end(&mut octets)?;
        Types::parse(octets).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "types of another form"))
    }

    fn parse(octets: Vec<u8>) -> Option<Types> {
        const MAGIC: u32 = 0xeb9f;
        let mut types = Types { octets, at: vec![0], names: 0 };
        if types.word(0)? & 0xffff != MAGIC {
            return None;
        }
        let [head, from, len, names] = [4, 8, 12, 16].map(|at| types.word(at).map(|word| word as usize));
        let (head, from, len) = (head?, from?, len?);
        types.names = head.checked_add(names?)?;
        let mut at = head.checked_add(from)?;
        let end = at.checked_add(len)?;
        while at < end {
            types.at.push(at);
            at += TYPE + types.type_at(at)?.rest()?;
        }
        Some(types)
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.octets.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let (name, info, other) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
        let count = (info & 0xffff) as usize;
        Some(Type { name, kind: info >> 24 & 0x1f, count, has_widths: info >> 31 != 0, other })
    }

    fn is_called(&self, name: u32, wanted: &str) -> bool {
        let at = self.names.saturating_add(name as usize);
        let rest = self.octets.get(at..).unwrap_or_default();
        rest.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// At how many octets a structure of that name has that member, of itself or within one without a name.
    pub fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        Some(self.bit(structure, member)? / 8)
    }

    /// The same in bits, for members that are some of an octet's.
    pub fn bit(&self, structure: &str, member: &str) -> Option<u32> {
        self.at.iter().skip(1).find_map(|at| {
            let about =
                self.type_at(*at).filter(|about| about.kind == STRUCT && self.is_called(about.name, structure))?;
            self.within(*at, about, member, DEEP)
        })
    }

    fn within(&self, at: usize, about: Type, member: &str, deep: u32) -> Option<u32> {
        (0..about.count).find_map(|number| {
            let at = at + TYPE + number * MEMBER;
            let (name, other, bits) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let bits = if about.has_widths { bits & 0xff_ffff } else { bits };
            if self.is_called(name, member) {
                return Some(bits);
            }
            let is_nameless = self.is_called(name, "") && deep > 0;
            let (at, about) = self.meant(other).filter(|_| is_nameless)?;
            bits.checked_add(self.within(at, about, member, deep - 1)?)
        })
    }

    /// The structure or union of that number, whatever else it is.
    fn meant(&self, mut number: u32) -> Option<(usize, Type)> {
        for _ in 0..DEEP {
            let at = *self.at.get(number as usize).filter(|_| number > 0)?;
            let about = self.type_at(at)?;
            if matches!(about.kind, STRUCT | UNION) {
                return Some((at, about));
            }
            number = Some(about.other).filter(|_| MEANS_ANOTHER.contains(&about.kind))?;
        }
        None
    }
}

impl Type {
    /// Octets that follow its beginning; none if its kind is not known.
    fn rest(&self) -> Option<usize> {
        Some(match self.kind {
            // Pointers, forward declarations, what means another, functions, floating point.
            2 | 7..=12 | 16 | 18 => 0,
            // Integers, variables, tags of declarations.
            1 | 14 | 17 => 4,
            // Arrays.
            3 => 12,
            STRUCT | UNION | 15 | 19 => self.count * MEMBER,
            6 | 13 => self.count * 8,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Types with these words, and names.
    fn types(words: &[u32], names: &str) -> Vec<u8> {
        let len = words.len() as u32 * 4;
        let head = [0x1_eb9f, 24, 0, len, len, names.len() as u32];
        head.iter().chain(words).flat_map(|word| word.to_ne_bytes()).chain(names.bytes()).collect()
    }

    #[test]
    fn members_are_where_they_are_said_to_be() {
        // int; const int; union { a, b }; const of that; struct s { c at 8, the union at 16, bits at 20 }; struct s {}.
        let names = "\0s\0a\0b\0c\0bits\0";
        let words: &[u32] = &[
            0,
            1 << 24,
            4,
            32, // 1
            0,
            10 << 24,
            1, // 2
            0,
            5 << 24 | 2,
            4,
            3,
            1,
            0,
            5,
            2,
            16, // 3
            0,
            10 << 24,
            3, // 4
            1,
            4 << 24,
            0, // 5
            1,
            4 << 24 | 1 << 31 | 3,
            24,
            7,
            1,
            64,
            0,
            4,
            128,
            9,
            1,
            4 << 24 | 164, // 6
        ];
        let types = Types::parse(types(words, names)).unwrap();
        let at = ["c", "a", "b", "bits", "", "s"].map(|member| types.offset("s", member));
        assert_eq!(at[..4], [Some(8), Some(16), Some(18), Some(20)]);
        assert_eq!((at[5], types.offset("a", "c")), (None, None));
        assert_eq!(["c", "b", "bits"].map(|member| types.bit("s", member)), [Some(64), Some(144), Some(164)]);
    }

    #[test]
    fn this_kernel_has_what_is_asked_for() {
        let Ok(types) = Types::of_kernel() else { return };
        assert_eq!((types.offset("path", "mnt"), types.offset("path", "dentry")), (Some(0), Some(8)));
        assert!(types.offset("dentry", "d_name").is_some_and(|at| at > 8));
        assert!(types.offset("task_struct", "fs").is_some_and(|at| at > 500));
    }

    proptest! {
        #[test]
        fn anything_is_types_or_none(words in prop::collection::vec(prop_oneof![0u32..30, any::<u32>(), (1u32..20).prop_map(|kind| kind << 24 | 2)], 0..40)) {
            if let Some(types) = Types::parse(types(&words, "\0s\0")) {
                let _ = (types.offset("s", "s"), types.offset("", "x"));
            }
        }
    }
}
