//! Network interfaces by name, through the classic ioctls: they need no
//! netlink and follow the calling thread's network namespace.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// What the kernel says of an interface's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkState {
    /// It is switched on (`IFF_UP`).
    pub up: bool,
    /// It has a carrier (`IFF_RUNNING`).
    pub running: bool,
}

/// A request about interface `name`.
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    let bytes = name.as_bytes();
    // One octet is left for the terminator.
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` cannot be an interface: a name has 1 to {} octets", libc::IFNAMSIZ - 1),
        ));
    }
    // SAFETY: `ifreq` is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

/// The name that the kernel wrote into a request.
pub(super) fn name_of(request: &libc::ifreq) -> String {
    let octets: Vec<u8> = request.ifr_name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    String::from_utf8_lossy(&octets).into_owned()
}

fn control() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

pub(super) fn ioctl(number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = control()?;
    // SAFETY: every `SIOC[GS]IF*` that this is used for takes a pointer to an `ifreq`, which lives for the call, and so
    // does `SIOCETHTOOL`, whose caller has put a pointer to the structure of its command into it.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), number, std::ptr::from_mut(request)) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The interface's index.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn index(name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFINDEX as libc::Ioctl, &mut request)?;
    // SAFETY: the call has filled this member.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
}

/// The interface's MTU, in octets.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn mtu(name: &str) -> io::Result<u32> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFMTU as libc::Ioctl, &mut request)?;
    // SAFETY: the call has filled this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}

/// Whether it is up and has a carrier.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn link_state(name: &str) -> io::Result<LinkState> {
    let flags = flags(name)?;
    Ok(LinkState { up: flags & libc::IFF_UP != 0, running: flags & libc::IFF_RUNNING != 0 })
}

fn flags(name: &str) -> io::Result<i32> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFFLAGS as libc::Ioctl, &mut request)?;
    // SAFETY: the call has filled this member.
    Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }) & 0xffff)
}

/// The interface's hardware type and MAC (`ARPHRD_ETHER` is 1).
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn mac(name: &str) -> io::Result<(u16, [u8; 6])> {
    let mut request = request(name)?;
    ioctl(libc::SIOCGIFHWADDR as libc::Ioctl, &mut request)?;
    // SAFETY: the call has filled this member.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let mut octets = [0; 6];
    for (to, from) in octets.iter_mut().zip(address.sa_data) {
        *to = from as u8;
    }
    Ok((address.sa_family, octets))
}

/// The interface's IP addresses and the lengths of their prefixes, in the kernel's order.
///
/// # Errors
/// If the process has no memory or descriptor left. One that has none, or does not exist, has no addresses.
pub fn addresses(name: &str) -> io::Result<Vec<(IpAddr, u8)>> {
    addresses_of(|interface| interface.to_bytes() == name.as_bytes())
}

/// The IP addresses of all interfaces, whichever: Linux answers for each of them on every interface.
///
/// # Errors
/// If the process has no memory or descriptor left.
pub fn all_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(addresses_of(|_| true)?.into_iter().map(|(ip, _)| ip).collect())
}

fn addresses_of(is_meant: impl Fn(&CStr) -> bool) -> io::Result<Vec<(IpAddr, u8)>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the pointer to fill lives for the call.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: not null, hence an entry of the list, which is freed only below.
        let entry = unsafe { &*next };
        // SAFETY: every entry has a name that ends with a zero octet.
        let own = is_meant(unsafe { CStr::from_ptr(entry.ifa_name) });
        // SAFETY: both pointers are null or lead to socket addresses of the kernel's that live as long as the list.
        if let (true, Some(ip), Some(mask)) =
            (own, unsafe { ip_of(entry.ifa_addr) }, unsafe { ip_of(entry.ifa_netmask) })
        {
            let ones = match mask {
                IpAddr::V4(mask) => mask.to_bits().count_ones(),
                IpAddr::V6(mask) => mask.to_bits().count_ones(),
            };
            found.push((ip, ones as u8));
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list of the call above, freed once.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// The IP address in a socket address, if it is one of IP.
///
/// # Safety
/// `address` is null, or leads to a socket address as long as its family says.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null; what is read is as long as the family says.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let bits = (*address.cast::<libc::sockaddr_in>()).sin_addr.s_addr;
                Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(bits))))
            }
            libc::AF_INET6 => {
                Some(IpAddr::V6(Ipv6Addr::from((*address.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

/// Switches it on or off.
///
/// # Errors
/// `ENODEV` if there is none of that name, `EPERM` without `CAP_NET_ADMIN`.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let flags = flags(name)?;
    let flags = if up { flags | libc::IFF_UP } else { flags & !libc::IFF_UP };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    ioctl(libc::SIOCSIFFLAGS as libc::Ioctl, &mut request)
}

/// Shuts this machine itself out of an interface that stays without addresses:
/// it speaks no IPv6 there, and takes and answers nothing of IPv4, ARP included.
/// All of it ends when the interface is moved to another network namespace.
///
/// # Errors
/// What the kernel says of the settings in `/proc/sys/net`.
pub fn shut_out_host(name: &str) -> io::Result<()> {
    // Without an address of the interface's no source is reachable by it, so that the filter stops everything but the
    // probes of ARP, which have no source.
    for setting in ["ipv6/conf/{}/disable_ipv6", "ipv4/conf/{}/rp_filter", "ipv4/conf/{}/arp_ignore"] {
        let path = format!("/proc/sys/net/{}", setting.replace("{}", name));
        match std::fs::write(&path, "1") {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && setting.starts_with("ipv6") => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Sets its MTU, in octets.
///
/// # Errors
/// `EINVAL` if the device does not take it, `EPERM` without `CAP_NET_ADMIN`.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
    ioctl(libc::SIOCSIFMTU as libc::Ioctl, &mut request)
}

/// Sets its MAC.
///
/// # Errors
/// `EADDRNOTAVAIL` for a group address, `EPERM` without `CAP_NET_ADMIN`.
pub fn set_mac(name: &str, mac: [u8; 6]) -> io::Result<()> {
    let mut request = request(name)?;
    let mut address = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: [0; 14] };
    for (to, from) in address.sa_data.iter_mut().zip(mac) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = address;
    ioctl(libc::SIOCSIFHWADDR as libc::Ioctl, &mut request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_loopback() {
        assert_eq!(index("lo").unwrap(), 1);
        assert!(mtu("lo").unwrap() >= 1280);
        assert_eq!(mac("lo").unwrap(), (libc::ARPHRD_LOOPBACK, [0; 6]));
        link_state("lo").unwrap();
        assert_eq!(addresses("hwt-none").unwrap(), []);
    }

    #[test]
    fn knows_addresses() {
        let alone = || {
            crate::sys::privileges::leave_network().unwrap();
            assert_eq!(addresses("lo").unwrap(), []);
            set_up("lo", true).unwrap();
            crate::sys::netlink::add_ipv6(1, "fd00::5".parse().unwrap(), 64).unwrap();
            let mut found = addresses("lo").unwrap();
            found.sort();
            let expected = [("127.0.0.1", 8), ("::1", 128), ("fd00::5", 64)];
            assert_eq!(found, expected.map(|(ip, len)| (ip.parse().unwrap(), len)));
        };
        // In a thread of its own, which leaves the others' network alone.
        std::thread::spawn(alone).join().unwrap();
    }

    #[test]
    fn says_what_is_wrong_with_a_name() {
        assert_eq!(index("hwt-none").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        for name in ["", "sixteen-octets-x", "nul\0"] {
            assert_eq!(index(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
