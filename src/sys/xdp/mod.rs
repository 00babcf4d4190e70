//! AF_XDP: frames of an interface past the rest of the kernel's network stack,
//! through rings in shared memory (`Documentation/networking/af_xdp.rst` of the
//! kernel).
//!
//! Own code, because the crates for it make a socket in the process that uses it.
//! Here root attaches the program ([`Attachment`]) and binds the sockets
//! ([`bind`]), and a process without any right moves frames through them
//! ([`Socket`]). For the program those crates also want a compiler for BPF.

mod bpf;
mod program;
mod ring;
mod socket;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use program::LONGEST;
pub use socket::{ENTRIES, Socket, bind, memory};

/// Where frames are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Mode {
    /// By the driver, before the kernel knows of them; without a copy if it can do that.
    Native,
    /// When the kernel begins to look at them; any device can do that.
    Generic,
}

/// A program on an interface, and the map that tells it where frames go. When it is dropped,
/// or its process dies, the interface is as it was, unless somebody has a copy of its [`link`](Attachment::link).
#[derive(Debug)]
pub struct Attachment {
    map: OwnedFd,
    link: OwnedFd,
}

impl Attachment {
    /// Attaches the program to interface `index` for sockets of up to `queues` hardware queues. Until those have some,
    /// everything goes its usual way.
    ///
    /// # Errors
    /// `EBUSY` if there is another program; `EOPNOTSUPP`, `EINVAL` and others of the driver if it can do no such thing;
    /// `EPERM` without `CAP_BPF`, `CAP_PERFMON` and `CAP_NET_ADMIN`; `ENOSYS` if the kernel has no BPF.
    pub fn new(index: u32, mode: Mode, queues: u32) -> io::Result<Attachment> {
        let map = bpf::socket_map(queues)?;
        let map_number = std::os::fd::AsRawFd::as_raw_fd(&map);
        let program = bpf::load(&program::assemble(map_number, program::PASS))?;
        let link = bpf::attach(program.as_fd(), index, mode)?;
        Ok(Attachment { map, link })
    }

    /// What keeps the program on the interface as long as a process has it open.
    pub fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// Has frames of `queue` go to `socket` until that is closed everywhere.
    ///
    /// # Errors
    /// `E2BIG` for a queue beyond what the map was made for; `EINVAL` for what is no such socket.
    pub fn serve(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        bpf::put_socket(self.map.as_fd(), queue, socket)
    }
}

#[cfg(test)]
mod tests;
