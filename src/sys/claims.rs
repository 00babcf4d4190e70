//! Who else on this machine waits for an interface's frames. A packet socket looks over the
//! shoulder of the network stack; AF_XDP takes the frames away from it, so it
//! must not be used where somebody waits for them.

use std::fmt;
use std::io;

use super::netlink::{attributes, dump};

const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const SCOPE_LINK: u8 = 253;

/// Who waits for an interface's frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The machine has an address on it. IPv6 link-local addresses, which every interface gets by itself, do not count.
    Addressed,
    /// It is a port of a bridge, a bond or the like.
    Enslaved,
    /// An interface of that name is built upon it: a VLAN, a macvlan.
    Carrier(String),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Addressed => write!(f, "this machine has an address on it"),
            Claim::Enslaved => write!(f, "it is part of a bridge, a bond or the like"),
            Claim::Carrier(upper) => write!(f, "`{upper}` is built upon it"),
        }
    }
}

/// Who uses interface `index`; `None` if nobody does. What is built upon it in another network namespace is not seen.
///
/// # Errors
/// If the kernel does not answer.
pub fn of(index: u32) -> io::Result<Option<Claim>> {
    let mut claim = None;
    dump(libc::RTM_GETLINK, &[0; 16], |link| {
        if let Some(found) = by_link(index, link) {
            claim.get_or_insert(found);
        }
    })?;
    dump(libc::RTM_GETADDR, &[0; 8], |address| {
        let [family, _, _, scope, rest @ ..] = address else { return };
        let at = rest.first_chunk().map(|at| u32::from_ne_bytes(*at));
        let by_itself = i32::from(*family) == libc::AF_INET6 && *scope == SCOPE_LINK;
        if at == Some(index) && !by_itself {
            claim.get_or_insert(Claim::Addressed);
        }
    })?;
    Ok(claim)
}

/// What an `ifinfomsg` and its attributes say of interface `index`.
fn by_link(index: u32, link: &[u8]) -> Option<Claim> {
    let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let this = number(link.get(4..8)?)?;
    let (mut name, mut kind, mut below, mut elsewhere) = (&b""[..], &b""[..], None, false);
    for (attribute, value) in attributes(link.get(16..)?) {
        match attribute {
            IFLA_MASTER if this == index => return Some(Claim::Enslaved),
            IFLA_IFNAME => name = value,
            IFLA_LINK => below = number(value),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_LINKINFO => {
                kind = attributes(value).find(|(at, _)| *at == IFLA_INFO_KIND).map_or(kind, |(_, kind)| kind)
            }
            _ => {}
        }
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    // Both ends of a veth name each other, and neither is built upon the other.
    let upon = this != index && below == Some(index) && !elsewhere && text(kind) != "veth";
    upon.then(|| Claim::Carrier(text(name)))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sys::{interface, privileges};

    #[test]
    fn says_who_uses_an_interface() {
        let run = || {
            privileges::leave_network().unwrap();
            let ip = |args: &str| {
                let output = Command::new("ip").args(args.split(' ')).output().unwrap();
                assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
            };
            ip("link add hwt0 type veth peer name hwt1");
            ip("link set hwt1 up");
            ip("link set hwt0 up");
            let index = interface::index("hwt0").unwrap();
            assert_eq!(of(index).unwrap(), None);
            ip("addr add fe80::7/64 dev hwt0 nodad");
            ip("addr add 10.9.9.9/24 dev hwt1");
            assert_eq!(of(index).unwrap(), None);
            for address in ["10.9.0.1/24", "fd09::1/64"] {
                ip(&format!("addr add {address} dev hwt0"));
                assert_eq!(of(index).unwrap(), Some(Claim::Addressed), "{address}");
                ip(&format!("addr del {address} dev hwt0"));
                assert_eq!(of(index).unwrap(), None);
            }
            ip("link add hwt2 type bridge");
            ip("link set hwt0 master hwt2");
            assert_eq!(of(index).unwrap(), Some(Claim::Enslaved));
            ip("link set hwt0 nomaster");
            ip("link add link hwt0 name above type macvlan");
            assert_eq!(of(index).unwrap(), Some(Claim::Carrier("above".into())));
            assert_eq!(of(interface::index("above").unwrap()).unwrap(), None);
            ip("link del above");
            assert_eq!(of(index).unwrap(), None);
        };
        std::thread::spawn(run).join().unwrap();
    }
}
