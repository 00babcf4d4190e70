//! AF_PACKET sockets: opening one that belongs to a single interface, and
//! moving bursts of frames through it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::vnet::{VNET_HEADER, VnetHeader};
use super::{interface, packet_ring};

/// Frames that one call moves at most.
pub const BURST: usize = 64;
/// Socket buffers, in octets: with the default ones a burst of 300,000 frames a second is cut.
const BUFFER: libc::c_int = 16 * 1024 * 1024;

/// Opens a packet socket on `interface`: promiscuous, non-blocking, closed on
/// exec, with the virtio header and auxiliary data, blind to what it sends
/// itself. It has a ring ([`super::packet_ring`]) if `ring` is asked for and the
/// machine has the memory.
///
/// # Errors
/// `ENODEV` if there is no such interface, `EPERM` without `CAP_NET_RAW`.
pub fn open(interface: &str, ring: bool) -> io::Result<OwnedFd> {
    let fd = prepare()?;
    if ring {
        install_ring(&fd, interface);
    }
    bind(&fd, interface)?;
    Ok(fd)
}

/// The same with a ring, but it receives nothing until [`hear`] is called.
pub(super) fn open_deaf(interface: &str) -> io::Result<OwnedFd> {
    let fd = prepare()?;
    install_ring(&fd, interface);
    let nothing = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: nothing.as_ptr().cast_mut() };
    set_option(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)?;
    bind(&fd, interface)?;
    Ok(fd)
}

/// A socket by which frames are only sent on `interface`. A socket that also waits for frames would be woken for each
/// that has left.
///
/// # Errors
/// As [`open`].
pub fn open_sender(interface: &str) -> io::Result<OwnedFd> {
    let fd = prepare()?;
    attach(&fd, interface, 0)?;
    Ok(fd)
}

/// Has a socket of [`open_deaf`] receive from now on.
pub(super) fn hear(fd: &OwnedFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0_i32)
}

fn install_ring(fd: &OwnedFd, interface: &str) {
    if let Err(error) = packet_ring::install(fd) {
        tracing::warn!(%error, interface, "no receive ring: frames are received by system calls");
    }
}

/// A packet socket of no interface, with every option set.
fn prepare() -> io::Result<OwnedFd> {
    // Protocol 0 receives nothing: with ETH_P_ALL here, frames of every interface would queue up until the bind.
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let one: libc::c_int = 1;
    for option in [libc::PACKET_IGNORE_OUTGOING, libc::PACKET_VNET_HDR, libc::PACKET_AUXDATA, libc::PACKET_QDISC_BYPASS]
    {
        set_option(&fd, libc::SOL_PACKET, option, &one)?;
    }
    for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        // Without CAP_NET_ADMIN the system's limit holds; smaller buffers lose frames under load but work.
        if set_option(&fd, libc::SOL_SOCKET, forced, &BUFFER).is_err() {
            set_option(&fd, libc::SOL_SOCKET, plain, &BUFFER)?;
        }
    }
    Ok(fd)
}

/// Binds a socket to `interface`; `protocol` is what it receives, 0 for nothing. Returns the interface's index.
fn attach(fd: &OwnedFd, interface: &str, protocol: libc::c_int) -> io::Result<u32> {
    let index = interface::index(interface)?;
    // SAFETY: plain old data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = index as i32;
    // SAFETY: the address lives for the call and its length is given.
    let status = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(index)
}

/// Has a socket receive the frames of `interface`, and the interface receive all there are.
fn bind(fd: &OwnedFd, interface: &str) -> io::Result<()> {
    let index = attach(fd, interface, libc::ETH_P_ALL)?;
    // SAFETY: plain old data for which all zeroes is a valid value.
    let mut membership: libc::packet_mreq = unsafe { std::mem::zeroed() };
    membership.mr_ifindex = index as i32;
    membership.mr_type = libc::PACKET_MR_PROMISC as u16;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
    Ok(())
}

pub(super) fn set_option<T>(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is plain data that lives for the call, and its length is given.
    let status = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An option of a packet socket that is a number.
pub(super) fn option(fd: &OwnedFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the number and its length live for the call.
    let status =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, name, (&raw mut value).cast(), &raw mut len) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Whether the interface of a packet socket still exists. One that is merely
/// down does: its socket goes on when it is up again.
pub fn is_bound(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: plain old data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: address and length live for the call.
    let status = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) };
    // The kernel sets the index to -1 when the device is unregistered.
    status == 0 && address.sll_ifindex > 0
}

/// The error that a socket has to tell, if there is one; telling it takes it back.
///
/// # Errors
/// If the descriptor is no socket.
pub fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    Ok(rustix::net::sockopt::socket_error(fd)?.err().map(Into::into))
}

/// Frames that the kernel has thrown away for want of room in the socket's
/// buffer since this was last asked.
///
/// # Errors
/// If the descriptor is no packet socket.
pub fn overruns(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: the structure and its length live for the call.
    let status = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(stats.tp_drops) }
}

/// A frame that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Its octets, without the virtio header.
    pub len: usize,
    /// The virtio header.
    pub header: VnetHeader,
    /// The 802.1Q tag (TPID and TCI) that the kernel took out of the frame.
    pub vlan: Option<(u16, u16)>,
    /// The kernel has verified the checksums.
    pub csum_valid: bool,
    /// There was more than the buffers hold.
    pub truncated: bool,
}

impl Received {
    /// Takes in what the kernel's `TP_STATUS_*` say of the frame, and the tag that it took out.
    pub(super) fn describe(&mut self, status: u32, tpid: u16, tci: u16) {
        const CSUM_VALID: u32 = 1 << 7;
        const VLAN_VALID: u32 = 1 << 4;
        const VLAN_TPID_VALID: u32 = 1 << 6;
        self.csum_valid = status & CSUM_VALID != 0;
        if status & VLAN_VALID != 0 {
            self.vlan = Some((if status & VLAN_TPID_VALID != 0 { tpid } else { 0x8100 }, tci));
        }
    }
}

/// Room for the auxiliary data: a header of 16 octets and `tpacket_auxdata`, aligned.
type Control = [u64; 8];

/// Receives one frame from the socket's queue, its virtio header first, into
/// `first` and, as far as that does not hold it, `second`. [`Received::header`] is
/// left to the caller, who has the buffer.
///
/// # Errors
/// `WouldBlock` if nothing is there; `ENETDOWN` once when the interface went down;
/// `EINVAL` for a frame whose offload the header cannot express, which is lost then.
pub fn recv(fd: impl AsFd, first: &mut [u8], second: &mut [u8]) -> io::Result<Received> {
    let mut control: Control = [0; 8];
    let mut vectors = [vector(first), vector(second)];
    // SAFETY: plain old data (pointers and integers) for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = 2;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the message points to vectors and auxiliary data that live for the call, and they to buffers that the
    // caller has lent exclusively; lengths are those of the slices.
    let got = unsafe { libc::recvmsg(fd.as_fd().as_raw_fd(), &raw mut message, flags) };
    let total = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    let mut frame = Received {
        len: total.saturating_sub(VNET_HEADER),
        truncated: message.msg_flags & libc::MSG_TRUNC != 0 || total < VNET_HEADER,
        ..Received::default()
    };
    auxiliary(&message, &mut frame);
    Ok(frame)
}

/// Reads a message's auxiliary data.
fn auxiliary(message: &libc::msghdr, frame: &mut Received) {
    // SAFETY: the kernel has written `msg_controllen` octets to where `msg_control` points, which lives for the call.
    let control = unsafe { libc::CMSG_FIRSTHDR(message) };
    if control.is_null() {
        return;
    }
    // SAFETY: not null, and CMSG_FIRSTHDR has checked that a whole header is there; `Control` is aligned to 8.
    let (level, kind, len) = unsafe { ((*control).cmsg_level, (*control).cmsg_type, (*control).cmsg_len as usize) };
    let wanted = size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    if level != libc::SOL_PACKET || kind != libc::PACKET_AUXDATA || len < wanted {
        return;
    }
    // SAFETY: the message is long enough for the structure; it may be unaligned.
    let data = unsafe { libc::CMSG_DATA(control).cast::<libc::tpacket_auxdata>().read_unaligned() };
    frame.describe(data.tp_status, data.tp_vlan_tpid, data.tp_vlan_tci);
}

/// The kernel's view of a burst to be sent: allocated once, used for every call.
pub struct Burst {
    messages: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
}

// SAFETY: the raw pointers inside point into the boxes beside them, or are left over from a call that has ended and are
// written anew before each use.
unsafe impl Send for Burst {}

impl Default for Burst {
    fn default() -> Burst {
        Burst::new()
    }
}

impl Burst {
    /// Room for [`BURST`] frames.
    pub fn new() -> Burst {
        // SAFETY: plain old data (pointers and integers) for which all zeroes is a valid value.
        let message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Burst { messages: vec![message; BURST].into(), vectors: vec![vector; BURST].into() }
    }

    /// Sends up to [`BURST`] frames in order, each with its virtio header in
    /// front. Returns how many the kernel took.
    ///
    /// # Errors
    /// Why the first of them was not taken.
    pub fn send<'a>(&mut self, fd: impl AsFd, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut n = 0;
        for (i, frame) in frames.take(BURST).enumerate() {
            // The kernel only reads these.
            self.vectors[i] = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
            let message = &mut self.messages[i].msg_hdr;
            message.msg_iov = &raw mut self.vectors[i];
            message.msg_iovlen = 1;
            n = i + 1;
        }
        if n == 0 {
            return Ok(0);
        }
        // SAFETY: the first `n` messages point to vectors of `self`, which point to frames lent for 'a; sendmmsg reads
        // them only.
        let sent = unsafe {
            libc::sendmmsg(
                fd.as_fd().as_raw_fd(),
                self.messages.as_mut_ptr(),
                n as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

fn vector(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}
