//! What was sent and what came back.

use hdrhistogram::Histogram;

/// Marks the time of a probe that was answered; clocks do not reach it.
const ANSWERED: u64 = 1 << 63;
/// The longest latency that is told from longer ones: a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Latencies in nanoseconds.
pub type Latencies = Histogram<u64>;

/// An empty histogram of latencies with three significant digits.
pub fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|_| unreachable!("the bounds are constants"))
}

/// What an answer was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The first to its probe.
    First,
    /// Another one.
    Again,
    /// To no probe that is still waited for.
    Unexpected,
}

/// What was sent and what came back. Times are in nanoseconds.
pub struct Tally {
    /// When the last probes left, by number, and whether they were answered.
    ring: Box<[u64]>,
    /// The next probe's number.
    pub next: u64,
    /// Probes that the interface took.
    pub sent: u64,
    /// Probes that it did not take.
    pub unsent: u64,
    /// Probes that were answered.
    pub answered: u64,
    /// Further answers to probes that were answered already.
    pub duplicates: u64,
    /// Answers to nothing that is waited for.
    pub unexpected: u64,
    /// ICMP errors that came back.
    pub icmp_errors: u64,
    /// Who has answered, by position.
    seen: Box<[u64]>,
    /// How many of them.
    pub responders: u64,
    /// From the probe to the first answer.
    pub latency: Latencies,
    /// When the last first answer came.
    pub last_answer: u64,
}

impl Tally {
    /// For `targets` positions and at least `outstanding` probes that are waited for at once.
    pub fn new(targets: u64, outstanding: u64) -> Tally {
        let ring = outstanding.next_power_of_two() as usize;
        Tally {
            ring: vec![ANSWERED; ring].into(),
            next: 0,
            sent: 0,
            unsent: 0,
            answered: 0,
            duplicates: 0,
            unexpected: 0,
            icmp_errors: 0,
            seen: vec![0; targets.div_ceil(64) as usize].into(),
            responders: 0,
            latency: latencies(),
            last_answer: 0,
        }
    }

    /// Probes that can be waited for at once.
    pub fn capacity(&self) -> u64 {
        self.ring.len() as u64
    }

    /// Where a probe stands in rings of that size.
    #[inline]
    pub fn slot(&self, n: u64) -> usize {
        n as usize & (self.ring.len() - 1)
    }

    /// All probes from number `first` on leave now.
    #[inline]
    pub fn stamp(&mut self, first: u64, now: u64) {
        for n in first..self.next {
            let slot = self.slot(n);
            self.ring[slot] = now;
        }
    }

    /// Whether probe `n` was sent and is still remembered.
    #[inline]
    pub fn knows(&self, n: u64) -> bool {
        n < self.next && self.next - n <= self.ring.len() as u64
    }

    /// When probe `n`, which is known, has left.
    #[inline]
    pub fn sent_at(&self, n: u64) -> u64 {
        self.ring[self.slot(n)] & !ANSWERED
    }

    /// An answer to probe `n` by the target at `position`.
    #[inline]
    pub fn answer(&mut self, n: u64, position: u64, now: u64) -> Answer {
        if !self.knows(n) {
            self.unexpected += 1;
            return Answer::Unexpected;
        }
        let slot = self.slot(n);
        let sent_at = self.ring[slot];
        if sent_at & ANSWERED != 0 {
            self.duplicates += 1;
            return Answer::Again;
        }
        self.ring[slot] = sent_at | ANSWERED;
        self.answered += 1;
        self.last_answer = now;
        self.latency.saturating_record(now.saturating_sub(sent_at).max(1));
        if let Some(word) = self.seen.get_mut((position / 64) as usize) {
            let bit = 1 << (position % 64);
            self.responders += u64::from(*word & bit == 0);
            *word |= bit;
        }
        Answer::First
    }

    /// Probes that were sent and not answered.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tally that has sent `n` probes, one a nanosecond.
    fn sent(n: u64, outstanding: u64) -> Tally {
        let mut tally = Tally::new(100, outstanding);
        for at in 0..n {
            tally.next += 1;
            tally.sent += 1;
            tally.stamp(at, 1000 + at);
        }
        tally
    }

    #[test]
    fn answers_are_counted_once() {
        let mut tally = sent(10, 16);
        assert_eq!(tally.answer(3, 99, 2003), Answer::First);
        assert_eq!(tally.answer(3, 99, 2004), Answer::Again);
        assert_eq!(tally.answer(4, 99, 3004), Answer::First);
        assert_eq!(tally.answer(10, 1, 2005), Answer::Unexpected);
        assert_eq!((tally.answered, tally.duplicates, tally.unexpected, tally.responders), (2, 1, 1, 1));
        assert_eq!((tally.lost(), tally.last_answer), (8, 3004));
        assert_eq!((tally.latency.len(), tally.latency.min(), tally.latency.max()), (2, 1000, 2000));
        assert_eq!(tally.sent_at(3), 1003);
    }

    #[test]
    fn what_the_ring_has_forgotten_is_unexpected() {
        let mut tally = sent(40, 16);
        assert_eq!(tally.answer(23, 0, 5000), Answer::Unexpected);
        assert_eq!(tally.answer(24, 0, 5000), Answer::First);
        assert_eq!(tally.answer(39, 1, 5000), Answer::First);
        assert_eq!((tally.responders, tally.lost()), (2, 38));
    }

    #[test]
    fn a_probe_that_never_left_is_not_answered() {
        let mut tally = Tally::new(1, 4);
        tally.next = 2;
        assert_eq!(tally.answer(0, 0, 5), Answer::Again);
        assert_eq!((tally.answered, tally.responders), (0, 0));
    }
}
