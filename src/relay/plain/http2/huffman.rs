//! The code of RFC 7541, appendix B, by which strings are made shorter.
//!
//! It is canonical: of two signs the shorter code is the smaller one, and of codes of one length that of the smaller sign. So
//! lengths say all of it.

/// Octets, and the end, which stands in no string.
const SIGNS: usize = 257;
/// Bits of the longest.
const MOST: usize = 30;

/// Bits of each sign's code.
#[rustfmt::skip]
const LENGTHS: [u8; SIGNS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The signs by their codes, and of each length the first code, where its sign stands, and how many there are.
struct Code {
    signs: [u16; SIGNS],
    of_length: [(u32, usize, u32); MOST + 1],
}

const CODE: Code = {
    let mut code = Code { signs: [0; SIGNS], of_length: [(0, 0, 0); MOST + 1] };
    let (mut length, mut next, mut at) = (1, 0, 0);
    while length <= MOST {
        next <<= 1;
        code.of_length[length] = (next, at, 0);
        let mut sign = 0;
        while sign < SIGNS {
            if LENGTHS[sign] as usize == length {
                code.signs[at] = sign as u16;
                code.of_length[length].2 += 1;
                next += 1;
                at += 1;
            }
            sign += 1;
        }
        length += 1;
    }
    code
};

/// The string that `coded` stands for; none if it stands for nothing.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    static TABLE: Code = CODE;
    let mut plain = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut code, mut length) = (0u32, 0usize);
    for octet in coded {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(octet >> bit & 1);
            length += 1;
            let (first, at, count) = TABLE.of_length.get(length)?;
            if let Some(nth) = code.checked_sub(*first).filter(|nth| nth < count) {
                plain.push(u8::try_from(*TABLE.signs.get(at + nth as usize)?).ok()?);
                (code, length) = (0, 0);
            }
        }
    }
    // What is left of the last octet is filled with ones (RFC 7541 §5.2).
    (length < 8 && code == (1 << length) - 1).then_some(plain)
}

/// The code of an octet.
#[cfg(test)]
pub(super) fn bits(octet: u8) -> Vec<bool> {
    let length = usize::from(LENGTHS[usize::from(octet)]);
    let (first, at, count) = CODE.of_length[length];
    let nth = (0..count).find(|nth| CODE.signs[at + *nth as usize] == u16::from(octet)).unwrap();
    (0..length).rev().map(|bit| (first + nth) >> bit & 1 == 1).collect()
}
