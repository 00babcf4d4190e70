//! Evidence that is too old goes, whether anybody adds to it or not.

use super::process::{Keeper, SECOND};
use crate::container::KeeperSays;
use crate::container::inspector::forget;
use crate::event::{Event, EventId, Said, Utc};
use crate::sys::clock;
use crate::wire::Instant;

/// How often it is looked for.
const EVERY: i64 = 3600 * SECOND;

impl Keeper {
    /// Removes old evidence, if it is time to, and tells of it. Returns when it is next.
    pub(super) fn forget_evidence(&mut self, now: i64) -> i64 {
        if now < self.next_forget {
            return self.next_forget;
        }
        self.next_forget = now + EVERY;
        let utc = Utc::from_micros(clock::realtime_micros());
        match forget(&self.evidence(), &self.config.evidence, utc) {
            Ok(pruned) if pruned.archives.is_empty() && pruned.samples == 0 => {}
            Ok(pruned) => {
                let (archives, samples, octets) = (pruned.archives.len() as u64, pruned.samples, pruned.octets);
                let mut event = Event::new(EventId::EvidenceDeleted, Instant::from_micros(now));
                event.count = archives + samples;
                let why = format!(
                    "\0{archives} archives and {samples} samples with {octets} octets were too old or too much"
                );
                self.answer(&KeeperSays::Said(Said { event, data: why.into_bytes() }), None);
            }
            Err(error) => tracing::warn!(%error, "old evidence cannot be looked through, so it stays"),
        }
        self.next_forget
    }
}
