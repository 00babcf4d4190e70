//! What somebody at this machine orders: the list of containers, and what becomes of one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::lease::{Container, Rest, Stage};
use super::process::Keeper;
use crate::container::{Answered, ContainerRow, FromKeeper, KeeperSays, Order, Ordered, Wanted};

/// Containers in one answer: it has to fit a message.
pub(super) const ROWS: usize = 64;

impl Keeper {
    pub(super) fn take_orders(&mut self, now: i64) {
        // The console's own runtime paces whoever asks; one that is gone is started anew, and asks again.
        while let Ok(Some((Ordered { id, what }, mut fds))) = self.ends.console.recv_msg::<Ordered>() {
            let answer = match what {
                // Who looks has to wait for an inspector.
                Wanted::Order(order @ (Order::Snapshot(number) | Order::Diff(number))) => {
                    match self.look(id, number, matches!(order, Order::Diff(_)), now) {
                        Ok(()) => continue,
                        Err(why) => Err(why),
                    }
                }
                Wanted::Watched(after) => Ok(Answered::Watched(self.watched(after))),
                Wanted::Logs(after) => Ok(Answered::Logs(self.logs(after))),
                Wanted::Log(number) => match self.log(number) {
                    Ok(log) => {
                        self.answer(&KeeperSays::Answer { id, answer: Ok(Answered::Log) }, Some(log));
                        continue;
                    }
                    Err(why) => Err(why),
                },
                Wanted::KeepLog(number) => {
                    fds.pop().into_iter().for_each(|log| self.keep_log(number, log));
                    Ok(Answered::Same)
                }
                Wanted::Sensor { dev, ino } => match self.sensor((dev, ino)) {
                    Ok(Some(file)) => {
                        let answer = Ok(Answered::Sensor);
                        self.answer(&KeeperSays::Answer { id, answer }, Some(file.as_fd()));
                        continue;
                    }
                    Ok(None) => Ok(Answered::Same),
                    Err(why) => Err(why),
                },
                Wanted::Order(order) => self.obey(order, now).map(Answered::Containers),
            };
            self.answer(&KeeperSays::Answer { id, answer }, None);
        }
    }

    /// Says something to the console. One that does not read loses it; it is no reason to wait.
    pub(super) fn answer(&self, message: &KeeperSays, memory: Option<BorrowedFd<'_>>) {
        let _ = self.ends.console.send_msg(message, memory.as_slice());
    }

    /// Does what is ordered.
    ///
    /// # Errors
    /// A sentence that says why it cannot be done.
    pub(super) fn obey(&mut self, order: Order, now: i64) -> Result<Vec<ContainerRow>, String> {
        match order {
            Order::Ls(after) => {
                let later = self.containers.range(after.saturating_add(1)..).take(ROWS);
                return Ok(later.map(|(_, container)| self.row(container)).collect());
            }
            // Whoever looks is answered later.
            Order::Snapshot(_) | Order::Diff(_) => return Err("it is no order for at once".into()),
            Order::Freeze(number) => self.freeze_now(number)?,
            Order::Thaw(number) => {
                let container = self.some(number)?;
                let lease = match (&container.stage, container.lease) {
                    (Stage::Live(running), Some(lease)) if running.rest == Rest::Frozen => lease.id,
                    _ => return Err("it is no host's that is frozen".into()),
                };
                self.thaw(number);
                // Whoever speaks to it need not ask for that, and it is to be frozen again only after a while.
                self.send(FromKeeper::LeaseBusy { lease }, None);
            }
            Order::Stop(number) | Order::Destroy(number) => {
                let keep = matches!(order, Order::Stop(_));
                let container = self.some(number)?;
                if container.why.is_some() {
                    return Err("it ends already".into());
                }
                if keep && matches!(container.stage, Stage::Kept { .. }) {
                    return Err("it is stopped already; `destroy` removes its files".into());
                }
                let secs = if keep { self.keep_secs(number) } else { None };
                if let Some(container) = self.containers.get_mut(&number) {
                    container.keep = secs;
                }
                self.end(number, if keep { "stopped by hand" } else { "destroyed by hand" }, now);
            }
        }
        Ok(Vec::new())
    }

    /// The file that a sensor writes, unless it is the one of device and inode `have`. It is only opened here: what it says
    /// is for others to read.
    fn sensor(&self, have: (u64, u64)) -> Result<Option<OwnedFd>, String> {
        let path = self.config.eve.as_ref().ok_or("the topology names no sensor's file")?;
        let failed = |error: rustix::io::Errno| format!("{}: {error}", path.display());
        // Its directory may be another user's: no link of that one's is followed, and no pipe waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let about = rustix::fs::fstat(&file).map_err(failed)?;
        Ok(((about.st_dev, about.st_ino) != have).then_some(file))
    }

    fn some(&self, number: u32) -> Result<&Container, String> {
        self.containers.get(&number).ok_or_else(|| format!("there is no container {number}"))
    }

    fn freeze_now(&mut self, number: u32) -> Result<(), String> {
        let container = self.some(number)?;
        let (Stage::Live(running), Some(lease)) = (&container.stage, container.lease) else {
            return Err("it is no host's that is live".into());
        };
        if running.rest == Rest::Frozen {
            return Err("it is frozen already".into());
        }
        self.layout.freeze(&container.place.name, true).map_err(|error| error.to_string())?;
        if let Some(Container { stage: Stage::Live(running), .. }) = self.containers.get_mut(&number) {
            running.rest = Rest::Frozen;
        }
        self.rests(number);
        self.send(FromKeeper::LeaseFrozen { lease: lease.id }, None);
        Ok(())
    }

    fn row(&self, container: &Container) -> ContainerRow {
        let node = container.host.and_then(|(node, _)| self.config.nodes.get(usize::from(node.0)));
        let state = match &container.stage {
            Stage::Queued(_) => "queued",
            Stage::Starting(_) => "starting",
            Stage::Live(_) if container.is_spare() => "ready",
            Stage::Live(running) if running.rest == Rest::Frozen => "frozen",
            Stage::Live(_) => "live",
            Stage::Kept { .. } if container.is_unused() => "made",
            Stage::Kept { .. } => "stopped",
            Stage::Dying { .. } | Stage::Sweeping { .. } | Stage::Inspecting(_) | Stage::Removing(_) => "ending",
        };
        let visit = container.used.as_ref().and_then(|used| used.leased.leases.last());
        ContainerRow {
            since: visit.map(|visit| visit.began),
            by: visit.and_then(|visit| visit.attacker),
            number: container.place.number,
            state: state.into(),
            node: node.map(|(name, _)| name.clone()),
            host: container.host.map(|(_, host)| host),
            attacker: container.attacker,
            image: container.image.manifest.name.clone(),
            name: container.place.name.clone(),
            init: match &container.stage {
                Stage::Live(running) => Some(running.pid),
                _ => None,
            },
            upper: container.place.upper(),
            lower: container.image.rootfs(),
        }
    }
}
