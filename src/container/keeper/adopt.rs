//! Containers that outlive a keeper or a switch. Neither is their parent: liblxc's monitors are handed to the
//! supervisor when a keeper dies, and of each TAP both processes have a descriptor.
//!
//! A keeper that follows one that died takes over what runs and asks the switch what it thinks it has
//! ([`FromKeeper::Follows`]); whatever was said to the dead one and is lost is said again then. A switch that follows one
//! that died knows of no container: they go on, and whoever is asked for again is handed over as they are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cgroup::Layout;
use super::disk;
use super::kept::{Alive, Written};
use super::lease::{Container, Lease, Rest, Running, Stage, init_handle};
use super::process::{Keeper, SECOND};
use super::settings::Place;
use super::{host, identity};
use crate::container::FromKeeper;
use crate::container::image::Image;
use crate::container::worker::parent_of;
use crate::node::{LeaseId, NodeIdx};
use crate::sys::epoll::Epoll;
use crate::sys::tap;

/// How long a switch may take to say that it still has a container: one that hangs is replaced after fifteen seconds.
const CLAIM: i64 = 20 * SECOND;
/// How often it is looked whether TAPs are there. Nothing tells: their devices are in other network namespaces.
const TAP_LOOK: i64 = SECOND;

const REMOVED: &str = "its network device was removed";

/// Monitors that a predecessor has started: no children of ours, so that no signal tells of their end.
#[derive(Debug)]
pub struct Inherited {
    ended: Epoll,
    monitors: BTreeMap<i32, OwnedFd>,
}

impl Inherited {
    /// None so far.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Inherited> {
        Ok(Inherited { ended: Epoll::new()?, monitors: BTreeMap::new() })
    }

    fn add(&mut self, pid: i32) -> io::Result<()> {
        let handle = handle(pid)?;
        self.ended.add(handle.as_fd(), pid as u64)?;
        self.monitors.insert(pid, handle);
        Ok(())
    }

    /// Kills one of them; returns whether it is one.
    pub fn kill(&self, pid: i32) -> bool {
        let monitor = self.monitors.get(&pid);
        // An error means that it is dead already.
        monitor.is_some_and(|monitor| pidfd_send_signal(monitor, Signal::KILL).is_ok())
    }

    /// Those that have ended since.
    pub fn ended(&mut self) -> Vec<i32> {
        let mut ended = Vec::new();
        if self.ended.wait(Some(std::time::Duration::ZERO), |pid| ended.push(pid as i32)).is_err() {
            return Vec::new();
        }
        for monitor in ended.iter().filter_map(|pid| self.monitors.remove(pid)) {
            // It is in there.
            let _ = self.ended.remove(monitor.as_fd());
        }
        ended
    }
}

/// Something to read when one of them has ended.
impl AsFd for Inherited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

fn handle(pid: i32) -> io::Result<OwnedFd> {
    Ok(pidfd_open(Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?)
}

/// What tells process `pid` from others that had or will have the number, in this boot of the machine: when it was
/// started (proc_pid_stat(5), field 22), in clock ticks.
pub fn born(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; field 3 follows it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The container in `place`, if it runs as it is written down, its monitor watches over it, and its disk is there.
pub fn runs(place: &Place, written: &Written, layout: &Layout, now: i64) -> Option<Running> {
    let Alive { init: pid, monitor, born: since } = written.alive?;
    let init = init_handle(pid, &place.name).ok()?;
    // Looked at behind the handle, which stays its own.
    let is_it = born(pid) == Some(since) && parent_of(pid) == Some(monitor);
    let is_ours = !layout.is_present() || layout.has(&place.name);
    // Another mount namespace's disk must not be mounted here, too.
    if !is_it || !is_ours || !disk::is_mounted(&place.dir).unwrap_or(false) {
        return None;
    }
    let rest = if layout.is_frozen(&place.name) { Rest::Frozen } else { Rest::Awake };
    Some(Running { init, pid, monitor, since: now, rest })
}

impl Keeper {
    /// Watches over a container that a predecessor has started, as long as it is not known whose it is.
    ///
    /// # Errors
    /// If its monitor has ended, or there are too many descriptors.
    pub(super) fn inherit(&mut self, container: &mut Container, running: Running, now: i64) -> io::Result<()> {
        self.inherited.add(running.monitor)?;
        container.stage = Stage::Live(running);
        container.unclaimed = Some(now + CLAIM);
        Ok(())
    }

    /// The switch says which devices it has; those that are missing are opened.
    pub(super) fn inherit_devices(&mut self, uplinks: &[(NodeIdx, u32, bool)], taps: &[NodeIdx], now: i64) {
        for (node, index, by_xdp) in uplinks {
            self.uplinks.inherit(*node, *index, *by_xdp);
        }
        for node in taps {
            self.taps.inherit(*node);
        }
        self.greeted = true;
        self.look_at_devices(now);
    }

    /// The switch says that it has the container of a lease, and hands over its TAP.
    pub(super) fn held(&mut self, lease: LeaseId, tap: Option<OwnedFd>, now: i64) {
        let Some(number) = self.of_lease(lease) else {
            let why = "the keeper was started anew".into();
            return self.send(FromKeeper::LeaseGone { lease, why }, None);
        };
        let Some(container) = self.containers.get_mut(&number) else { return };
        container.unclaimed = None;
        let is_there = |tap: &OwnedFd| tap::name(tap.as_fd()).is_ok();
        match (&container.tap, tap) {
            (None, Some(tap)) if is_there(&tap) => container.tap = Some(tap),
            (None, Some(_)) => return self.end_and(number, true, REMOVED, now),
            _ => {}
        }
        let Stage::Live(running) = &container.stage else { return };
        // Whatever was said of it may be lost.
        let rest = match running.rest {
            Rest::Frozen => FromKeeper::LeaseFrozen { lease },
            Rest::Awake | Rest::Watched { .. } => FromKeeper::LeaseBusy { lease },
        };
        self.send(FromKeeper::LeaseLive { lease }, None);
        self.send(rest, None);
    }

    /// The switch asks once more for what it was given already. If that had outlived a keeper, its TAP got lost on the way.
    pub(super) fn asked_again(&mut self, number: u32, now: i64) {
        if self.containers.get(&number).is_some_and(|container| container.tap.is_none()) {
            self.end_and(number, true, "its TAP was lost with a keeper", now);
        }
    }

    /// Containers that nobody claims are not in the way of one for `lease`: one of them ends if its node has `limit`.
    pub(super) fn make_room(&mut self, lease: &Lease, limit: usize, now: i64) {
        let mut others = self.containers.iter().filter(|(_, container)| {
            container.host.is_some_and(|(node, host)| {
                node == lease.node && (host, container.attacker) != (lease.host, lease.attacker)
            }) && container.why.is_none()
        });
        let (mut count, mut oldest) = (0, None);
        for (number, container) in &mut others {
            let is_unclaimed = container.unclaimed.is_some();
            count += usize::from(is_unclaimed || container.lease.is_some());
            if is_unclaimed {
                oldest.get_or_insert(*number);
            }
        }
        if count >= limit
            && let Some(number) = oldest
        {
            self.end_and(number, true, "another one needs its place", now);
        }
    }

    /// The switch that had containers is gone: nobody is told of their end. Those whose TAP is here go on without it.
    pub(super) fn outlive_switch(&mut self, now: i64) {
        let leased: Vec<u32> = self
            .containers
            .iter()
            .filter(|(_, container)| container.lease.is_some())
            .map(|(number, _)| *number)
            .collect();
        for number in leased {
            let idle = self.idle_until(number, now);
            let Some(container) = self.containers.get_mut(&number) else { continue };
            container.lease = None;
            if container.tap.is_some() {
                container.unclaimed = Some(idle);
            } else {
                self.end_and(number, true, "the switch was started anew", now);
            }
        }
    }

    /// When container `number` would end if nobody spoke to it from now on.
    pub(super) fn idle_until(&self, number: u32, now: i64) -> i64 {
        let host = self.containers.get(&number).and_then(|container| container.host);
        let host = host.and_then(|(node, ip)| host::find(&self.config, node, ip).ok());
        let secs = host.and_then(|host| Some(host.template.backend.as_ref()?.idle_secs)).unwrap_or(0);
        if secs == 0 { i64::MAX } else { now + i64::from(secs) * SECOND }
    }

    /// The container that was the lease's host before the switch of now, or keeper, was there.
    pub(super) fn unclaimed_of(&self, lease: &Lease, image: &Image) -> Option<u32> {
        let is_it = |container: &Container| {
            container.unclaimed.is_some()
                && container.why.is_none()
                && container.tap.is_some()
                && container.host == Some((lease.node, lease.host))
                && container.attacker == lease.attacker
                && container.image.dir == image.dir
        };
        self.containers.iter().find(|(_, container)| is_it(container)).map(|(number, _)| *number)
    }

    /// Hands a container that has outlived another switch over to this one, as it is.
    pub(super) fn claim(&mut self, number: u32, lease: Lease) {
        let Some(container) = self.containers.get(&number) else { return };
        // What it sent while nobody listened is of another time.
        container.tap.iter().for_each(identity::forget_frames);
        let is_live = matches!(container.stage, Stage::Live(_));
        self.thaw(number);
        self.hand_over(number, lease);
        if is_live {
            self.send(FromKeeper::LeaseLive { lease: lease.id }, None);
        }
    }

    /// Ends containers that nobody claims, and those whose network device was removed. Returns when to look again.
    pub(super) fn look_after_old(&mut self, now: i64) -> i64 {
        let mut next = i64::MAX;
        let mut over = Vec::new();
        let look_at_taps = now >= self.next_tap_look;
        let mut has_taps = false;
        for (number, container) in &self.containers {
            if container.why.is_some() || !matches!(container.stage, Stage::Live(_)) {
                continue;
            }
            if let Some(until) = container.unclaimed {
                next = next.min(until);
                if until <= now {
                    over.push((*number, "nobody came back"));
                }
            }
            if let Some(tap) = &container.tap {
                has_taps = true;
                if look_at_taps && tap::name(tap.as_fd()).is_err() {
                    over.push((*number, REMOVED));
                }
            }
        }
        for (number, why) in over {
            self.end_and(number, true, why, now);
        }
        if has_taps && self.ending.is_none() {
            if look_at_taps {
                self.next_tap_look = now + TAP_LOOK;
            }
            next = next.min(self.next_tap_look);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_that_is_no_child_is_told() {
        let mut shell = std::process::Command::new("sh");
        // The sleeper is the shell's child, not ours.
        let shell = shell.args(["-c", "sleep 600 & echo $!; read x"]);
        let mut child = shell.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let pid: i32 = line.trim().parse().unwrap();
        assert!(born(pid).is_some() && born(pid) >= born(child.id() as i32));
        let mut inherited = Inherited::new().unwrap();
        inherited.add(pid).unwrap();
        assert_eq!(inherited.ended(), [] as [i32; 0]);
        assert!(!inherited.kill(1) && inherited.kill(pid));
        rustix::event::poll(&mut [rustix::event::PollFd::new(&inherited, rustix::event::PollFlags::IN)], None).unwrap();
        assert_eq!((inherited.ended(), inherited.ended()), (vec![pid], vec![]));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
