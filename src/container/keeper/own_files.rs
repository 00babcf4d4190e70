//! The files that tell a host from others of its image: its name, whom it asks for names, and the keys by which its visitors
//! know it again.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;

use super::host::Host;
use super::ssh_key::{self, SshKey};
use crate::container::image::HostKey;
use crate::emulate::RsaKey;
use crate::service::SshKeyKind;

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
        keys: match (host.ssh(), kind) {
            (Some(ssh), _) => &ssh.host_keys,
            // What its own server has when it starts, whoever it is started for.
            (None, HostKey::Dropbear) => &[SshKeyKind::Ed25519],
            (None, _) => &[SshKeyKind::Ecdsa, SshKeyKind::Ed25519],
        },
        rsa: host.rsa.as_ref(),
    };
    files(&who, kind)
}

/// Whether what is in a file may come later than the others: then it is empty.
pub fn comes_late(path: &str) -> bool {
    path.starts_with("ssh/ssh_host_rsa_key")
}

/// The same files of a container that is nobody's yet.
///
/// # Errors
/// If no key can be made.
pub fn of_nobody(kind: HostKey) -> io::Result<Vec<OwnFile>> {
    let mut files = files(&NOBODYS, kind)?;
    if kind == HostKey::Dropbear {
        // A place for somebody's.
        files.push((ssh_key::DROPBEAR_RSA, Vec::new(), 0o600));
    }
    Ok(files)
}

/// Whom files are about.
struct Who<'a> {
    name: &'a str,
    gateways: &'a [IpAddr],
    ssh_seed: [u8; 32],
    ssh_scalar: [u8; 32],
    machine_id: u128,
    keys: &'a [SshKeyKind],
    rsa: Option<&'a RsaKey>,
}

const NOBODYS: Who<'static> = Who {
    name: NOBODY,
    gateways: &[],
    ssh_seed: [0; 32],
    ssh_scalar: [1; 32],
    machine_id: 0,
    keys: &SshKeyKind::USUAL,
    rsa: None,
};

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
    // An overlay is thrown away, but who comes back meets the keys that they know.
    let ed25519 = SshKey::from_seed(who.ssh_seed).map_err(|error| io::Error::other(error.to_string()))?;
    let has = |kind| who.keys.contains(&kind);
    let ecdsa = SshKey::from_scalar(who.ssh_scalar).filter(|_| has(SshKeyKind::Ecdsa));
    let rsa = who.rsa.map(SshKey::from_rsa).filter(|_| has(SshKeyKind::Rsa));
    match kind {
        HostKey::Dropbear => {
            // It reads this one for want of another, whatever is shown outside.
            files.push((ssh_key::DROPBEAR, ed25519.dropbear(), 0o600));
            files.extend(ecdsa.map(|key| (ssh_key::DROPBEAR_ECDSA, key.dropbear(), 0o600)));
            files.extend(rsa.map(|key| (ssh_key::DROPBEAR_RSA, key.dropbear(), 0o600)));
        }
        HostKey::Openssh => {
            let comment = format!("root@{name}");
            let mut both = |paths: [&'static str; 2], key: Option<SshKey>| {
                let [private, public] =
                    key.map_or_else(Default::default, |key| [key.openssh(&comment), key.public_line(&comment)]);
                files.extend([(paths[0], private.into(), 0o600), (paths[1], public.into(), 0o644)]);
            };
            // Its server does not start without any, and RSA may come late.
            if has(SshKeyKind::Ed25519) || ecdsa.is_none() {
                both(["ssh/ssh_host_ed25519_key", "ssh/ssh_host_ed25519_key.pub"], Some(ed25519));
            }
            if ecdsa.is_some() {
                both(["ssh/ssh_host_ecdsa_key", "ssh/ssh_host_ecdsa_key.pub"], ecdsa);
            }
            if has(SshKeyKind::Rsa) {
                both(["ssh/ssh_host_rsa_key", "ssh/ssh_host_rsa_key.pub"], rsa);
            }
            files.push(("machine-id", format!("{:032x}\n", who.machine_id).into(), 0o444));
        }
        HostKey::None => {}
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(keys: &[SshKeyKind], rsa: Option<&RsaKey>, kind: HostKey) -> Vec<(&'static str, bool)> {
        let who = Who { name: "web", gateways: &[], ssh_seed: [7; 32], ssh_scalar: [7; 32], machine_id: 7, keys, rsa };
        let keys = files(&who, kind).unwrap().into_iter().filter(|(path, ..)| path.contains("_key"));
        keys.filter(|(path, ..)| !path.ends_with(".pub")).map(|(path, content, _)| (path, content.is_empty())).collect()
    }

    #[test]
    fn a_server_finds_the_keys_that_its_host_shows() {
        use SshKeyKind::{Ecdsa, Ed25519, Rsa};

        let seed = crate::emulate::RsaSeed::new(vec![5; 64], vec![6; 64]);
        let rsa = seed.key(seed.find().unwrap()).unwrap();
        let (ed25519, ecdsa, late) = ("ssh/ssh_host_ed25519_key", "ssh/ssh_host_ecdsa_key", "ssh/ssh_host_rsa_key");
        for (keys, rsa, files) in [
            (&[Rsa, Ecdsa, Ed25519][..], Some(&rsa), &[(ed25519, false), (ecdsa, false), (late, false)][..]),
            (&[Rsa, Ecdsa, Ed25519], None, &[(ed25519, false), (ecdsa, false), (late, true)]),
            (&[Ecdsa], Some(&rsa), &[(ecdsa, false)]),
            // It starts, whenever RSA comes.
            (&[Rsa], None, &[(ed25519, false), (late, true)]),
        ] {
            assert_eq!(paths(keys, rsa, HostKey::Openssh), files, "{keys:?}");
        }
        assert!(comes_late(late) && comes_late("ssh/ssh_host_rsa_key.pub") && !comes_late(ed25519));
        // An empty file would be the end of it.
        let [first, second, third] = [ssh_key::DROPBEAR, ssh_key::DROPBEAR_ECDSA, ssh_key::DROPBEAR_RSA];
        assert_eq!(paths(&[Rsa, Ecdsa], None, HostKey::Dropbear), [(first, false), (second, false)]);
        assert_eq!(
            paths(&[Rsa, Ecdsa, Ed25519], Some(&rsa), HostKey::Dropbear),
            [(first, false), (second, false), (third, false)]
        );
    }

    #[test]
    fn what_is_nobodys_has_a_place_for_everything() {
        let seed = crate::emulate::RsaSeed::new(vec![5; 64], vec![6; 64]);
        let rsa = seed.key(seed.find().unwrap()).unwrap();
        for kind in [HostKey::Openssh, HostKey::Dropbear, HostKey::None] {
            let who = Who { rsa: Some(&rsa), ..NOBODYS };
            let somebodys: Vec<_> = files(&who, kind).unwrap().into_iter().map(|(path, ..)| path).collect();
            let nobodys: Vec<_> = of_nobody(kind).unwrap().into_iter().map(|(path, ..)| path).collect();
            assert_eq!(somebodys, nobodys);
        }
    }
}
