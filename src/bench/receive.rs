//! The other end of measured forwarding: counts the frames of one run.

use super::frames::{FCS, Mark, read};

/// What has arrived so far. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// The run that is counted: that of the first frame.
    run: Option<u32>,
    /// Frames of it.
    pub received: u64,
    /// Their octets, FCS included.
    pub octets: u64,
    /// The highest number that came, and one.
    highest: u64,
    /// Frames of other runs.
    pub foreign: u64,
    /// When the first came.
    pub first: u64,
    /// When the last came.
    pub last: u64,
}

impl Arrivals {
    /// A frame arrived.
    #[inline]
    pub fn hear(&mut self, now: u64, frame: &[u8]) {
        let Some(Mark { run, number: Some(number) }) = read(frame) else { return };
        if *self.run.get_or_insert(run) != run {
            self.foreign += 1;
            return;
        }
        if self.received == 0 {
            self.first = now;
        }
        self.last = now;
        self.received += 1;
        self.octets += (frame.len() + FCS) as u64;
        self.highest = self.highest.max(number.saturating_add(1));
    }

    /// Frames that did not arrive though a later one did.
    pub fn missing(&self) -> u64 {
        self.highest.saturating_sub(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::drive::Probe;
    use crate::bench::frames::{Frames, announce};
    use crate::frame::Pool;
    use crate::wire::Mac;

    #[test]
    fn one_run_is_counted() {
        let mut frame = Pool::new(1).head().unwrap();
        let mut arrivals = Arrivals::default();
        announce(&mut frame, Mac::ZERO);
        arrivals.hear(1, frame.bytes());
        assert_eq!(arrivals, Arrivals::default());
        let mut ours = Frames::new(Mac::BROADCAST, Mac::ZERO, 1, 64, 7);
        for n in [0, 1, 5, 4] {
            ours.write(n, &mut frame);
            arrivals.hear(100 + n, frame.bytes());
        }
        Frames::new(Mac::BROADCAST, Mac::ZERO, 1, 64, 8).write(0, &mut frame);
        arrivals.hear(200, frame.bytes());
        assert_eq!((arrivals.received, arrivals.octets, arrivals.missing(), arrivals.foreign), (4, 256, 2, 1));
        assert_eq!((arrivals.first, arrivals.last), (100, 104));
    }
}
