//! What is known of a container that somebody had. It lies beside the container's directory, outlives the keeper, and
//! becomes the head of the manifest when what was changed is taken.

use serde::{Deserialize, Serialize};

use super::host;
use super::lease::Lease;
use super::rsa::Late;
use crate::container::KeeperConfig;
use crate::container::image::Image;
use crate::container::inspector::{Leased, Visit};
use crate::event::{SessionId, Utc};
use crate::node::LeaseId;

/// Leases that are told of one container.
const MOST: usize = 32;
const SECOND: i64 = 1_000_000;

/// What is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Used {
    /// The lease that it had last.
    pub lease: LeaseId,
    /// When it became a host's. What last changed before that is honeyweave's own.
    pub prepared: Utc,
    /// What is honeyweave's own and came later.
    #[serde(default)]
    pub late: Vec<Late>,
    /// What it was for.
    pub leased: Leased,
    /// Since when it is to go: the time in the name of its archive, whoever takes that in the end.
    #[serde(default)]
    pub taken: Option<Utc>,
    /// The time in the name of the last archive that was taken by hand.
    #[serde(default)]
    pub seen: Option<Utc>,
    /// Whether it ever ran.
    #[serde(skip, default = "yes")]
    pub ran: bool,
    /// Inspectors that have failed.
    #[serde(skip)]
    pub tries: u8,
    /// There is no room for contents.
    #[serde(skip)]
    pub only_list: bool,
    /// Name of the archive of what was changed.
    #[serde(skip)]
    pub archive: Option<String>,
}

/// One that is read was written when it ran, or at most a moment before.
fn yes() -> bool {
    true
}

impl Used {
    /// Of container `container`, made from `image`, which nobody had before `lease`.
    pub fn first(config: &KeeperConfig, container: String, image: &Image, lease: Lease, now: Utc) -> Option<Used> {
        let host = host::find(config, lease.node, lease.host).ok()?;
        let node = config.nodes.get(usize::from(lease.node.0))?.0.clone();
        let leased = Leased {
            honeynet: config.name.clone(),
            container,
            node,
            host: host.ip,
            hostname: host.hostname,
            template: host.template.name.clone(),
            image: image.manifest.name.clone(),
            image_hash: image.manifest.hash.clone(),
            attacker: lease.by.map(|(attacker, _)| attacker),
            session: session_of(&lease),
            began: now,
            ended: None,
            why: None,
            leases: Vec::new(),
            more_leases: 0,
        };
        let mut used = Used {
            lease: lease.id,
            prepared: now,
            late: Vec::new(),
            leased,
            taken: None,
            seen: None,
            ran: false,
            tries: 0,
            only_list: false,
            archive: None,
        };
        used.again(&lease, now);
        Some(used)
    }

    /// Lease `lease` has it from now on.
    pub fn again(&mut self, lease: &Lease, now: Utc) {
        self.lease = lease.id;
        self.leased.ended = None;
        let leases = &mut self.leased.leases;
        if leases.len() >= MOST {
            leases.remove(1);
            self.leased.more_leases = self.leased.more_leases.saturating_add(1);
        }
        let attacker = lease.by.map(|(attacker, _)| attacker);
        leases.push(Visit { began: now, ended: None, why: None, attacker, session: session_of(lease) });
    }

    /// Its processes have ended.
    pub fn rested(&mut self, why: Option<&str>, now: Utc) {
        let Some(last) = self.leased.leases.last_mut().filter(|last| last.ended.is_none()) else { return };
        last.ended = Some(now);
        last.why = why.map(str::to_owned);
        self.leased.ended = Some(now);
    }

    /// Its files are to go.
    pub fn conclude(&mut self, why: &str, now: Utc) {
        self.rested(Some(why), now);
        if self.taken.is_none() {
            self.taken = Some(self.free_second(now));
            self.leased.why = Some(why.to_owned());
        }
    }

    /// A time of which no archive of this container has the name: `now`, or soon after.
    pub fn free_second(&self, now: Utc) -> Utc {
        match self.seen {
            Some(seen) if now.micros() < seen.micros() + SECOND => Utc::from_micros(seen.micros() + SECOND),
            _ => now,
        }
    }

    /// Who brought it to life last, and in which session.
    pub fn by(&self) -> Option<(std::net::IpAddr, SessionId)> {
        Some((self.leased.leases.last()?.attacker?, self.session()))
    }

    /// The session that brought it to life last, if that is known.
    pub fn session(&self) -> SessionId {
        let last = self.leased.leases.last().and_then(|last| last.session.as_deref());
        SessionId(last.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0))
    }
}

fn session_of(lease: &Lease) -> Option<String> {
    lease.by.filter(|(_, session)| *session != SessionId(0)).map(|(_, session)| session.to_string())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::container::keeper::host::tests::config;
    use crate::container::keeper::settings::tests::image;
    use crate::node::NodeIdx;

    fn lease(id: u64) -> Lease {
        let by = Some(("192.0.2.7".parse().unwrap(), SessionId(id)));
        Lease { id: LeaseId(id), node: NodeIdx(2), host: "fd00::5".parse().unwrap(), by, attacker: None }
    }

    pub fn used() -> Used {
        Used::first(&config(), "hw-abcdef-1".into(), &image(), lease(7), Utc::EPOCH).unwrap()
    }

    fn at(seconds: i64) -> Utc {
        Utc::from_micros(seconds * SECOND)
    }

    #[test]
    fn what_it_was_for_is_known_without_the_topology() {
        let mut used = used();
        let leased = &used.leased;
        assert_eq!((&*leased.node, &*leased.hostname, &*leased.template), ("web", "web-prod-03", "server"));
        assert_eq!((leased.host, &*leased.image), ("10.1.0.5".parse().unwrap(), "small"));
        used.rested(Some("released"), at(5));
        used.again(&lease(0xff), at(9));
        assert_eq!((used.leased.ended, used.prepared), (None, Utc::EPOCH));
        assert_eq!((used.leased.session.as_deref(), used.session()), (Some("0000000000000007"), SessionId(0xff)));
        assert_eq!(used.leased.attacker, Some("192.0.2.7".parse().unwrap()));
        used.conclude("nobody came back", at(10));
        // Whoever goes on with it changes nothing.
        used.conclude("the keeper was started anew", at(11));
        let leases = &used.leased.leases;
        assert_eq!((leases[0].ended, leases[0].why.as_deref()), (Some(at(5)), Some("released")));
        assert_eq!((leases[1].began, leases[1].ended), (at(9), Some(at(10))));
        assert_eq!((used.taken, used.leased.why.as_deref()), (Some(at(10)), Some("nobody came back")));
        let text = serde_json::to_string(&used).unwrap();
        assert_eq!(serde_json::from_str::<Used>(&text).unwrap(), Used { ran: true, ..used });
    }

    #[test]
    fn many_leases_are_told_in_bounds() {
        let mut used = used();
        for id in 1..100 {
            used.again(&lease(id), at(id as i64));
        }
        let leases = &used.leased.leases;
        assert_eq!((leases.len(), used.leased.more_leases), (MOST, 68));
        assert_eq!((leases[0].began, leases[1].began, leases[31].began), (at(0), at(69), at(99)));
    }

    #[test]
    fn no_two_archives_have_the_same_second() {
        let mut used = used();
        assert_eq!(used.free_second(at(5)), at(5));
        used.seen = Some(at(5));
        assert_eq!(used.free_second(at(5)), at(6));
        assert_eq!(used.free_second(at(7)), at(7));
    }
}
