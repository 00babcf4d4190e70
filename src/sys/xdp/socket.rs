//! The sockets: made, given memory and bound by who may ([`bind`]), used by who
//! need not be anybody ([`Socket`]).
//!
//! They only receive: a packet socket sends more frames a second than their send
//! ring does, unless the driver would do without the copy.
//!
//! The memory is a memfd, in which each socket has a range of its own, cut into
//! chunks that go round between fill ring and receive ring. Frames are copied
//! out, so a chunk is never away for long and no frame of the fabric is tied to
//! a device.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::Mode;
use super::ring::{Mapping, Ring};

/// Octets of a chunk: room for one frame and what the kernel keeps free before it.
pub const CHUNK: usize = 2048;
/// Entries of a receive ring and of its fill ring, and chunks of memory, unless more are asked for: the pages of so many have
/// their place in a processor's table of addresses (TLB), and those of more do not.
pub const ENTRIES: u32 = 4096;

/// Octets of the memory of a socket with so many entries.
fn octets(entries: u32) -> usize {
    entries as usize * CHUNK
}

/// Memory for so many sockets of `entries` frames, a power of two, each.
///
/// # Errors
/// If there is no memory or no descriptor left.
pub fn memory(sockets: usize, entries: u32) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(c"honeyweave-xdp", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, (sockets * octets(entries)) as u64)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// Makes socket `number` of `entries` frames in `memory` and binds it to hardware queue `queue` of
/// interface `index`, ready to receive.
///
/// # Errors
/// `EBUSY` if the queue has a socket, also for about a second after that was
/// closed; `EINVAL` if there is no such queue; `EPERM` without `CAP_NET_RAW`;
/// `ENOBUFS` if so much memory must not be locked.
pub fn bind(
    memory: BorrowedFd<'_>,
    number: usize,
    entries: u32,
    (index, queue): (u32, u32),
    mode: Mode,
) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_XDP, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // The kernel holds on to the pages themselves: this mapping may go.
    let memory = Mapping::new(memory, (number * octets(entries)) as u64, octets(entries))?;
    let umem = libc::xdp_umem_reg {
        addr: memory.address() as u64,
        len: octets(entries) as u64,
        chunk_size: CHUNK as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(&fd, libc::XDP_UMEM_REG, &umem)?;
    set_option(&fd, libc::XDP_UMEM_FILL_RING, &entries)?;
    // Nothing is sent, but there has to be one.
    set_option(&fd, libc::XDP_UMEM_COMPLETION_RING, &64)?;
    set_option(&fd, libc::XDP_RX_RING, &entries)?;
    let mut fill = fill_ring(fd.as_fd(), &offsets(fd.as_fd())?, entries)?;
    for chunk in 0..fill.available(entries) {
        fill.write(u64::from(chunk) * CHUNK as u64);
    }
    fill.hand_over();
    // Natively, the driver's zero-copy if it has one.
    let copy = if mode == Mode::Generic { libc::XDP_COPY } else { 0 };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: copy | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: index,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the address lives for the call and its length is given.
    let status = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_xdp>() as libc::socklen_t)
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

fn set_option<T>(fd: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is plain data that lives for the call, and its length is given. What `xdp_umem_reg` points to is
    // mapped and as long as it says.
    let status =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, std::ptr::from_ref(value).cast(), len) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option that is plain data of type `T`.
fn option<T: Copy>(fd: BorrowedFd<'_>, name: libc::c_int) -> io::Result<T> {
    // SAFETY: all types this is called with consist of integers.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: value and length live for the call.
    let status =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, name, (&raw mut value).cast(), &raw mut len) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

fn offsets(fd: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    option(fd, libc::XDP_MMAP_OFFSETS)
}

fn fill_ring(fd: BorrowedFd<'_>, at: &libc::xdp_mmap_offsets, entries: u32) -> io::Result<Ring<u64>> {
    Ring::open(fd, libc::XDP_UMEM_PGOFF_FILL_RING, at.fr, entries, true)
}

/// A bound socket in the hands of who moves frames.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    memory: Mapping,
    rx: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
}

impl Socket {
    /// Takes over a socket that [`bind`] made as `number` of so many entries in `memory`. Once only: its chunks are assumed to be where
    /// `bind` left them.
    ///
    /// # Errors
    /// If the descriptors are not what they should be, or no memory can be mapped.
    pub fn open(fd: OwnedFd, memory: BorrowedFd<'_>, number: usize, entries: u32) -> io::Result<Socket> {
        let size = rustix::fs::fstat(memory)?.st_size as usize;
        let seals = rustix::fs::fcntl_get_seals(memory)?;
        if size / octets(entries) <= number || !seals.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the descriptor is no memory of this socket"));
        }
        let memory = Mapping::new(memory, (number * octets(entries)) as u64, octets(entries))?;
        let at = offsets(fd.as_fd())?;
        Ok(Socket {
            memory,
            rx: Ring::open(fd.as_fd(), libc::XDP_PGOFF_RX_RING as u64, at.rx, entries, false)?,
            fill: fill_ring(fd.as_fd(), &at, entries)?,
            fd,
        })
    }

    /// Whether the driver moves frames without copying them.
    ///
    /// # Errors
    /// If the descriptor is no such socket.
    pub fn is_zero_copy(&self) -> io::Result<bool> {
        Ok(option::<libc::xdp_options>(self.fd.as_fd(), libc::XDP_OPTIONS)?.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// Frames that found no room so far, ever.
    ///
    /// # Errors
    /// If the descriptor is no such socket.
    pub fn dropped(&self) -> io::Result<u64> {
        let statistics: libc::xdp_statistics = option(self.fd.as_fd(), libc::XDP_STATISTICS)?;
        // Who finds the fill ring empty counts that there, too, and then drops the frame.
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }

    /// Whether there is a frame.
    #[inline]
    pub fn has_frames(&self) -> bool {
        self.rx.has_entries()
    }

    /// Gives the next frames to `take`, `most` at most, and their chunks back to the kernel. Returns how many they were.
    #[inline]
    pub fn recv(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let count = self.rx.available(most as u32);
        // There are no more chunks than this ring has entries.
        let count = self.fill.available(count);
        if count == 0 {
            return 0;
        }
        for _ in 0..count {
            let desc = self.rx.read();
            let (start, len) = (desc.addr as usize, desc.len as usize);
            if len > self.memory.len() || start > self.memory.len() - len {
                continue;
            }
            // SAFETY: within the mapping, as was just checked. The kernel writes to a chunk only while it is on the fill
            // ring, to which it goes back below; nobody else has the memory mapped.
            take(unsafe { std::slice::from_raw_parts(self.memory.address().add(start), len) });
            self.fill.write(desc.addr & !(CHUNK as u64 - 1));
        }
        self.rx.hand_over();
        self.fill.hand_over();
        if self.fill.wants_wakeup() {
            // SAFETY: no buffer. What it returns is of no interest: it makes the driver look at the ring.
            unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    std::ptr::null_mut(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
        }
        count as usize
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
