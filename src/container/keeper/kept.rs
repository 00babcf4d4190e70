//! Files of containers that have ended, for whoever comes back: until they are destroyed, a host comes to life with
//! what was done to it before. What they are for lies beside them, so that a successor of the keeper's knows.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cgroup::Layout;
use super::host::Host;
use super::lease::{Container, Lease, Running, Stage};
use super::machine::{Age, Machine};
use super::process::{Keeper, SECOND};
use super::settings::{self, Place};
use super::used::Used;
use super::{adopt, disk, host, leftovers};
use crate::container::image::{self, Image};
use crate::container::{FromKeeper, KeeperConfig};
use crate::event::{Event, EventId};
use crate::node::{LeaseId, NodeIdx};
use crate::sys::clock;

/// Most that are kept; past that, who waits longest goes.
pub const MOST: usize = 256;

/// The processes of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Alive {
    /// Its init.
    pub init: i32,
    /// When that was started ([`adopt::born`]): the number alone may be another process's by now.
    pub born: u64,
    /// liblxc's process that watches over it.
    pub monitor: i32,
}

/// What a container is for, as it is written down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Written {
    /// The lease that it had last; 0 if it has outlived the switch that had asked for it.
    pub lease: LeaseId,
    /// The node, by its name: its number may be another one after a restart.
    pub node: String,
    /// The host.
    pub host: IpAddr,
    /// The attacker that it was granted to, where each has one of its own.
    #[serde(default)]
    pub attacker: Option<IpAddr>,
    /// Name and hash of the image.
    pub image: (String, String),
    /// Octets of its disk.
    pub disk: u64,
    /// Its processes, once it runs.
    #[serde(default)]
    pub alive: Option<Alive>,
    /// The boot of the machine that it was written in: what disks hold is not to be relied on after a crash.
    pub boot: String,
    /// What else is known of it.
    #[serde(default)]
    pub used: Option<Used>,
}

/// The file that says what the container in `dir` is for. It is not on its disk, which may be gone.
fn file_of(dir: &Path) -> PathBuf {
    dir.with_extension("json")
}

/// What tells this boot of the machine from others.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Writes down what `container` is for. Nothing waits for the disk: after a loss of power it is not there, or whole.
pub fn write(container: &Container) -> io::Result<()> {
    let Some(used) = &container.used else { return Ok(()) };
    let manifest = &container.image.manifest;
    let text = serde_json::to_vec(&Written {
        lease: container.lease.map_or(LeaseId(0), |lease| lease.id),
        node: used.leased.node.clone(),
        host: used.leased.host,
        attacker: container.attacker,
        image: (manifest.name.clone(), manifest.hash.clone()),
        disk: container.disk,
        alive: match &container.stage {
            Stage::Live(Running { pid, monitor, .. }) => {
                adopt::born(*pid).map(|born| Alive { init: *pid, born, monitor: *monitor })
            }
            _ => None,
        },
        boot: boot(),
        used: Some(used.clone()),
    })?;
    let file = file_of(&container.place.dir);
    let new = file.with_extension("new");
    let written = File::create(&new).and_then(|mut new| new.write_all(&text)).and_then(|()| fs::rename(&new, &file));
    written.inspect_err(|_| drop(fs::remove_file(&new)))
}

/// What the container in `dir` was for, if it was anybody's, and if that can be read.
pub fn read(dir: &Path) -> Option<Written> {
    let file = file_of(dir);
    let text = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        other => other,
    };
    let written = text.and_then(|text| serde_json::from_slice(&text).map_err(io::Error::from));
    written.inspect_err(|error| tracing::warn!(%error, file = %file.display(), "what is unreadable is removed")).ok()
}

/// A container that a predecessor has left.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub number: u32,
    /// What it is for.
    pub written: Written,
    /// Its processes, if they still run and can go on.
    pub running: Option<Running>,
}

/// The host that a container is for, and its image, if there are both.
fn of_use<'a>(config: &'a KeeperConfig, written: &Written) -> Option<(NodeIdx, Host<'a>, Image)> {
    let node = config.nodes.iter().position(|(name, _)| *name == written.node)?;
    let node = NodeIdx(node as u16);
    let host = host::find(config, node, written.host).ok()?;
    host.may_grant(written.attacker).ok()?;
    let image = host.image(config).ok().filter(|image| image.manifest.hash == written.image.1)?;
    (written.boot == boot()).then_some((node, host, image))
}

/// The processes of the container in `place`, if they are to go on.
pub fn running(config: &KeeperConfig, layout: &Layout, place: &Place, written: &Written) -> Option<Running> {
    of_use(config, written)?;
    adopt::runs(place, written, layout, clock::monotonic_micros())
}

impl Keeper {
    /// Takes over what a predecessor left: containers that run, and files of those that do not. What is of no host any
    /// more, or of another image, goes, as does what was to go already; what was changed in it is taken before.
    pub(super) fn adopt(&mut self, found: Vec<Found>, now: i64) {
        for Found { number, written, running } in found {
            self.number = self.number.max(number);
            let place = Place::of(&leftovers::containers_dir(&self.config), &self.tag, number);
            if running.is_none() && written.lease != LeaseId(0) {
                let why = "the keeper was started anew".into();
                self.send(FromKeeper::LeaseGone { lease: written.lease, why }, None);
            }
            let ends = written.used.as_ref().is_some_and(|used| used.taken.is_some());
            let stays = match running {
                Some(running) => self.adopted_alive(place.clone(), &written, running, now),
                None if ends => None,
                None => self.adopted(place.clone(), &written, now),
            };
            match stays.map_or_else(|| self.of_no_use(place.clone(), &written), Ok) {
                Ok(container) => {
                    let ends = container.why.is_some();
                    self.containers.insert(number, container);
                    self.watch_inside(number);
                    self.tell_log(number);
                    match ends {
                        true => self.dispose(number, now),
                        false => self.rests(number),
                    }
                }
                Err(why) => {
                    let dir = place.dir.display();
                    tracing::error!(%dir, why, "what was changed in a container is lost");
                    self.tell_lost(&written, &why, now);
                    let _ = disk::remove(&place.dir);
                }
            }
        }
        self.forget_inside();
    }

    /// The same for a container that runs. If that cannot be, it ends.
    fn adopted_alive(&mut self, place: Place, written: &Written, running: Running, now: i64) -> Option<Container> {
        let init = running.init.try_clone();
        let (name, host) = (place.name.clone(), written.host);
        let adopted = of_use(&self.config, written).and_then(|(node, host, image)| {
            let host = (node, host.ip);
            let id = Some(written.lease).filter(|id| *id != LeaseId(0));
            let used = written.used.clone();
            let by = used.as_ref().and_then(Used::by);
            let lease = id.map(|id| Lease { id, node, host: host.1, by, attacker: written.attacker });
            let container = Container::new(place, written.disk, image, Stage::ended(now)).ok()?;
            Some(Container { attacker: written.attacker, lease, host: Some(host), used, ..container })
        });
        let adopted = adopted.and_then(|mut container| {
            self.inherit(&mut container, running, now).ok()?;
            Some(container)
        });
        if adopted.is_none() {
            tracing::warn!(container = name, %host, "what ran when the keeper died cannot be taken over, and ends");
            let _ = init.map(|init| rustix::process::pidfd_send_signal(init, rustix::process::Signal::KILL));
            leftovers::end(&self.layout, |other| other == name, now + SECOND);
        }
        adopted
    }

    /// One whose files nobody will come back to.
    ///
    /// # Errors
    /// A sentence that says why nothing can be known of what was changed in it.
    fn of_no_use(&self, place: Place, written: &Written) -> Result<Container, String> {
        let used = written.used.clone().ok_or("it is not known what it was for")?;
        if written.boot != boot() && !disk::is_clean(&place.dir) {
            return Err("the machine went down while its disk was in use".into());
        }
        let (name, hash) = &written.image;
        let is_its = |image: &Image| image.manifest.name == *name && image.manifest.hash == *hash;
        let image = image::list(&self.config.state_dir).into_iter().find(is_its);
        let image = image.ok_or_else(|| format!("its image `{name}` was removed"))?;
        settings::rest(&place).and_then(|()| disk::restore(&place.dir)).map_err(|error| error.to_string())?;
        let node = self.config.nodes.iter().position(|(name, _)| *name == written.node);
        let why = used.leased.why.clone();
        let container = Container::new(place, written.disk, image, Stage::Inspecting(None));
        Ok(Container {
            attacker: written.attacker,
            host: node.map(|node| (NodeIdx(node as u16), written.host)),
            why: Some(why.unwrap_or_else(|| "the keeper was started anew, and has no use for it".into())),
            used: Some(used),
            ..container.map_err(|error| error.to_string())?
        })
    }

    fn tell_lost(&self, written: &Written, why: &str, now: i64) {
        let node = self.config.nodes.iter().position(|(name, _)| *name == written.node);
        let node = NodeIdx(node.map_or(Event::NO_NODE, |node| node as u16));
        let text = format!("\0{why}; what was changed in it is lost");
        self.tell(EventId::EvidenceFailed, node, Some(written.host), &text, now);
    }

    /// None if it is of no use: not this honeynet's any more, or its files cannot be had.
    fn adopted(&self, place: Place, written: &Written, now: i64) -> Option<Container> {
        let (node, host, image) = of_use(&self.config, written)?;
        if let Err(error) = settings::rest(&place).and_then(|()| disk::restore(&place.dir)) {
            tracing::warn!(%error, dir = %place.dir.display(), "what a container has written is lost");
            return None;
        }
        let secs = host.template.backend.as_ref()?.destroy_secs;
        let stage = Stage::Kept { until: now + i64::from(secs) * SECOND };
        let container = Container::new(place, written.disk, image, stage).ok()?;
        let (host, used) = (Some((node, host.ip)), written.used.clone());
        Some(Container { host, attacker: written.attacker, used, ..container })
    }

    /// The container whose files are those of the lease's host, if they are kept and of this image.
    pub(super) fn kept_for(&self, lease: &Lease, image: &Image) -> Option<u32> {
        let is_it = |container: &&Container| {
            container.host == Some((lease.node, lease.host))
                && container.image.dir == image.dir
                && matches!(container.stage, Stage::Kept { .. })
        };
        let kept = || self.containers.values().filter(is_it);
        // What nobody had yet is the next attacker's who has none.
        let own = kept().find(|container| container.attacker == lease.attacker && !container.is_unused());
        own.or_else(|| kept().find(|container| container.is_unused())).map(|container| container.place.number)
    }

    /// Starts a container again from the files that were kept.
    pub(super) fn start_again(&mut self, number: u32, lease: Lease) -> Result<(), String> {
        self.goes_on(number, clock::monotonic_micros());
        let Some(mut before) = self.containers.remove(&number) else { return Err("it is gone".into()) };
        if before.is_unused() {
            self.make_again((lease.node, lease.host));
        }
        if let Err(why) = self.begin_again(&before, lease) {
            // Its files stay somebody's, who sees to it that they go.
            before.why = Some(why.clone());
            before.stage = Stage::Inspecting(None);
            self.containers.insert(number, before);
            self.dispose(number, clock::monotonic_micros());
            return Err(why);
        }
        if let Some(container) = self.containers.get_mut(&number) {
            (container.used, container.look) = (before.used.take(), before.look.take());
            container.listed = std::mem::take(&mut before.listed);
        }
        self.hand_over(number, lease);
        Ok(())
    }

    fn begin_again(&mut self, before: &Container, lease: Lease) -> Result<(), String> {
        let host = host::find(&self.config, lease.node, lease.host)?;
        let Container { place, image, disk, .. } = before;
        let machine = Machine::of(&host, self.config.secret, &self.here);
        settings::renew(place).map_err(|error| format!("cannot use {} again: {error}", place.dir.display()))?;
        let made = (Age::of(&host), machine, *disk);
        let start = settings::start(Some(&host), made, image, place, (&self.layout, &self.seccomp));
        self.begin((place.clone(), *disk), image.clone(), start, (lease.node, lease.host)).map(drop)
    }

    /// Has those removed that nobody came back to, and the oldest of too many.
    pub(super) fn expire_kept(&mut self, now: i64) {
        let mut kept: Vec<(i64, u32)> = Vec::new();
        let mut of: Vec<(u32, Option<IpAddr>)> = Vec::new();
        for (number, container) in &self.containers {
            if let Stage::Kept { until } = container.stage
                && !container.is_unused()
            {
                kept.push((until, *number));
            }
        }
        kept.sort_unstable();
        of.extend(kept.iter().map(|(_, number)| (*number, self.containers.get(number).and_then(|c| c.attacker))));
        let surplus = surplus(of, MOST);
        for (until, number) in kept {
            if until <= now {
                self.end(number, "nobody came back", now);
            } else if surplus.contains(&number) {
                self.end(number, "too many containers are kept", now);
            }
        }
    }
}

/// Which of these are more than `most`: of the attacker who has most machines the one that waits longest, so that
/// nobody's are pushed out by who makes many. Those first that wait longest; what is shared is nobody's.
fn surplus(mut kept: Vec<(u32, Option<IpAddr>)>, most: usize) -> Vec<u32> {
    let mut gone = Vec::new();
    while kept.len() > most {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        kept.iter().filter_map(|(_, attacker)| *attacker).for_each(|ip| *counts.entry(ip).or_default() += 1);
        let count = |attacker: &Option<IpAddr>| attacker.and_then(|ip| counts.get(&ip)).copied().unwrap_or(1);
        let greatest = kept.iter().map(|(_, attacker)| count(attacker)).max().unwrap_or(1);
        let Some(at) = kept.iter().position(|(_, attacker)| count(attacker) == greatest) else { break };
        gone.push(kept.remove(at).0);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Written {
        Written {
            lease: LeaseId(77),
            node: "office".into(),
            host: "10.1.0.5".parse().unwrap(),
            image: ("small".into(), "0".into()),
            disk: 1 << 30,
            alive: Some(Alive { init: 1234, born: 5678, monitor: 1233 }),
            boot: boot(),
            used: None,
            attacker: None,
        }
    }

    #[test]
    fn what_a_loss_of_power_leaves_is_whole_or_nothing() {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("hw-abcdef-7");
        assert_eq!(read(&dir), None);
        let text = serde_json::to_vec(&written()).unwrap();
        for len in 0..text.len() {
            fs::write(file_of(&dir), &text[..len]).unwrap();
            assert_eq!(read(&dir), None, "{len} octets of {}", text.len());
            // Blocks that were never written.
            let zeroed: Vec<u8> =
                text.iter().enumerate().map(|(at, octet)| if at < len { *octet } else { 0 }).collect();
            fs::write(file_of(&dir), zeroed).unwrap();
            assert_eq!(read(&dir), None, "zeroes behind {len} octets");
        }
        fs::write(file_of(&dir), &text).unwrap();
        assert_eq!(read(&dir), Some(written()));
        fs::remove_file(file_of(&dir)).unwrap();
        fs::create_dir(file_of(&dir)).unwrap();
        assert_eq!(read(&dir), None, "a directory in its place");
    }

    #[test]
    fn what_another_process_is_by_now_does_not_run() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::of(state.path(), "abcdef", 7);
        fs::create_dir(&place.dir).unwrap();
        let me = std::process::id() as i32;
        let runs =
            |alive: Option<Alive>| adopt::runs(&place, &Written { alive, ..written() }, &Layout::none(), 0).is_some();
        let monitor = crate::container::worker::parent_of(me).unwrap();
        let born = adopt::born(me).unwrap();
        assert!(!runs(None));
        for alive in [
            Alive { init: me, born: born + 1, monitor },
            Alive { init: me, born, monitor: me },
            Alive { init: i32::MAX, born, monitor },
            Alive { init: 0, born, monitor },
            // Right, but there is no disk.
            Alive { init: me, born, monitor },
        ] {
            assert!(!runs(Some(alive)), "{alive:?}");
        }
        crate::sys::mounts::mount(Path::new("none"), &place.dir, c"tmpfs", c"size=64k").unwrap();
        let it_runs = runs(Some(Alive { init: me, born, monitor }));
        disk::remove(&place.dir).unwrap();
        assert!(it_runs);
    }

    #[test]
    fn who_keeps_most_loses_the_oldest() {
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().ok());
        let kept = vec![(1, b), (2, None), (3, a), (4, a), (5, None), (6, a), (7, b)];
        assert_eq!(surplus(kept.clone(), 7), Vec::<u32>::new());
        assert_eq!(surplus(kept.clone(), 6), [3]);
        // Then both have two.
        assert_eq!(surplus(kept.clone(), 4), [3, 1, 4]);
        assert_eq!(surplus(vec![(1, None), (2, None), (3, a)], 1), [1, 2], "the oldest, where nobody has more");
    }
}
