//! What a peer's SYN looked like, for the connection into a container that imitates it.

use crate::wire::TcpOptions;

/// The options that a list can have, three bits each; 0 is the end of the list.
const NOP: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK: u8 = 4;
const TIMESTAMPS: u8 = 5;

/// The TTL of a SYN and the order of its options; their values lie elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynLook {
    /// The first option in the lowest bits. Two words: a `u64` would align a table's entries to eight octets.
    order: [u32; 2],
    /// The TTL with which it came.
    pub ttl: u8,
}

impl SynLook {
    /// The look of a SYN with these options. Those that we do not know are left out.
    pub fn of(options: &[u8], ttl: u8) -> SynLook {
        let (mut order, mut at, mut rest) = (0u64, 0, options);
        while let [kind, tail @ ..] = rest
            && at < 21
        {
            let len = if matches!(kind, 0 | 1) { 1 } else { tail.first().map_or(0, |len| usize::from(*len)) };
            if *kind == 0 || len == 0 || len > rest.len() || (len == 1 && *kind != 1) {
                break;
            }
            let known = match (kind, len) {
                (1, _) => NOP,
                (2, 4) => MSS,
                (3, 3) => SCALE,
                (4, 2) => SACK,
                (8, 10) => TIMESTAMPS,
                _ => 0,
            };
            rest = &rest[len..];
            if known != 0 {
                order |= u64::from(known) << (3 * at);
                at += 1;
            }
        }
        SynLook { order: [order as u32, (order >> 32) as u32], ttl }
    }

    /// The options, with the values of `offered`, as octets and their number. What is
    /// not offered becomes padding in its place.
    pub fn options(&self, offered: &TcpOptions) -> ([u8; 40], usize) {
        let (mut octets, mut at) = ([0; 40], 0);
        // Each is as long as it was in the SYN: together they fit.
        let mut put = |bytes: &[u8]| {
            if let Some(into) = octets.get_mut(at..at + bytes.len()) {
                into.copy_from_slice(bytes);
                at += bytes.len();
            }
        };
        let mut order = u64::from(self.order[0]) | u64::from(self.order[1]) << 32;
        while order != 0 {
            match (order & 7) as u8 {
                MSS => {
                    let [a, b] = offered.mss.unwrap_or(536).to_be_bytes();
                    put(&[2, 4, a, b]);
                }
                SCALE => put(&offered.window_scale.map_or([1; 3], |shift| [3, 3, shift])),
                SACK => put(&if offered.sack_permitted { [4, 2] } else { [1; 2] }),
                TIMESTAMPS => put(&offered.timestamps.map_or([1; 10], timestamps)),
                _ => put(&[1]),
            }
            order >>= 3;
        }
        (octets, at.next_multiple_of(4))
    }
}

/// The option of RFC 7323 §3.2: our clock, and what the peer's showed.
pub fn timestamps((value, echo): (u32, u32)) -> [u8; 10] {
    let mut option = [8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
    option[2..6].copy_from_slice(&value.to_be_bytes());
    option[6..].copy_from_slice(&echo.to_be_bytes());
    option
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_and_values_are_kept() {
        let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];
        let nmap = [3, 3, 10, 1, 2, 4, 1, 9, 8, 10, 255, 255, 255, 255, 0, 0, 0, 0, 4, 2];
        for options in [&linux[..], &nmap] {
            let all = TcpOptions::parse(options);
            let (octets, len) = SynLook::of(options, 64).options(&all);
            assert_eq!(octets[..len], *options);
            let (octets, len) = SynLook::of(options, 64).options(&TcpOptions { timestamps: None, ..all });
            let mut expected = options.to_vec();
            let at = expected.iter().position(|kind| *kind == 8).unwrap();
            expected[at..at + 10].fill(1);
            assert_eq!(octets[..len], expected);
        }
        // A list that ends, one with what nobody knows, one that is cut.
        for (options, expected) in [
            (&[2, 4, 5, 0xb4, 0, 0, 0, 0][..], &[2, 4, 5, 0xb4][..]),
            (&[34, 4, 7, 7, 2, 4, 5, 0xb4], &[2, 4, 5, 0xb4]),
            (&[1, 1, 4, 2, 2, 4, 5], &[1, 1, 4, 2]),
        ] {
            let (octets, len) = SynLook::of(options, 64)
                .options(&TcpOptions { sack_permitted: true, ..TcpOptions::parse(&[2, 4, 5, 0xb4]) });
            assert_eq!(octets[..len], *expected);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_syn_has_gives_a_list(options in prop::collection::vec(any::<u8>(), 0..=40)) {
            let offered = TcpOptions::parse(&options);
            let (octets, len) = SynLook::of(&options, 64).options(&offered);
            prop_assert!(len <= 40 && len % 4 == 0);
            let again = TcpOptions::parse(&octets[..len]);
            prop_assert_eq!((again.mss.is_some(), again.timestamps), (offered.mss.is_some(), offered.timestamps));
        }
    }
}
