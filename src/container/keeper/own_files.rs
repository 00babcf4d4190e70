//! The files that tell a host from others of its image: its name, whom it asks for names, and the keys by which its visitors
//! know it again.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;

use super::host::Host;
use super::ssh_key::{self, SshKey};
use crate::container::image::HostKey;

/// The name of one that is nobody's yet.
pub const NOBODY: &str = "localhost";

/// A file of a container's: its path below `/etc`, what is in it, its mode.
pub type OwnFile = (&'static str, Vec<u8>, u32);

/// The files that tell `host` from others of its image.
///
/// # Errors
/// If no key can be made.
pub fn of(host: &Host<'_>, kind: HostKey) -> io::Result<Vec<OwnFile>> {
    let who = Who {
        name: &host.hostname,
        gateways: &host.gateways,
        ssh_seed: host.identity.ssh_seed(host.ip),
        ssh_scalar: host.identity.ssh_scalar(host.ip),
        machine_id: host.identity.machine_id(host.ip),
    };
    files(&who, kind)
}

/// The same files of a container that is nobody's yet.
///
/// # Errors
/// If no key can be made.
pub fn of_nobody(kind: HostKey) -> io::Result<Vec<OwnFile>> {
    files(&Who { name: NOBODY, gateways: &[], ssh_seed: [0; 32], ssh_scalar: [1; 32], machine_id: 0 }, kind)
}

/// Whom files are about.
struct Who<'a> {
    name: &'a str,
    gateways: &'a [IpAddr],
    ssh_seed: [u8; 32],
    ssh_scalar: [u8; 32],
    machine_id: u128,
}

fn files(who: &Who<'_>, kind: HostKey) -> io::Result<Vec<OwnFile>> {
    let name = who.name;
    let hosts = format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\t\tlocalhost ip6-localhost ip6-loopback\n");
    let mut resolv = String::new();
    for gateway in who.gateways {
        let _ = writeln!(resolv, "nameserver {gateway}");
    }
    let mut files: Vec<OwnFile> = vec![
        ("hostname", format!("{name}\n").into(), 0o644),
        ("hosts", hosts.into(), 0o644),
        ("resolv.conf", resolv.into(), 0o644),
    ];
    // An overlay is thrown away, but who comes back meets the key that they know.
    let key = SshKey::from_seed(who.ssh_seed).map_err(|error| io::Error::other(error.to_string()))?;
    match kind {
        HostKey::Dropbear => files.push((ssh_key::DROPBEAR, key.dropbear(), 0o600)),
        HostKey::Openssh => {
            let comment = format!("root@{name}");
            files.push(("ssh/ssh_host_ed25519_key", key.openssh(&comment).into(), 0o600));
            files.push(("ssh/ssh_host_ed25519_key.pub", key.public_line(&comment).into(), 0o644));
            if let Some(key) = SshKey::from_scalar(who.ssh_scalar) {
                files.push(("ssh/ssh_host_ecdsa_key", key.openssh(&comment).into(), 0o600));
                files.push(("ssh/ssh_host_ecdsa_key.pub", key.public_line(&comment).into(), 0o644));
            }
            files.push(("machine-id", format!("{:032x}\n", who.machine_id).into(), 0o444));
        }
        HostKey::None => {}
    }
    Ok(files)
}
