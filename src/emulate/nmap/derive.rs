//! How a system speaks to everybody else, as far as the answers to nmap's probes
//! tell: SYN/ACKs to normal clients, TTLs, identification, and what is known of
//! families of systems.

use std::borrow::Cow;

use super::options::{is_timestamps, without};
use crate::emulate::fingerprint::{EchoCode, EchoDf, Fingerprint, IdPattern, Opt};
use crate::emulate::{IpIdClass, Personality, SynAckOptions};

/// The personality called `name`.
pub fn personality(name: Cow<'static, str>, fingerprint: Fingerprint, is_linux: bool) -> Personality {
    let list = |at: usize| fingerprint.syn.as_ref().map(|syns| syns[at].options.clone());
    let full = list(0).unwrap_or_else(|| vec![Opt::Mss(1460)]);
    let ecn = fingerprint.ecn.as_ref().map(|ecn| ecn.options.clone()).filter(|list| !list.is_empty());
    let no_timestamps = ecn.unwrap_or_else(|| without(&full, is_timestamps));
    let find = |wanted: fn(&Opt) -> Option<u64>| [&full, &no_timestamps].into_iter().flatten().find_map(wanted);
    let mss = find(|option| if let Opt::Mss(mss) = option { Some(u64::from(*mss)) } else { None });
    let scale = find(|option| if let Opt::Scale(shift) = option { Some(u64::from(*shift)) } else { None });
    let window = fingerprint.ecn.as_ref().map(|ecn| ecn.window).filter(|window| *window > 0);
    let window = window.or_else(|| fingerprint.syn.as_ref().map(|syns| syns[0].window)).unwrap_or(8192);
    let t1 = fingerprint.t1.as_ref();
    let ttl = t1.or(fingerprint.closed[0].as_ref()).map_or(64, |answer| answer.ttl);
    let df = t1.is_none_or(|t1| t1.df);
    let id = |pattern| match pattern {
        IdPattern::Zero => IpIdClass::Zero,
        IdPattern::Step(1 | 256) => IpIdClass::Shared,
        _ => IpIdClass::Random,
    };
    let old_cisco = name.contains("IOS");
    Personality {
        is_linux,
        ttl,
        icmp_ttl: fingerprint.echo.map_or(ttl, |echo| echo.ttl),
        // What a guest on Ethernet cannot have is not offered; 20 octets are taken off for IPv6.
        mss: mss.unwrap_or(1460).clamp(64, 1460) as u16,
        syn_ack_window: window,
        window_scale: scale.unwrap_or(0).min(14) as u8,
        syn_ack_options: SynAckOptions {
            no_scale: list(5).unwrap_or_else(|| without(&full, |option| matches!(option, Opt::Scale(_)))).into(),
            no_sack: list(2).unwrap_or_else(|| without(&full, |option| *option == Opt::Sack)).into(),
            no_timestamps: no_timestamps.clone().into(),
            full: full.clone().into(),
        },
        ts_hz: if full.iter().any(is_timestamps) { fingerprint.seq.ts_hz.min(1 << 22) as u32 } else { 0 },
        ts_per_peer: is_linux && fingerprint.seq.ts_hz == 1000,
        ip_id: id(fingerprint.seq.ci),
        syn_ack_ip_id: id(fingerprint.seq.ti),
        tcp_df: df,
        rst_df: fingerprint.closed[0].as_ref().map_or(df, |rst| rst.df),
        echo_df: match fingerprint.echo.map(|echo| echo.df) {
            Some(EchoDf::Set) => Some(true),
            Some(EchoDf::Same | EchoDf::Inverse) => None,
            Some(EchoDf::Clear) | None => Some(false),
        },
        echo_code_zero: !matches!(fingerprint.echo.map(|echo| echo.code), Some(EchoCode::Same)),
        icmp_quote: fingerprint.udp.map_or(8, |udp| udp.total.saturating_sub(48)).clamp(8, 528),
        // RFC 1812 §4.3.2.5: internetwork control.
        icmp_error_tos: if is_linux || old_cisco { 0xc0 } else { 0 },
        syn_ack_retries_ms: retries(&name, is_linux).into(),
        name,
        fingerprint: Some(Box::new(fingerprint)),
    }
}

/// After how many milliseconds SYN/ACKs are sent again (the measurements of Hershel's authors, by family).
fn retries(name: &str, is_linux: bool) -> &'static [u32] {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let is_old = has(&["Linux 2.", "Linux 3.0"]);
    match () {
        () if has(&["Linux 2.0", "Linux 2.1", "Linux 2.2"]) => &[3000, 6000, 12_000, 24_000, 48_000, 96_000],
        () if is_linux && is_old => &[3000, 6000, 12_000, 24_000, 48_000],
        () if is_linux => &[1000, 2000, 4000, 8000, 16_000],
        () if has(&["Windows 2000", "Windows XP", "Server 2003"]) => &[3000, 6600],
        () if has(&["Windows"]) => &[3000, 6000],
        () if has(&["FreeBSD"]) => &[3000, 6000, 12_000],
        () if has(&["NetBSD", "OpenBSD"]) => &[3000, 6000, 12_000, 24_000],
        () if has(&["Mac OS X 10.5", "Mac OS X 10.6", "iOS", "Darwin 9", "Darwin 10"]) && !has(&["Cisco", "IOS 1"]) => {
            &[1000, 2000, 4000, 8000, 16_000, 32_000]
        }
        () if has(&["Mac OS X", "AIX"]) => &[3000, 6000, 12_000, 24_000, 30_000],
        () if has(&["Solaris", "SunOS"]) => &[3400, 6750, 13_500, 27_000, 54_000, 60_000],
        () if has(&["IRIX"]) => &[6000, 22_500, 45_000],
        () if has(&["VxWorks", "Tru64", "OS/2", "HP LaserJet", "JetDirect"]) => &[6000, 24_000, 45_000],
        () if has(&["IOS 11", "IOS 10"]) => &[3000, 6000, 8000, 8000],
        () if has(&["Cisco"]) => &[2000, 4000, 8000],
        () => &[3000, 6000, 12_000],
    }
}
