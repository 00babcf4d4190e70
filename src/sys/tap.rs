//! Opening a TAP. The crates that do it set neither the virtio header nor leave
//! it in place on a device that has it, which costs most of TCP's throughput.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::interface;
use super::vnet::VNET_HEADER;

/// What the kernel may leave undone in a frame that it hands over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offload {
    /// Nothing: frames are whole and bear their checksums.
    None,
    /// The checksums of TCP and UDP, and the cutting of TCP into segments: frames
    /// of up to 64 KiB, which is where a TAP's throughput comes from.
    Tcp,
}

/// Opens (creating it if need be) the TAP `name_pattern`, in which the kernel
/// replaces `%d` by a number. The device vanishes with the last descriptor,
/// even from another network namespace.
///
/// Non-blocking, closed on exec, without the packet information, with a virtio
/// header in front of each frame; what may come in is said by `offload`.
///
/// # Errors
/// `ENOENT` or `ENODEV` without the `tun` module, `EPERM` without `CAP_NET_ADMIN`,
/// `EBUSY` if another process has the device.
pub fn open(name_pattern: &str, offload: Offload) -> io::Result<(OwnedFd, String)> {
    let fd = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut request = interface::request(name_pattern)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: `TUNSETIFF` reads and writes an `ifreq`, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request) })?;
    let size = VNET_HEADER as libc::c_int;
    // SAFETY: `TUNSETVNETHDRSZ` reads an `int`, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ as libc::Ioctl, &raw const size) })?;
    set_offload(
        &fd,
        match offload {
            Offload::None => 0,
            Offload::Tcp => libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN,
        },
    )?;
    Ok((fd, interface::name_of(&request)))
}

fn set_offload(fd: &OwnedFd, offload: libc::c_uint) -> io::Result<()> {
    // SAFETY: `TUNSETOFFLOAD` takes its flags by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD as libc::Ioctl, libc::c_ulong::from(offload)) })
}

/// The present name of a TAP's device: it may have been renamed since.
///
/// # Errors
/// `EBADFD` if the device is gone.
pub fn name(fd: BorrowedFd<'_>) -> io::Result<String> {
    // SAFETY: `ifreq` is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: `TUNGETIFF` writes an `ifreq`, which lives for the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as libc::Ioctl, &raw mut request) })?;
    Ok(interface::name_of(&request))
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
