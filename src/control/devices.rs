//! What the switch makes of the descriptors that the keeper hands to it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::container::ToKeeper;
use crate::netdev::{AfPacket, Netdev, TapRing, Xdp};
use crate::node::{NodeIdx, TapIo};
use crate::sys::xdp::{Mode, Socket};

/// The rings by which frames of TAPs pass, one for each thread. Once confined, the process cannot make one.
pub(super) fn tap_rings(io: TapIo, threads: u16) -> Vec<Option<TapRing>> {
    let ring = |_| {
        let ring = (io == TapIo::Auto).then(TapRing::new)?;
        ring.inspect_err(|error| tracing::info!(%error, "TAPs are read without io_uring, which this machine lacks"))
            .ok()
    };
    (0..threads).map(ring).collect()
}

/// The devices of an uplink, one for each shard. They send by the first socket of `fds` and receive by the others, which
/// share the interface's frames; or by one and the AF_XDP sockets that follow it with their memory, which the first
/// shard receives by. `None` if there are not enough.
pub(super) fn uplink_devices(
    mtu: u32,
    xdp: Option<(Mode, u32)>,
    mut fds: impl Iterator<Item = OwnedFd>,
    shards: u16,
) -> io::Result<Option<Vec<Box<dyn Netdev>>>> {
    let Some(tx) = fds.next() else { return Ok(None) };
    let receiver = |fd| io::Result::Ok(AfPacket::new(fd, mtu).sending_by(tx.try_clone()?));
    let Some((mode, ring)) = xdp else {
        let devices = fds.map(|fd| Ok(Box::new(receiver(fd)?) as Box<dyn Netdev>)).collect::<io::Result<Vec<_>>>()?;
        return Ok((devices.len() == usize::from(shards)).then_some(devices));
    };
    let (Some(socket), Some(memory)) = (fds.next(), fds.next()) else { return Ok(None) };
    let packet = receiver(socket.try_clone()?)?;
    let sockets = fds.enumerate().map(|(number, fd)| Socket::open(fd, memory.as_fd(), number, ring));
    let first: Box<dyn Netdev> =
        match sockets.collect::<io::Result<_>>().and_then(|sockets| Xdp::new(packet, sockets, mode)) {
            Ok(device) => Box::new(device),
            // Its sockets are closed by now, and everything comes by the packet socket.
            Err(error) => {
                tracing::error!(%error, "AF_XDP is of no use");
                Box::new(receiver(socket)?)
            }
        };
    let sender = |_| io::Result::Ok(Box::new(AfPacket::sender(tx.try_clone()?, mtu)) as Box<dyn Netdev>);
    let others = (1..shards).map(sender).collect::<io::Result<Vec<_>>>()?;
    Ok(Some([first].into_iter().chain(others).collect()))
}

/// The devices that the switch has from a keeper, as the keeper that follows that one has to know them.
#[derive(Default)]
pub(super) struct Used(HashMap<NodeIdx, Device>);

enum Device {
    Uplink {
        index: u32,
        by_xdp: bool,
        /// What keeps the program on the interface: frames go on to come while no keeper is there.
        _program: Option<OwnedFd>,
    },
    Tap,
}

impl Used {
    /// That of `node` was attached.
    pub fn uplink(&mut self, node: NodeIdx, index: u32, by_xdp: bool, program: Option<OwnedFd>) {
        self.0.insert(node, Device::Uplink { index, by_xdp, _program: program });
    }

    /// That of `node` was attached.
    pub fn tap(&mut self, node: NodeIdx) {
        self.0.insert(node, Device::Tap);
    }

    /// The device of `node` is gone.
    pub fn gone(&mut self, node: NodeIdx) {
        self.0.remove(&node);
    }

    /// What a keeper is told of it.
    pub fn told(&self) -> ToKeeper {
        let (mut uplinks, mut taps) = (Vec::new(), Vec::new());
        for (node, device) in &self.0 {
            match device {
                Device::Uplink { index, by_xdp, .. } => uplinks.push((*node, *index, *by_xdp)),
                Device::Tap => taps.push(*node),
            }
        }
        ToKeeper::Uses { uplinks, taps }
    }
}
