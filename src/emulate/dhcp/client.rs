//! What each system's DHCP client writes. Servers, and whoever listens, tell systems by it.
//!
//! The lists of wanted parameters (option 55) are those by which Fingerbank knows the systems. Order of the options, TTL
//! and identification are as the clients' sources have them where there are such (ISC dhclient's `common/packet.c`,
//! Android's `DhcpPacket.java`, FreeBSD's `dhclient`, lwIP's `dhcp.c`), otherwise as captures show them.

use serde::{Deserialize, Serialize};

/// The client of a system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Client {
    /// ISC dhclient as Debian configures it.
    Dhclient,
    /// Windows 10 and later.
    Windows,
    /// Windows Vista to 8.
    Windows7,
    /// Windows 2000 and XP.
    WindowsXp,
    /// Android 11 and later.
    Android,
    /// macOS.
    Macos,
    /// The dhclient of the BSDs.
    Bsd,
    /// HP's JetDirect, which most network printers resemble.
    JetDirect,
    /// Cisco IOS.
    Ios,
    /// lwIP, which many small devices have.
    Lwip,
}

/// An option that a client writes, if the message has what belongs there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    /// 53.
    Type,
    /// 61.
    ClientId,
    /// 50.
    Requested,
    /// 54.
    Server,
    /// 51: how long it would like to have the address, in seconds.
    LeaseTime(u32),
    /// 12.
    HostName,
    /// 81 (RFC 4702), in requests.
    Fqdn,
    /// 60.
    Vendor(&'static str),
    /// 55.
    Parameters(&'static [u8]),
    /// 57: the largest message that it takes.
    MaxSize(u16),
    /// 116 (RFC 2563), in what looks for servers.
    AutoConfigure,
}

/// How a client names itself in option 61.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClientId {
    /// Hardware type 1 and the MAC (RFC 2132 §9.14).
    Mac,
    /// `cisco-`, the MAC in groups of four digits, and the interface.
    Cisco,
}

/// How the IPv4 header of what is sent from 0.0.0.0 is identified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RawId {
    /// Not at all: the client writes the header itself.
    Zero,
    /// As all of the system's packets are.
    System,
}

/// How a client writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Habits {
    pub(super) items: &'static [Item],
    pub(super) id: ClientId,
    /// Whether it asks for answers to everybody (RFC 2131 §4.1).
    pub(super) broadcast: bool,
    /// Whether `secs` tells how long it has been trying.
    pub(super) counts_secs: bool,
    /// Octets that a message has at least: a BOOTP message has 300 (RFC 1542 §2.1).
    pub(super) least: usize,
    /// TTL of what is sent to everybody; `None` is the system's.
    pub ttl: Option<u8>,
    /// TOS of the same.
    pub tos: u8,
    /// Don't fragment.
    pub df: bool,
    /// Identification.
    pub raw_id: RawId,
}

use Item::{
    AutoConfigure, ClientId as Id, Fqdn, HostName, LeaseTime, MaxSize, Parameters, Requested, Server, Type, Vendor,
};

const ISC: Habits = Habits {
    items: &[Type, Server, Requested, HostName, Parameters(&[1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42])],
    id: ClientId::Mac,
    broadcast: false,
    counts_secs: true,
    least: 300,
    ttl: Some(128),
    tos: 0x10,
    df: false,
    raw_id: RawId::Zero,
};

const WINDOWS: Habits = Habits {
    items: &[
        Type,
        Id,
        Requested,
        Server,
        HostName,
        Fqdn,
        Vendor("MSFT 5.0"),
        Parameters(&[1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252]),
    ],
    id: ClientId::Mac,
    broadcast: false,
    counts_secs: true,
    least: 300,
    ttl: None,
    tos: 0,
    df: false,
    raw_id: RawId::System,
};

const WINDOWS_7: Habits = Habits {
    items: &[
        Type,
        Id,
        Requested,
        Server,
        HostName,
        Fqdn,
        Vendor("MSFT 5.0"),
        Parameters(&[1, 15, 3, 6, 44, 46, 47, 31, 33, 121, 249, 43]),
    ],
    ..WINDOWS
};

const WINDOWS_XP: Habits = Habits {
    items: &[
        Type,
        AutoConfigure,
        Id,
        Requested,
        Server,
        HostName,
        Fqdn,
        Vendor("MSFT 5.0"),
        Parameters(&[1, 15, 3, 6, 44, 46, 47, 31, 33, 249, 43]),
    ],
    ..WINDOWS
};

const ANDROID: Habits = Habits {
    items: &[
        Type,
        Id,
        Requested,
        Server,
        MaxSize(1500),
        Vendor("android-dhcp-13"),
        HostName,
        Parameters(&[1, 3, 6, 15, 26, 28, 51, 58, 59, 43, 114, 108]),
    ],
    ttl: Some(64),
    tos: 0x10,
    df: true,
    raw_id: RawId::Zero,
    ..ISC
};

const MACOS: Habits = Habits {
    items: &[
        Type,
        Parameters(&[1, 121, 3, 6, 15, 108, 114, 119, 252, 95, 44, 46]),
        MaxSize(1500),
        Id,
        Requested,
        Server,
        LeaseTime(7_776_000),
        HostName,
    ],
    ttl: Some(255),
    tos: 0,
    raw_id: RawId::System,
    ..ISC
};

const BSD: Habits =
    Habits { items: &[Type, Requested, Server, Id, HostName, Parameters(&[1, 28, 2, 121, 3, 15, 6, 12, 119])], ..ISC };

const JET_DIRECT: Habits = Habits {
    items: &[
        Type,
        Requested,
        Server,
        HostName,
        Vendor("Hewlett-Packard JetDirect"),
        Parameters(&[6, 3, 1, 15, 66, 67, 13, 44, 12, 81]),
        Id,
    ],
    ..WINDOWS
};

const IOS: Habits = Habits {
    items: &[Type, MaxSize(1152), Id, Requested, Server, HostName, Parameters(&[1, 6, 15, 44, 3, 33, 150, 43])],
    id: ClientId::Cisco,
    broadcast: true,
    counts_secs: false,
    ..WINDOWS
};

const LWIP: Habits = Habits {
    items: &[Type, MaxSize(1500), Requested, Server, Parameters(&[1, 3, 28, 6]), HostName],
    counts_secs: false,
    ttl: Some(255),
    ..WINDOWS
};

impl Client {
    /// How it writes.
    pub fn habits(self) -> &'static Habits {
        match self {
            Client::Dhclient => &ISC,
            Client::Windows => &WINDOWS,
            Client::Windows7 => &WINDOWS_7,
            Client::WindowsXp => &WINDOWS_XP,
            Client::Android => &ANDROID,
            Client::Macos => &MACOS,
            Client::Bsd => &BSD,
            Client::JetDirect => &JET_DIRECT,
            Client::Ios => &IOS,
            Client::Lwip => &LWIP,
        }
    }
}
