//! Who a container is, given to one that runs already: it was kept ready before anybody knew for which host.
//!
//! No intruder was inside yet, so that its files can be trusted. They are written over in place, by the names that
//! [`super::settings::prepare`] made them under: root outside is nobody inside, and could make none there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::cgroup::Layout;
use super::host::Host;
use super::{own_files, settings, ssh_key};
use crate::container::image::{HostKey, Image};
use crate::sys::{interface, netlink};

/// Writes the files of `host` into the container whose init is process `init`.
///
/// Its dropbear has begun to read its key from a pipe, and goes on: one that were started anew would be slower by all
/// the memory that it touches until it listens. OpenSSH's server reads its keys anew for every connection.
///
/// # Errors
/// If it has ended. Then it is of no use for any host.
pub fn write(host: &Host<'_>, image: &Image, init: i32) -> io::Result<()> {
    let etc = PathBuf::from(format!("/proc/{init}/root/etc"));
    let over = |path: &str, content: &[u8]| {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true).custom_flags(libc::O_NOFOLLOW).open(etc.join(path))?.write_all(content)
    };
    let (kind, files) = (image.manifest.host_key, own_files::of(host, image.manifest.host_key)?);
    let is_own = |path: &str| files.iter().any(|(own, ..)| *own == path);
    for (path, ..) in own_files::of_nobody(kind)?.iter().filter(|(path, ..)| !is_own(path)) {
        fs::remove_file(etc.join(ssh_key::later(path).unwrap_or(path)))?;
    }
    for (path, content, _) in files {
        let Some(later) = ssh_key::later(path) else {
            over(path, &content)?;
            continue;
        };
        if path != ssh_key::DROPBEAR {
            over(later, &content)?;
            fs::rename(etc.join(later), etc.join(path))?;
            continue;
        }
        // Open for both, so that neither end is waited for. Whoever waits has it from here; whoever is interrupted by
        // the freezer, or comes only now, from the file.
        let mut both = OpenOptions::new();
        both.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let mut pipe = both.open(etc.join(path))?;
        over(later, &content)?;
        fs::rename(etc.join(later), etc.join(path))?;
        pipe.write_all(&content)?;
    }
    Ok(())
}

/// Gives the container whose init is process `init` the name, MAC, addresses and routes of `host`.
///
/// # Errors
/// If it has ended, or the kernel refuses an address. Then it is of no use for any host.
pub fn connect(host: &Host<'_>, init: i32) -> io::Result<()> {
    let _inside = Inside::enter(init)?;
    rustix::system::sethostname(host.hostname.as_bytes())?;
    // liblxc switches it on only for a container that has an address.
    interface::set_up("lo", true)?;
    interface::set_mac(settings::INTERFACE, host.mac.0)?;
    interface::set_up(settings::INTERFACE, true)?;
    let index = interface::index(settings::INTERFACE)?;
    for (address, prefix_len) in &host.addresses {
        match address {
            IpAddr::V4(v4) => netlink::add_ipv4(index, *v4, *prefix_len)?,
            IpAddr::V6(_) => {}
        }
    }
    let ipv6 = |(address, len): &(IpAddr, u8)| match address {
        IpAddr::V6(v6) => Some((*v6, *len)),
        IpAddr::V4(_) => None,
    };
    add_ipv6(&host.addresses.iter().filter_map(ipv6).collect::<Vec<_>>())?;
    let has = |v4: bool| host.addresses.iter().any(|(address, _)| address.is_ipv4() == v4);
    for gateway in &host.gateways {
        match gateway {
            IpAddr::V4(v4) if has(true) => netlink::add_default_route4(index, *v4)?,
            IpAddr::V6(v6) if has(false) => netlink::add_default_route6(index, *v6)?,
            _ => {}
        }
    }
    // What these files are about is the network namespace of whoever opens them.
    if has(false) {
        fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0")?;
    }
    fs::write("/proc/sys/net/ipv4/ip_default_ttl", host.template.personality.get().ttl.to_string())
}

/// Gives `eth0` of the namespace that the caller is in, which is up, the IPv6 addresses `addresses`. They and its
/// link-local one are what they are on a machine that has been up for weeks: neither tentative for a second
/// nor marked as never asked about.
///
/// # Errors
/// If the kernel refuses an address.
pub fn add_ipv6(addresses: &[(Ipv6Addr, u8)]) -> io::Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let index = interface::index(settings::INTERFACE)?;
    for (address, len) in interface::addresses(settings::INTERFACE)? {
        if let IpAddr::V6(v6) = address {
            netlink::delete_ipv6(index, v6, len)?;
            netlink::add_ipv6(index, v6, len)?;
        }
    }
    for (address, len) in addresses {
        netlink::add_ipv6(index, *address, *len)?;
    }
    Ok(())
}

/// Forgets what a container has sent before it was anybody's.
pub fn forget_frames(tap: &OwnedFd) {
    let mut frame = [0; 2048];
    // A TAP holds five hundred frames; it does not block.
    for _ in 0..1000 {
        if rustix::io::read(tap, frame.as_mut_slice()).is_err() {
            return;
        }
    }
}

/// Whether a server of container `name` waits for the key of its host (see [`write`]).
pub fn waits(kind: HostKey, layout: &Layout, name: &str) -> bool {
    let is_asleep = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("(dropbear) S"))
    };
    kind == HostKey::Dropbear && layout.processes(name).iter().any(is_asleep)
}

/// The calling thread is in the network and the name of a container until this is dropped.
struct Inside {
    own: [(File, LinkNameSpaceType); 2],
}

impl Inside {
    fn enter(init: i32) -> io::Result<Inside> {
        let kinds = [("net", LinkNameSpaceType::Network), ("uts", LinkNameSpaceType::HostNameAndNISDomainName)];
        let open = |of: &str| -> io::Result<[(File, LinkNameSpaceType); 2]> {
            let [net, uts] = kinds.map(|(name, kind)| File::open(format!("/proc/{of}/ns/{name}")).map(|f| (f, kind)));
            Ok([net?, uts?])
        };
        let theirs = open(&init.to_string())?;
        let inside = Inside { own: open("thread-self")? };
        for (namespace, kind) in &theirs {
            move_into_link_name_space(namespace.as_fd(), Some(*kind))?;
        }
        Ok(inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        for (namespace, kind) in &self.own {
            if let Err(error) = move_into_link_name_space(namespace.as_fd(), Some(*kind)) {
                // Everything that it did from now on would be done in an intruder's network.
                tracing::error!(%error, "the keeper cannot leave a container, and ends");
                std::process::abort();
            }
        }
    }
}
