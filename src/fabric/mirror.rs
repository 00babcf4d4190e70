//! Copies for mirrors: of every frame that crosses one of their ports, in either direction, once.
//!
//! A frame bears a mark of each mirror that has a copy of it, so that of several ports on its way the first one counts. The
//! mark lasts as long as the frame passes nodes that leave it as it is; what a router forwards, and what a host answers in
//! the buffer that came in, are others.
//!
//! Ports are looked up for a batch, not for each frame, and not at all where there is no mirror. The copies are written to
//! a mirror's TAP after everything else of a step has left, and what finds no room on their way is a counted loss of the
//! sensor's: no frame waits for them.

use super::Fabric;
use crate::event::DropReason;
use crate::frame::{Batch, Frame, PortNo};
use crate::node::{MirrorConfig, NodeIdx};

impl Fabric {
    /// Copies to the node `mirror` whatever crosses `ports` from now on. There are [`MirrorConfig::MOST`] of them at most.
    pub fn mirror(&mut self, mirror: NodeIdx, ports: &[(NodeIdx, PortNo)]) {
        let bit = self.mirrors.len();
        if bit >= MirrorConfig::MOST {
            return;
        }
        self.mirrors.push(mirror);
        for (node, port) in ports {
            let Some(slot) = self.slots.get_mut(usize::from(node.0)) else { continue };
            let port = usize::from(port.0);
            if slot.mirrored.len() <= port {
                slot.mirrored.resize(port + 1, 0);
            }
            slot.mirrored[port] |= 1 << bit;
        }
    }

    /// Copies what is about to be given to a node.
    pub(super) fn mirror_in(&mut self, index: usize) {
        let mut input = std::mem::take(&mut self.slots[index].input);
        let passes_on = self.slots[index].node.passes_on();
        for frame in input.iter_mut() {
            // One that a replica has handed over was seen there.
            let wanted = if frame.meta.handed { 0 } else { self.slots[index].wanted(frame.meta.port) };
            self.copy(frame, wanted);
            if !passes_on {
                frame.meta.mirrored = 0;
            }
        }
        // Nobody mirrors a mirror, so that nothing was put there meanwhile.
        self.slots[index].input = input;
    }

    /// Copies what a node has sent by a port.
    pub(super) fn mirror_out(&mut self, index: usize, port: usize, out: &mut Batch) {
        let wanted = self.slots[index].wanted(PortNo(port as u16));
        if wanted != 0 {
            out.iter_mut().for_each(|frame| self.copy(frame, wanted));
        }
    }

    fn copy(&mut self, frame: &mut Frame, wanted: u8) {
        let mut missing = wanted & !frame.meta.mirrored;
        frame.meta.mirrored |= wanted;
        while missing != 0 {
            let bit = missing.trailing_zeros() as usize;
            missing &= missing - 1;
            let Some(mirror) = self.mirrors.get(bit).copied() else { continue };
            match self.pool.duplicate(frame) {
                Some(copy) => self.deliver((mirror, MirrorConfig::COPIES), copy),
                None => {
                    self.slots[usize::from(mirror.0)].counters.drops[DropReason::NoBuffer as usize] +=
                        frame.segments() as u64;
                }
            }
        }
    }

    /// Sends what comes out, to sensors last.
    pub(super) fn transmit_all(&mut self) {
        if self.mirrors.is_empty() {
            return (0..self.devices.len()).for_each(|index| self.transmit(index));
        }
        for sensors in [false, true] {
            for index in 0..self.devices.len() {
                if self.is_mirrors(index) == sensors {
                    self.transmit(index);
                }
            }
        }
    }

    fn is_mirrors(&self, device: usize) -> bool {
        self.devices[device].as_ref().is_some_and(|device| self.mirrors.contains(&device.at.0))
    }
}

impl super::Slot {
    /// The mirrors that want what crosses a port, one a bit.
    fn wanted(&self, port: PortNo) -> u8 {
        self.mirrored.get(usize::from(port.0)).copied().unwrap_or(0)
    }
}
