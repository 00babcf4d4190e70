//! Which family of operating systems a personality belongs to, by its name, and
//! which of the scanners' names mean the same one.

/// Words of a personality's name (in lower case), and for each family what nmap, p0f and arp-fingerprint call
/// it. Nothing in a list: that tool has no name for it.
const FAMILIES: &[Family] = &[
    Family { words: &["cisco", "ios-xe"], nmap: &["cisco"], p0f: &[], arp: &["cisco"] },
    Family { words: &["windows"], nmap: &["windows"], p0f: &["windows"], arp: &["windows", "winnt", "win2", "vista"] },
    Family { words: &["freebsd"], nmap: &["freebsd"], p0f: &["freebsd"], arp: &["freebsd", "bsd"] },
    Family { words: &["openbsd"], nmap: &["openbsd"], p0f: &["openbsd"], arp: &["openbsd", "bsd"] },
    Family { words: &["netbsd"], nmap: &["netbsd"], p0f: &[], arp: &["netbsd", "bsd"] },
    Family {
        words: &["mac os x", "macos", "os x", "ios "],
        nmap: &["mac os", "macos", "os x", "ios"],
        p0f: &["mac"],
        arp: &["macos", "mac os"],
    },
    Family { words: &["solaris", "sunos"], nmap: &["solaris", "sunos"], p0f: &["solaris"], arp: &["solaris"] },
    Family {
        words: &["linux", "android", "openwrt", "debian", "ubuntu"],
        nmap: &["linux", "android", "openwrt", "dd-wrt"],
        p0f: &["linux", "android"],
        arp: &["linux", "android"],
    },
];

/// A family of operating systems.
#[derive(PartialEq, Eq, Debug)]
pub struct Family {
    words: &'static [&'static str],
    nmap: &'static [&'static str],
    p0f: &'static [&'static str],
    arp: &'static [&'static str],
}

/// Whose names are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scanner {
    /// nmap.
    #[cfg_attr(not(feature = "nmap-db"), allow(dead_code, reason = "nobody runs nmap then"))]
    Nmap,
    /// p0f.
    P0f,
    /// arp-fingerprint.
    Arp,
}

impl Family {
    /// The family of a personality, if its name says so.
    pub fn of(personality: &str) -> Option<&'static Family> {
        let name = personality.to_lowercase();
        FAMILIES.iter().find(|family| family.words.iter().any(|word| name.contains(word)))
    }

    fn names(&self, scanner: Scanner) -> &'static [&'static str] {
        match scanner {
            Scanner::Nmap => self.nmap,
            Scanner::P0f => self.p0f,
            Scanner::Arp => self.arp,
        }
    }

    /// Whether the scanner has names for it at all.
    pub fn is_known_to(&self, scanner: Scanner) -> bool {
        !self.names(scanner).is_empty()
    }

    /// Whether `text` is how the scanner calls one of them.
    pub fn is_named_by(&self, scanner: Scanner, text: &str) -> bool {
        let text = text.to_lowercase();
        self.names(scanner).iter().any(|name| text.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_families() {
        for (personality, scanner, text, expected) in [
            ("linux", Scanner::Nmap, "Linux 5.0 - 5.4", true),
            ("linux", Scanner::P0f, "Windows NT kernel", false),
            ("windows", Scanner::P0f, "Windows 7 or 8", true),
            ("cisco-ios", Scanner::Nmap, "Cisco 1841 router (IOS 12.4)", true),
            ("Microsoft Windows 10 1607", Scanner::Nmap, "Microsoft Windows 10 1507", true),
            ("FreeBSD 12.0-RELEASE", Scanner::Arp, "FreeBSD 7.0", true),
            ("cisco-ios", Scanner::Arp, "Linux 2.6", false),
        ] {
            let family = Family::of(personality).unwrap();
            assert_eq!(family.is_named_by(scanner, text), expected, "{personality} {text}");
        }
        assert!(!Family::of("cisco-ios").unwrap().is_known_to(Scanner::P0f));
        assert_eq!(Family::of("HP LaserJet printer"), None);
    }
}
