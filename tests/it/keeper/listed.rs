//! Listings of containers that rest, and what happens to them when somebody comes back.

use honeyweave::container::inspector::{Listing, Name, Occasion, Sha256Hex, between, read_listing};
use rustix::process::{Signal, kill_process};
use sha2::{Digest, Sha256};

use super::inspected::{MUCH, keeping};
use super::*;
use crate::net::Ns;

impl Keeper {
    /// The listings, the oldest first.
    fn listings(&self) -> Vec<Listing> {
        let entries = std::fs::read_dir(self.own().join("evidence/listings")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        paths.sort();
        paths.iter().map(|path| read_listing(std::fs::File::open(path).unwrap()).unwrap()).collect()
    }

    fn freeze(&mut self, id: u64) {
        let lease = LeaseId(id);
        // It may still have had something to do.
        wait_for("that it is frozen", || {
            self.say(&ToKeeper::Freeze { lease });
            let is_frozen = |message: &FromKeeper, _: &mut Vec<OwnedFd>| match message {
                FromKeeper::LeaseFrozen { lease: of } if *of == lease => Some(true),
                FromKeeper::LeaseBusy { lease: of } if *of == lease => Some(false),
                _ => None,
            };
            self.hear("what becomes of it", is_frozen).then_some(())
        });
    }
}

/// Somebody who is in touch with the container of lease 1.
struct Visitor {
    attacker: Ns,
    _wire: Wire,
    _net: Net,
}

impl Visitor {
    fn run(&self, keeper: &Keeper, command: &str) -> String {
        ssh(&self.attacker, &keeper.config, ("web", "10.77.0.1"), "root:toor@10.77.0.1", command)
    }
}

/// A keeper with a live container.
fn visited() -> (Keeper, Visitor) {
    let mut keeper = Keeper::start(keeping(3600));
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.lease(1, 1, "10.77.0.1");
    let wire = Wire::lay(keeper.tap(1), &attacker, &["10.77.0.254/24"]);
    keeper.live(1);
    (keeper, Visitor { attacker, _wire: wire, _net: net })
}

fn paths(listing: &Listing) -> Vec<String> {
    listing.changes.iter().map(|change| change.path.to_string()).filter(|path| path.starts_with("/root/")).collect()
}

#[test]
fn each_time_that_it_rests_it_is_listed() {
    let (mut keeper, visitor) = visited();
    let run = |keeper: &Keeper, command: &str| visitor.run(keeper, command);
    let script = b"#!/bin/sh\nid\n";
    run(&keeper, "printf '#!/bin/sh\\nid\\n' >/root/one; chmod 755 /root/one");
    keeper.freeze(1);
    let listed = keeper.told(EventId::EvidenceListed);
    assert_eq!((&*listed.why, listed.event.session.0), ("while it rests", 1));
    let listings = keeper.listings();
    assert_eq!((listings.len(), paths(&listings[0])), (1, vec!["/root/one".to_owned()]));
    let first = &listings[0];
    assert_eq!((first.occasion, first.partial, &*first.leased.node), (Occasion::Frozen, false, "web"));
    let addresses = ["10.77.0.1", "fd77::1"].map(|ip| ip.parse().unwrap());
    assert!(addresses.iter().all(|ip| first.addresses.contains(ip)), "{:?}", first.addresses);
    let hash = Sha256Hex(Sha256::digest(script).into());
    let one = first.changes.iter().find(|change| change.path == Name::new("/root/one")).unwrap();
    assert_eq!((one.sha256, one.sample), (Some(hash), true));
    let kept = std::fs::File::open(keeper.own().join(format!("evidence/samples/{hash}.zst"))).unwrap();
    assert_eq!(zstd::decode_all(kept).unwrap(), script);

    keeper.say(&ToKeeper::Thaw { lease: LeaseId(1) });
    run(&keeper, "echo x >/root/two; rm /root/one");
    keeper.freeze(1);
    keeper.told(EventId::EvidenceListed);
    let listings = keeper.listings();
    let own: Vec<String> =
        between(Some(&listings[0]), &listings[1]).iter().map(|change| change.path.to_string()).collect();
    assert!(own.contains(&"/root/one".into()) && own.contains(&"/root/two".into()), "{own:?}");

    // Nobody comes back: it is stopped, and its files stay as they are.
    keeper.release(1, true);
    let until = listings[1].until;
    let last = wait_for("another look at it", || {
        let listings = keeper.listings();
        listings.last().is_some_and(|last| last.until > until).then_some(listings)
    });
    assert_eq!((last.len(), last[1].occasion), (2, Occasion::Stopped), "nothing has changed since");
    keeper.supervisor = None;
    wait_for("the keeper's end", || keeper.child.try_wait().unwrap());
    let last = keeper.listings();
    assert_eq!((last.last().unwrap().occasion, keeper.evidence().0.len()), (Occasion::Ended, 1));
}

#[test]
fn who_comes_back_meanwhile_waits_for_no_inspector() {
    let (mut keeper, visitor) = visited();
    let run = |keeper: &Keeper, command: &str| visitor.run(keeper, command);
    assert_eq!(run(&keeper, MUCH), "ok\n");
    keeper.freeze(1);
    // It works, and will not be done.
    let inspector = keeper.stop_inspector();
    keeper.say(&ToKeeper::Thaw { lease: LeaseId(1) });
    assert_eq!(run(&keeper, "rm /root/much; echo back"), "back\n");
    assert_eq!(keeper.inspectors(), [inspector], "it still stands where it was stopped");
    kill_process(inspector, Signal::CONT).unwrap();
    // Depending on how far it came: in part, or not at all.
    let told = wait_for("what became of it", || match keeper.console.recv_msg() {
        Ok(Some((KeeperSays::Said(Said { event, data }), _))) => {
            let text = String::from_utf8(data).unwrap();
            matches!(event.id, EventId::EvidenceListed | EventId::EvidenceFailed).then_some((event.id, text))
        }
        _ => None,
    });
    assert!(told.1.contains("somebody came back before"), "{told:?}");
    let listings = keeper.listings();
    assert!(listings.iter().all(|listing| listing.partial), "{listings:?}");
    assert_eq!(listings.is_empty(), told.0 == EventId::EvidenceFailed);
    // The next time all is known.
    keeper.freeze(1);
    keeper.told(EventId::EvidenceListed);
    let last = keeper.listings().pop().unwrap();
    assert!(!last.partial && !paths(&last).contains(&"/root/much".to_owned()), "{:?}", paths(&last));
    // An inspector that is killed is no reason not to go on.
    keeper.say(&ToKeeper::Thaw { lease: LeaseId(1) });
    assert_eq!(run(&keeper, MUCH), "ok\n");
    keeper.freeze(1);
    kill_process(keeper.stop_inspector(), Signal::KILL).unwrap();
    let failed = keeper.told(EventId::EvidenceFailed);
    assert!(failed.why.starts_with("the inspector was killed or crashed; "), "{}", failed.why);
    keeper.say(&ToKeeper::Thaw { lease: LeaseId(1) });
    assert_eq!(run(&keeper, "echo on"), "on\n");
    keeper.release(1, false);
    keeper.told(EventId::ContainerDestroyed);
    keeper.is_clean();
    keeper.end();
}
