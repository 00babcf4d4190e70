//! Vendors whose MAC prefixes a topology may name: those that are built in, and
//! those of a list that is installed on this machine.
//!
//! Built in is one well-known assignment of the IEEE's MA-L registry for each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::did_you_mean;
use super::mac_prefixes::{Prefixes, USUAL};

/// Name and OUI, sorted by name.
const VENDORS: &[(&str, [u8; 3])] = &[
    ("apple", [0x00, 0x03, 0x93]),
    ("aruba", [0x00, 0x0b, 0x86]),
    ("asus", [0x00, 0x1e, 0x8c]),
    ("axis", [0x00, 0x40, 0x8c]),
    ("brother", [0x00, 0x80, 0x77]),
    ("canon", [0x00, 0x00, 0x85]),
    ("cisco", [0x00, 0x1b, 0x0d]),
    ("dell", [0xb8, 0xca, 0x3a]),
    ("epson", [0x00, 0x26, 0xab]),
    ("fortinet", [0x00, 0x09, 0x0f]),
    ("hp", [0x3c, 0xd9, 0x2b]),
    ("huawei", [0x00, 0xe0, 0xfc]),
    ("intel", [0x00, 0x1b, 0x21]),
    ("juniper", [0x00, 0x05, 0x85]),
    ("lenovo", [0x54, 0xee, 0x75]),
    ("microsoft", [0x00, 0x15, 0x5d]),
    ("mikrotik", [0x4c, 0x5e, 0x0c]),
    ("netgear", [0x20, 0x4e, 0x7f]),
    ("qemu", [0x52, 0x54, 0x00]),
    ("qnap", [0x00, 0x08, 0x9b]),
    ("raspberry", [0xb8, 0x27, 0xeb]),
    ("realtek", [0x00, 0xe0, 0x4c]),
    ("samsung", [0x00, 0x12, 0xfb]),
    ("siemens", [0x00, 0x1b, 0x1b]),
    ("supermicro", [0x00, 0x25, 0x90]),
    ("synology", [0x00, 0x11, 0x32]),
    ("tp-link", [0x50, 0xc7, 0xbf]),
    ("ubiquiti", [0x24, 0xa4, 0x3c]),
    ("virtualbox", [0x08, 0x00, 0x27]),
    ("vmware", [0x00, 0x0c, 0x29]),
    ("xen", [0x00, 0x16, 0x3e]),
    ("xerox", [0x00, 0x00, 0xaa]),
];

/// The names of all vendors.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    VENDORS.iter().map(|(name, _)| *name)
}

/// The OUI of a built-in vendor's name, in whatever case, or of three octets such as `00:0c:29`.
pub fn oui(text: &str) -> Option<[u8; 3]> {
    if let Some((_, oui)) = VENDORS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Some(*oui);
    }
    let mut octets = [0; 3];
    let mut parts = text.split([':', '-']);
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}

/// Why there is no vendor of a name.
#[derive(Clone)]
pub struct Unknown {
    /// What is wrong, where it is not the name.
    pub why: Option<String>,
    /// What to do.
    pub help: String,
}

/// So many unknown names are compared with all that are known; whoever has more mistakes sees those first.
const COMPARED: usize = 20;

/// The vendors, the list read when it is first needed.
#[derive(Default)]
pub struct Vendors {
    path: Option<PathBuf>,
    list: Option<Result<Option<Prefixes>, String>>,
    /// What was found already: many nodes may name the same.
    known: BTreeMap<String, Result<[u8; 3], Unknown>>,
    compared: usize,
}

impl Vendors {
    /// Those of the list at `path`, or where packages put one.
    pub fn new(path: Option<PathBuf>) -> Vendors {
        Vendors { path, ..Vendors::default() }
    }

    /// The OUI that `name` stands for: three octets, the name of a built-in vendor, of one of the list, or words of
    /// one of the list's names. The same at every start, as long as the list is.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub fn find(&mut self, name: &str) -> Result<[u8; 3], Unknown> {
        if let Some(oui) = oui(name) {
            return Ok(oui);
        }
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let found = self.look_up(name);
        self.known.insert(name.to_owned(), found.clone());
        found
    }

    fn look_up(&mut self, name: &str) -> Result<[u8; 3], Unknown> {
        let path = &self.path;
        let read = || match path {
            Some(path) => Prefixes::read(path).map(Some),
            None => USUAL.iter().map(Path::new).find(|path| path.exists()).map(Prefixes::read).transpose(),
        };
        let list = match self.list.get_or_insert_with(read) {
            Ok(list) => list.as_ref(),
            Err(why) => {
                let help = match did_you_mean(name, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "mend the list or name another with HONEYWEAVE_MAC_PREFIXES, or write three octets".to_owned()
                    }
                };
                return Err(Unknown { why: Some(why.clone()), help });
            }
        };
        if let Some(oui) = list.and_then(|list| list.by_name(name)) {
            return Ok(oui);
        }
        // A slip is no word of a name, even if it happens to be one.
        if let Some(near) = did_you_mean(name, names()) {
            return Err(Unknown { why: None, help: format!("did you mean `{near}`?") });
        }
        let usual = "name a vendor such as `dell` or `cisco`, or write the first three octets, such as 00:0c:29";
        let Some(list) = list else {
            let more =
                "; Debian's package `ieee-data` has all vendors, or HONEYWEAVE_MAC_PREFIXES names a list of them";
            return Err(Unknown { why: None, help: format!("{usual}{more}") });
        };
        if let Some(oui) = list.by_words(name) {
            return Ok(oui);
        }
        self.compared += 1;
        let near = if self.compared <= COMPARED { list.near(name) } else { Vec::new() };
        let near: Vec<String> = near.into_iter().map(|name| format!("`{}`", crate::record::escape(name))).collect();
        let help = match &near[..] {
            [] => usual.to_owned(),
            [one] => format!("did you mean {one}?"),
            several => format!("did you mean one of {}?", several.join(", ")),
        };
        Err(Unknown { why: None, help })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (tempfile::TempDir, Vendors) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prefixes");
        std::fs::write(&path, text).unwrap();
        (dir, Vendors::new(Some(path)))
    }

    #[test]
    fn a_list_adds_to_what_is_built_in() {
        let (_dir, mut vendors) = of("00AB01 Dell\n00AB02 Kettle Works\n00AB03 Del\n00AB04 Cisko Kettles\n");
        let mut find = |name| vendors.find(name).map_err(|unknown| unknown.help);
        assert_eq!(find("Dell"), Ok([0xb8, 0xca, 0x3a]), "the built-in one comes first");
        assert_eq!(find("de-ad-be"), Ok([0xde, 0xad, 0xbe]));
        assert_eq!(find("Kettle"), Ok([0, 0xab, 2]));
        assert_eq!(find("del"), Ok([0, 0xab, 3]), "a name is a name");
        assert_eq!(find("cisko"), Err("did you mean `cisco`?".to_owned()), "and a word is none");
        for _ in 0..2 {
            assert_eq!(find("kettel"), Err("did you mean `Kettle Works`?".to_owned()));
        }
        assert!(find("refrigerator").is_err_and(|help| help.contains("three octets")));
    }

    #[test]
    fn a_topology_names_vendors_of_the_list() {
        let (dir, _) = of("00AB02 Kettle Works\n01AB02 Group\n");
        let options =
            crate::topology::Options { mac_prefixes: Some(dir.path().join("prefixes")), ..Default::default() };
        let text = "nodes:\n  h: {kind: host, address: 10.0.0.1, vendor: KETTLE}\n";
        let plan = crate::topology::parse_with("t.yaml", text, &options).unwrap();
        let crate::node::NodeConfig::Hosts(hosts) = &plan.nodes[0].config else { panic!("a host") };
        assert_eq!(hosts.templates[0].oui, [0, 0xab, 2]);
        let mistakes = crate::topology::parse_with("t.yaml", &text.replace("KETTLE", "kettel"), &options).unwrap_err();
        assert_eq!(mistakes.errors[0].message, "unknown vendor `kettel`");
        assert_eq!(mistakes.errors[0].help.as_deref(), Some("did you mean `Kettle Works`?"));
    }

    #[test]
    fn a_broken_list_is_told_of_when_it_is_needed() {
        let (_dir, mut vendors) = of("<html>\n");
        assert!(vendors.find("vmware").is_ok());
        let unknown = vendors.find("kettle").unwrap_err();
        assert!(unknown.why.is_some_and(|why| why.contains("line 1 (`<html>`)")));
        assert!(vendors.find("vmwar").is_err_and(|unknown| unknown.help.contains("`vmware`")));
    }

    #[test]
    fn table_is_sorted_and_unicast() {
        assert!(VENDORS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(VENDORS.iter().all(|(_, oui)| oui[0] & 1 == 0));
    }

    #[test]
    fn names_and_literals() {
        assert_eq!(oui("vmware"), Some([0, 0x0c, 0x29]));
        assert_eq!(oui("b8:27:EB"), oui("raspberry"));
        for bad in ["", "vmwar", "00:0c", "00:0c:29:01", "0:c:29", "zz:0c:29"] {
            assert_eq!(oui(bad), None, "{bad}");
        }
    }
}
