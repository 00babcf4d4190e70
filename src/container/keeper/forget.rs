//! Evidence that is too old goes, whether anybody adds to it or not.

use std::path::PathBuf;

use super::process::{Keeper, SECOND};
use crate::container::inspector::{Limits, forget};
use crate::container::{KeeperConfig, KeeperSays};
use crate::event::{Event, EventId, Now, Said, Steps, Utc};
use crate::sys::clock;
use crate::wire::Instant;

/// How often it is looked for.
const EVERY: i64 = 3600 * SECOND;

fn now() -> Now {
    Now { utc: Utc::from_micros(clock::realtime_micros()), steady: clock::boottime_micros() }
}

/// Whether the machine's clock is to be believed from now on. Evidence was written last when its directory changed last.
pub(super) fn steps(config: &KeeperConfig) -> Steps {
    let written = std::fs::metadata(config.evidence_dir()).and_then(|about| about.modified());
    Steps::resume(&doubts(config), written.ok().map(Utc::from), now())
}

/// Where it is remembered that the clock is not believed.
fn doubts(config: &KeeperConfig) -> PathBuf {
    config.evidence_dir().with_extension("clock")
}

/// `limits`, of which nothing is too old if the clock is not believed.
fn believing(limits: &Limits, is_believed: bool) -> Limits {
    Limits { age_secs: if is_believed { limits.age_secs } else { u64::MAX }, ..limits.clone() }
}

impl Keeper {
    /// What of evidence is too old, or too much.
    pub(super) fn evidence_limits(&self) -> Limits {
        let mut steps = self.steps;
        believing(&self.config.evidence, steps.is_believed(now()))
    }

    /// Removes old evidence, if it is time to, and tells of it. Returns when it is next.
    pub(super) fn forget_evidence(&mut self, monotonic: i64) -> i64 {
        if monotonic < self.next_forget {
            return self.next_forget;
        }
        self.next_forget = monotonic + EVERY;
        let now = now();
        let is_believed = self.steps.is_believed(now);
        if let Err(error) = self.steps.keep(&doubts(&self.config)) {
            tracing::warn!(%error, "it cannot be written down whether the clock is believed");
        }
        if !is_believed {
            let ahead_secs = self.steps.ahead_secs();
            tracing::warn!(
                now = %now.utc, ahead_secs,
                "the machine's clock has jumped forward, or nobody left any evidence for days: none goes for being old until the \
                 clock has stayed there for a day, or is set right"
            );
        }
        match forget(&self.evidence(), &believing(&self.config.evidence, is_believed), now.utc) {
            Ok(pruned) if pruned.archives.is_empty() && pruned.samples == 0 => {}
            Ok(pruned) => {
                let (archives, samples, octets) = (pruned.archives.len() as u64, pruned.samples, pruned.octets);
                let mut event = Event::new(EventId::EvidenceDeleted, Instant::from_micros(monotonic));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_too_old_by_a_clock_that_is_not_believed() {
        let limits = Limits { age_secs: 60, total: 7, ..Limits::default() };
        assert_eq!(believing(&limits, true).age_secs, 60);
        let doubted = believing(&limits, false);
        assert_eq!((doubted.age_secs, doubted.total), (u64::MAX, 7), "what is too much goes still");
    }
}
