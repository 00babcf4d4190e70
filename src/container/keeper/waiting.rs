//! What the keeper waits for: whoever speaks to it, and the next deadline of anything that it has begun.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::evidence::Look;
use super::lease::{Rest, Stage};
use super::process::{Keeper, LEAVE, SECOND, SWEEP_INTERVAL};
use crate::sys::clock;

/// What may be read from.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) supervisor: bool,
    pub(super) signals: bool,
    pub(super) links: bool,
    pub(super) inherited: bool,
    pub(super) switch: bool,
    pub(super) console: bool,
    pub(super) pressure: bool,
}

impl Keeper {
    /// Waits until somebody speaks, or for `deadline`.
    pub(super) fn wait(&self, deadline: i64) -> Ready {
        let left = (deadline - clock::monotonic_micros()).clamp(0, 3600 * SECOND);
        let timeout = Timespec { tv_sec: left / SECOND, tv_nsec: left % SECOND * 1000 };
        let output = if self.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = [
            PollFd::new(&self.ends.supervisor, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.links, PollFlags::IN),
            PollFd::new(&self.inherited, PollFlags::IN),
            PollFd::new(&self.ends.switch, PollFlags::IN | output),
            PollFd::new(&self.ends.console, PollFlags::IN),
            // Where there is no such thing, the supervisor's channel, which never says so.
            match &self.pressure {
                Some(pressure) => PollFd::new(pressure, PollFlags::PRI),
                None => PollFd::new(&self.ends.supervisor, PollFlags::empty()),
            },
        ];
        // At an order to end, the closed ends of those who went first would always be ready.
        let fds = if self.ending.is_some() { &mut fds[1..4] } else { &mut fds[..] };
        if poll(fds, Some(&timeout)).is_err() {
            return Ready::default();
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        match fds {
            [signals, links, inherited] => Ready {
                signals: is_ready(signals),
                links: is_ready(links),
                inherited: is_ready(inherited),
                ..Ready::default()
            },
            [supervisor, signals, links, inherited, switch, console, pressure] => Ready {
                supervisor: is_ready(supervisor),
                signals: is_ready(signals),
                links: is_ready(links),
                inherited: is_ready(inherited),
                switch: switch.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
                console: console.revents().contains(PollFlags::IN),
                pressure: pressure.revents().contains(PollFlags::PRI),
            },
            _ => Ready::default(),
        }
    }

    /// When there is something to do even if nobody speaks.
    pub(super) fn next_deadline(&self, now: i64) -> i64 {
        let mut next = now + 3600 * SECOND;
        if self.greeted && self.ending.is_none() && !(self.uplinks.is_empty() && self.taps.is_empty()) {
            next = next.min(self.next_look);
        }
        next = next.min(self.scripts.next_deadline().unwrap_or(i64::MAX));
        let ending = |until: i64| if now < until - LEAVE { until - LEAVE } else { until };
        next = next.min(self.ending.map_or(i64::MAX, ending));
        for container in self.containers.values() {
            next = next.min(match &container.stage {
                Stage::Queued(_) => i64::MAX,
                Stage::Live(running) => match running.rest {
                    // Spares are looked after apart.
                    Rest::Watched { until, .. } if container.lease.is_some() => until,
                    _ => i64::MAX,
                },
                Stage::Starting(worker) | Stage::Removing(worker) => worker.deadline,
                Stage::Dying { deadline, .. } => *deadline,
                Stage::Sweeping { .. } => now + SWEEP_INTERVAL,
                Stage::Kept { until } => *until,
                Stage::Inspecting(inspector) => inspector.as_ref().map_or(i64::MAX, |inspector| inspector.deadline),
            });
            let look = container.look.as_ref().map_or(i64::MAX, Look::deadline);
            next = next.min(look).min(container.listed.deadline());
        }
        next
    }
}
