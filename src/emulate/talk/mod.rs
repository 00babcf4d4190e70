//! What a host says although nobody asked it, and what it answers to those who ask the whole segment: how systems
//! make themselves known.
//!
//! * `dns`: names of multicast DNS (RFC 6762) and LLMNR (RFC 4795)
//! * `query`: questions for them, as they come; `answer`: what is answered to them
//! * `netbios`: names and announcements of NetBIOS (RFC 1001, RFC 1002)
//! * `ssdp`: the search for UPnP devices
//!
//! Each writes the payload of a datagram; when it is sent, and from where, is the node's matter.

pub mod answer;
pub mod dns;
pub mod netbios;
pub mod query;
pub mod ssdp;

use serde::{Deserialize, Serialize};

use super::dhcp;

/// A set of what a host may say by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Says(u8);

impl Says {
    /// Nothing.
    pub const NONE: Says = Says(0);
    /// ARP: probes and announcements of its address (RFC 5227), and the search for its gateway.
    pub const ARP: Says = Says(1);
    /// Multicast DNS.
    pub const MDNS: Says = Says(1 << 1);
    /// LLMNR.
    pub const LLMNR: Says = Says(1 << 2);
    /// NetBIOS names and announcements to the browser.
    pub const NETBIOS: Says = Says(1 << 3);
    /// SSDP.
    pub const SSDP: Says = Says(1 << 4);
    /// IPv6: duplicate address detection, multicast listener reports, router solicitations.
    pub const IPV6: Says = Says(1 << 5);

    /// All of them, as topologies name them.
    pub const NAMES: [(&'static str, Says); 6] = [
        ("arp", Says::ARP),
        ("mdns", Says::MDNS),
        ("llmnr", Says::LLMNR),
        ("netbios", Says::NETBIOS),
        ("ssdp", Says::SSDP),
        ("ipv6", Says::IPV6),
    ];

    /// Both sets together.
    pub const fn and(self, other: Says) -> Says {
        Says(self.0 | other.0)
    }

    /// Itself, but for `other`.
    pub const fn without(self, other: Says) -> Says {
        Says(self.0 & !other.0)
    }

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Says) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What hosts are called where the topology does not say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Naming {
    /// As an administrator calls servers: `staff-07`, after the node.
    Node,
    /// As the set-up of Windows calls them: `DESKTOP-` and seven letters and digits.
    Desktop,
    /// These letters and the last three octets of the MAC.
    Mac(Letters),
}

/// Three letters of a [`Naming`].
pub type Letters = [u8; 3];

/// What a system looks for by multicast DNS as long as it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Seeks {
    /// Nothing.
    Nothing,
    /// Screens that take pictures from a telephone.
    Screens,
    /// Other machines of the same maker.
    Companions,
}

impl Seeks {
    /// The services, as they are asked for.
    pub fn services(self) -> &'static [&'static str] {
        match self {
            Seeks::Nothing => &[],
            Seeks::Screens => &["_googlecast._tcp.local"],
            Seeks::Companions => &["_companion-link._tcp.local", "_airplay._tcp.local"],
        }
    }
}

/// What a system offers by multicast DNS, as soon as somebody turns it on: as soon as its port is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Offers {
    /// Nothing.
    Nothing,
    /// What a printer does.
    Printing,
    /// What the sharing preferences of macOS list.
    Sharing,
}

impl Offers {
    /// The services, and the TCP port of each.
    pub fn services(self) -> &'static [(&'static str, u16)] {
        match self {
            Offers::Nothing => &[],
            Offers::Printing => &[("_http._tcp", 80), ("_ipp._tcp", 631), ("_pdl-datastream._tcp", 9100)],
            Offers::Sharing => &[("_sftp-ssh._tcp", 22), ("_smb._tcp", 445), ("_ssh._tcp", 22), ("_rfb._tcp", 5900)],
        }
    }
}

/// How a system makes itself known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TalkHabits {
    /// What it says where the topology leaves that to the system.
    pub says: Says,
    /// ARP probes from 0.0.0.0 before it uses an address (RFC 5227 §2.1.1).
    pub arp_probes: u8,
    /// ARP announcements once it does (RFC 5227 §2.3).
    pub arp_announcements: u8,
    /// Milliseconds between two of them.
    pub arp_gap_ms: u32,
    /// Seconds after which it asks its gateway for its address again.
    pub arp_again_secs: u32,
    /// Whether it asks the gateway itself then, instead of everybody.
    pub arp_again_unicast: bool,
    /// TTL and hop limit of multicast DNS: RFC 6762 §11 asks for 255.
    pub mdns_ttl: u8,
    /// What it looks for by multicast DNS.
    pub mdns_seeks: Seeks,
    /// What it offers by it.
    pub mdns_offers: Offers,
    /// What its hosts are called.
    pub naming: Naming,
    /// Major and minor version that it announces to the browser.
    pub browser_version: (u8, u8),
    /// How it asks for an address, if it is to lease one.
    pub dhcp: dhcp::Client,
}

impl TalkHabits {
    /// One that announces its address once and says nothing else.
    pub const PLAIN: TalkHabits = TalkHabits {
        says: Says::ARP,
        arp_probes: 0,
        arp_announcements: 1,
        arp_gap_ms: 1000,
        arp_again_secs: 1200,
        arp_again_unicast: false,
        mdns_ttl: 255,
        mdns_seeks: Seeks::Nothing,
        mdns_offers: Offers::Nothing,
        naming: Naming::Node,
        browser_version: (4, 9),
        dhcp: dhcp::Client::Lwip,
    };
    /// Linux with NetworkManager, which announces twice; the kernel asks a neighbor again when it has gone stale.
    pub const LINUX: TalkHabits = TalkHabits {
        says: Says::ARP.and(Says::IPV6),
        arp_announcements: 2,
        arp_gap_ms: 2000,
        arp_again_secs: 60,
        arp_again_unicast: true,
        dhcp: dhcp::Client::Dhclient,
        ..TalkHabits::PLAIN
    };
    /// Telephones look for what they can show pictures on.
    pub const ANDROID: TalkHabits = TalkHabits {
        says: TalkHabits::LINUX.says.and(Says::MDNS),
        arp_announcements: 0,
        mdns_seeks: Seeks::Screens,
        dhcp: dhcp::Client::Android,
        ..TalkHabits::LINUX
    };
    /// Windows XP: three announcements, no probes.
    pub const WINDOWS_XP: TalkHabits = TalkHabits {
        says: Says::ARP.and(Says::NETBIOS).and(Says::SSDP),
        arp_announcements: 3,
        arp_again_secs: 600,
        naming: Naming::Desktop,
        browser_version: (5, 1),
        dhcp: dhcp::Client::WindowsXp,
        ..TalkHabits::PLAIN
    };
    /// Windows 7: probes, then an announcement.
    pub const WINDOWS_7: TalkHabits = TalkHabits {
        says: TalkHabits::WINDOWS_XP.says.and(Says::LLMNR).and(Says::IPV6),
        arp_probes: 3,
        arp_announcements: 1,
        arp_again_secs: 45,
        arp_again_unicast: true,
        browser_version: (6, 1),
        dhcp: dhcp::Client::Windows7,
        ..TalkHabits::WINDOWS_XP
    };
    /// Windows 10 and later.
    pub const WINDOWS: TalkHabits = TalkHabits {
        says: TalkHabits::WINDOWS_7.says.and(Says::MDNS),
        mdns_ttl: 1,
        browser_version: (10, 0),
        dhcp: dhcp::Client::Windows,
        ..TalkHabits::WINDOWS_7
    };
    /// macOS probes and announces three times a second.
    pub const MACOS: TalkHabits = TalkHabits {
        says: Says::ARP.and(Says::IPV6).and(Says::MDNS),
        arp_probes: 3,
        arp_announcements: 2,
        arp_gap_ms: 320,
        arp_again_unicast: true,
        mdns_seeks: Seeks::Companions,
        mdns_offers: Offers::Sharing,
        naming: Naming::Mac(*b"mac"),
        dhcp: dhcp::Client::Macos,
        ..TalkHabits::PLAIN
    };
    /// Cisco IOS.
    pub const IOS: TalkHabits = TalkHabits { dhcp: dhcp::Client::Ios, ..TalkHabits::PLAIN };
    /// The BSDs.
    pub const BSD: TalkHabits =
        TalkHabits { says: Says::ARP.and(Says::IPV6), dhcp: dhcp::Client::Bsd, ..TalkHabits::PLAIN };
    /// Network printers, which keep to RFC 5227.
    pub const PRINTER: TalkHabits = TalkHabits {
        says: Says::ARP.and(Says::MDNS),
        arp_probes: 3,
        arp_announcements: 2,
        arp_gap_ms: 2000,
        mdns_offers: Offers::Printing,
        naming: Naming::Mac(*b"NPI"),
        dhcp: dhcp::Client::JetDirect,
        ..TalkHabits::PLAIN
    };

    /// Those of the system whose name is `name`, in lower case: what it begins with or has in it.
    pub fn of_name(name: &str) -> TalkHabits {
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if has(&["windows xp", "windows 2000", "windows server 2003", "windows 2003", "windows 98", "windows nt"]) {
            TalkHabits::WINDOWS_XP
        } else if has(&["windows 7", "windows vista", "windows server 2008", "windows 2008", "windows 8"]) {
            TalkHabits::WINDOWS_7
        } else if has(&["windows"]) {
            TalkHabits::WINDOWS
        } else if has(&["android"]) {
            TalkHabits::ANDROID
        } else if has(&["linux"]) {
            TalkHabits::LINUX
        } else if has(&["mac os x", "macos", "iphone"]) {
            TalkHabits::MACOS
        } else if has(&["bsd"]) {
            TalkHabits::BSD
        } else if has(&["cisco ios", "(ios "]) {
            TalkHabits::IOS
        } else if has(&["printer", "laserjet"]) {
            TalkHabits::PRINTER
        } else {
            TalkHabits::PLAIN
        }
    }
}
