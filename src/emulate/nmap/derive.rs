//! How a host with a fingerprint behaves towards everybody else: the same TTLs,
//! windows and options, as far as a fingerprint tells.
//!
//! What it does not tell comes from elsewhere: TOS of ICMP errors and how often a
//! SYN/ACK is sent again from measurements of remote fingerprinting (xprobe2;
//! Hershel's database), by what the name says.

use std::borrow::Cow;

use super::super::arp::ArpHabits;
use super::super::fingerprint::{EchoCode, EchoDf, Fingerprint, IdPattern, Opt};
use super::super::personality::{FlowLabel, IpIdClass, Personality, SynAckOptions};
use super::super::talk::TalkHabits;
use super::super::tcp_habits::TcpHabits;
use super::options::{self, is_timestamps};

/// Octets behind its IP header that an error quotes of a long packet, so that the whole has 576 (RFC 1812 §4.3.2.3).
const LONG_QUOTE: u16 = 528;
const ETHERNET_MSS: u16 = 1460;
/// Clocks faster than this are none: such values are drawn anew for each connection.
const FASTEST_CLOCK: u64 = 1 << 16;

/// What a system whose name in lower case is `name` does in an open connection; of what is none of the great ones
/// nothing is known but that it is small, and likely old.
fn tcp_habits(name: &str, is_linux: bool) -> TcpHabits {
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let challenges = !is(&["linux 1.", "linux 2.", "windows xp", "windows 2000", "windows server 2003", "windows 98"]);
    if is_linux {
        TcpHabits { challenges, ..TcpHabits::LINUX }
    } else if is(&["windows"]) {
        TcpHabits { challenges, time_wait_secs: if challenges { 120 } else { 240 }, ..TcpHabits::WINDOWS }
    } else {
        let challenges = is(&["bsd", "mac os", "macos", "ios"]);
        TcpHabits { challenges, ..TcpHabits::BSD }
    }
}

/// The personality that goes with `fingerprint`, without it.
pub(super) fn personality(name: &str, is_linux: bool, fingerprint: &Fingerprint) -> Personality {
    let first = fingerprint.syn.as_ref().map(|syn| &*syn[0].options);
    let ecn = fingerprint.ecn.as_ref();
    let offered = || first.into_iter().chain(ecn.map(|ecn| &*ecn.options)).flatten();
    let t1 = fingerprint.t1.as_ref();
    let ttl = t1.map(|t1| t1.ttl);
    let rst = fingerprint.closed[0].as_ref();
    let ttl = ttl.or_else(|| rst.map(|rst| rst.ttl)).unwrap_or(64);
    let icmp_ttl = fingerprint.echo.map(|echo| echo.ttl).or_else(|| fingerprint.udp.map(|udp| udp.ttl)).unwrap_or(ttl);
    let windows = fingerprint.syn.iter().flat_map(|syn| syn.iter().map(|answer| answer.window));
    // The first of SEQ offers what common clients offer, timestamps among it; ECN's does not.
    let syn_ack_window = windows.chain(ecn.map(|ecn| ecn.window)).find(|window| *window > 0).unwrap_or(0x2000);
    let hz = fingerprint.seq.ts_hz;
    let counts = offered().any(|option| matches!(option, Opt::Timestamps { value: true, .. }));
    let lower = name.to_lowercase();
    // What is more than Ethernet carries was measured on something else; less than 64 is no use.
    let mss = offered().find_map(|option| if let Opt::Mss(mss) = option { Some(*mss) } else { None });
    let elsewhere = mss.is_some_and(|mss| mss > ETHERNET_MSS);
    // Since 2.4, Linux sends 0 with DF.
    let old = ["linux 1.", "linux 2.0", "linux 2.2"].iter().any(|version| lower.contains(version));
    let unknown = if is_linux && !old { IpIdClass::Zero } else { IpIdClass::Shared };
    let syn_ack_ip_id = id_class(fingerprint.seq.ti, unknown);
    Personality {
        tcp: tcp_habits(&lower, is_linux),
        name: Cow::Owned(name.to_owned()),
        is_linux,
        ttl,
        icmp_ttl,
        // The database tells of IPv4 alone; nobody but Windows has another than 64.
        hop_limit: if ttl == 128 { 128 } else { 64 },
        mss: mss.filter(|mss| *mss >= 64).unwrap_or(ETHERNET_MSS).min(ETHERNET_MSS),
        syn_ack_window: linux_window(&lower).filter(|_| is_linux && elsewhere).unwrap_or(syn_ack_window),
        window_scale: offered()
            .find_map(|option| if let Opt::Scale(shift) = option { Some((*shift).min(14)) } else { None })
            .unwrap_or(0),
        syn_ack_options: layouts(fingerprint),
        ts_hz: match hz {
            _ if !counts => 0,
            1..=FASTEST_CLOCK => hz as u32,
            _ => 1000,
        },
        ts_per_peer: counts
            && (hz > FASTEST_CLOCK || is_linux && ["linux 4", "linux 5", "linux 6"].iter().any(|v| lower.contains(v))),
        // Linux sends SYN/ACKs with 0, and counts for each peer afterwards.
        ip_id: match syn_ack_ip_id {
            IpIdClass::Zero if is_linux => IpIdClass::PerPeer,
            class => class,
        },
        syn_ack_ip_id,
        tcp_df: t1.is_some_and(|t1| t1.df),
        rst_df: rst.map_or_else(|| t1.is_some_and(|t1| t1.df), |rst| rst.df),
        echo_df: fingerprint.echo.and_then(|echo| match echo.df {
            EchoDf::Set => Some(true),
            EchoDf::Clear => Some(false),
            EchoDf::Same | EchoDf::Inverse => None,
        }),
        echo_code_zero: fingerprint.echo.is_some_and(|echo| echo.code == EchoCode::Value(0)),
        icmp_quote: match fingerprint.udp.map(|udp| udp.total) {
            // All of it, which for a longer packet is as much as fits.
            Some(total) if total >= 20 + 8 + 328 => LONG_QUOTE,
            // Headers of the error and of the packet that it quotes.
            Some(total) => total.saturating_sub(20 + 8 + 20).max(8),
            None if is_linux => LONG_QUOTE,
            None => 8,
        },
        icmp_error_tos: if is_linux || lower.contains("cisco") { 0xc0 } else { 0 },
        syn_ack_retries_ms: Cow::Borrowed(retries(&lower)),
        arp: arp(&lower),
        flow_label: flow_label(&lower, is_linux),
        talk: TalkHabits::of_name(&lower),
        fingerprint: None,
    }
}

/// Linux has labels since 4.2, the BSDs have them since KAME.
fn flow_label(name: &str, is_linux: bool) -> FlowLabel {
    match name {
        _ if is_linux && ["linux 4", "linux 5", "linux 6"].iter().any(|v| name.contains(v)) => FlowLabel::Always,
        _ if ["bsd", "mac os x", "macos", "darwin"].iter().any(|v| name.contains(v)) => FlowLabel::Connections,
        _ => FlowLabel::Zero,
    }
}

/// The window of a SYN/ACK of Linux by Ethernet, which is a number of segments that depends on the version (the first
/// one in the name): four, since 3.0 ten, since 3.11 twenty, and since 4.20 forty-five.
fn linux_window(name: &str) -> Option<u16> {
    let version = name.split_once("linux ")?.1;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    let version = (numbers.next()??, numbers.next().flatten().unwrap_or(0));
    let segments = match version {
        (..3, _) => 4,
        (3, ..11) => 10,
        (3, _) | (4, ..20) => 20,
        _ => 45,
    };
    // Each of them has timestamps in it.
    Some(segments * (ETHERNET_MSS - 12))
}

fn id_class(pattern: IdPattern, other: IpIdClass) -> IpIdClass {
    match pattern {
        IdPattern::Zero | IdPattern::Constant(_) => IpIdClass::Zero,
        IdPattern::Step(_) => IpIdClass::Shared,
        IdPattern::Random => IpIdClass::Random,
        IdPattern::Unclassified => other,
    }
}

fn is_scale(option: &Opt) -> bool {
    matches!(option, Opt::Scale(_))
}

fn is_sack(option: &Opt) -> bool {
    *option == Opt::Sack
}

/// Layouts by the SYNs that offer the same: the first of SEQ, ECN's, the sixth and the third.
fn layouts(fingerprint: &Fingerprint) -> SynAckOptions {
    let syn = |i: usize| fingerprint.syn.as_ref().map(|syn| syn[i].options.clone());
    let ecn = fingerprint.ecn.as_ref().map(|ecn| ecn.options.clone());
    let full = syn(0).or_else(|| ecn.clone()).unwrap_or_else(|| vec![Opt::Mss(1460)]);
    // What was not offered does not come back, and what every SYN offers does.
    let kept = |options: Vec<Opt>, unwanted: fn(&Opt) -> bool| {
        let mut options = options::without(&options, unwanted);
        if !options.iter().any(|option| matches!(option, Opt::Mss(_))) && options::octets(&options) <= 36 {
            options.insert(0, Opt::Mss(0));
        }
        Cow::Owned(options)
    };
    SynAckOptions {
        no_timestamps: kept(ecn.unwrap_or_else(|| full.clone()), is_timestamps),
        no_scale: kept(syn(5).unwrap_or_else(|| full.clone()), is_scale),
        no_sack: kept(syn(2).unwrap_or_else(|| full.clone()), is_sack),
        full: kept(full, |_| false),
    }
}

/// When a SYN/ACK is sent again: milliseconds since the one before, by what the name of a system begins with or has
/// in it, the more special ones first.
const RETRIES: [(&[&str], &[u32]); 16] = [
    (&["windows 98", "windows nt", "windows 95", "windows me"], &[3000, 6000, 12_000]),
    (&["windows 2000", "windows xp", "windows server 2003", "windows 2003"], &[3000, 6600]),
    (&["windows"], &[3000, 6000, 12_000]),
    (&["linux 2.0", "linux 2.2", "linux 1."], &[3000, 6000, 12_000, 24_000, 48_000, 96_000]),
    (&["linux 2.4", "linux 2.6", "linux 3.0"], &[3000, 6000, 12_000, 24_000, 48_000]),
    (&["linux", "android"], &[1000, 2000, 4000, 8000, 16_000]),
    (&["freebsd"], &[3000, 6000, 12_000]),
    (&["netbsd", "openbsd"], &[3000, 6000, 12_000, 24_000]),
    (
        &["mac os x 10.0", "mac os x 10.1", "mac os x 10.2", "mac os x 10.3", "mac os x 10.4", "aix"],
        &[3000, 6000, 12_000, 24_000, 30_000],
    ),
    (&["mac os x", "macos", "darwin", "ios 1", "iphone"], &[1000, 2000, 4000, 8000, 16_000, 32_000]),
    (&["solaris", "sunos"], &[3400, 6750, 13_500, 27_000, 54_000, 60_000]),
    (&["irix"], &[6000, 22_500, 45_000, 2000]),
    (&["os/2", "vxworks", "tru64", "printer", "laserjet"], &[6000, 24_000, 45_000]),
    (&["ios 11", "ios 10"], &[3000, 6000, 8000, 8000]),
    (&["cisco"], &[2000, 4000, 8000]),
    (&["screenos"], &[2000, 2000, 2000, 2000, 2000, 2000]),
];

fn retries(name: &str) -> &'static [u32] {
    let cisco = name.contains("cisco");
    RETRIES
        .iter()
        // Apple's iOS and Cisco's share their name.
        .filter(|(words, _)| cisco || !words.contains(&"ios 11"))
        .filter(|(words, _)| !cisco || !words.contains(&"ios 1"))
        .find(|(words, _)| words.iter().any(|word| name.contains(word)))
        .map_or(&[3000, 6000], |(_, retries)| retries)
}

/// Which odd ARP requests are answered: what arp-fingerprint knows, by what the name of a system has in it. Systems
/// that it does not know are like Linux, which is also how Windows has been since Vista.
fn arp(name: &str) -> ArpHabits {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let old_windows = ["windows 98", "windows mill", "windows nt", "windows 2000", "windows xp", "server 2003"];
    ArpHabits::new(match () {
        () if has(&["screenos"]) => "01000111111",
        () if has(&["cisco"]) && has(&["ios"]) => "00000100000",
        () if has(&["linux 2.0", "beos", "mac os x 10.4", "mac os x server 10.4"]) => "11110000000",
        () if has(&["mac os x 10.3", "mac os x server 10.3", "aix", "irix"]) => "11110100011",
        () if has(&["windows 3.1", "windows 95", "windows nt 3"]) => "10110100000",
        () if has(&old_windows) || has(&["freebsd", "fortios", "fortinet"]) => "11110100000",
        () if has(&["openbsd"]) => "11110000011",
        () if has(&["netbsd 1", "netbsd 2", "netbsd 3", "netbsd 4", "netbsd 5"]) => "10110110000",
        () if has(&["netbsd", "solaris", "sunos", "hp-ux"]) => "11110110000",
        () => "01010100000",
    })
}

#[cfg(test)]
mod tests {
    use super::{arp, linux_window};

    #[test]
    fn windows_by_ethernet_are_the_versions() {
        let cases = [
            ("linux 2.6.32 - 3.10", Some(5792)),
            ("linux 3.2 - 3.5", Some(14_480)),
            ("openwrt (linux 3.18)", Some(28_960)),
            ("linux 4.19", Some(28_960)),
            ("linux 5.0 - 5.4", Some(65_160)),
            ("linux", None),
            ("linux x", None),
        ];
        for (name, window) in cases {
            assert_eq!(linux_window(name), window, "{name}");
        }
    }

    #[test]
    fn arp_is_as_the_family_has_it() {
        let cases = [
            ("Linux 5.0 - 5.4", "01010100000"),
            ("Linux 2.0.36", "11110000000"),
            ("Microsoft Windows 10 1607", "01010100000"),
            ("Microsoft Windows XP SP2 or SP3", "11110100000"),
            ("FreeBSD 12.0-RELEASE", "11110100000"),
            ("Cisco 2600-series router (IOS 12.2)", "00000100000"),
            ("Apple iOS 12.0", "01010100000"),
            ("Oracle Solaris 11", "11110110000"),
            ("OpenBSD 6.0", "11110000011"),
            ("NetBSD 5.0 - 5.99.5", "10110110000"),
            ("NetBSD 7.0", "11110110000"),
            ("IBM AIX 7.1", "11110100011"),
            ("Apple Mac OS X 10.4.11 (Tiger)", "11110000000"),
            ("Juniper NetScreen 5GT firewall (ScreenOS 5.4)", "01000111111"),
        ];
        for (name, habits) in cases {
            assert_eq!(arp(&name.to_lowercase()).to_string(), habits, "{name}");
        }
    }
}
