//! The interface that frames leave and arrive by.

use std::net::IpAddr;

use ipnet::IpNet;

use super::BenchError;
use crate::netdev::{AfPacket, Netdev};
use crate::sys::{interface, packet};
use crate::wire::Mac;

/// `ARPHRD_ETHER` of the kernel.
const ETHERNET: u16 = 1;

/// An interface that is in use.
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC, from which all frames come.
    pub mac: Mac,
    /// The longest frame that it takes, FCS included.
    pub longest: usize,
    /// Its own addresses.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its packet socket.
    pub device: Box<dyn Netdev>,
}

impl Interface {
    /// Opens a packet socket on an interface of the present network namespace.
    ///
    /// # Errors
    /// If there is none of that name, it is not an Ethernet interface that is up, or rights are lacking.
    pub fn open(name: &str) -> Result<Interface, BenchError> {
        let failed = |error| BenchError::Open { interface: name.to_owned(), error };
        let (kind, mac) = interface::mac(name).map_err(|_| BenchError::NoInterface(name.to_owned()))?;
        if kind != ETHERNET {
            return Err(BenchError::NotEthernet(name.to_owned()));
        }
        let state = interface::link_state(name).map_err(failed)?;
        if !(state.up && state.running) {
            return Err(BenchError::Down(name.to_owned()));
        }
        let mtu = interface::mtu(name).map_err(failed)?;
        let fd = packet::open(name, true).map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => BenchError::Rights { interface: name.to_owned() },
            _ => failed(error),
        })?;
        Ok(Interface {
            name: name.to_owned(),
            mac: Mac(mac),
            longest: mtu as usize + 18,
            addresses: interface::addresses(name).map_err(failed)?,
            device: Box::new(AfPacket::new(fd, mtu)),
        })
    }

    /// The prefixes of its link, those that every link has left out.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let own = self.addresses.iter().filter_map(|(ip, len)| IpNet::new(*ip, *len).ok());
        own.filter(|net| !matches!(net.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local()))
    }

    /// The address of its own from which `target` would be asked: one of the target's link if there is one.
    pub fn address_for(&self, target: IpAddr) -> Option<IpAddr> {
        let own = |net: &IpNet| net.addr().is_ipv4() == target.is_ipv4();
        let near = self.prefixes().find(|net| own(net) && net.contains(&target));
        Some(near.or_else(|| self.prefixes().find(own))?.addr())
    }
}
