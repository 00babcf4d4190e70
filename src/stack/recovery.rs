//! What a sender does about losses before its timer says so: three acknowledgments of
//! the same number, or selective ones, show what is missing, and only that is
//! sent again (RFC 5681 §3.2, RFC 6675; without SACK RFC 6582).
//!
//! There is no congestion window: what a peer's window and the buffer of a
//! connection hold is all that is ever under way.

use super::ranges::Ranges;
use super::tcb::after;

/// Acknowledgments of the same number, or ranges beyond it, that tell of a loss (RFC 6675's DupThresh).
const DUPLICATES: u32 = 3;

/// What is known of our data that is under way.
pub(super) struct Recovery {
    /// What the peer has of it out of order.
    sacked: Ranges,
    /// What lies before was acknowledged, and how often that was repeated.
    una: u32,
    duplicates: u32,
    /// While losses are made good: what had been sent when they were noticed.
    until: Option<u32>,
    /// Behind what was sent again meanwhile.
    again: u32,
}

impl Recovery {
    pub(super) const IDLE: Recovery = Recovery { sacked: Ranges::EMPTY, una: 0, duplicates: 0, until: None, again: 0 };

    /// Whether losses are being made good.
    pub(super) fn is_under_way(&self) -> bool {
        self.until.is_some()
    }

    /// Takes note of an acknowledgment of what lies before `ack`, which repeats the one before (`duplicate`) or not.
    /// `blocks` are its SACK blocks, `nxt` lies behind everything that was sent.
    pub(super) fn on_ack(&mut self, ack: u32, duplicate: bool, blocks: &[[u32; 2]], nxt: u32, mss: u32) {
        self.sacked.trim(ack);
        if self.una != ack {
            (self.una, self.duplicates) = (ack, 0);
        }
        // Data that comes with the same number says nothing, and takes nothing back.
        self.duplicates = self.duplicates.saturating_add(duplicate.into());
        // What lies before was received twice (RFC 2883); what was never sent is nonsense.
        for &[from, to] in blocks {
            // By distance: of two numbers that lie half of all apart, neither is after the other.
            let (begin, end) = (from.wrapping_sub(ack), to.wrapping_sub(ack));
            if begin < end && end <= nxt.wrapping_sub(ack) {
                self.sacked.add([from, to]);
            }
        }
        if self.until.is_some_and(|until| !after(until, ack)) {
            self.until = None;
        }
        match self.until {
            Some(_) if after(ack, self.again) => self.again = ack,
            None if after(nxt, ack) && (self.duplicates >= DUPLICATES || self.is_lost(ack, mss)) => {
                (self.until, self.again) = (Some(nxt), ack);
            }
            _ => {}
        }
    }

    /// Whether enough beyond `from` has arrived that it cannot just be late (RFC 6675 §4, IsLost).
    fn is_lost(&self, from: u32, mss: u32) -> bool {
        let beyond = self.sacked.get().iter().filter(|[first, _]| after(*first, from));
        let (ranges, octets) =
            beyond.fold((0, 0), |(ranges, octets), [first, end]| (ranges + 1, octets + end.wrapping_sub(*first)));
        ranges >= DUPLICATES || octets > (DUPLICATES - 1) * mss
    }

    /// What is to be sent again next, in one segment, if something is: it is taken for sent. `una` is the oldest octet
    /// that is not acknowledged, `end` lies behind the data that was sent.
    pub(super) fn next(&mut self, una: u32, end: u32, mss: u32) -> Option<[u32; 2]> {
        self.until?;
        let mut from = if after(una, self.again) { una } else { self.again };
        for &[first, behind] in self.sacked.get() {
            from = if !after(first, from) && after(behind, from) { behind } else { from };
        }
        let beyond = self.sacked.get().iter().find(|[first, _]| after(*first, from));
        let most = match beyond {
            Some([first, _]) if from == una || self.is_lost(from, mss) => *first,
            None if from == una && self.sacked.get().is_empty() => end,
            _ => return None,
        };
        let most = if after(most, end) { end } else { most };
        let len = most.wrapping_sub(from).min(mss);
        if !after(most, from) || len == 0 {
            return None;
        }
        self.again = from.wrapping_add(len);
        Some([from, self.again])
    }

    /// The timer has run out, and everything from `una` to `nxt` is sent again but for what the peer has. If it says
    /// that it has the first of it, it has thrown that away (RFC 2018 §8), and all else may be gone as well.
    pub(super) fn on_timeout(&mut self, una: u32, nxt: u32) {
        if self.sacked.get().first().is_some_and(|[first, _]| !after(*first, una)) {
            self.sacked.clear();
        }
        (self.duplicates, self.until, self.again) = (0, Some(nxt), nxt);
    }

    /// Whether the peer has all of a segment.
    pub(super) fn has(&self, from: u32, to: u32) -> bool {
        from != to && self.sacked.contains(from, to)
    }
}

/// The blocks of a SACK option among `options` (RFC 2018 §3); how many of `into` were filled.
pub(super) fn sack_blocks(mut options: &[u8], into: &mut [[u32; 2]; 4]) -> usize {
    while let [kind, rest @ ..] = options {
        match (kind, rest.first().map(|len| usize::from(*len))) {
            (0, _) => break,
            (1, _) => options = rest,
            (5, Some(len)) if (10..=options.len()).contains(&len) => {
                let word = |bytes: &[u8]| bytes.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
                let blocks = options[2..len].chunks_exact(8);
                return into.iter_mut().zip(blocks).map(|(to, b)| *to = [word(&b[..4]), word(&b[4..])]).count();
            }
            (_, Some(len)) if (2..=options.len()).contains(&len) => options = &options[len..],
            _ => break,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(recovery: &mut Recovery, una: u32, end: u32) -> Vec<[u32; 2]> {
        std::iter::from_fn(|| recovery.next(una, end, 1000)).collect()
    }

    #[test]
    fn only_holes_are_sent_again_and_each_once() {
        let mut recovery = Recovery::IDLE;
        // 0 to 20,000 were sent; those from 1,000 and 4,000 were lost.
        recovery.on_ack(1000, false, &[], 20_000, 1000);
        recovery.on_ack(1000, true, &[[2000, 3000]], 20_000, 1000);
        recovery.on_ack(1000, true, &[[2000, 4000]], 20_000, 1000);
        assert_eq!(all(&mut recovery, 1000, 20_000), [] as [[u32; 2]; 0]);
        recovery.on_ack(1000, true, &[[5000, 6000], [2000, 4000]], 20_000, 1000);
        assert!(recovery.is_under_way());
        assert_eq!(all(&mut recovery, 1000, 20_000), [[1000, 2000]]);
        // That from 4,000 might be late, until three more lie behind it.
        recovery.on_ack(1000, true, &[[5000, 7000], [2000, 4000]], 20_000, 1000);
        assert_eq!(all(&mut recovery, 1000, 20_000), [] as [[u32; 2]; 0]);
        recovery.on_ack(1000, true, &[[5000, 8000]], 20_000, 1000);
        assert_eq!(all(&mut recovery, 1000, 20_000), [[4000, 5000]]);
        recovery.on_ack(4000, false, &[[5000, 9000]], 20_000, 1000);
        assert_eq!(all(&mut recovery, 4000, 20_000), [] as [[u32; 2]; 0], "it is on its way");
        recovery.on_ack(20_000, false, &[], 20_000, 1000);
        assert!(!recovery.is_under_way());
    }

    #[test]
    fn without_sack_the_first_is_sent_again_after_three_duplicates() {
        let mut recovery = Recovery::IDLE;
        for _ in 0..2 {
            recovery.on_ack(1000, true, &[], 9500, 1000);
            assert_eq!(recovery.next(1000, 9500, 1000), None);
        }
        recovery.on_ack(1000, true, &[], 9500, 1000);
        assert_eq!(all(&mut recovery, 1000, 9500), [[1000, 2000]]);
        recovery.on_ack(1000, true, &[], 9500, 1000);
        assert_eq!(all(&mut recovery, 1000, 9500), [] as [[u32; 2]; 0]);
        // An acknowledgment of a part shows the next loss (RFC 6582).
        recovery.on_ack(9000, false, &[], 9500, 1000);
        assert_eq!(all(&mut recovery, 9000, 9500), [[9000, 9500]]);
    }

    #[test]
    fn whoever_throws_away_what_it_had_gets_everything() {
        let mut recovery = Recovery::IDLE;
        recovery.on_ack(1000, true, &[[2000, 5000], [1, 2], [0xffff_0000, 3], [8000, 90_000]], 9000, 1000);
        recovery.on_timeout(1000, 9000);
        assert!(recovery.has(2000, 5000) && !recovery.has(1000, 2000) && !recovery.has(8000, 8500));
        recovery.on_ack(2000, false, &[], 9000, 1000);
        recovery.on_timeout(2000, 9000);
        assert!(!recovery.has(2000, 3000));
    }

    #[test]
    fn blocks_are_found_among_options() {
        let mut blocks = [[0; 2]; 4];
        let options =
            [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 5, 18, 0, 0, 1, 0, 0, 0, 2, 0, 9, 9, 9, 9, 9, 9, 9, 10];
        assert_eq!(
            (sack_blocks(&options, &mut blocks), blocks[0], blocks[1]),
            (2, [256, 512], [0x0909_0909, 0x0909_090a])
        );
        for absurd in [&[5][..], &[5, 2], &[5, 10, 1], &[9, 0, 5, 10], &[0, 5, 10, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(sack_blocks(absurd, &mut blocks), 0);
        }
    }

    #[test]
    fn blocks_of_half_of_all_numbers_are_nonsense() {
        let mut recovery = Recovery::IDLE;
        for ack in [1000u32, 0xffff_fc00] {
            let far = |from: u32, to: u32| [ack.wrapping_add(from), ack.wrapping_add(to)];
            let blocks = [far(0x7fff_ffff, 0xf000_0000), far(0x4000_0000, 0xb000_0000), far(0x5000_0000, 0xc800_0000)];
            for duplicate in [false, true] {
                recovery.on_ack(ack, duplicate, &blocks, ack.wrapping_add(20_000), 1000);
            }
            assert!(!recovery.is_under_way());
            recovery.on_ack(ack, true, &[far(1000, 20_000)], ack.wrapping_add(20_000), 1000);
            assert!(recovery.is_under_way(), "what was sent counts, across the end of all numbers");
            recovery = Recovery::IDLE;
        }
    }
}
