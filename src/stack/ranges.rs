//! Ranges of sequence numbers: what came too early, or what a peer has of ours out of order (RFC 2018).

use super::tcb::after;

/// Most ranges of one connection and direction. What would be one more is not known of: it is sent again, at worst.
const MOST: usize = 32;

/// Ranges `[first, behind the last)` that neither overlap nor touch, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges {
    all: [[u32; 2]; MOST],
    len: usize,
}

impl Ranges {
    pub(super) const EMPTY: Ranges = Ranges { all: [[0; 2]; MOST], len: 0 };

    #[inline]
    pub(super) fn get(&self) -> &[[u32; 2]] {
        self.all.get(..self.len).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a range, which is not empty, and joins what lies together then.
    pub(super) fn add(&mut self, [mut from, mut to]: [u32; 2]) {
        let (mut others, mut n, mut at) = ([[0; 2]; MOST], 0, 0);
        for &[first, end] in self.get() {
            if !after(first, to) && !after(from, end) {
                from = if after(from, first) { first } else { from };
                to = if after(end, to) { end } else { to };
                continue;
            }
            if let Some(other) = others.get_mut(n) {
                *other = [first, end];
                n += 1;
            }
            at = if after(from, first) { n } else { at };
        }
        if n == MOST {
            return;
        }
        others.copy_within(at..n, at + 1);
        others[at] = [from, to];
        (self.all, self.len) = (others, n + 1);
    }

    /// Forgets what lies before `from`.
    pub(super) fn trim(&mut self, from: u32) {
        let (mut all, mut len) = ([[0; 2]; MOST], 0);
        if self.get().first().is_none_or(|[first, _]| !after(from, *first)) {
            return;
        }
        for &[first, end] in self.get().iter().filter(|[_, end]| after(*end, from)) {
            all[len] = [if after(from, first) { from } else { first }, end];
            len += 1;
        }
        (self.all, self.len) = (all, len);
    }

    /// Whether all of `from..to` is in it.
    pub(super) fn contains(&self, from: u32, to: u32) -> bool {
        self.get().iter().any(|&[first, end]| !after(first, from) && !after(to, end))
    }

    /// The first of them as a SACK option names them (RFC 2018 §4): that with `latest` in it, then those
    /// that lie furthest ahead, which are the youngest. Returns how many of `into` were filled.
    pub(super) fn blocks(&self, latest: u32, into: &mut [[u32; 2]; 4]) -> usize {
        let has = |[first, end]: &[u32; 2]| !after(*first, latest) && after(*end, latest);
        let others = self.get().iter().rev().filter(|range| !has(range));
        let chosen = self.get().iter().filter(|range| has(range)).chain(others);
        into.iter_mut().zip(chosen).map(|(block, range)| *block = *range).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_join_where_they_touch() {
        let mut ranges = Ranges::EMPTY;
        // Around the end of the numbers.
        let of = |from: i32, to: i32| [0u32.wrapping_add_signed(from), 0u32.wrapping_add_signed(to)];
        for (from, to) in [(-100, -90), (10, 20), (-50, -40)] {
            ranges.add(of(from, to));
        }
        assert_eq!(ranges.get(), [of(-100, -90), of(-50, -40), of(10, 20)]);
        ranges.add(of(-40, 10));
        assert_eq!(ranges.get(), [of(-100, -90), of(-50, 20)]);
        let mut blocks = [[0; 2]; 4];
        assert_eq!(ranges.blocks(of(-95, 0)[0], &mut blocks), 2);
        assert_eq!(blocks[..2], [of(-100, -90), of(-50, 20)]);
        assert_eq!((ranges.blocks(77, &mut blocks), blocks[0]), (2, of(-50, 20)));
        ranges.trim(of(-45, 0)[0]);
        assert_eq!(ranges.get(), [of(-45, 20)]);
        assert!(ranges.contains(of(-45, 0)[0], 20) && !ranges.contains(0, 21));
    }

    proptest! {
        #[test]
        fn they_are_the_set_that_was_added(base: u32, added in prop::collection::vec((0u32..400, 1u32..30), 0..MOST), cut in 0u32..400) {
            let (mut ranges, mut set) = (Ranges::EMPTY, [false; 430]);
            for (from, len) in added {
                ranges.add([base.wrapping_add(from), base.wrapping_add(from + len)]);
                set[from as usize..(from + len) as usize].fill(true);
            }
            ranges.trim(base.wrapping_add(cut));
            set[..cut as usize].fill(false);
            for (at, is_in) in set.iter().enumerate().skip(cut as usize) {
                let seq = base.wrapping_add(at as u32);
                prop_assert_eq!(ranges.contains(seq, seq.wrapping_add(1)), *is_in);
            }
            prop_assert!(ranges.get().windows(2).all(|pair| after(pair[1][0], pair[0][1])));
        }
    }
}
