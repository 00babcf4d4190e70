//! TCP options in nmap's letters ("Remote OS Detection", TCP options): `L` end of
//! the list, `N` no operation, `M` and the MSS, `W` and the shift of the window
//! scale, `S` SACK permitted, `T` and two digits that tell whether the timestamp
//! and its echo are other than zero. Numbers are hexadecimal, without zeros in
//! front.

use std::fmt::Write;

use super::super::fingerprint::Opt;

/// Octets of a TCP header that options may take.
const MOST: usize = 40;

/// The options that `text` names; `None` if it is no such text or they fit into no header.
pub fn parse(text: &str) -> Option<Vec<Opt>> {
    let mut options = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = rest.get(letter.len_utf8()..)?;
        let option = match letter {
            'L' => Opt::Eol,
            'N' => Opt::Nop,
            'S' => Opt::Sack,
            'M' => Opt::Mss(take_number(&mut rest)?.try_into().ok()?),
            'W' => Opt::Scale(take_number(&mut rest)?.try_into().ok()?),
            'T' => {
                let digits = rest.get(..2)?;
                rest = rest.get(2..)?;
                let bit = |at| match digits.as_bytes().get(at) {
                    Some(b'0') => Some(false),
                    Some(b'1') => Some(true),
                    _ => None,
                };
                Opt::Timestamps { value: bit(0)?, echo: bit(1)? }
            }
            _ => return None,
        };
        options.push(option);
    }
    let octets = octets(&options);
    (octets <= MOST && octets.is_multiple_of(4)).then_some(options)
}

fn take_number(rest: &mut &str) -> Option<u64> {
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    let (number, more) = rest.split_at_checked(digits)?;
    *rest = more;
    super::expr::hex(number)
}

/// `options` in letters.
pub fn write(options: &[Opt]) -> String {
    let mut text = String::new();
    for option in options {
        // Writing to a string does not fail.
        let _ = match option {
            Opt::Eol => write!(text, "L"),
            Opt::Nop => write!(text, "N"),
            Opt::Sack => write!(text, "S"),
            Opt::Mss(mss) => write!(text, "M{mss:X}"),
            Opt::Scale(shift) => write!(text, "W{shift:X}"),
            Opt::Timestamps { value, echo } => write!(text, "T{}{}", u8::from(*value), u8::from(*echo)),
        };
    }
    text
}

/// Octets that they take.
pub fn octets(options: &[Opt]) -> usize {
    options.iter().map(|option| option.len()).sum()
}

/// Whether it is a timestamp.
pub fn is_timestamps(option: &Opt) -> bool {
    matches!(option, Opt::Timestamps { .. })
}

/// `options` without those that `unwanted` names. What is left is filled up to a multiple of four: by taking
/// away the NOPs in front of what is gone if that suffices, else by putting some in its place.
pub fn without(options: &[Opt], unwanted: impl Fn(&Opt) -> bool) -> Vec<Opt> {
    let mut left = options.to_vec();
    while let Some(at) = left.iter().position(&unwanted) {
        left.remove(at);
        let over = octets(&left) % 4;
        let nops = left[..at].iter().rev().take_while(|option| **option == Opt::Nop).count();
        if over <= nops {
            left.drain(at - over..at);
        } else {
            left.splice(at..at, std::iter::repeat_n(Opt::Nop, 4 - over));
        }
    }
    left
}

/// `options` and timestamps that count or stand at zero, if there is room.
pub fn with_timestamps(options: &[Opt], counts: bool) -> Option<Vec<Opt>> {
    let mut more = options.to_vec();
    more.extend([Opt::Nop, Opt::Nop, Opt::Timestamps { value: counts, echo: counts }]);
    (octets(&more) <= MOST).then_some(more)
}
