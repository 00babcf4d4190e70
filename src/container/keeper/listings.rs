//! What was changed in a container is listed each time that it rests, so that of two visitors it is known what either of
//! them did. Nobody waits for that: an inspector of its own makes the listing behind everything else, and a container that
//! somebody speaks to meanwhile goes on at once. Then the listing is of what was known by then, or there is none.

use super::evidence::{self, SENTENCE, utc};
use super::host;
use super::lease::{Container, Rest, Stage};
use super::process::{Keeper, SECOND};
use crate::container::inspector::{Answer, Contents, Inspector, Job, Limits, Note, Noted, Occasion, Taken};
use crate::event::EventId;

/// Listings that are made at once.
const AT_ONCE: usize = 2;
/// What one may take in all, and of that for reading files.
const PATIENCE: i64 = 30 * SECOND;
const READING: u64 = 10;
/// Octets that are read for one.
const READ: u64 = 512 << 20;

/// How far the listing of a container is that rests.
#[derive(Debug, Default)]
pub enum Listed {
    /// As far as it is to be.
    #[default]
    Done,
    /// One is to be made.
    Wanted,
    /// An inspector makes it; whether another one is to follow.
    Making(Inspector, bool),
}

impl Listed {
    /// The container rests.
    pub fn want(&mut self) {
        match self {
            Listed::Making(_, again) => *again = true,
            other => *other = Listed::Wanted,
        }
    }

    /// The container is about to go on. Returns whether nothing was listed since it rested.
    pub fn goes_on(&mut self) -> bool {
        match self {
            Listed::Done => false,
            Listed::Wanted => {
                *self = Listed::Done;
                true
            }
            Listed::Making(inspector, again) => {
                inspector.goes_on();
                std::mem::take(again)
            }
        }
    }

    /// The container is gone.
    pub fn kill(&mut self) {
        if let Listed::Making(mut inspector, _) = std::mem::take(self) {
            inspector.kill();
        }
    }

    /// Whether process `pid` is its inspector.
    pub fn is_process(&self, pid: i32) -> bool {
        matches!(self, Listed::Making(inspector, _) if inspector.pid == pid)
    }

    /// When patience with its inspector ends.
    pub fn deadline(&self) -> i64 {
        match self {
            Listed::Making(inspector, _) => inspector.deadline,
            _ => i64::MAX,
        }
    }
}

/// Why a container rests, if it does.
fn occasion(container: &Container) -> Option<Occasion> {
    container.used.as_ref().filter(|used| used.ran)?;
    match &container.stage {
        Stage::Live(running) if running.rest == Rest::Frozen => Some(Occasion::Frozen),
        Stage::Kept { .. } => Some(Occasion::Stopped),
        _ => None,
    }
}

impl Keeper {
    /// What a listing of `container` is made for.
    pub(super) fn note(&self, container: &Container, occasion: Occasion) -> Note {
        let host = container.host.and_then(|(node, ip)| host::find(&self.config, node, ip).ok());
        let mut addresses: Vec<_> = host.into_iter().flat_map(|host| host.addresses).map(|(ip, _)| ip).collect();
        // A topology of today may know nothing of it any more.
        let own = container.used.as_ref().map(|used| used.leased.host);
        addresses.extend(own.filter(|own| !addresses.contains(own)));
        let granted = container.attacker.map(|ip| self.config.mask().masked(ip));
        Note { occasion, addresses, granted }
    }

    /// Container `number` rests from now on.
    pub(super) fn rests(&mut self, number: u32) {
        if let Some(container) = self.containers.get_mut(&number)
            && occasion(container).is_some()
        {
            container.listed.want();
        }
    }

    /// Container `number` is about to go on: called before it does.
    pub(super) fn goes_on(&mut self, number: u32, now: i64) {
        if self.containers.get_mut(&number).is_some_and(|container| container.listed.goes_on()) {
            self.unlisted(number, "somebody came back before anything was listed", now);
        }
    }

    /// Begins a listing of one that rests, if there is room for it. Returns when to come back: between two that are begun,
    /// somebody may have something to say.
    pub(super) fn list_rested(&mut self, now: i64) -> i64 {
        // What ends is inspected.
        if self.ending.is_some() {
            return i64::MAX;
        }
        let making = self.containers.values().filter(|container| matches!(container.listed, Listed::Making(..)));
        let wanted = |container: &Container| matches!(container.listed, Listed::Wanted);
        if making.count() >= AT_ONCE {
            return i64::MAX;
        }
        let Some((number, container)) = self.containers.iter_mut().find(|(_, container)| wanted(container)) else {
            return i64::MAX;
        };
        let number = *number;
        container.listed = Listed::Done;
        // One that ends is inspected then.
        if let Some(occasion) = occasion(container) {
            match self.begin_listing(number, occasion, now) {
                Ok(inspector) => {
                    if let Some(container) = self.containers.get_mut(&number) {
                        container.listed = Listed::Making(inspector, false);
                    }
                }
                Err(why) => self.unlisted(number, &why, now),
            }
        }
        now
    }

    fn begin_listing(&self, number: u32, occasion: Occasion, now: i64) -> Result<Inspector, String> {
        let Some(container) = self.containers.get(&number) else { return Err("it is gone".into()) };
        let Some(used) = &container.used else { return Err("nobody has had it yet".into()) };
        let job = evidence::job(self, container, used, utc());
        let limits = Limits { read: READ.min(job.limits.read), read_secs: READING, ..job.limits };
        let note = Some(self.note(container, occasion));
        let job = Job { contents: Contents::Samples, note, limits, ..job };
        Inspector::start(&self.worker, &job, now + PATIENCE).map_err(|error| error.to_string())
    }

    /// The inspector that made the listing of container `number` has ended.
    pub(super) fn noted(&mut self, number: u32, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Listed::Making(inspector, again) = std::mem::take(&mut container.listed) else { return };
        if again {
            container.listed = Listed::Wanted;
        }
        match inspector.answer() {
            Answer::Noted(Noted::Made { taken, unchanged, partial }) => {
                self.tell_noted(number, &taken, unchanged, partial, now);
            }
            Answer::Noted(Noted::WentOn) => {
                self.unlisted(number, "somebody came back before everything was listed", now);
            }
            Answer::Failed(why) => self.unlisted(number, &why, now),
            _ => self.unlisted(number, "the inspector answered something else", now),
        }
    }

    fn tell_noted(&self, number: u32, taken: &Taken, unchanged: bool, partial: bool, now: i64) {
        let how = match (unchanged, partial) {
            // What is told already is not told again.
            (true, false) => None,
            (_, true) => Some("in part: somebody came back before all files were read"),
            (false, false) => Some("while it rests"),
        };
        if let Some(how) = how {
            let counts = &taken.counts;
            let changes = counts.added.saturating_add(counts.changed).saturating_add(counts.deleted);
            self.tell_of(EventId::EvidenceListed, number, ("", how), changes, now);
        }
        self.tell_pruned(number, taken, now);
    }

    /// Nothing is known of how container `number` was when it rested: what the next visitor changes is told together with
    /// what the last one did.
    fn unlisted(&self, number: u32, why: &str, now: i64) {
        let why: String = why.chars().take(SENTENCE).collect();
        let why = format!("{why}; what was changed is not told apart from what the next visitor changes");
        self.tell_of(EventId::EvidenceFailed, number, ("", &why), 1, now);
    }

    /// Ends inspectors of listings that take too long.
    pub(super) fn expire_listings(&mut self, now: i64) {
        let due = |(number, container): (&u32, &Container)| (container.listed.deadline() <= now).then_some(*number);
        for number in self.containers.iter().filter_map(due).collect::<Vec<_>>() {
            let Some(container) = self.containers.get_mut(&number) else { continue };
            let Listed::Making(inspector, _) = &mut container.listed else { continue };
            if evidence::is_over(inspector, now) {
                // One that waits for a disk that does not answer cannot even be killed.
                self.noted(number, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_before_a_listing_was_begun_is_told_of() {
        let mut listed = Listed::default();
        assert!(!listed.goes_on(), "nothing was to be listed");
        listed.want();
        listed.want();
        assert!(matches!(listed, Listed::Wanted) && listed.deadline() == i64::MAX && !listed.is_process(0));
        assert!(listed.goes_on());
        assert!(!listed.goes_on(), "it is told once");
    }
}
