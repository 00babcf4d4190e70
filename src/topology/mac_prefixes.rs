//! The vendors of MAC prefixes as lists on this machine name them: nmap's, and the
//! IEEE's registry as Debian packages it and as arp-scan has it.
//!
//! The lists are others' and are never shipped; one is read when a topology names
//! a vendor that is not built in, and the three octets that were found travel in the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

/// Where packages put such lists, the one that is read first: nmap's has the shortest names.
pub const USUAL: &[&str] = &[
    #[cfg(feature = "nmap-db")]
    "/usr/share/nmap/nmap-mac-prefixes",
    #[cfg(feature = "nmap-db")]
    "/usr/local/share/nmap/nmap-mac-prefixes",
    "/usr/share/ieee-data/oui.txt",
    "/usr/share/arp-scan/ieee-oui.txt",
];

/// More octets than that are no such list: the registry has six million.
const MOST: u64 = 32 << 20;
/// Names that are suggested.
const SUGGESTED: usize = 3;

/// A list, in the order that finds names.
pub struct Prefixes {
    /// Every vendor's name, its lower case, and its lowest assignment.
    vendors: Vec<(String, String, [u8; 3])>,
    /// By lower case.
    by_name: BTreeMap<String, usize>,
    /// Which vendors have a word in their name.
    by_word: BTreeMap<String, Vec<usize>>,
}

impl Prefixes {
    /// The list in file `path`.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(path: &Path) -> Result<Prefixes, String> {
        let fail = |why: &dyn std::fmt::Display| format!("the MAC prefixes in {}: {why}", path.display());
        // Opening a pipe would wait for whoever writes into it.
        if !std::fs::metadata(path).map_err(|error| fail(&error))?.is_file() {
            return Err(fail(&"not a file"));
        }
        let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
        let mut octets = Vec::new();
        file.take(MOST + 1).read_to_end(&mut octets).map_err(|error| fail(&error))?;
        if octets.len() as u64 > MOST {
            return Err(fail(&format_args!("more than {} MiB are too much for such a list", MOST >> 20)));
        }
        // Names are in any language; a letter that is none costs no more than itself.
        Prefixes::parse(&String::from_utf8_lossy(&octets)).map_err(|error| fail(&error))
    }

    /// The list that is written in `text`: lines of six hexadecimal digits and a name (nmap, arp-scan), or of three
    /// octets, `(hex)` and a name between others (the IEEE). Longer prefixes, which share their first three octets
    /// with other vendors, and group addresses are passed over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Prefixes, String> {
        let mut lowest: BTreeMap<String, ([u8; 3], &str)> = BTreeMap::new();
        let (mut strange, mut read) = (None, 0usize);
        let mut others = 0usize;
        for (number, line) in text.lines().enumerate() {
            // The registry's addresses are indented.
            if line.is_empty() || line.starts_with([' ', '\t', '#', '\r']) {
                continue;
            }
            match Line::of(line) {
                Line::Assigned(octets, name) => {
                    read += 1;
                    if octets[0] & 1 == 0 {
                        let known = lowest.entry(name.to_lowercase()).or_insert((octets, name));
                        *known = (*known).min((octets, name));
                    }
                }
                Line::Other => read += 1,
                Line::Strange => {
                    others += 1;
                    strange.get_or_insert((number + 1, line));
                }
            }
        }
        if lowest.is_empty() || others > read {
            let (number, line) = strange.unwrap_or((1, text.lines().next().unwrap_or_default()));
            let shown: String = line.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(format!("line {number} (`{shown}`) is no line such as `00000C Cisco Systems`, nor are most"));
        }
        let mut list = Prefixes { vendors: Vec::new(), by_name: BTreeMap::new(), by_word: BTreeMap::new() };
        for (lower, (octets, name)) in lowest {
            let at = list.vendors.len();
            for word in words(&lower).collect::<BTreeSet<_>>() {
                match list.by_word.get_mut(word) {
                    Some(vendors) => vendors.push(at),
                    None => drop(list.by_word.insert(word.to_owned(), vec![at])),
                }
            }
            list.by_name.insert(lower.clone(), at);
            list.vendors.push((name.to_owned(), lower, octets));
        }
        Ok(list)
    }

    /// The lowest assignment of the vendor whose name is `name`, in whatever case.
    pub fn by_name(&self, name: &str) -> Option<[u8; 3]> {
        self.by_name.get(name.trim().to_lowercase().as_str()).map(|at| self.vendors[*at].2)
    }

    /// The lowest assignment of the vendor that has the shortest of the names in which all words of `text` are.
    /// A single letter is too little to tell.
    pub fn by_words(&self, text: &str) -> Option<[u8; 3]> {
        let lower = text.to_lowercase();
        let wanted: Vec<&str> = words(&lower).collect();
        if wanted.concat().chars().count() < 2 {
            return None;
        }
        let best = self.with(&wanted).min_by_key(|at| self.rank(*at))?;
        Some(self.vendors[best].2)
    }

    /// Names that `text` may have been meant to be, the best first.
    pub fn near(&self, text: &str) -> Vec<&str> {
        let lower = text.to_lowercase();
        let mended: Vec<&str> = words(&lower).filter_map(|word| self.mended(word)).collect();
        let mut found: Vec<usize> = self.with(&mended).collect();
        found.sort_by_key(|at| self.rank(*at));
        found.into_iter().take(SUGGESTED).map(|at| &*self.vendors[at].0).collect()
    }

    /// The shorter before the longer, and of the same length the lower assignment.
    fn rank(&self, at: usize) -> (usize, [u8; 3]) {
        let (name, _, octets) = &self.vendors[at];
        (name.chars().count(), *octets)
    }

    /// The vendors in whose names all of `wanted` are.
    fn with<'a>(&'a self, wanted: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
        let lists: Option<Vec<&Vec<usize>>> = wanted.iter().map(|word| self.by_word.get(*word)).collect();
        let lists = lists.unwrap_or_default();
        let rarest = lists.iter().copied().min_by_key(|list| list.len());
        let all = move |at: &usize| lists.iter().all(|list| list.binary_search(at).is_ok());
        rarest.into_iter().flatten().copied().filter(all)
    }

    /// The word of a name that `word` is or is most like.
    fn mended<'a>(&'a self, word: &'a str) -> Option<&'a str> {
        if self.by_word.contains_key(word) {
            return Some(word);
        }
        let length = word.chars().count();
        let most = length.max(3) / 3;
        let alike = self.by_word.keys().filter(|known| known.len().abs_diff(word.len()) <= most);
        let distance = |known: &String| (strsim::osa_distance(word, known), known.chars().count());
        let near = alike.map(|known| (distance(known), known)).filter(|((d, of), _)| *d <= most && d < of);
        // What begins alike is rather meant, and of that what more vendors have in their names.
        let (_, known) = near.min_by_key(|((distance, _), known)| {
            let begins = known.chars().next() == word.chars().next();
            (*distance, !begins, std::cmp::Reverse(self.by_word[*known].len()))
        })?;
        Some(known)
    }
}

/// What a line says.
enum Line<'a> {
    /// Who has a prefix of three octets.
    Assigned([u8; 3], &'a str),
    /// Something else that belongs there.
    Other,
    /// What does not.
    Strange,
}

impl Line<'_> {
    fn of(line: &str) -> Line<'_> {
        let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line.trim_end(), ""));
        let rest = rest.trim();
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        let digits: String = first.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        if digits.len() < 6 || !is_hex(&digits) {
            return Line::Strange;
        }
        let name = match rest.strip_prefix("(hex)") {
            Some(name) => name.trim(),
            // The registry has every assignment twice.
            None if rest.starts_with("(base 16)") => return Line::Other,
            None => rest,
        };
        if name.is_empty() {
            return Line::Strange;
        }
        match u32::from_str_radix(&digits, 16).map(u32::to_be_bytes) {
            Ok([0, a, b, c]) if digits.len() == 6 => Line::Assigned([a, b, c], name),
            _ => Line::Other,
        }
    }
}

/// The words of a name.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vendors that nobody knows, as nmap writes them.
    const SMALL: &str = "\
# A comment.
00AB10 Kettle Works
00AB0F Kettle Works
00AB01 Toaster and Kettle Works of Crumb
00AB02 Crumb
00AB06 S and T
00AB03 CRUMB
02AB04 Spoon-Fork (Trading) Co.,Ltd
01AB05 Group
0123456 Of seven digits
";

    #[test]
    fn names_come_before_words_and_short_names_before_long_ones() {
        let list = Prefixes::parse(SMALL).unwrap();
        assert_eq!(list.vendors.len(), 5);
        let found = |text| list.by_name(text).or_else(|| list.by_words(text));
        assert_eq!(found("kettle works"), Some([0, 0xab, 0x0f]), "its lowest assignment");
        assert_eq!(found("Kettle"), Some([0, 0xab, 0x0f]), "the shortest of two");
        assert_eq!(found("KETTLE toaster"), Some([0, 0xab, 1]));
        assert_eq!(found("crumb"), Some([0, 0xab, 2]));
        assert_eq!(found("fork spoon"), Some([2, 0xab, 4]));
        for nobody in ["", "-", "s", "kettl", "kettle spoon", "group", "seven"] {
            assert_eq!(found(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn near_names_are_suggested() {
        let list = Prefixes::parse(SMALL).unwrap();
        assert_eq!(list.near("kettel"), ["Kettle Works", "Toaster and Kettle Works of Crumb"]);
        assert_eq!(list.near("Toster Kettle"), ["Toaster and Kettle Works of Crumb"]);
        assert_eq!(list.near("spoon fridge"), ["Spoon-Fork (Trading) Co.,Ltd"]);
        assert_eq!(list.near("refrigerator"), Vec::<&str>::new());
        assert_eq!(list.near(""), Vec::<&str>::new());
    }

    #[test]
    fn the_registry_and_arp_scan_are_read_too() {
        let registry = "OUI/MA-L     Organization\r\ncompany_id   Organization\r\n             Address\r\n\r\n\
            00-AB-10   (hex)\t\tKettle Works\r\n00AB10     (base 16)\t\tKettle Works\r\n\t\t\t\t123456 Steam Street\r\n";
        let list = Prefixes::parse(registry).unwrap();
        assert_eq!((list.vendors.len(), list.by_name("kettle works")), (1, Some([0, 0xab, 0x10])));
        let list = Prefixes::parse("#\n00AB10\tKettle Works\n00AB10F\tOther\n0050C2123\tOther\n").unwrap();
        assert_eq!((list.vendors.len(), list.by_words("kettle")), (1, Some([0, 0xab, 0x10])));
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_line() {
        let wrong = |text: &str| Prefixes::parse(text).err().unwrap();
        assert!(wrong("").contains("line 1 (``)"));
        assert!(wrong("# Nothing.\n").contains("no line such as"));
        assert!(wrong("00AB10 Kettle\n<html>\n<body>\n").contains("line 2 (`<html>`)"));
        assert!(wrong("00AB10\n\0\u{1b}[2J\n").contains("line 1 (`00AB10`)"));
        assert!(wrong("é00AB10 Kettle\n").contains("line 1"));
        let dir = tempfile::tempdir().unwrap();
        let error = Prefixes::read(dir.path()).err().unwrap();
        assert!(error.contains("not a file"), "{error}");
        let large = dir.path().join("large");
        std::fs::File::create(&large).unwrap().set_len(MOST + 1).unwrap();
        let error = Prefixes::read(&large).err().unwrap();
        assert!(error.contains("more than 32 MiB"), "{error}");
        let error = Prefixes::read(&dir.path().join("none")).err().unwrap();
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn the_lists_of_this_machine_are_read() {
        let mut found = 0;
        for path in USUAL.iter().map(Path::new).filter(|path| path.exists()) {
            let list = Prefixes::read(path).unwrap();
            assert!(list.vendors.len() > 5000, "{}: {}", path.display(), list.vendors.len());
            assert!(list.by_words("cisco").is_some() && list.by_words("juniper networks").is_some());
            assert!(list.near("junipr").iter().any(|name| name.to_lowercase().contains("juniper")));
            found += 1;
        }
        if found == 0 {
            println!("SKIPPED: no list of MAC prefixes is on this machine");
        }
    }
}
