//! What sent a SYN: the family of operating systems, by the TTL, DF, the window and the order of the options.
//!
//! A system's SYN has the options of its SYN/ACK to a peer that offers them all, in the same order: RFC 9293 §3.1
//! leaves the order to whoever writes it, and each system has one. So the layouts of the built-in personalities
//! are what SYNs are held against. The TTL is rounded up to one of those that systems begin with (RFC 1700's 64 and
//! what vendors document: 32, 128, 255). The BSDs' windows are constant; those of Linux and Windows follow from the MSS,
//! which boxes on the way rewrite, and are not looked at.
//!
//! Scanners that write SYNs themselves spare the options, DF, or both: nmap sends the MSS alone and a window of
//! 1,024 to 4,096, masscan no options or the MSS alone, ZMap an identification of 54,321 (each documented by its
//! source); nmap's OS detection has timestamps of all ones in its SYNs (its book, "TCP/IP Fingerprinting Methods").

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::{Builtin, Opt};

/// What a peer is by its SYN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum OsFamily {
    /// Linux, Android included.
    Linux = 1,
    /// Windows.
    Windows,
    /// macOS and iOS.
    MacOs,
    /// FreeBSD.
    FreeBsd,
    /// OpenBSD.
    OpenBsd,
    /// No system: a SYN that a scanner (nmap, masscan, ZMap) wrote itself.
    Scanner,
    /// None of these.
    Unknown,
}

impl OsFamily {
    /// All of them.
    pub const ALL: [OsFamily; 7] = [
        OsFamily::Linux,
        OsFamily::Windows,
        OsFamily::MacOs,
        OsFamily::FreeBsd,
        OsFamily::OpenBsd,
        OsFamily::Scanner,
        OsFamily::Unknown,
    ];

    /// Its name in topologies and records.
    pub fn name(self) -> &'static str {
        match self {
            OsFamily::Linux => "linux",
            OsFamily::Windows => "windows",
            OsFamily::MacOs => "macos",
            OsFamily::FreeBsd => "freebsd",
            OsFamily::OpenBsd => "openbsd",
            OsFamily::Scanner => "scanner",
            OsFamily::Unknown => "unknown",
        }
    }

    /// The one with that name.
    pub fn by_name(name: &str) -> Option<OsFamily> {
        OsFamily::ALL.into_iter().find(|family| family.name() == name)
    }
}

impl fmt::Display for OsFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What of a SYN tells who sent it.
#[derive(Clone, Copy, Debug)]
pub struct SynTraits<'a> {
    /// TTL or hop limit, as it came.
    pub ttl: u8,
    /// DF; `None` over IPv6, which has none.
    pub df: Option<bool>,
    /// IPv4 identification; 0 over IPv6.
    pub ip_id: u16,
    /// Window field.
    pub window: u16,
    /// TCP options.
    pub options: &'a [u8],
}

/// Options of a list that count.
const MOST: u32 = 20;

/// A kind of option in three bits, for lists in one word. The first is in the lowest bits, the end is 0.
fn code(kind: u8) -> u64 {
    match kind {
        1 => 1,
        2 => 2,
        3 => 3,
        4 => 4,
        8 => 5,
        _ => 7,
    }
}

/// The order of a list of options, as far as it is well-formed, and whether its timestamps are all ones.
fn order(options: &[u8]) -> (u64, bool) {
    let (mut order, mut at, mut rest, mut odd) = (0, 0, options, false);
    while let [kind, tail @ ..] = rest
        && *kind != 0
        && at < MOST
    {
        let len = if *kind == 1 { 1 } else { tail.first().map_or(0, |len| usize::from(*len)) };
        let Some(option) = rest.get(..len).filter(|_| *kind == 1 || len >= 2) else { break };
        odd |= *kind == 8 && option.get(2..6) == Some(&[0xff; 4]);
        order |= code(*kind) << (3 * at);
        (at, rest) = (at + 1, &rest[len..]);
    }
    (order, odd)
}

/// A SYN as a system writes it.
struct Layout {
    family: OsFamily,
    ttl: u8,
    df: bool,
    order: u64,
    window: Option<u16>,
}

/// The layouts of the personalities that are of a family. Those with a window come first: they say more.
static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
    use OsFamily::{FreeBsd, Linux, MacOs, OpenBsd, Windows};
    let known = [
        (OpenBsd, Builtin::OpenBsd),
        (MacOs, Builtin::MacOs),
        (FreeBsd, Builtin::FreeBsd),
        (Linux, Builtin::Linux),
        (Windows, Builtin::Windows),
        (Windows, Builtin::Windows7),
        (Windows, Builtin::WindowsXp),
    ];
    let mut layouts = Vec::new();
    for (family, builtin) in known {
        let personality = builtin.get();
        let window = matches!(family, OpenBsd | MacOs | FreeBsd).then_some(personality.syn_ack_window);
        let lists = &personality.syn_ack_options;
        for list in [&lists.full, &lists.no_timestamps, &lists.no_scale, &lists.no_sack] {
            let kinds = list.iter().map_while(|option| match option {
                Opt::Eol => None,
                Opt::Nop => Some(1),
                Opt::Mss(_) => Some(2),
                Opt::Scale(_) => Some(3),
                Opt::Sack => Some(4),
                Opt::Timestamps { .. } => Some(8),
            });
            let order = kinds.enumerate().fold(0, |order, (at, kind)| order | code(kind) << (3 * at));
            layouts.push(Layout { family, ttl: personality.ttl, df: personality.tcp_df, order, window });
        }
    }
    layouts
});

/// ZMap's identification.
const ZMAP_ID: u16 = 54_321;
/// Order of a list that has the MSS alone.
const MSS_ALONE: u64 = 2;

/// What sent a SYN.
pub fn os_of_syn(syn: &SynTraits<'_>) -> OsFamily {
    let (order, odd) = order(syn.options);
    let bare = order == 0 || order == MSS_ALONE;
    let has_df = syn.df.unwrap_or(true);
    let small = syn.window.is_multiple_of(1024) && (1024..=4096).contains(&syn.window);
    let from_afar = syn.ttl > 128;
    if odd || (syn.ip_id == ZMAP_ID && syn.df.is_some()) || (bare && (small || (from_afar && !has_df))) {
        return OsFamily::Scanner;
    }
    let ttl = [32, 64, 128].into_iter().find(|most| syn.ttl <= *most).unwrap_or(255);
    let fits = |layout: &&Layout| {
        layout.order == order
            && layout.ttl == ttl
            && syn.df.is_none_or(|df| df == layout.df)
            && layout.window.is_none_or(|window| window == syn.window)
    };
    LAYOUTS.iter().find(fits).map_or(OsFamily::Unknown, |layout| layout.family)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MSS: &[u8] = &[2, 4, 5, 0xb4];
    const SACK: &[u8] = &[4, 2];
    const SCALE: &[u8] = &[3, 3, 7];
    const TS: &[u8] = &[8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
    const NOP: &[u8] = &[1];
    const EOL: &[u8] = &[0, 0];

    fn syn(ttl: u8, df: bool, window: u16, options: &[&[u8]]) -> OsFamily {
        let options = options.concat();
        os_of_syn(&SynTraits { ttl, df: Some(df), ip_id: 7, window, options: &options })
    }

    #[test]
    fn systems_are_told_by_what_their_syns_look_like() {
        let linux: &[&[u8]] = &[MSS, SACK, TS, NOP, SCALE];
        let windows: &[&[u8]] = &[MSS, NOP, SCALE, NOP, NOP, SACK];
        let freebsd: &[&[u8]] = &[MSS, NOP, SCALE, SACK, TS];
        assert_eq!(syn(64, true, 64_240, linux), OsFamily::Linux);
        assert_eq!(syn(47, true, 29_200, linux), OsFamily::Linux);
        assert_eq!(syn(52, true, 65_535, linux), OsFamily::Linux, "Android");
        assert_eq!(syn(64, true, 64_240, &[MSS, NOP, NOP, SACK, NOP, SCALE]), OsFamily::Linux, "without timestamps");
        assert_eq!(syn(117, true, 64_240, windows), OsFamily::Windows);
        assert_eq!(syn(128, true, 8192, &[MSS, NOP, SCALE, SACK, TS]), OsFamily::Windows, "with timestamps");
        assert_eq!(syn(128, true, 65_535, &[MSS, NOP, NOP, SACK]), OsFamily::Windows, "XP");
        assert_eq!(syn(60, true, 65_535, &[MSS, NOP, SCALE, NOP, NOP, TS, SACK, EOL]), OsFamily::MacOs);
        assert_eq!(syn(60, true, 65_535, freebsd), OsFamily::FreeBsd);
        let openbsd: &[&[u8]] = &[MSS, NOP, NOP, SACK, NOP, SCALE, NOP, NOP, TS];
        assert_eq!(syn(64, true, 16_384, openbsd), OsFamily::OpenBsd);
        // One trait that does not go with the others.
        for odd in [
            syn(128, true, 64_240, linux),
            syn(64, false, 64_240, linux),
            syn(64, true, 64_240, windows),
            syn(64, true, 8192, freebsd),
            syn(255, true, 64_240, linux),
            syn(64, true, 64_240, &[MSS]),
        ] {
            assert_eq!(odd, OsFamily::Unknown);
        }
        let options = linux.concat();
        let v6 = SynTraits { ttl: 60, df: None, ip_id: 0, window: 64_800, options: &options };
        assert_eq!(os_of_syn(&v6), OsFamily::Linux);
    }

    #[test]
    fn scanners_are_told_by_what_they_spare() {
        assert_eq!(syn(41, false, 1024, &[MSS]), OsFamily::Scanner, "nmap -sS");
        assert_eq!(syn(58, false, 3072, &[MSS]), OsFamily::Scanner, "an older nmap");
        assert_eq!(syn(250, false, 1024, &[]), OsFamily::Scanner, "masscan");
        assert_eq!(syn(245, false, 65_535, &[MSS]), OsFamily::Scanner, "ZMap with other identifications");
        let zmap = SynTraits { ttl: 64, df: Some(false), ip_id: 54_321, window: 65_535, options: &[] };
        assert_eq!(os_of_syn(&zmap), OsFamily::Scanner);
        let ones = [8, 10, 255, 255, 255, 255, 0, 0, 0, 0];
        assert_eq!(syn(41, false, 1, &[&[3, 3, 10], NOP, MSS, &ones, SACK]), OsFamily::Scanner, "nmap -O");
        // A camera with a small system of its own is none.
        assert_eq!(syn(64, false, 5840, &[MSS]), OsFamily::Unknown);
    }

    #[test]
    fn each_family_has_a_name_of_its_own() {
        for family in OsFamily::ALL {
            assert_eq!(OsFamily::by_name(family.name()), Some(family));
        }
        assert_eq!(OsFamily::by_name("beos"), None);
    }

    proptest! {
        #[test]
        fn any_options_are_taken(options in prop::collection::vec(any::<u8>(), 0..=40), ttl: u8, window: u16) {
            let syn = SynTraits { ttl, df: Some(true), ip_id: 0, window, options: &options };
            prop_assert_eq!(os_of_syn(&syn), os_of_syn(&syn));
        }
    }
}
