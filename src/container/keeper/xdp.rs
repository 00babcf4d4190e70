//! Whether and how an uplink's frames are received by AF_XDP.
//!
//! The program takes frames away from everybody else on the machine. So without
//! an order in the topology it is used only where nobody else is: no address, no
//! bridge, nothing built upon the interface; and where no tag can get lost. A
//! card that takes tags out of frames is told to leave them in. A virtual device
//! cannot be told so: what comes over a veth may have its tag beside it, where
//! the program does not see it. It does where tagged frames are not expected.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::node::{UplinkConfig, UplinkIo};
use crate::sys::xdp::{self, Attachment, Mode};
use crate::sys::{claims, ethtool};

/// Hardware queues that get a socket, each with 2 KiB of memory for each entry of its ring; frames of others go to the packet socket.
const QUEUES: u32 = 8;

/// The program on an interface.
#[derive(Debug)]
pub(super) struct Taken {
    attachment: Attachment,
    mode: Mode,
    index: u32,
    ring: u32,
    _tags: Option<TagsLeft>,
}

/// The driver of this interface leaves tags in frames as long as this exists.
#[derive(Debug)]
struct TagsLeft(String);

impl Drop for TagsLeft {
    fn drop(&mut self) {
        match ethtool::strip_tags(&self.0, true) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => {
                tracing::warn!(%error, interface = self.0, "the offload rx-vlan could not be switched on again");
            }
            _ => {}
        }
    }
}

/// What a switch needs to receive.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Where frames are taken.
    pub mode: Mode,
    /// The memory, then the socket of each queue, then what keeps the program on the interface: frames go on to come if
    /// this process dies.
    pub fds: Vec<OwnedFd>,
}

/// Why frames of interface `index` must not be taken; `None` if they may.
pub(super) fn objection(config: &UplinkConfig, index: u32) -> Option<String> {
    match config.io {
        UplinkIo::Packet => Some("the topology wants a packet socket".into()),
        UplinkIo::Xdp => None,
        UplinkIo::Auto => match claims::of(index) {
            Ok(Some(claim)) => Some(claim.to_string()),
            Ok(None) if config.tagged && !ethtool::is_hardware(&config.interface).unwrap_or(false) => {
                Some("a virtual device may hide the tags of frames".into())
            }
            Ok(None) => None,
            Err(error) => Some(format!("it cannot be told who uses it: {error}")),
        },
    }
}

/// Attaches the program to the interface unless `taken` is its program already, and binds new sockets.
///
/// # Errors
/// `EBUSY` while sockets of before are being closed; otherwise why it does not work here.
pub(super) fn take(taken: &mut Option<Taken>, config: &UplinkConfig, index: u32) -> io::Result<Sockets> {
    drop(taken.take_if(|taken| taken.index != index));
    if let Some(taken) = taken {
        return taken.sockets();
    }
    // What lives in the kernel alone has nothing to gain from its driver's own XDP; veth loses super-frames by it.
    let hardware = ethtool::is_hardware(&config.interface)?;
    let modes = if hardware { &[Mode::Native, Mode::Generic][..] } else { &[Mode::Generic] };
    let mut last = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    for &mode in modes {
        let attached = Taken::attach(config, index, mode, hardware);
        match attached.and_then(|attached| taken.insert(attached).sockets()) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && taken.is_some() => return Err(error),
            Err(error) => (last, *taken) = (error, None),
            sockets => return sockets,
        }
    }
    Err(last)
}

impl Taken {
    fn attach(config: &UplinkConfig, index: u32, mode: Mode, hardware: bool) -> io::Result<Taken> {
        let interface = &config.interface;
        let mut tags = None;
        if hardware && ethtool::strips_tags(interface).unwrap_or(false) {
            match ethtool::strip_tags(interface, false) {
                Ok(()) => tags = Some(TagsLeft(interface.clone())),
                Err(error) if config.io == UplinkIo::Auto => {
                    let why = format!("its driver does not leave tags in frames: {error}");
                    return Err(io::Error::new(error.kind(), why));
                }
                Err(error) => tracing::warn!(%error, interface, "its driver does not leave tags in frames"),
            }
        }
        Ok(Taken { attachment: Attachment::new(index, mode, QUEUES)?, mode, index, ring: config.ring, _tags: tags })
    }

    /// Binds a socket to each hardware queue.
    fn sockets(&self) -> io::Result<Sockets> {
        let memory = xdp::memory(QUEUES as usize, self.ring)?;
        let mut sockets = Vec::new();
        for queue in 0..QUEUES {
            match xdp::bind(memory.as_fd(), queue as usize, self.ring, (self.index, queue), self.mode) {
                Ok(socket) => sockets.push(socket),
                // There are no more queues.
                Err(error) if queue > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
                Err(error) => return Err(error),
            }
        }
        for (queue, socket) in (0..).zip(&sockets) {
            self.attachment.serve(queue, socket.as_fd())?;
        }
        let link = self.attachment.link().try_clone_to_owned()?;
        Ok(Sockets { mode: self.mode, fds: [memory].into_iter().chain(sockets).chain([link]).collect() })
    }
}
