//! The devices at a fabric's edges: attaching and detaching them, receiving and sending.

use super::recorder::Recorder;
use super::{Fabric, Peer};
use crate::event::{Counters, DropReason, Event, EventId};
use crate::frame::{Batch, Pool, PortNo};
use crate::netdev::Netdev;
use crate::node::NodeIdx;
use crate::wire::{ETH, src_mac};

/// A device at the edge of the graph.
pub(super) struct Device {
    pub(super) netdev: Box<dyn Netdev>,
    pub(super) name: String,
    pub(super) at: (NodeIdx, PortNo),
    /// What is recorded of it; `None` if nothing is.
    pub(super) recorder: Option<Recorder>,
    pub(super) tx: Batch,
    pub(super) counters: Counters,
    pub(super) down: bool,
    /// Frames from it are this fabric's; else another shard receives them.
    pub(super) receives: bool,
}

impl Device {
    fn may_receive(&self) -> bool {
        self.receives && !self.down
    }

    /// Frames that its queues had no room for, and that it has counted itself.
    fn overflowed(&self) -> u64 {
        self.netdev.discards().map_or(0, |counters| counters.discarded(DropReason::TailDrop))
    }
}

/// A device that is not there for now.
pub(super) struct Absent {
    pub(super) name: String,
    pub(super) at: (NodeIdx, PortNo),
    /// By what means frames passed it; nothing if it was never there.
    pub(super) io: &'static str,
    /// What passed it while it was there.
    pub(super) counters: Counters,
    /// Whether there is no such device; else it is down.
    pub(super) gone: bool,
}

/// The index of a device in its fabric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceIdx(pub usize);

impl Fabric {
    /// Attaches a device to a port of `node`: `port`, or its first free one. If one of that name was there before, it is
    /// counted on.
    pub fn attach(
        &mut self,
        node: NodeIdx,
        port: Option<PortNo>,
        netdev: Box<dyn Netdev>,
        name: &str,
        capture: Option<u32>,
    ) -> PortNo {
        let slot = &self.slots[usize::from(node.0)];
        let free = || slot.peers.iter().position(|peer| matches!(peer, Peer::Nothing)).unwrap_or(slot.peers.len());
        let port = port.unwrap_or_else(|| PortNo(free() as u16));
        if let Some(Peer::Device(index)) = slot.peers.get(usize::from(port.0)).copied() {
            let is_same = self.devices[index].as_ref().is_some_and(|device| device.name == name);
            if is_same { self.unplug(node, port, name, false) } else { self.detach(node, port) }
        }
        let before = self.absent.iter().position(|absent| absent.at == (node, port));
        let before = before.map(|before| self.absent.swap_remove(before)).filter(|before| before.name == name);
        let device = Device {
            netdev,
            name: name.to_owned(),
            at: (node, port),
            recorder: capture.map(|interface| Recorder::new(interface, self.captured_whole)),
            tx: Batch::default(),
            counters: before.map(|before| before.counters).unwrap_or_default(),
            down: false,
            receives: true,
        };
        self.devices_version += 1;
        let index = match self.devices.iter().position(Option::is_none) {
            Some(free) => {
                self.devices[free] = Some(device);
                free
            }
            None => {
                self.devices.push(Some(device));
                self.devices.len() - 1
            }
        };
        self.set_peer((node, port), Peer::Device(index));
        port
    }

    /// Removes the device of a port; without one nothing happens.
    pub fn detach(&mut self, node: NodeIdx, port: PortNo) {
        self.take_out(node, port);
    }

    /// Removes the device of a port, `name`, that is to come back: until then it is listed as down, or as gone. Without one
    /// it is listed, too.
    pub fn unplug(&mut self, node: NodeIdx, port: PortNo, name: &str, gone: bool) {
        let at = (node, port);
        let device = self.take_out(node, port);
        let known = self.absent.iter_mut().find(|absent| absent.at == at && absent.name == name);
        match (device, known) {
            (None, Some(absent)) => absent.gone = gone,
            (device, _) => {
                let (io, counters) = device.map(|d| (d.netdev.kind(), d.counters())).unwrap_or_default();
                self.absent.retain(|absent| absent.at != at);
                self.absent.push(Absent { name: name.to_owned(), at, io, counters, gone });
            }
        }
    }

    fn take_out(&mut self, node: NodeIdx, port: PortNo) -> Option<Device> {
        let slot = self.slots.get(usize::from(node.0))?;
        let Some(Peer::Device(index)) = slot.peers.get(usize::from(port.0)).copied() else { return None };
        self.devices_version += 1;
        let mut device = self.devices[index].take();
        for frame in device.iter_mut().flat_map(|device| device.tx.drain(..)) {
            self.pool.put(frame);
        }
        self.set_peer((node, port), Peer::Nothing);
        device
    }

    /// The device of a port only sends from now on: another shard receives what comes.
    pub fn only_send(&mut self, node: NodeIdx, port: PortNo) {
        let peer = self.slots.get(usize::from(node.0)).and_then(|slot| slot.peers.get(usize::from(port.0)));
        if let Some(Peer::Device(index)) = peer
            && let Some(device) = &mut self.devices[*index]
        {
            device.receives = false;
            self.devices_version += 1;
        }
    }

    /// The devices that frames may come from, and what to wait on.
    pub fn devices(&self) -> impl Iterator<Item = (DeviceIdx, std::os::fd::BorrowedFd<'_>)> {
        let receiving = self.devices.iter().enumerate().filter_map(|(index, device)| {
            Some((DeviceIdx(index), device.as_ref().filter(|device| device.may_receive())?))
        });
        receiving.flat_map(|(index, device)| device.netdev.fds().into_iter().map(move |fd| (index, fd)))
    }

    /// Adds the devices to `ready` that are seen to have frames without asking the kernel.
    pub fn look(&self, ready: &mut Vec<DeviceIdx>) {
        let devices = self.devices.iter().enumerate();
        let found =
            devices.filter(|(_, device)| device.as_ref().is_some_and(|d| d.may_receive() && d.netdev.has_frames()));
        ready.extend(found.map(|(index, _)| DeviceIdx(index)));
    }

    /// A number that changes whenever [`Fabric::devices`] does.
    pub fn devices_version(&self) -> u64 {
        self.devices_version
    }

    pub(super) fn receive(&mut self, index: usize) -> bool {
        let Some(device) = self.devices.get_mut(index).and_then(Option::as_mut).filter(|device| device.may_receive())
        else {
            return false;
        };
        let (node, port) = device.at;
        let slot = &mut self.slots[usize::from(node.0)];
        let before = slot.input.len();
        let more = match device.netdev.rx(self.now, &mut self.pool, &mut slot.input) {
            Ok(more) => more,
            Err(error) => {
                device.down = true;
                self.devices_version += 1;
                let mut event = Event::new(EventId::DeviceState, self.now);
                event.node = node.0;
                self.sink.emit(&event, format!("{}: {error}", device.name).as_bytes());
                false
            }
        };
        let received = &mut slot.input[before..];
        if received.is_empty() {
            return more;
        }
        let mut segments = 0;
        for frame in &mut *received {
            frame.meta.port = port;
            if frame.len() >= ETH {
                frame.meta.origin = src_mac(frame.bytes());
            }
            segments += frame.segments() as u64;
        }
        device.counters.rx += segments;
        slot.counters.rx += segments;
        if let (Some(capture), Some(recorder)) = (self.capture.as_mut(), device.recorder.as_mut()) {
            recorder.record(&mut **capture, received, false, self.now);
        }
        self.enqueue(usize::from(node.0));
        more
    }

    pub(super) fn transmit(&mut self, index: usize) {
        let Some(device) = self.devices[index].as_mut().filter(|device| !device.tx.is_empty()) else { return };
        if let (Some(capture), Some(recorder)) = (self.capture.as_mut(), device.recorder.as_mut()) {
            recorder.record(&mut **capture, &device.tx, true, self.now);
        }
        if !device.netdev.caps().offload {
            let lost = settle(&mut device.tx, &mut self.pool);
            device.counters.drops[DropReason::NoBuffer as usize] += lost as u64;
        }
        let offered: usize = device.tx.iter().map(|frame| frame.segments()).sum();
        let before = device.overflowed();
        let sent = device.netdev.tx(&mut self.pool, &mut device.tx);
        let refused = ((offered - sent) as u64).saturating_sub(device.overflowed() - before);
        device.counters.tx += sent as u64;
        device.counters.drops[DropReason::DeviceError as usize] += refused;
    }
}

/// Does in software what senders have left to the device. Returns how many segments found no buffer.
pub(super) fn settle(batch: &mut Batch, pool: &mut Pool) -> usize {
    if !batch.iter().any(|frame| frame.meta.offload.needs_csum()) {
        return 0;
    }
    let mut plain = Batch::with_capacity(batch.len());
    let lost = batch.drain(..).map(|frame| pool.segment(frame, &mut plain)).sum();
    *batch = plain;
    lost
}
