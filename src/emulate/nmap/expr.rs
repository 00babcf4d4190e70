//! Expressions: what a reference fingerprint says about a value.
//!
//! Alternatives are separated by `|`; `x-y` is an inclusive range, `<x` and `>x`
//! are open ones, all hexadecimal. Two matchers are kept, as nmap 7.93 differs
//! from what its documentation says and from what later versions do:
//!
//! * in 7.93, an alternative that is not the last one matches every value that
//!   begins with it, and where a range follows, a plain alternative before it
//!   never matches a hexadecimal value ([`accepts_prefix`]);
//! * by the documentation, an alternative is equal to the value or is not
//!   ([`accepts_whole`]).
//!
//! What a host shows must pass both ([`accepts`]), so that the version of the
//! scanner does not matter.

/// A range among the alternatives.
#[derive(Clone, Copy)]
enum Range {
    Between(u64, u64),
    Below(u64),
    Above(u64),
}

impl Range {
    fn of(alternative: &str) -> Option<Range> {
        if let Some(x) = alternative.strip_prefix('<') {
            Some(Range::Below(hex(x)?))
        } else if let Some(x) = alternative.strip_prefix('>') {
            Some(Range::Above(hex(x)?))
        } else {
            let (low, high) = alternative.split_once('-')?;
            Some(Range::Between(hex(low)?, hex(high)?))
        }
    }

    fn contains(self, number: u64) -> bool {
        match self {
            Range::Between(low, high) => (low..=high).contains(&number),
            Range::Below(x) => number < x,
            Range::Above(x) => number > x,
        }
    }

    /// Some numbers in it, the one in the middle first.
    fn numbers(self) -> Vec<u64> {
        const MOST: u64 = 24;
        let (low, high) = match self {
            Range::Between(low, high) => (low, high),
            Range::Below(x) => (0, x.saturating_sub(1)),
            Range::Above(x) => (x.saturating_add(1), x.saturating_add(0x100)),
        };
        let Some(width) = high.checked_sub(low) else { return Vec::new() };
        let center = low + width / 2;
        let step = (width / MOST).max(1);
        let mut all = vec![center];
        for i in 1..=MOST {
            let Some(off) = step.checked_mul(i).filter(|off| *off <= width) else { break };
            all.extend(center.checked_add(off).filter(|n| *n <= high));
            all.extend(center.checked_sub(off).filter(|n| *n >= low));
        }
        if step > 1 {
            all.extend([low, high]);
        }
        all
    }
}

/// The number that `text` is if it is nothing but hexadecimal digits.
pub fn hex(text: &str) -> Option<u64> {
    let ok = !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    ok.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// What is wrong with an expression, if anything is.
pub fn check(expression: &str) -> Result<(), &'static str> {
    for alternative in expression.split('|') {
        let ranged = alternative.starts_with(['<', '>']) || alternative.contains('-');
        match Range::of(alternative) {
            Some(Range::Between(low, high)) if low > high => return Err("a range that ends before it begins"),
            None if ranged => return Err("a range whose ends are not hexadecimal numbers"),
            _ => {}
        }
    }
    Ok(())
}

/// Whether nmap 7.93 takes `value` for what `expression` describes.
pub fn accepts_prefix(expression: &str, value: &str) -> bool {
    let number = hex(value);
    let mut rest = Some(expression);
    while let Some(from_here) = rest {
        let (alternative, more) = match from_here.split_once('|') {
            Some((alternative, more)) => (alternative, Some(more)),
            None => (from_here, None),
        };
        rest = more;
        let matches = match (number, Range::of(alternative)) {
            (Some(number), Some(range)) => range.contains(number),
            (Some(_), None) if more.is_some_and(|m| m.contains('-')) => false,
            _ if more.is_some() => value.starts_with(alternative),
            _ => value == alternative,
        };
        if matches {
            return true;
        }
    }
    false
}

/// Whether `value` is in one of the ranges or is one of the alternatives.
pub fn accepts_whole(expression: &str, value: &str) -> bool {
    let number = hex(value);
    expression.split('|').any(|alternative| match (number, Range::of(alternative)) {
        (Some(number), Some(range)) => range.contains(number),
        _ => value == alternative,
    })
}

/// Whether both matchers accept it.
pub fn accepts(expression: &str, value: &str) -> bool {
    if is_plain(expression) {
        return expression == value;
    }
    accepts_prefix(expression, value) && accepts_whole(expression, value)
}

/// Whether one of them does: what a rival must not.
pub fn accepts_either(expression: &str, value: &str) -> bool {
    if is_plain(expression) {
        return expression == value;
    }
    accepts_prefix(expression, value) || accepts_whole(expression, value)
}

fn is_plain(expression: &str) -> bool {
    !expression.bytes().any(|b| matches!(b, b'|' | b'-' | b'<' | b'>'))
}

/// Values that `expression` accepts: of each alternative the one that fits best, the middle of a range, then
/// more of what is in the ranges.
pub fn candidates(expression: &str) -> Vec<String> {
    if is_plain(expression) {
        return vec![expression.to_owned()];
    }
    let mut first = Vec::new();
    let mut more = Vec::new();
    for alternative in expression.split('|') {
        match Range::of(alternative) {
            Some(range) => {
                let mut numbers = range.numbers().into_iter().map(|n| format!("{n:X}"));
                first.extend(numbers.next());
                more.extend(numbers);
            }
            None => first.push(alternative.to_owned()),
        }
    }
    first.append(&mut more);
    let mut seen = std::collections::HashSet::new();
    first.retain(|value| accepts(expression, value) && seen.insert(value.clone()));
    first
}

/// The same, as numbers.
pub fn numbers(expression: &str) -> Vec<u64> {
    candidates(expression).iter().filter_map(|value| hex(value)).collect()
}
