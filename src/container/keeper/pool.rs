//! Containers that are kept ready: started, their services listening, frozen, and nobody's yet. A host that comes to
//! life gets one and its own name, addresses and keys in a millisecond or two.

use super::host::{self, Host};
use super::identity;
use super::lease::{Container, Rest, Stage};
use super::leases::unmade;
use super::machine::{Age, Machine};
use super::process::{Keeper, MILLISECOND, SECOND};
use super::settings;
use crate::container::image::{self, Image};
use crate::container::{ImageConfig, KeeperConfig};

/// Nothing is made ready for so long after somebody got a container: what the attacker waits for goes first.
pub const PAUSE: i64 = 300 * MILLISECOND;
/// Made ready at once.
const AT_ONCE: usize = 1;
/// After a failure, no other is made for so long.
const AFTER_FAILURE: i64 = 30 * SECOND;
/// How often it is looked whether services listen.
const LOOK: i64 = 20 * MILLISECOND;
/// A container is frozen when its services have listened, or waited for their key, for so long ...
const LISTENING: i64 = 500 * MILLISECOND;
/// ... or after so long if none does.
const SILENT: i64 = 5 * SECOND;

/// What is kept ready of an image.
#[derive(Debug)]
pub struct Pool {
    image: ImageConfig,
    /// No other is made before.
    not_before: i64,
}

/// The pools that the topology asks for.
pub fn pools(config: &KeeperConfig) -> Vec<Pool> {
    let is_used = |image: &&ImageConfig| image.pool > 0 && settings::usual(config, Some(&image.name)).is_some();
    let wanted = config.images.iter().filter(is_used);
    wanted.map(|image| Pool { image: image.clone(), not_before: 0 }).collect()
}

impl Keeper {
    /// A container of `image` that waits for a host; rather one whose services have been seen to listen.
    pub(super) fn spare_of(&self, image: &Image) -> Option<u32> {
        let spares = self.containers.iter().filter(|(_, container)| {
            container.is_spare() && container.image.dir == image.dir && matches!(container.stage, Stage::Live(_))
        });
        let is_awake = |container: &Container| match &container.stage {
            Stage::Live(running) => running.rest != Rest::Frozen,
            _ => true,
        };
        spares.min_by_key(|(number, container)| (is_awake(container), **number)).map(|(number, _)| *number)
    }

    /// Makes ready what is missing, unless somebody waits. Returns when to look again.
    pub(super) fn refill(&mut self, now: i64) -> i64 {
        let mut next = i64::MAX;
        if self.pools.is_empty() || !self.greeted || self.ending.is_some() {
            return next;
        }
        let is_starting = |stage: &Stage| matches!(stage, Stage::Queued(_) | Stage::Starting(_));
        let starting = self.containers.values().filter(|container| is_starting(&container.stage));
        let (mine, others): (Vec<_>, Vec<_>) = starting.partition(|container| container.is_spare());
        if mine.len() >= AT_ONCE || !others.is_empty() {
            // The end of a start wakes the keeper.
            return next;
        }
        let pause = self.last_lease + PAUSE;
        let mut missing = None;
        for (index, pool) in self.pools.iter().enumerate() {
            let of_pool =
                |container: &&Container| container.is_spare() && container.image.manifest.name == pool.image.name;
            if self.containers.values().filter(of_pool).count() >= usize::from(pool.image.pool) {
                continue;
            }
            let at = pause.max(pool.not_before);
            next = next.min(at);
            if at <= now && missing.is_none() {
                missing = Some(index);
            }
        }
        let Some(index) = missing else { return next };
        if let Err(why) = self.make_spare(index) {
            self.spare_failed(&self.pools[index].image.name.clone(), &why, now);
        }
        now
    }

    fn make_spare(&mut self, pool: usize) -> Result<(), String> {
        let image = image::find(&self.config.state_dir, &self.pools[pool].image).map_err(|error| error.to_string())?;
        let place = self.new_place();
        self.check_ways(&place, &image)?;
        let name = &self.pools[pool].image.name;
        let Some((template, backend)) = settings::usual(&self.config, Some(name)) else {
            return Err(format!("no template has containers of {name}"));
        };
        let (secret, size) = (self.config.secret, self.grant(backend.limits.disk)?);
        let machine = Machine::of_nobody(template, place.number, secret, &self.here);
        let made = (Age::of_nobody(secret, place.number), machine, size);
        let start = settings::start(None, made, &image, &place, (&self.layout, &self.seccomp));
        let disk = (&mut self.disks, size);
        settings::prepare(None, image.manifest.host_key, &place, &image.rootfs(), disk)
            .map_err(|error| unmade(&place, &error))?;
        self.begin((place, size), image, start, None).map(drop)
    }

    /// Whether one that is kept ready can become a container of `host`. Some things are settled at the start: what
    /// nobody inside may gain rights by, the size of its disk, and which files of its machine are covered.
    pub(super) fn is_usual(&self, host: &Host<'_>) -> bool {
        let Some(own) = &host.template.backend else { return false };
        let Some((template, usual)) = settings::usual(&self.config, Some(&own.image)) else { return false };
        let tells_memory = |template| Machine::of_nobody(template, 0, self.config.secret, &self.here).memory.is_some();
        !own.no_new_privs
            && own.limits.disk == usual.limits.disk
            && tells_memory(host.template) == tells_memory(template)
    }

    /// One that was to be kept ready did not come to be, or did not stay.
    pub(super) fn spare_failed(&mut self, image: &str, why: &str, now: i64) {
        tracing::warn!(image, why, "a container that was to be kept ready is not there; another one is tried in 30 s");
        for pool in self.pools.iter_mut().filter(|pool| pool.image.name == image) {
            pool.not_before = now + AFTER_FAILURE;
        }
    }

    /// Freezes what waits for a host and whose services listen. Returns when to look again.
    pub(super) fn settle_spares(&mut self, now: i64) -> i64 {
        let mut next = i64::MAX;
        let layout = &self.layout;
        for container in self.containers.values_mut() {
            if !container.is_spare() {
                continue;
            }
            let key = container.image.manifest.host_key;
            let is_ready = |init: i32, name: &str| host::listens(init) || identity::waits(key, layout, name);
            let Stage::Live(running) = &mut container.stage else { continue };
            let age = now - running.since;
            running.rest = match running.rest {
                Rest::Frozen => continue,
                Rest::Awake if age >= SILENT || is_ready(running.pid, &container.place.name) => {
                    Rest::Watched { used: 0, until: now + LISTENING }
                }
                Rest::Watched { until, .. } if now >= until => match layout.freeze(&container.place.name, true) {
                    Ok(()) => Rest::Frozen,
                    // No freezer on this machine: it waits awake.
                    Err(_) => Rest::Watched { used: 0, until: i64::MAX },
                },
                other => other,
            };
            next = next.min(match running.rest {
                Rest::Awake => now + LOOK,
                Rest::Watched { until, .. } => until,
                Rest::Frozen => i64::MAX,
            });
        }
        next
    }
}
