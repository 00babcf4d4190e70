//! How an operating system behaves at layers 3 and 4.
//!
//! The built-in personalities are derived from documented behavior: RFC 7323
//! (timestamps, scaling), RFC 6864 and RFC 791 (identification), RFC 6528 (ISN)
//! and each system's published defaults.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::arp::ArpHabits;
use super::fingerprint::{Fingerprint, Opt};
use super::talk::TalkHabits;
use super::tcp_habits::TcpHabits;

/// How the IPv4 identification field is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IpIdClass {
    /// Always zero.
    Zero,
    /// One counter for all of the host's packets.
    Shared,
    /// A counter for each peer.
    PerPeer,
    /// Unpredictable.
    Random,
}

/// How the IPv6 flow label is chosen (RFC 6437). Neighbor discovery and listener reports have none in any system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FlowLabel {
    /// Always zero.
    Zero,
    /// One for each TCP connection; zero in what belongs to none, RSTs of closed ports and echo replies included.
    Connections,
    /// One for each pair of ends, whatever they exchange (Linux's `auto_flowlabels`).
    Always,
}

/// The options of a SYN/ACK, by what the SYN offers besides its MSS. Values of MSS and scale are the
/// personality's, whatever the entries say; a SYN that offers none of the three gets the MSS alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SynAckOptions {
    /// To window scale, SACK and timestamps.
    pub full: Cow<'static, [Opt]>,
    /// To window scale and SACK.
    pub no_timestamps: Cow<'static, [Opt]>,
    /// To SACK and timestamps.
    pub no_scale: Cow<'static, [Opt]>,
    /// To window scale and timestamps.
    pub no_sack: Cow<'static, [Opt]>,
}

/// The personalities that are built in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Builtin {
    /// A current Linux server.
    Linux,
    /// Windows 10, 11 and Server 2016 to 2022.
    Windows,
    /// A Cisco IOS router or switch.
    CiscoIos,
    /// Linux 2.6, as appliances and routers for homes have it.
    Linux26,
    /// A telephone with Android.
    Android,
    /// Windows 7 and Server 2008 R2.
    Windows7,
    /// Windows XP and Server 2003.
    WindowsXp,
    /// macOS 11 and later.
    MacOs,
    /// FreeBSD 12 and later.
    FreeBsd,
    /// OpenBSD 5.
    OpenBsd,
    /// A network printer with a small real-time system.
    Printer,
    /// A programmable logic controller.
    Plc,
}

/// The values that make a personality.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Personality {
    /// Its name in a topology.
    pub name: Cow<'static, str>,
    /// Whether it passes for a Linux system, whose TCP containers have, too.
    pub is_linux: bool,
    /// Initial TTL of TCP and UDP.
    pub ttl: u8,
    /// Initial TTL of ICMP.
    pub icmp_ttl: u8,
    /// Initial hop limit of all IPv6 but neighbor discovery.
    pub hop_limit: u8,
    /// MSS that a SYN/ACK announces on Ethernet over IPv4; 20 less over IPv6.
    pub mss: u16,
    /// Window field of a SYN/ACK.
    pub syn_ack_window: u16,
    /// Window scale that it offers.
    pub window_scale: u8,
    /// Options of a SYN/ACK.
    pub syn_ack_options: SynAckOptions,
    /// Ticks of the timestamp clock per second; 0 if it has none.
    pub ts_hz: u32,
    /// Whether the timestamp clock is offset for each peer.
    pub ts_per_peer: bool,
    /// IP identification of packets with DF.
    pub ip_id: IpIdClass,
    /// IP identification of SYN/ACKs, where it is another.
    pub syn_ack_ip_id: IpIdClass,
    /// DF on TCP.
    pub tcp_df: bool,
    /// DF on a RST.
    pub rst_df: bool,
    /// DF of an echo reply: `None` copies the request's.
    pub echo_df: Option<bool>,
    /// Whether the code of an echo reply is 0 even if the request's was not.
    pub echo_code_zero: bool,
    /// Octets of the offending packet that an ICMP error quotes behind its IP header.
    pub icmp_quote: u16,
    /// TOS of an ICMP error.
    pub icmp_error_tos: u8,
    /// How often, and how long after the one before, a SYN/ACK is sent again, in milliseconds.
    pub syn_ack_retries_ms: Cow<'static, [u32]>,
    /// What it does in an open TCP connection.
    pub tcp: TcpHabits,
    /// Which odd ARP requests it answers.
    pub arp: ArpHabits,
    /// IPv6 flow label.
    pub flow_label: FlowLabel,
    /// How it makes itself known on its segment.
    pub talk: TalkHabits,
    /// What nmap's OS detection is answered, where that is known in detail.
    pub fingerprint: Option<Box<Fingerprint>>,
}

const MSS: Opt = Opt::Mss(0);
const SCALE: Opt = Opt::Scale(0);
const TS: Opt = Opt::Timestamps { value: true, echo: true };
use Opt::{Nop, Sack};

const LINUX: Personality = Personality {
    name: Cow::Borrowed("linux"),
    is_linux: true,
    ttl: 64,
    icmp_ttl: 64,
    hop_limit: 64,
    mss: 1460,
    syn_ack_window: 65160,
    window_scale: 7,
    syn_ack_options: SynAckOptions {
        full: Cow::Borrowed(&[MSS, Sack, TS, Nop, SCALE]),
        no_timestamps: Cow::Borrowed(&[MSS, Nop, Nop, Sack, Nop, SCALE]),
        no_scale: Cow::Borrowed(&[MSS, Sack, TS]),
        no_sack: Cow::Borrowed(&[MSS, Nop, Nop, TS, Nop, SCALE]),
    },
    ts_hz: 1000,
    ts_per_peer: true,
    ip_id: IpIdClass::PerPeer,
    syn_ack_ip_id: IpIdClass::Zero,
    tcp_df: true,
    rst_df: true,
    echo_df: Some(false),
    echo_code_zero: false,
    // So that the whole does not exceed 576 octets.
    icmp_quote: 528,
    icmp_error_tos: 0xc0,
    syn_ack_retries_ms: Cow::Borrowed(&[1000, 2000, 4000, 8000, 16000]),
    tcp: TcpHabits::LINUX,
    // As with a way to every address, which hosts with a gateway have.
    arp: ArpHabits::new("01010100000"),
    flow_label: FlowLabel::Always,
    talk: TalkHabits::LINUX,
    fingerprint: None,
};

const WINDOWS: Personality = Personality {
    name: Cow::Borrowed("windows"),
    is_linux: false,
    ttl: 128,
    icmp_ttl: 128,
    hop_limit: 128,
    mss: 1460,
    syn_ack_window: 65535,
    window_scale: 8,
    syn_ack_options: SynAckOptions {
        full: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, Sack]),
        no_timestamps: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, Sack]),
        no_scale: Cow::Borrowed(&[MSS, Nop, Nop, Sack]),
        no_sack: Cow::Borrowed(&[MSS, Nop, SCALE]),
    },
    ts_hz: 0,
    ts_per_peer: false,
    ip_id: IpIdClass::Shared,
    syn_ack_ip_id: IpIdClass::Shared,
    tcp_df: true,
    rst_df: true,
    echo_df: Some(false),
    echo_code_zero: true,
    icmp_quote: 548,
    icmp_error_tos: 0,
    syn_ack_retries_ms: Cow::Borrowed(&[3000, 6000]),
    tcp: TcpHabits::WINDOWS,
    arp: ArpHabits::new("01010100000"),
    flow_label: FlowLabel::Zero,
    talk: TalkHabits::WINDOWS,
    fingerprint: None,
};

const CISCO_IOS: Personality = Personality {
    name: Cow::Borrowed("cisco-ios"),
    is_linux: false,
    ttl: 255,
    icmp_ttl: 255,
    hop_limit: 64,
    mss: 536,
    syn_ack_window: 4128,
    window_scale: 0,
    syn_ack_options: SynAckOptions {
        full: Cow::Borrowed(&[MSS]),
        no_timestamps: Cow::Borrowed(&[MSS]),
        no_scale: Cow::Borrowed(&[MSS]),
        no_sack: Cow::Borrowed(&[MSS]),
    },
    ts_hz: 0,
    ts_per_peer: false,
    ip_id: IpIdClass::Random,
    syn_ack_ip_id: IpIdClass::Random,
    tcp_df: false,
    rst_df: false,
    echo_df: None,
    echo_code_zero: false,
    icmp_quote: 8,
    icmp_error_tos: 0,
    syn_ack_retries_ms: Cow::Borrowed(&[2000, 4000, 8000]),
    tcp: TcpHabits::BSD,
    arp: ArpHabits::new("00000100000"),
    flow_label: FlowLabel::Zero,
    talk: TalkHabits::IOS,
    fingerprint: None,
};

/// In the order of [`Builtin`]. Where a value differs from the one it is made of, the system's own documentation, its
/// source or p0f's signatures say so.
static BUILTIN: LazyLock<[Personality; 12]> = LazyLock::new(|| {
    let linux_26 = Personality {
        name: "linux-2.6".into(),
        syn_ack_window: 5792,
        window_scale: 6,
        ts_hz: 250,
        ts_per_peer: false,
        syn_ack_retries_ms: Cow::Borrowed(&[3000, 6000, 12_000, 24_000, 48_000]),
        // They came with Linux 4.2.
        flow_label: FlowLabel::Zero,
        tcp: TcpHabits { challenges: false, ..TcpHabits::LINUX },
        ..LINUX
    };
    let android = Personality {
        name: "android".into(),
        syn_ack_window: 65_535,
        window_scale: 8,
        talk: TalkHabits::ANDROID,
        ..LINUX
    };
    let windows_7 = Personality {
        name: "windows-7".into(),
        syn_ack_window: 8192,
        syn_ack_options: SynAckOptions {
            full: Cow::Borrowed(&[MSS, Nop, SCALE, Sack, TS]),
            no_scale: Cow::Borrowed(&[MSS, Sack, TS]),
            no_sack: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, TS]),
            ..WINDOWS.syn_ack_options
        },
        ts_hz: 100,
        talk: TalkHabits::WINDOWS_7,
        ..WINDOWS
    };
    let unset = Opt::Timestamps { value: false, echo: false };
    let windows_xp = Personality {
        name: "windows-xp".into(),
        syn_ack_window: 65_535,
        window_scale: 0,
        syn_ack_options: SynAckOptions {
            full: vec![MSS, Nop, SCALE, Nop, Nop, unset, Nop, Nop, Sack].into(),
            no_timestamps: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, Sack]),
            no_scale: vec![MSS, Nop, Nop, unset, Nop, Nop, Sack].into(),
            no_sack: vec![MSS, Nop, SCALE, Nop, Nop, unset].into(),
        },
        ts_hz: 10,
        syn_ack_retries_ms: Cow::Borrowed(&[3000, 6600]),
        tcp: TcpHabits { challenges: false, time_wait_secs: 240, ..TcpHabits::WINDOWS },
        talk: TalkHabits::WINDOWS_XP,
        arp: ArpHabits::new("11110100000"),
        ..WINDOWS
    };
    let bsd = Personality {
        name: "freebsd".into(),
        is_linux: false,
        syn_ack_window: 65_535,
        window_scale: 6,
        syn_ack_options: SynAckOptions {
            full: Cow::Borrowed(&[MSS, Nop, SCALE, Sack, TS]),
            no_timestamps: Cow::Borrowed(&[MSS, Nop, SCALE, Sack, Opt::Eol, Opt::Eol]),
            no_scale: Cow::Borrowed(&[MSS, Sack, TS]),
            no_sack: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, TS]),
        },
        ip_id: IpIdClass::Random,
        syn_ack_ip_id: IpIdClass::Random,
        echo_df: None,
        icmp_quote: 8,
        icmp_error_tos: 0,
        syn_ack_retries_ms: Cow::Borrowed(&[3000, 6000, 12_000]),
        tcp: TcpHabits::BSD,
        arp: ArpHabits::new("11110100000"),
        flow_label: FlowLabel::Connections,
        talk: TalkHabits::BSD,
        ..LINUX
    };
    let macos = Personality {
        name: "macos".into(),
        syn_ack_options: SynAckOptions {
            full: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, TS, Sack, Opt::Eol, Opt::Eol]),
            no_timestamps: Cow::Borrowed(&[MSS, Nop, SCALE, Sack, Opt::Eol, Opt::Eol]),
            no_scale: Cow::Borrowed(&[MSS, Nop, Nop, TS, Sack, Opt::Eol, Opt::Eol]),
            no_sack: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, TS]),
        },
        ip_id: IpIdClass::Zero,
        syn_ack_ip_id: IpIdClass::Zero,
        syn_ack_retries_ms: Cow::Borrowed(&[1000, 2000, 4000, 8000, 16_000, 32_000]),
        // Its TCPTV_MSL is half of the others'.
        tcp: TcpHabits { time_wait_secs: 30, ..TcpHabits::BSD },
        arp: ArpHabits::new("01010100000"),
        talk: TalkHabits::MACOS,
        ..bsd.clone()
    };
    let openbsd = Personality {
        name: "openbsd".into(),
        icmp_ttl: 255,
        syn_ack_window: 16_384,
        window_scale: 3,
        syn_ack_options: SynAckOptions {
            full: Cow::Borrowed(&[MSS, Nop, Nop, Sack, Nop, SCALE, Nop, Nop, TS]),
            no_timestamps: Cow::Borrowed(&[MSS, Nop, Nop, Sack, Nop, SCALE]),
            no_scale: Cow::Borrowed(&[MSS, Nop, Nop, Sack, Nop, Nop, TS]),
            no_sack: Cow::Borrowed(&[MSS, Nop, SCALE, Nop, Nop, TS]),
        },
        ts_hz: 2,
        syn_ack_retries_ms: Cow::Borrowed(&[3000, 6000, 12_000, 24_000]),
        arp: ArpHabits::new("11110000011"),
        ..bsd.clone()
    };
    let printer = Personality {
        name: "printer".into(),
        ttl: 64,
        icmp_ttl: 64,
        mss: 1460,
        syn_ack_window: 4096,
        ip_id: IpIdClass::Shared,
        syn_ack_ip_id: IpIdClass::Shared,
        syn_ack_retries_ms: Cow::Borrowed(&[6000, 24_000, 45_000]),
        tcp: TcpHabits { challenges: false, ..TcpHabits::BSD },
        arp: ArpHabits::new("01010100000"),
        talk: TalkHabits::PRINTER,
        ..CISCO_IOS
    };
    let plc = Personality {
        name: "plc".into(),
        ttl: 30,
        icmp_ttl: 30,
        syn_ack_window: 2048,
        syn_ack_retries_ms: Cow::Borrowed(&[3000, 6000]),
        talk: TalkHabits::PLAIN,
        ..printer.clone()
    };
    [LINUX, WINDOWS, CISCO_IOS, linux_26, android, windows_7, windows_xp, macos, bsd, openbsd, printer, plc]
});

impl Personality {
    fn offers(&self, wanted: impl Fn(&Opt) -> bool) -> bool {
        let SynAckOptions { full, no_timestamps, no_scale, no_sack } = &self.syn_ack_options;
        [full, no_timestamps, no_scale, no_sack].into_iter().any(|list| list.iter().any(&wanted))
    }

    /// Initial TTL or hop limit of TCP and UDP.
    #[inline]
    pub fn ttl_of(&self, v4: bool) -> u8 {
        if v4 { self.ttl } else { self.hop_limit }
    }

    /// Initial TTL or hop limit of ICMP and ICMPv6.
    #[inline]
    pub fn icmp_ttl_of(&self, v4: bool) -> u8 {
        if v4 { self.icmp_ttl } else { self.hop_limit }
    }

    /// Whether it scales windows.
    pub fn scales_windows(&self) -> bool {
        self.offers(|option| matches!(option, Opt::Scale(_)))
    }

    /// Whether it permits SACK.
    pub fn permits_sack(&self) -> bool {
        self.offers(|option| *option == Sack)
    }
}

impl SynAckOptions {
    /// The options for a SYN that offers these.
    pub fn to(&self, scale: bool, sack: bool, timestamps: bool) -> &[Opt] {
        const ONE: [&[Opt]; 4] = [&[MSS], &[MSS, Nop, SCALE], &[MSS, Nop, Nop, Sack], &[MSS, Nop, Nop, TS]];
        let has = |wanted: &dyn Fn(&Opt) -> bool| usize::from(self.full.iter().any(wanted));
        match (scale, sack, timestamps) {
            (true, true, true) => &self.full,
            (true, true, false) => &self.no_timestamps,
            (false, true, true) => &self.no_scale,
            (true, false, true) => &self.no_sack,
            (true, false, false) => ONE[has(&|option| matches!(option, Opt::Scale(_)))],
            (false, true, false) => ONE[2 * has(&|option| *option == Sack)],
            (false, false, true) => ONE[3 * has(&|option| matches!(option, Opt::Timestamps { .. }))],
            (false, false, false) => ONE[0],
        }
    }
}

impl Builtin {
    /// All of them.
    pub const ALL: [Builtin; 12] = [
        Builtin::Linux,
        Builtin::Windows,
        Builtin::CiscoIos,
        Builtin::Linux26,
        Builtin::Android,
        Builtin::Windows7,
        Builtin::WindowsXp,
        Builtin::MacOs,
        Builtin::FreeBsd,
        Builtin::OpenBsd,
        Builtin::Printer,
        Builtin::Plc,
    ];

    /// Its values.
    #[inline]
    pub fn get(self) -> &'static Personality {
        &BUILTIN[self as usize]
    }

    /// The one whose name is `name`.
    pub fn by_name(name: &str) -> Option<Builtin> {
        Builtin::ALL.into_iter().find(|p| p.get().name == name)
    }
}
