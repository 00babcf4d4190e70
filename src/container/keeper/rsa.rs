//! RSA host keys inside. To find one takes a third of a second of a processor, which no start waits for: a process that stands
//! back behind all others does it, beside the start, and the key takes its place when it is there. Until then it is
//! an empty file.
//!
//! That is the exception: while nobody comes, the keys of the first hosts of each node are found ahead. An OpenSSH takes its keys
//! for a secret by which it draws how long a refusal takes, so that who comes first could tell that one came late.
//!
//! So it is with OpenSSH, which reads its keys anew for every connection. Dropbear reads its own once: its key is
//! there if it was found before, for another container of that host.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::ahead::addresses;
use super::host::{self, Host};
use super::lease::{Container, Stage, Worker};
use super::process::Keeper;
use super::tries::Tries;
use super::{kept, own_files};
use crate::container::KeeperConfig;
use crate::container::image::HostKey;
use crate::container::worker::{Done, Work};
use crate::emulate::{RsaKey, RsaSeed};
use crate::event::Utc;
use crate::node::{NodeConfig, NodeIdx};

/// Keys that are remembered, of some 2 KB each; past that, they are looked for anew.
const MOST: usize = 4096;
/// Hosts of a node whose keys are found ahead, and addresses that are looked at for that.
const AHEAD: usize = 64;
const LOOKED_AT: usize = 4096;

/// A file of honeyweave's own that came later than its container was somebody's: its inode, and when that changed.
pub type Late = (u64, Utc);

/// Keys that were found, and those that are looked for.
#[derive(Debug, Default)]
pub struct Search {
    found: HashMap<u128, RsaKey>,
    wanted: VecDeque<(NodeIdx, IpAddr)>,
    at_work: Vec<(Worker, (NodeIdx, IpAddr), RsaSeed)>,
    /// A machine that is busy may starve who gives way to all others: then it is killed, and looks again later.
    tries: Tries<(NodeIdx, IpAddr)>,
}

impl Search {
    /// None so far, and those that are to be found before anybody comes.
    pub fn ahead(config: &KeeperConfig) -> Search {
        let mut wanted = VecDeque::new();
        for (index, (_, node)) in config.nodes.iter().enumerate() {
            let NodeConfig::Hosts(hosts) = node else { continue };
            let node = NodeIdx(index as u16);
            let has_one = |ip: &IpAddr| host::find(config, node, *ip).is_ok_and(|host| host.rsa_seed().is_some());
            wanted.extend(
                addresses(hosts).take(LOOKED_AT).filter(has_one).take(AHEAD).map(|ip| (node, hosts.host_of(ip))),
            );
        }
        Search { wanted, ..Search::default() }
    }

    /// `host` with its key, if that is there.
    pub fn with_key<'a>(&self, host: Host<'a>) -> Host<'a> {
        let rsa = host.rsa_seed().and_then(|seed| self.found.get(&seed.id()).cloned());
        Host { rsa, ..host }
    }

    /// The key of that host was not found.
    fn failed(&mut self, of: (NodeIdx, IpAddr), why: &str, now: i64) {
        let until = if self.tries.failed(of, now) { "it is looked for again" } else { "somebody comes to that host" };
        tracing::warn!(why, host = %of.1, "a host's RSA key was not found, and is missing inside until {until}");
    }
}

impl Keeper {
    /// Host `ip` of node `node` may need its key, if it has one.
    pub(super) fn look_for_key(&mut self, node: NodeIdx, ip: IpAddr) {
        let Ok(host) = host::find(&self.config, node, ip) else { return };
        let of = (node, host.ip);
        let Some(seed) = host.rsa_seed() else { return };
        let search = &mut self.search;
        if search.found.contains_key(&seed.id()) {
            self.bring_key(of);
        } else if !search.at_work.iter().any(|(_, other, _)| *other == of) {
            // Before those that nobody needs so far.
            search.wanted.retain(|other| *other != of);
            search.wanted.push_front(of);
        }
    }

    /// Begins what can be begun. Returns when to look again.
    pub(super) fn search_keys(&mut self, now: i64) -> i64 {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let due = self.search.tries.due(now);
        self.search.wanted.extend(due);
        while self.ending.is_none() && self.search.at_work.len() < cpus {
            let Some(of) = self.search.wanted.pop_front() else { break };
            let seed = host::find(&self.config, of.0, of.1).ok().and_then(|host| host.rsa_seed());
            let Some(seed) = seed.filter(|seed| !self.search.found.contains_key(&seed.id())) else {
                self.search.tries.done(of);
                continue;
            };
            let patience = self.search.tries.patience(of);
            match Worker::start(&self.worker, "host-key", &Work::Find(seed.clone()), now, patience) {
                Ok(worker) => self.search.at_work.push((worker, of, seed)),
                Err(error) => self.search.failed(of, &error.to_string(), now),
            }
        }
        let next = self.search.tries.next();
        let workers = self.search.at_work.iter_mut().map(|(worker, ..)| worker);
        workers.fold(next, |next, worker| {
            if now >= worker.deadline {
                worker.kill();
            }
            next.min(worker.deadline)
        })
    }

    /// Process `pid` has ended; whether it was one that looked for a key.
    pub(super) fn search_ended(&mut self, pid: i32, now: i64) -> bool {
        let Some(at) = self.search.at_work.iter().position(|(worker, ..)| worker.pid == pid) else { return false };
        let (worker, of, seed) = self.search.at_work.swap_remove(at);
        match worker.answer() {
            Done::Found(key) => {
                if self.search.found.len() >= MOST {
                    self.search.found.clear();
                }
                self.search.found.insert(seed.id(), *key);
                self.search.tries.done(of);
            }
            Done::Failed(why) => self.search.failed(of, &why, now),
            _ => self.search.failed(of, "it answers something else", now),
        }
        self.bring_key(of);
        true
    }

    /// Puts a host's key into its containers, where it is missing.
    fn bring_key(&mut self, (node, ip): (NodeIdx, IpAddr)) {
        let Ok(host) = host::find(&self.config, node, ip).map(|host| self.search.with_key(host)) else { return };
        let Ok(files) = own_files::of(&host, HostKey::Openssh) else { return };
        if host.rsa.is_none() {
            return;
        }
        let is_its = |container: &&mut Container| {
            let goes = matches!(container.stage, Stage::Removing(_) | Stage::Inspecting(_));
            container.host == Some((node, ip)) && container.image.manifest.host_key == HostKey::Openssh && !goes
        };
        for container in self.containers.values_mut().filter(is_its) {
            match bring(&container.place.upper(), &files) {
                Ok(late) if late.is_empty() => continue,
                Ok(late) => container.used.iter_mut().for_each(|used| used.late.extend(&late)),
                // Whoever is inside has taken the place for something else.
                Err(error) => {
                    tracing::debug!(%error, container = container.place.name, "its RSA key stays away");
                    continue;
                }
            }
            if let Err(error) = kept::write(container) {
                tracing::debug!(%error, "that a key came late is not written down");
            }
        }
    }
}

/// Writes those of `files` that are RSA keys into the empty ones below `root` that stand for them. Whoever is inside by now may
/// have put anything there: no link is followed, and nothing is waited for.
///
/// `root` is the upper directory of the overlay, not what is mounted: there, who watches the container by its mounts
/// would take this for something that was done inside. A file that is in the upper directory is read through the overlay as it is.
fn bring(root: &Path, files: &[own_files::OwnFile]) -> io::Result<Vec<Late>> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let dir = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, dir, Mode::empty())?;
    let mut late = Vec::new();
    for (path, content, _) in files.iter().filter(|(path, ..)| own_files::comes_late(path)) {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = format!("etc/{path}");
        let file = rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), beneath)?;
        let mut file = File::from(file);
        let found = file.metadata()?;
        if !found.is_file() || found.len() > 0 || found.nlink() > 1 {
            continue;
        }
        file.write_all(content)?;
        let written = file.metadata()?;
        let micros = written.ctime() * 1_000_000 + written.ctime_nsec() / 1000;
        late.push((written.ino(), Utc::from_micros(micros)));
    }
    Ok(late)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_key_takes_an_empty_place_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("root/etc/ssh")).unwrap();
        let files: Vec<own_files::OwnFile> = vec![
            ("ssh/ssh_host_rsa_key", b"private".to_vec(), 0o600),
            ("ssh/ssh_host_rsa_key.pub", b"public".to_vec(), 0o644),
            ("hostname", b"web\n".to_vec(), 0o644),
        ];
        let root = at("root");
        let read = |path: &str| fs::read_to_string(at(path)).unwrap();
        assert!(bring(&root, &files).is_err(), "where there is no place it makes none");
        fs::write(at("root/etc/ssh/ssh_host_rsa_key"), "").unwrap();
        fs::write(at("root/etc/ssh/ssh_host_rsa_key.pub"), "an intruder's").unwrap();
        let late = bring(&root, &files).unwrap();
        let is = fs::metadata(at("root/etc/ssh/ssh_host_rsa_key")).unwrap();
        assert_eq!(late.iter().map(|(inode, _)| *inode).collect::<Vec<_>>(), [is.ino()]);
        assert_eq!((read("root/etc/ssh/ssh_host_rsa_key").as_str(), is.mode() & 0o77), ("private", is.mode() & 0o77));
        assert_eq!(read("root/etc/ssh/ssh_host_rsa_key.pub"), "an intruder's");
        assert!(bring(&root, &files).unwrap().is_empty(), "once");
        // Links lead nowhere, whether the last name is one or another, and a pipe keeps nobody waiting.
        fs::create_dir_all(at("outside")).unwrap();
        fs::write(at("outside/ssh_host_rsa_key"), "").unwrap();
        fs::remove_dir_all(at("root/etc/ssh")).unwrap();
        symlink(at("outside"), at("root/etc/ssh")).unwrap();
        assert!(bring(&root, &files).is_err());
        fs::remove_file(at("root/etc/ssh")).unwrap();
        fs::create_dir(at("root/etc/ssh")).unwrap();
        symlink(at("outside/ssh_host_rsa_key"), at("root/etc/ssh/ssh_host_rsa_key")).unwrap();
        assert!(bring(&root, &files).is_err());
        assert_eq!(read("outside/ssh_host_rsa_key"), "");
        fs::remove_file(at("root/etc/ssh/ssh_host_rsa_key")).unwrap();
        let pipe = at("root/etc/ssh/ssh_host_rsa_key");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(bring(&root, &files).is_err());
    }
}
