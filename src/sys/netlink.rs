//! The few requests to the kernel's network configuration that no ioctl covers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `NETLINK_ROUTE` is protocol 0.
const ROUTE: Option<rustix::net::Protocol> = None;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV6_IFADDR`
const GROUPS: u32 = 1 | 0x10 | 0x100;

/// A request under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        Request(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Sends it in the calling thread's network namespace and waits for the kernel's word, which comes at once.
    fn send(mut self) -> io::Result<()> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let socket = socket()?;
        rustix::net::send(&socket, &self.0, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (got, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        let answer = answer.get(..got).unwrap_or_default();
        let kind = answer.get(4..6).and_then(|b| b.first_chunk()).map(|b| u16::from_ne_bytes(*b));
        let error = answer.get(16..20).and_then(|b| b.first_chunk()).map(|b| i32::from_ne_bytes(*b));
        match (kind, error) {
            (Some(NLMSG_ERROR), Some(0)) => Ok(()),
            (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer of the kernel's that is no answer")),
        }
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, ROUTE)?)
}

/// The attributes in `bytes`; what is no attribute ends them.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1, ..] = bytes else { return None };
        let len = usize::from(u16::from_ne_bytes([*l0, *l1]));
        // The upper bits are flags.
        let kind = u16::from_ne_bytes([*k0, *k1]) & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Gives `take` every object that the kernel lists for a request of that `kind`: what follows its message's header.
pub(super) fn dump(kind: u16, body: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut request = Request::new(kind, NLM_F_DUMP, body).0;
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    let socket = socket()?;
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an answer of the kernel's that is no answer");
    // The kernel fills no more than this.
    let mut answer = vec![0; 32 * 1024];
    loop {
        let (got, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = answer.get(..got).unwrap_or_default();
        while !rest.is_empty() {
            let [l0, l1, l2, l3, k0, k1, ..] = rest else { return Err(odd()) };
            let len = u32::from_ne_bytes([*l0, *l1, *l2, *l3]) as usize;
            let message = rest.get(16..len).ok_or_else(odd)?;
            match u16::from_ne_bytes([*k0, *k1]) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let error = message.first_chunk().map_or(0, |error| i32::from_ne_bytes(*error));
                    return Err(io::Error::from_raw_os_error(-error));
                }
                _ => take(message),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Removes the virtual interface `name`.
///
/// # Errors
/// `ENODEV` if there is none, `EOPNOTSUPP` if it is a physical one.
pub fn delete_link(name: &str) -> io::Result<()> {
    let mut text = name.as_bytes().to_vec();
    text.push(0);
    Request::new(libc::RTM_DELLINK, 0, &[0; 16]).attribute(IFLA_IFNAME, &text).send()
}

/// Gives interface `index` an IPv4 address, with the broadcast address of its prefix.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`, `ENODEV` if there is no such interface.
pub fn add_ipv4(index: u32, address: Ipv4Addr, prefix_len: u8) -> io::Result<()> {
    let host_bits = u32::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
    let broadcast = Ipv4Addr::from_bits(address.to_bits() | host_bits);
    let mut body = vec![libc::AF_INET as u8, prefix_len, 0, 0];
    body.extend(index.to_ne_bytes());
    Request::new(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
        .attribute(IFA_LOCAL, &address.octets())
        .attribute(IFA_ADDRESS, &address.octets())
        .attribute(IFA_BROADCAST, &broadcast.octets())
        .send()
}

/// Sends what has no other route by interface `index`, which is up, to `gateway`.
///
/// # Errors
/// `ENETUNREACH` or `EINVAL` if the gateway is on no prefix of the interface's.
pub fn add_default_route4(index: u32, gateway: Ipv4Addr) -> io::Result<()> {
    let body = [libc::AF_INET as u8, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
    Request::new(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
        .attribute(RTA_GATEWAY, &gateway.octets())
        .attribute(RTA_OIF, &index.to_ne_bytes())
        .send()
}

/// Gives interface `index` an IPv6 address that is usable at once, as one that nobody else turned out to have when
/// the kernel asked (RFC 4862, section 5.4). It does not ask, nor does it show that it did not.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`, `ENODEV` if there is no such interface.
pub fn add_ipv6(index: u32, address: Ipv6Addr, prefix_len: u8) -> io::Result<()> {
    let mut body = vec![libc::AF_INET6 as u8, prefix_len, 0, 0];
    body.extend(index.to_ne_bytes());
    // The mark of never having been asked about is taken away again.
    for flags in [IFA_F_NODAD, 0] {
        Request::new(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
            .attribute(IFA_LOCAL, &address.octets())
            .attribute(IFA_ADDRESS, &address.octets())
            .attribute(IFA_FLAGS, &flags.to_ne_bytes())
            .send()?;
    }
    Ok(())
}

/// Takes an IPv6 address from interface `index`.
///
/// # Errors
/// `EADDRNOTAVAIL` if it has no such address.
pub fn delete_ipv6(index: u32, address: Ipv6Addr, prefix_len: u8) -> io::Result<()> {
    let mut body = vec![libc::AF_INET6 as u8, prefix_len, 0, 0];
    body.extend(index.to_ne_bytes());
    Request::new(libc::RTM_DELADDR, 0, &body).attribute(IFA_LOCAL, &address.octets()).send()
}

/// Sends what has no other route by interface `index` to `gateway`.
///
/// # Errors
/// `EHOSTUNREACH` or `EINVAL` if the gateway is on no prefix of the interface's.
pub fn add_default_route6(index: u32, gateway: Ipv6Addr) -> io::Result<()> {
    let body = [libc::AF_INET6 as u8, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
    Request::new(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
        .attribute(RTA_GATEWAY, &gateway.octets())
        .attribute(RTA_OIF, &index.to_ne_bytes())
        .send()
}

/// A socket that becomes readable when any interface appears, vanishes, or
/// changes its state or its addresses. What it says is not worth reading: look at the interfaces,
/// and drain it with [`drain`].
///
/// # Errors
/// If the process has no descriptor left.
pub fn watch_links() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, ROUTE)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// Reads and forgets what a non-blocking socket has. An overflow counts as read.
pub fn drain(socket: &OwnedFd) {
    let mut bytes = [0; 8192];
    loop {
        match rustix::net::recv(socket, bytes.as_mut_slice(), RecvFlags::empty()) {
            Ok((1.., _)) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{interface, privileges, tap};

    /// Runs `test` in a thread with a network namespace of its own.
    fn alone(test: impl FnOnce() + Send + 'static) {
        let run = || {
            privileges::leave_network().unwrap();
            test();
        };
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn deletes_an_interface_and_hears_of_it() {
        alone(|| {
            let watch = watch_links().unwrap();
            drain(&watch);
            let (_fd, name) = tap::open("hwt%d", tap::Offload::Tcp).unwrap();
            let mut byte = [0; 1];
            assert!(rustix::net::recv(&watch, byte.as_mut_slice(), RecvFlags::PEEK).is_ok());
            drain(&watch);
            assert!(rustix::net::recv(&watch, byte.as_mut_slice(), RecvFlags::PEEK).is_err());
            delete_link(&name).unwrap();
            assert_eq!(interface::index(&name).unwrap_err().raw_os_error(), Some(libc::ENODEV));
            assert_eq!(delete_link(&name).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }

    #[test]
    fn ipv4_addresses_and_routes_are_as_asked_for() {
        alone(|| {
            let (_fd, name) = tap::open("hwt%d", tap::Offload::Tcp).unwrap();
            interface::set_up(&name, true).unwrap();
            let index = interface::index(&name).unwrap();
            add_ipv4(index, Ipv4Addr::new(10, 9, 8, 7), 20).unwrap();
            assert_eq!(interface::addresses(&name).unwrap()[0], (Ipv4Addr::new(10, 9, 8, 7).into(), 20));
            add_default_route4(index, Ipv4Addr::new(10, 9, 0, 1)).unwrap();
            let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            probe.connect("192.0.2.1:9").unwrap();
            assert_eq!(probe.local_addr().unwrap().ip(), Ipv4Addr::new(10, 9, 8, 7));
            probe.connect("10.9.15.255:9").expect_err("that is the broadcast address");
            assert!(add_default_route4(index, Ipv4Addr::new(198, 51, 100, 1)).is_err());
        });
    }

    #[test]
    fn ipv6_addresses_are_usable_at_once() {
        alone(|| {
            let (_fd, name) = tap::open("hwt%d", tap::Offload::Tcp).unwrap();
            interface::set_up(&name, true).unwrap();
            let index = interface::index(&name).unwrap();
            add_ipv6(index, "fd00::5".parse().unwrap(), 64).unwrap();
            // Address, index, prefix length, scope, flags: it is permanent (0x80), and nothing else.
            let listed = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
            let line = listed.lines().find(|line| line.starts_with("fd00")).unwrap();
            assert_eq!(line.split_whitespace().nth(4), Some("80"), "{listed}");
            // A tentative address cannot be bound.
            std::net::UdpSocket::bind("[fd00::5]:0").unwrap();
            add_default_route6(index, "fd00::1".parse().unwrap()).unwrap();
            let probe = std::net::UdpSocket::bind("[::]:0").unwrap();
            probe.connect("[2001:db8::1]:9").unwrap();
            assert_eq!(probe.local_addr().unwrap().ip(), "fd00::5".parse::<Ipv6Addr>().unwrap());
            assert!(add_default_route6(index, "2001:db8::1".parse().unwrap()).is_err());
            delete_ipv6(index, "fd00::5".parse().unwrap(), 64).unwrap();
            std::net::UdpSocket::bind("[fd00::5]:0").expect_err("it is gone");
            assert!(delete_ipv6(index, "fd00::5".parse().unwrap(), 64).is_err());
        });
    }
}
