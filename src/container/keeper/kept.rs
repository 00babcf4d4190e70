//! Files of containers that have ended, for whoever comes back: until they are destroyed, a host comes to life with
//! what was done to it before. What they are for lies beside them, so that a successor of the keeper's knows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lease::{Container, Lease, Stage};
use super::machine::{Age, Machine};
use super::process::{Keeper, SECOND};
use super::settings::{self, Place};
use super::{disk, host, leftovers};
use crate::container::KeeperConfig;
use crate::container::image::Image;
use crate::node::{LeaseId, NodeIdx};

/// Most that are kept; past that, who waits longest goes.
const MOST: usize = 256;

/// What a container is for, as it is written down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Written {
    /// The lease that it had last.
    pub lease: LeaseId,
    /// The node, by its name: its number may be another one after a restart.
    pub node: String,
    /// The host.
    pub host: IpAddr,
    /// Name and hash of the image.
    pub image: (String, String),
    /// Octets of its disk.
    pub disk: u64,
    /// The boot of the machine that it was written in: what disks hold is not to be relied on after a crash.
    pub boot: String,
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
pub fn write(container: &Container, config: &KeeperConfig) -> io::Result<()> {
    let Some(lease) = container.lease else { return Ok(()) };
    let node = config.nodes.get(usize::from(lease.node.0)).map(|(name, _)| name.clone()).unwrap_or_default();
    let manifest = &container.image.manifest;
    let image = (manifest.name.clone(), manifest.hash.clone());
    let text = serde_json::to_vec(&Written {
        lease: lease.id,
        node,
        host: lease.host,
        image,
        disk: container.disk,
        boot: boot(),
    })?;
    let file = file_of(&container.place.dir);
    let new = file.with_extension("new");
    File::create(&new)?.write_all(&text)?;
    fs::rename(&new, file)
}

/// What the container in `dir` was for, if it was anybody's.
pub fn read(dir: &Path) -> Option<Written> {
    serde_json::from_slice(&fs::read(file_of(dir)).ok()?).ok()
}

impl Keeper {
    /// Takes over the files that a predecessor left. What is of no host any more, or of another image, is removed.
    pub(super) fn adopt(&mut self, found: Vec<(u32, Written)>, now: i64) {
        for (number, written) in found {
            self.number = self.number.max(number);
            let place = Place::of(&leftovers::containers_dir(&self.config), &self.tag, number);
            if let Some(container) = self.adopted(place.clone(), &written, now) {
                self.containers.insert(number, container);
            } else {
                let _ = disk::remove(&place.dir);
            }
        }
    }

    /// None if it is of no use: not this honeynet's any more, or its files cannot be had.
    fn adopted(&self, place: Place, written: &Written, now: i64) -> Option<Container> {
        let node = self.config.nodes.iter().position(|(name, _)| *name == written.node)?;
        let node = NodeIdx(node as u16);
        let host = host::find(&self.config, node, written.host).ok()?;
        let image = host.image(&self.config).ok().filter(|image| image.manifest.hash == written.image.1)?;
        if written.boot != boot() {
            return None;
        }
        if let Err(error) = settings::rest(&place).and_then(|()| disk::restore(&place.dir)) {
            tracing::warn!(%error, dir = %place.dir.display(), "what a container has written is lost");
            return None;
        }
        let secs = host.template.backend.as_ref()?.destroy_secs;
        Some(Container {
            lease: None,
            host: Some((node, host.ip)),
            _held: image.hold().ok()?,
            place,
            disk: written.disk,
            image,
            tap: None,
            stage: Stage::Kept { until: now + i64::from(secs) * SECOND },
            why: None,
            keep: None,
        })
    }

    /// The container whose files are those of the lease's host, if they are kept and of this image.
    pub(super) fn kept_for(&self, lease: &Lease, image: &Image) -> Option<u32> {
        let is_it = |container: &Container| {
            container.host == Some((lease.node, lease.host))
                && container.image.dir == image.dir
                && matches!(container.stage, Stage::Kept { .. })
        };
        self.containers.iter().find(|(_, container)| is_it(container)).map(|(number, _)| *number)
    }

    /// Starts a container again from the files that were kept.
    pub(super) fn start_again(&mut self, number: u32, lease: Lease) -> Result<(), String> {
        let Some(container) = self.containers.remove(&number) else { return Err("it is gone".into()) };
        let host = host::find(&self.config, lease.node, lease.host)?;
        let Container { place, image, disk, .. } = container;
        let machine = Machine::of(&host, self.config.secret, &self.here);
        settings::renew(&place).map_err(|error| format!("cannot use {} again: {error}", place.dir.display()))?;
        let made = (Age::of(&host), machine, disk);
        let start = settings::start(Some(&host), made, &image, &place, (&self.layout, &self.seccomp));
        let number = self.begin((place, disk), image, start, (lease.node, lease.host))?;
        self.hand_over(number, lease);
        Ok(())
    }

    /// Has those removed that nobody came back to, and the oldest of too many.
    pub(super) fn expire_kept(&mut self, now: i64) {
        let mut kept: Vec<(i64, u32)> = Vec::new();
        for (number, container) in &self.containers {
            if let Stage::Kept { until } = container.stage {
                kept.push((until, *number));
            }
        }
        kept.sort_unstable();
        let too_many = kept.len().saturating_sub(MOST);
        for (index, (until, number)) in kept.into_iter().enumerate() {
            if until <= now {
                self.end(number, "nobody came back", now);
            } else if index < too_many {
                self.end(number, "too many containers are kept", now);
            }
        }
    }
}
