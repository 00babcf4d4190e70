//! SYN cookies (RFC 4987 §3.6): when the table of half-open connections is full of
//! recent ones, the handshake is remembered in the initial sequence number that
//! the peer has to acknowledge.
//!
//! Twenty-five of its bits are a keyed function of the connection, the peer's
//! initial sequence number, the time and what is remembered in the other seven:
//! MSS and window scale. Timestamps need nothing: they come with every segment.
//! As with Linux, which resorts to cookies at the same moment, nothing but the numbers
//! tells them apart, and those look random either way.

use crate::wire::{Duration, Instant, TcpOptions};

/// How long a cookie is made from one time. It is good for at least as long, and at most for twice as long.
const PERIOD: Duration = Duration::from_secs(64);
/// How long after a cookie was made none of that time is good any more.
pub const LIFETIME: Duration = Duration::from_secs(128);
/// The MSS that can be remembered.
const MSS: [u16; 8] = [64, 536, 1024, 1220, 1300, 1400, 1440, 1460];
/// A window scale that was not offered.
const NONE: u8 = 15;
/// What masks the seven bits: a value that they never have.
const MASK: u64 = 0x80;

fn period(now: Instant) -> u64 {
    now.total_millis() as u64 / PERIOD.total_millis()
}

/// An initial sequence number that remembers what a SYN `offered`. `keyed` is a
/// function of the connection and the peer's initial sequence number that nobody else knows.
pub fn make(offered: &TcpOptions, now: Instant, keyed: impl Fn(u64) -> u64) -> u32 {
    let mss = offered.mss.unwrap_or(536);
    let index = MSS.iter().rposition(|known| *known <= mss).unwrap_or(0) as u8;
    let data = index << 4 | offered.window_scale.unwrap_or(NONE).min(NONE);
    encode(data, period(now), keyed)
}

fn encode(data: u8, period: u64, keyed: impl Fn(u64) -> u64) -> u32 {
    let mask = keyed(period << 8 | MASK) as u8 & 0x7f;
    let sum = (keyed(period << 8 | u64::from(data)) >> 39) as u32;
    sum << 7 | u32::from(data ^ mask)
}

/// What the SYN offered whose answer had the initial sequence number `isn`, if we have made that not long ago.
pub fn read(isn: u32, now: Instant, keyed: impl Fn(u64) -> u64) -> Option<TcpOptions> {
    let present = period(now);
    [present, present.wrapping_sub(1)].into_iter().find_map(|period| {
        let mask = keyed(period << 8 | MASK) as u8 & 0x7f;
        let data = isn as u8 & 0x7f ^ mask;
        if encode(data, period, &keyed) != isn {
            return None;
        }
        let mss = MSS.get(usize::from(data >> 4)).copied();
        let scale = data & 15;
        Some(TcpOptions { mss, window_scale: (scale != NONE).then_some(scale), ..TcpOptions::default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some function that depends on a key.
    fn keyed(key: u64) -> impl Fn(u64) -> u64 {
        move |value| {
            let mixed = (value ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        }
    }

    #[test]
    fn a_cookie_remembers_for_two_minutes_at_most() {
        let start = Instant::from_secs(100_000);
        for (mss, scale, kept) in [(Some(1460), Some(7), 1460), (None, None, 536), (Some(9000), Some(14), 1460)] {
            let offered = TcpOptions { mss, window_scale: scale, ..TcpOptions::default() };
            let isn = make(&offered, start, keyed(5));
            for later in [0, 60] {
                let found = read(isn, start + Duration::from_secs(later), keyed(5)).unwrap();
                assert_eq!((found.mss, found.window_scale), (Some(kept), scale));
            }
            assert_eq!(read(isn, start + LIFETIME, keyed(5)), None);
            assert_eq!(read(isn, start, keyed(6)), None, "another connection");
        }
    }

    #[test]
    fn guesses_are_right_as_seldom_as_promised() {
        let now = Instant::from_secs(1000);
        let right = (0..4_000_000u32).filter(|guess| read(guess.wrapping_mul(2_654_435_761), now, keyed(9)).is_some());
        assert!(right.count() < 4);
    }
}
