//! The loop: receive a batch, answer what has to be answered, send what is due.
//!
//! The clock is read once for every batch that is received and once for every
//! batch that is sent. A frame's latency therefore includes what the batch takes
//! that it travels in: nothing to speak of at rates that leave the machine idle,
//! tens of microseconds when it is busy all the time.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::BenchError;
use super::interface::Interface;
use super::options::Load;
use super::pace::Pace;
use super::tally::Tally;
use crate::event::DropReason;
use crate::frame::{Batch, Frame, Pool};
use crate::sys::clock::monotonic_nanos;
use crate::sys::packet::BURST;
use crate::sys::usage::{self, Usage};
use crate::wire::Instant;

/// Batches that are received in a row before anything is sent again.
const RECEIVE_ROUNDS: usize = 4;
/// A pause shorter than this, in nanoseconds, is not worth going to sleep for.
const SHORT: u64 = 2_000;
/// How often whoever watches is told, in nanoseconds.
const LOOK: u64 = 100_000_000;
/// Buffers: more than ever travel at once.
const BUFFERS: usize = 4096;

/// A kind of probe.
pub trait Probe {
    /// Whether anything is to be said about probes that are waited for no longer.
    const FORGETS: bool = false;

    /// Writes probe `n`; numbers come in their order.
    fn write(&mut self, n: u64, frame: &mut Frame);

    /// Looks at a frame that arrived. Returns whether it has become an answer to be sent back.
    fn hear(&mut self, now: u64, frame: &mut Frame, tally: &mut Tally) -> bool;

    /// Whether nothing more will come.
    fn is_settled(&self, tally: &Tally) -> bool {
        tally.lost() == 0
    }

    /// Probe `n` will be waited for no longer. Returns whether `frame` is to be sent for that.
    fn forget(&mut self, n: u64, frame: &mut Frame) -> bool {
        let _ = (n, frame);
        false
    }
}

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// MACs are asked for.
    Learning,
    /// Frames are sent.
    Sending,
    /// Late answers are waited for.
    Waiting,
    /// Frames of somebody else are received.
    Receiving,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Frames sent (while receiving: received).
    pub frames: u64,
    /// Answers among what came back.
    pub answered: u64,
    /// Frames to be sent, as far as that is known.
    pub goal: u64,
    /// Since the beginning of the phase before waiting.
    pub elapsed: Duration,
}

/// Somebody who looks on, ten times a second.
pub trait Watch {
    /// Takes notice. Returns how often the end was asked for: the first time
    /// nothing more is sent, the second time nothing more is waited for.
    fn look(&mut self, progress: &Progress) -> u32;
}

/// Nobody looks on.
impl Watch for () {
    fn look(&mut self, _: &Progress) -> u32 {
        0
    }
}

/// The interfaces of a run and the buffers that travel.
pub struct Lane {
    sends: Interface,
    /// Where frames arrive, if that is another.
    hears: Option<Interface>,
    pool: Pool,
    rx: Batch,
    tx: Batch,
    overruns: u64,
    /// The time that the device was told when it last asked the kernel for overruns.
    overruns_asked: u64,
}

/// How a run went. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// When it began.
    pub begin: u64,
    /// How long frames were sent.
    pub sending: u64,
    /// Processor time of that.
    pub used: Usage,
    /// By how much the schedule was put off because it could not be kept.
    pub behind: u64,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl Lane {
    /// A lane on an interface by which frames leave, and also arrive unless `hears` is there for that.
    pub fn new(sends: Interface, hears: Option<Interface>) -> Lane {
        // Pauses between frames are shorter than what the kernel may add to a timeout by default, 50 µs.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
        Lane {
            sends,
            hears,
            pool: Pool::new(BUFFERS),
            rx: Batch::with_capacity(4 * BURST),
            tx: Batch::with_capacity(4 * BURST),
            overruns: 0,
            overruns_asked: 0,
        }
    }

    /// The interface by which frames leave.
    pub fn interface(&self) -> &Interface {
        &self.sends
    }

    /// Receives a batch into `rx`; returns whether there may be more.
    pub fn receive(&mut self, now: u64) -> Result<bool, BenchError> {
        let interface = self.hears.as_mut().unwrap_or(&mut self.sends);
        let at = Instant::from_micros((now / 1000) as i64);
        let result = interface.device.rx(at, &mut self.pool, &mut self.rx);
        result.map_err(|error| BenchError::Device { interface: interface.name.clone(), error })
    }

    /// Gives each received frame to `f`, which says whether it has become an answer to be sent back.
    pub fn drain(&mut self, mut f: impl FnMut(&mut Frame) -> bool) {
        for mut frame in self.rx.drain(..) {
            if f(&mut frame) {
                self.tx.push(frame);
            } else {
                self.pool.put(frame);
            }
        }
    }

    /// Puts a frame that `f` writes into the batch to be sent, if it says so. Returns `false` if there is no buffer.
    pub fn put(&mut self, f: impl FnOnce(&mut Frame) -> bool) -> bool {
        let Some(mut frame) = self.pool.head() else { return false };
        if f(&mut frame) {
            self.tx.push(frame);
        } else {
            self.pool.put(frame);
        }
        true
    }

    /// Sends the batch; returns how many frames the interface took.
    pub fn send(&mut self) -> u64 {
        if self.tx.is_empty() {
            return 0;
        }
        self.sends.device.tx(&mut self.pool, &mut self.tx) as u64
    }

    /// Waits until something arrives, for at most `nanos`.
    pub fn sleep(&mut self, nanos: u64) {
        let fds = self.hears.as_ref().unwrap_or(&self.sends).device.fds();
        let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
        // An interruption or a failure is a short sleep; the device itself says what is wrong with it.
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }

    /// Frames that arrived since this was last asked and found no room in the packet socket.
    pub fn overruns(&mut self, now: u64) -> u64 {
        // The device asks the kernel once a second of the time that it is told: this is a later second each time.
        self.overruns_asked = now.max(self.overruns_asked) + 2_000_000_000;
        let _ = self.receive(self.overruns_asked);
        self.drain(|_| false);
        let counters = self.hears.as_ref().unwrap_or(&self.sends).device.discards();
        let ever = counters.map_or(0, |counters| counters.discarded(DropReason::TailDrop));
        let since = ever.saturating_sub(self.overruns);
        self.overruns = ever;
        since
    }
}

/// Sends probes as `load` says and counts what comes back.
///
/// # Errors
/// If an interface fails.
pub fn drive<P: Probe>(
    lane: &mut Lane,
    load: &Load,
    phase: Phase,
    probe: &mut P,
    tally: &mut Tally,
    watch: &mut dyn Watch,
) -> Result<Run, BenchError> {
    let begin = monotonic_nanos();
    let used = usage::own();
    let mut pace = Pace::new(load.rate, begin);
    let until = begin.saturating_add(nanos(load.duration));
    let count = load.count.unwrap_or(u64::MAX);
    let goal = load.count.unwrap_or(u64::MAX).min(load.rate.map_or(u64::MAX, |rate| frames_in(rate, load.duration)));
    let (mut sent, mut asked_to_end) = (None, 0);
    let mut next_look = begin + LOOK;
    let mut now = begin;
    loop {
        let mut heard = false;
        for _ in 0..RECEIVE_ROUNDS {
            let more = lane.receive(now)?;
            now = monotonic_nanos();
            heard |= !lane.rx.is_empty();
            lane.drain(|frame| probe.hear(now, frame, tally));
            if !more {
                break;
            }
        }
        lane.send();
        if now >= next_look {
            next_look = now + LOOK;
            let phase = if sent.is_some() { Phase::Waiting } else { phase };
            let elapsed = Duration::from_nanos(now - begin);
            let progress = Progress { phase, frames: tally.sent, answered: tally.answered, goal, elapsed };
            asked_to_end = watch.look(&progress);
        }
        let mut idle_until = next_look;
        match sent {
            None if tally.next >= count || now >= until || asked_to_end > 0 => {
                sent = Some((now, usage::own().since(used)));
                continue;
            }
            None => {
                let due = pace.due(now).min(BURST as u64).min(count - tally.next);
                if due > 0 {
                    let released = send_probes(lane, probe, tally, due);
                    pace.release(released);
                    continue;
                }
                idle_until = idle_until.min(pace.next()).min(until);
            }
            Some((at, _)) => {
                let end = at.saturating_add(nanos(load.wait));
                if now >= end || asked_to_end > 1 || probe.is_settled(tally) {
                    break;
                }
                idle_until = idle_until.min(end);
            }
        }
        if !heard && !load.spin && idle_until > now + SHORT {
            lane.sleep(idle_until - now);
        }
    }
    if P::FORGETS {
        for n in tally.next.saturating_sub(tally.capacity())..tally.next {
            lane.put(|frame| probe.forget(n, frame));
            if lane.tx.len() >= BURST {
                lane.send();
            }
        }
        lane.send();
    }
    let (sent, used) = sent.unwrap_or((now, Usage::default()));
    Ok(Run { begin, sending: sent - begin, used, behind: pace.behind(), interrupted: asked_to_end > 0 })
}

/// Sends the next `due` probes, at most a burst; returns how many were released.
#[inline]
fn send_probes<P: Probe>(lane: &mut Lane, probe: &mut P, tally: &mut Tally, due: u64) -> u64 {
    if P::FORGETS {
        for n in tally.next..tally.next + due {
            if let Some(old) = n.checked_sub(tally.capacity()) {
                lane.put(|frame| probe.forget(old, frame));
            }
        }
        lane.send();
    }
    let first = tally.next;
    for _ in 0..due {
        let n = tally.next;
        let written = lane.put(|frame| {
            probe.write(n, frame);
            true
        });
        if !written {
            break;
        }
        tally.next += 1;
    }
    tally.stamp(first, monotonic_nanos());
    let released = tally.next - first;
    let taken = lane.send();
    tally.sent += taken;
    tally.unsent += released - taken.min(released);
    released
}

/// A duration in nanoseconds, if that many fit.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn frames_in(rate: u64, duration: Duration) -> u64 {
    u64::try_from(u128::from(rate) * duration.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}
