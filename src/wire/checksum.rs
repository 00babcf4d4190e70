//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::IpAddr;

/// The 16-bit one's complement sum of `bytes`, not folded, added to `sum`.
#[inline]
pub fn sum(mut sum: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        // Two 32-bit halves keep the sum far from overflow for any frame length.
        let word = u64::from_be_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
        sum += (word >> 32) + (word & 0xffff_ffff);
    }
    let rest = words.remainder();
    let mut pairs = rest.chunks_exact(2);
    for pair in &mut pairs {
        sum += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum += u64::from(*last) << 8;
    }
    sum
}

/// Folds a sum into the 16 bits that a header carries (its complement).
#[inline]
pub fn finish(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}

/// The checksum of `bytes`.
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    finish(sum(0, bytes))
}

/// The sum of the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1) of a segment of `len` octets.
#[inline]
pub fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> u64 {
    let addresses = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => u64::from(u32::from(src)) + u64::from(u32::from(dst)),
        (src, dst) => {
            let wide = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            sum(sum(0, &wide(src)), &wide(dst))
        }
    };
    addresses + u64::from(proto) + len as u64
}

/// The checksum `old` after a 16-bit word changed `from` one value `to` another (RFC 1624 §3, eqn. 3).
#[inline]
pub fn update(old: u16, from: u16, to: u16) -> u16 {
    let sum = u32::from(!old) + u32::from(!from) + u32::from(to);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut plain: u32 = 0;
            for pair in bytes.chunks(2) {
                plain += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            }
            while plain > 0xffff {
                plain = (plain >> 16) + (plain & 0xffff);
            }
            prop_assert_eq!(of(&bytes), !(plain as u16));
        }

        #[test]
        fn an_update_equals_a_new_sum(mut bytes in prop::collection::vec(any::<u8>(), 20..21), at in 0usize..10, to: u16) {
            let old = of(&bytes);
            let from = u16::from_be_bytes([bytes[at * 2], bytes[at * 2 + 1]]);
            bytes[at * 2..at * 2 + 2].copy_from_slice(&to.to_be_bytes());
            let (updated, new) = (update(old, from, to), of(&bytes));
            // 0x0000 and 0xffff are the two spellings of zero.
            prop_assert!(updated == new || (updated == 0 && new == 0xffff) || (updated == 0xffff && new == 0));
        }
    }
}
