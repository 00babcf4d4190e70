//! The descriptors of each process, in the order in which they are handed down.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::{ConsoleEnds, Inside, InsideFds, KeeperEnds, Rings, SwitchEnds};
use crate::sys::handed::inherited;
use crate::sys::memory;
use crate::sys::ring::RingFds;
use crate::sys::seqpacket::Channel;

/// Octets that a configuration may have; a plan with large web sites has some.
const MAX_CONFIG: usize = 256 << 20;

/// Puts a configuration into memory that can be handed down, again and again.
pub(super) fn config<T: Serialize>(config: &T) -> io::Result<OwnedFd> {
    memory::sealed(c"honeyweave-config", &postcard::to_stdvec(config).map_err(io::Error::other)?)
}

/// The configuration that was handed down to this process.
///
/// # Errors
/// If the process was not started by the supervisor, or by one of another version.
pub fn inherited_config<T: DeserializeOwned>() -> io::Result<T> {
    // A copy: the position in the file is shared, but every process reads from the start, once.
    let bytes = memory::read_all(inherited(0)?, MAX_CONFIG)?;
    postcard::from_bytes(&bytes)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("the configuration: {e}")))
}

fn channel(index: usize) -> io::Result<Channel> {
    Ok(Channel::from_fd(inherited(index)?))
}

fn ring(index: usize) -> io::Result<RingFds> {
    Ok(RingFds { memory: inherited(index)?, wake: inherited(index + 1)? })
}

fn rings(index: usize, count: u16) -> io::Result<Vec<Rings>> {
    let pair = |number: u16| {
        let index = index + 4 * usize::from(number);
        Ok(Rings { events: ring(index)?, frames: ring(index + 2)? })
    };
    (0..count).map(pair).collect()
}

impl KeeperEnds {
    /// Those that were handed down to this process, so many TAPs among them.
    ///
    /// # Errors
    /// If the process was not started by the supervisor.
    pub fn inherited(taps: usize) -> io::Result<KeeperEnds> {
        let (supervisor, switch, console) = (channel(1)?, channel(2)?, channel(3)?);
        let inside = inherited(4 + taps).ok();
        let taps = (4..4 + taps).map(inherited).collect::<io::Result<_>>()?;
        Ok(KeeperEnds { supervisor, switch, console, taps, inside })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let channels = [&self.supervisor, &self.switch, &self.console].map(AsFd::as_fd);
        channels.into_iter().chain(self.taps.iter().chain(&self.inside).map(AsFd::as_fd)).collect()
    }
}

impl SwitchEnds {
    /// Those that were handed down to this process, with so many pairs of rings.
    ///
    /// # Errors
    /// If the process was not started by the supervisor.
    pub fn inherited(threads: u16) -> io::Result<SwitchEnds> {
        let (supervisor, keeper, console) = (channel(1)?, channel(2)?, channel(3)?);
        Ok(SwitchEnds { supervisor, keeper, console, rings: rings(4, threads)? })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let channels = [&self.supervisor, &self.keeper, &self.console].map(AsFd::as_fd);
        channels.into_iter().chain(self.rings.iter().flat_map(ring_fds)).collect()
    }
}

impl ConsoleEnds {
    /// Those that were handed down to this process, with so many pairs of rings, and what the way in which it is watched what
    /// happens `inside` containers takes.
    ///
    /// # Errors
    /// If the process was not started by the supervisor.
    pub fn inherited(threads: u16, inside: &Inside) -> io::Result<ConsoleEnds> {
        let control = 4 + 4 * usize::from(threads);
        let (inside, after) = match inside {
            Inside::Watched => {
                (Some(InsideFds::Ring { ring: inherited(control + 1)?, lost: inherited(control + 2)? }), control + 3)
            }
            Inside::Mounts(_) => (Some(InsideFds::Mounts(inherited(control + 1)?)), control + 2),
            Inside::Nothing | Inside::Failed(_) => (None, control + 1),
        };
        Ok(ConsoleEnds {
            supervisor: channel(1)?,
            switch: channel(2)?,
            keeper: channel(3)?,
            rings: rings(4, threads)?,
            control: inherited(control)?,
            inside,
            metrics: inherited(after).ok(),
        })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let channels = [&self.supervisor, &self.switch, &self.keeper].map(AsFd::as_fd);
        let rings = self.rings.iter().flat_map(ring_fds);
        let inside = self.inside.iter().flat_map(|fds| match fds {
            InsideFds::Ring { ring, lost } => vec![ring.as_fd(), lost.as_fd()],
            InsideFds::Mounts(group) => vec![group.as_fd()],
        });
        let last = inside.chain(self.metrics.as_ref().map(AsFd::as_fd));
        channels.into_iter().chain(rings).chain([self.control.as_fd()]).chain(last).collect()
    }
}

fn ring_fds(rings: &Rings) -> [BorrowedFd<'_>; 4] {
    let Rings { events, frames } = rings;
    [events.memory.as_fd(), events.wake.as_fd(), frames.memory.as_fd(), frames.wake.as_fd()]
}
