//! ARP: how a host answers odd requests, and whether its MAC's vendor makes such machines.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use super::family::{Family, Scanner};
use super::lab::{Lab, Stop};
use super::report::{Report, clean};
use super::target::Host;
use crate::wire::Mac;

const CHECK: &str = "arp";
/// Where nmap's packages put the vendors of MACs.
const VENDORS: [&str; 2] = ["/usr/share/nmap/nmap-mac-prefixes", "/usr/local/share/nmap/nmap-mac-prefixes"];
/// Octets of that file that are read.
const MOST_VENDORS: u64 = 16 << 20;

/// Words of personalities whose makers build their own network interfaces, and what their vendor is called.
const MAKERS: &[(&str, &[&str])] = &[
    ("cisco", &["cisco"]),
    ("juniper", &["juniper"]),
    ("apple", &["apple"]),
    ("hp ", &["hewlett", "hp"]),
    ("brother", &["brother"]),
    ("canon", &["canon"]),
    ("xerox", &["xerox"]),
    ("epson", &["epson"]),
    ("lexmark", &["lexmark"]),
    ("mikrotik", &["mikrotik", "routerboard"]),
    ("ubiquiti", &["ubiquiti"]),
    ("fortinet", &["fortinet"]),
    ("huawei", &["huawei"]),
    ("aruba", &["aruba", "hewlett"]),
    ("netgear", &["netgear"]),
    ("axis", &["axis"]),
    ("siemens", &["siemens"]),
];

/// Who makes nothing that Windows runs on.
const NEVER_WINDOWS: &[&str] = &[
    "cisco",
    "juniper",
    "fortinet",
    "mikrotik",
    "routerboard",
    "ubiquiti",
    "synology",
    "qnap",
    "raspberry",
    "axis",
    "brother",
    "canon",
    "epson",
    "xerox",
    "aruba",
    "netgear",
];

/// The vendors of MACs, by their first three octets.
pub struct Vendors(HashMap<[u8; 3], String>);

impl Vendors {
    /// nmap's list, if it is on this machine.
    pub fn load() -> Option<Vendors> {
        let file = VENDORS.iter().find_map(|path| std::fs::File::open(path).ok())?;
        let mut octets = Vec::new();
        file.take(MOST_VENDORS).read_to_end(&mut octets).ok()?;
        Some(Vendors::parse(&String::from_utf8_lossy(&octets)))
    }

    /// Reads lines of six hexadecimal digits and a name; others, such as longer prefixes, are left out.
    pub fn parse(text: &str) -> Vendors {
        let line = |line: &str| {
            let (prefix, name) = line.split_once(' ')?;
            let digits = prefix.len() == 6 && prefix.bytes().all(|b| b.is_ascii_hexdigit());
            let [_, octets @ ..] = u32::from_str_radix(prefix, 16).ok().filter(|_| digits)?.to_be_bytes();
            Some((octets, name.trim().to_owned()))
        };
        Vendors(text.lines().filter_map(line).collect())
    }

    fn of(&self, oui: [u8; 3]) -> Option<&str> {
        self.0.get(&oui).map(String::as_str)
    }
}

/// What is odd about a machine of `personality` with a network interface of `vendor`, if anything.
fn contradiction(personality: &str, vendor: &str) -> Option<String> {
    let (personality, vendor) = (personality.to_lowercase(), vendor.to_lowercase());
    // `cisco-ios` is `cisco`, `HP LaserJet` is `hp `, `Aphelion` is neither.
    let maker = MAKERS.iter().find(|(word, _)| personality.starts_with(word));
    if let Some((word, names)) = maker {
        let fits = names.iter().any(|name| vendor.contains(name));
        return (!fits).then(|| format!("a MAC of {}", word.trim()));
    }
    let never = Family::of(&personality).is_some_and(|family| family.is_named_by(Scanner::P0f, "windows"))
        && NEVER_WINDOWS.iter().any(|name| vendor.contains(name));
    never.then(|| "a MAC of a maker of computers or of virtual machines".to_owned())
}

/// Judges the vendor of a host's MAC.
pub fn judge_vendor(host: &Host, vendors: &Vendors, report: &mut Report) {
    let Some(Mac(mac)) = host.mac else { return };
    let personality = &*host.template.personality.get().name;
    let (seen, expected) = match vendors.of([mac[0], mac[1], mac[2]]) {
        Some(vendor) => match contradiction(personality, vendor) {
            Some(expected) => (format!("{} is a MAC of {vendor}", Mac(mac)), expected),
            None => return,
        },
        None => (format!("{} is no vendor's MAC", Mac(mac)), "a vendor that nmap knows".to_owned()),
    };
    // Behind a router only those see it who have got onto its segment.
    let severity = if host.way.is_on_link() { 3 } else { 2 };
    let expected = format!("{expected}, for `{personality}`");
    let advice = "write a `vendor` that fits, or leave it out: it follows from the personality then";
    report.find(severity, &host.template.name, Some(&host.ip), CHECK, &seen, &expected, advice);
}

/// What arp-fingerprint says of a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint {
    /// 1 for each kind of request that was answered.
    pub bits: String,
    /// The systems that answer so.
    pub names: String,
}

/// Reads a line of arp-fingerprint's: address, bits and names, with tabs between.
pub fn parse(text: &str, ip: &str) -> Option<Fingerprint> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, '\t');
        let (address, bits) = (parts.next()?.trim(), parts.next()?.trim());
        let is_one = address == ip && (1..=64).contains(&bits.len()) && bits.bytes().all(|b| matches!(b, b'0' | b'1'));
        is_one.then(|| Fingerprint { bits: bits.to_owned(), names: parts.next().unwrap_or("").trim().to_owned() })
    })
}

/// Has arp-fingerprint look at a host of the attacker's own segment.
pub fn audit(lab: &Lab, program: &str, host: &Host, report: &mut Report) -> Result<(), Stop> {
    let target = host.ip.to_string();
    let options = format!("--interface={} --numeric --arpspa={}", host.way.interface, host.way.source);
    let said = lab.run(program, &["-o", &options, &target], Duration::from_secs(30))?;
    match parse(&said.out, &target) {
        Some(found) => judge(host, &found, report),
        None => report.skip(CHECK, Some(&target), &format!("arp-fingerprint said: {}", clean(said.err.trim()))),
    }
    Ok(())
}

/// Compares the bits with the personality.
pub fn judge(host: &Host, found: &Fingerprint, report: &mut Report) {
    let name = &host.template.name;
    let personality = &*host.template.personality.get().name;
    let seen = format!("{} ({})", found.bits, found.names);
    if let Some(row) = report.row(name).filter(|row| row.arp.is_none()) {
        row.arp = Some(clean(&seen));
    }
    let Some(family) = Family::of(personality) else { return };
    if family.is_named_by(Scanner::Arp, &found.names) {
        return;
    }
    let severity = if found.names.is_empty() || found.names.to_uppercase().contains("UNKNOWN") { 1 } else { 2 };
    let advice = "odd ARP requests are answered otherwise than this system does: report it as a bug";
    let expected = format!("the family of `{personality}`");
    report.find(severity, name, Some(&host.ip), CHECK, &seen, &expected, advice);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors_are_read() {
        let vendors = Vendors::parse("# comment\n001B0D Cisco Systems\nB8CA3A Dell\n0055DA1 Longer\nzz0000 x\n\u{7}\n");
        assert_eq!(vendors.of([0, 0x1b, 0x0d]), Some("Cisco Systems"));
        assert_eq!((vendors.0.len(), vendors.of([1, 2, 3])), (2, None));
    }

    #[test]
    fn a_maker_of_one_thing_does_not_make_another() {
        for (personality, vendor, odd) in [
            ("cisco-ios", "Dell", true),
            ("cisco-ios", "Cisco Systems", false),
            ("Cisco 1841 router (IOS 12.4)", "VMware", true),
            ("windows", "Dell", false),
            ("windows", "Cisco Systems", true),
            ("Microsoft Windows 10 1607", "Raspberry Pi Foundation", true),
            ("linux", "Cisco Systems", false),
            ("HP LaserJet 4250 printer", "Hewlett Packard", false),
            ("HP LaserJet 4250 printer", "Dell", true),
            ("Linux 5.4", "VMware", false),
        ] {
            assert_eq!(contradiction(personality, vendor).is_some(), odd, "{personality} {vendor}");
        }
    }

    #[test]
    fn arp_fingerprints_are_read() {
        let text = "192.0.2.7\t01010100000\tLinux 2.2, 2.4, 2.6, 3.2, 3.8, 4.0, 4.6\n";
        let found = parse(text, "192.0.2.7").unwrap();
        assert_eq!((&*found.bits, found.names.starts_with("Linux 2.2")), ("01010100000", true));
        let long = format!("1.1.1.1\t{}\tx", "1".repeat(100_000));
        for absurd in ["", "\t\t\t", "1.1.1.1", "1.1.1.1\t", "1.1.1.1\t012\tx", "\u{1b}\t1\tx", &long] {
            assert_eq!(parse(absurd, "1.1.1.1"), None, "{absurd:.40}");
        }
        assert_eq!(parse("1.1.1.1\t1", "1.1.1.1").unwrap().names, "");
    }
}
