//! The descriptors of each process, in the order in which they are handed down.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::{ConsoleEnds, KeeperEnds, SwitchEnds};
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

impl KeeperEnds {
    /// Those that were handed down to this process, so many TAPs among them.
    ///
    /// # Errors
    /// If the process was not started by the supervisor.
    pub fn inherited(taps: usize) -> io::Result<KeeperEnds> {
        let (supervisor, switch, console) = (channel(1)?, channel(2)?, channel(3)?);
        let taps = (4..4 + taps).map(inherited).collect::<io::Result<_>>()?;
        Ok(KeeperEnds { supervisor, switch, console, taps })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let channels = [&self.supervisor, &self.switch, &self.console].map(AsFd::as_fd);
        channels.into_iter().chain(self.taps.iter().map(AsFd::as_fd)).collect()
    }
}

impl SwitchEnds {
    /// Those that were handed down to this process.
    ///
    /// # Errors
    /// If the process was not started by the supervisor.
    pub fn inherited() -> io::Result<SwitchEnds> {
        let (supervisor, keeper, console) = (channel(1)?, channel(2)?, channel(3)?);
        Ok(SwitchEnds { supervisor, keeper, console, events: ring(4)?, frames: ring(6)? })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let channels = [&self.supervisor, &self.keeper, &self.console].map(AsFd::as_fd);
        [&channels[..], &ring_fds(&self.events), &ring_fds(&self.frames)].concat()
    }
}

impl ConsoleEnds {
    /// Those that were handed down to this process.
    ///
    /// # Errors
    /// If the process was not started by the supervisor.
    pub fn inherited() -> io::Result<ConsoleEnds> {
        Ok(ConsoleEnds {
            supervisor: channel(1)?,
            switch: channel(2)?,
            keeper: channel(3)?,
            events: ring(4)?,
            frames: ring(6)?,
            control: inherited(8)?,
            metrics: inherited(9).ok(),
        })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let channels = [&self.supervisor, &self.switch, &self.keeper].map(AsFd::as_fd);
        let mut fds =
            [&channels[..], &ring_fds(&self.events), &ring_fds(&self.frames), &[self.control.as_fd()]].concat();
        fds.extend(self.metrics.as_ref().map(AsFd::as_fd));
        fds
    }
}

fn ring_fds(ring: &RingFds) -> [BorrowedFd<'_>; 2] {
    [ring.memory.as_fd(), ring.wake.as_fd()]
}
