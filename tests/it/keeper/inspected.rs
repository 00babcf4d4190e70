//! Evidence that the keeper takes by itself, before the files of a container go.

use std::collections::BTreeMap;

use honeyweave::container::inspector::{Change, Contents, How, Manifest, read};
use honeyweave::event::Event;
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::net::Ns;

/// Something that the keeper told the console of.
pub struct Told {
    pub event: Event,
    pub archive: String,
    pub why: String,
}

impl Keeper {
    /// Waits until it tells of an event.
    pub fn told(&self, id: EventId) -> Told {
        wait_for(id.as_str(), || match self.console.recv_msg() {
            Ok(Some((KeeperSays::Said(Said { event, data }), _))) if event.id == id => {
                let text = String::from_utf8(data).unwrap();
                let (archive, why) = text.split_once('\0').unwrap();
                Some(Told { event, archive: archive.into(), why: why.into() })
            }
            _ => None,
        })
    }

    pub fn own(&self) -> PathBuf {
        self.config.state_dir.join(&self.config.name)
    }

    /// What lies in the directory of evidence, and what in that of samples.
    pub fn evidence(&self) -> (Vec<String>, Vec<String>) {
        let names = |dir: PathBuf| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let is_archive = |name: &String| name != "samples" && name != "listings";
        let archives = names(self.own().join("evidence")).into_iter().filter(is_archive).collect();
        (archives, names(self.own().join("evidence/samples")))
    }

    pub fn manifest(&self, archive: &str) -> Manifest {
        let archive = read::open(&self.own().join("evidence").join(archive)).unwrap();
        assert_eq!(archive.mistakes(|_| None), Vec::<String>::new());
        archive.manifest
    }

    /// Runs a command of the program about its evidence.
    fn ask(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_honeyweave"));
        command.arg("evidence").args(args).args(["--name", &self.config.name, "--state-dir"]);
        let output = command.arg(&self.config.state_dir).output().unwrap();
        let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{args:?}: {text}");
        text
    }

    /// Has an attacker run `command` in the container of 10.77.0.1 under lease `id`.
    pub fn visit(&mut self, id: u64, attacker: &Ns, command: &str) -> String {
        self.lease(id, 1, "10.77.0.1");
        let _wire = Wire::lay(self.tap(id), attacker, &["10.77.0.254/24"]);
        self.live(id);
        ssh(attacker, &self.config, ("web", "10.77.0.1"), "root:toor@10.77.0.1", command)
    }

    pub fn release(&mut self, id: u64, keep: bool) {
        self.say(&ToKeeper::Release { lease: LeaseId(id), keep });
        self.gone(id);
    }

    /// The inspectors that work for it.
    pub fn inspectors(&self) -> Vec<Pid> {
        let wanted = format!("\0__inspector\0hw-{}-", tag(&self.config));
        let is_one = |pid: i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&wanted)
        };
        processes(is_one).into_iter().filter_map(Pid::from_raw).collect()
    }

    /// Waits for an inspector that is at work, and stops it before it is done.
    pub fn stop_inspector(&self) -> Pid {
        wait_for("an inspector", || {
            let inspector = *self.inspectors().first()?;
            let is = |what: &str| {
                let status = std::fs::read_to_string(format!("/proc/{inspector}/status")).unwrap_or_default();
                status.contains(what).then_some(inspector)
            };
            is("Seccomp:\t2")?;
            kill_process(inspector, Signal::STOP).ok()?;
            Some(wait_for("that it stops", || is("State:\tT")))
        })
    }

    /// Has an attacker leave so much in a container that its inspector works for some time, and stops that one.
    fn inspected_at_length(&mut self, attacker: &Ns) -> Pid {
        assert_eq!(self.visit(1, attacker, MUCH), "ok\n");
        self.release(1, false);
        self.stop_inspector()
    }

    pub fn kill_itself(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_clean(&self) {
        wait_for("that nothing is left", || self.traces().is_empty().then_some(()));
    }
}

pub fn keeping(secs: u32) -> KeeperConfig {
    let mut config = config(vec![]);
    for (_, node) in &mut config.nodes {
        let NodeConfig::Hosts(hosts) = node else { continue };
        for template in &mut hosts.templates {
            template.backend.as_mut().unwrap().destroy_secs = secs;
        }
    }
    config
}

fn by_path(manifest: Manifest) -> BTreeMap<String, Change> {
    manifest.changes.into_iter().map(|change| (change.path.to_string(), change)).collect()
}

/// So much that an inspector has to work for some time.
pub const MUCH: &str = "dd if=/dev/urandom of=/root/much bs=1M count=100 2>/dev/null; echo ok";

#[test]
fn what_was_changed_is_taken_before_it_goes() {
    let mut config = keeping(2);
    config.images[0].pool = 1;
    let mut keeper = Keeper::start(config);
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.visit(
        1,
        &attacker,
        "printf '#!/bin/sh\\nid\\n' >\"/root/$(printf 'odd\\nname\\033[2J')\"; chmod 4755 /root/odd*; rm /etc/issue",
    );
    keeper.release(1, true);
    // Who comes back adds to it.
    keeper.visit(2, &attacker, "echo more >/root/more");
    keeper.release(2, true);
    let taken = keeper.told(EventId::EvidenceTaken);
    let destroyed = keeper.told(EventId::ContainerDestroyed);
    assert_eq!((&*destroyed.archive, &*destroyed.why), (&*taken.archive, "nobody came back"));
    assert_eq!((destroyed.event.node, destroyed.event.dst.ip.get()), (1, Some("10.77.0.1".parse().unwrap())));
    assert!(keeper.ask(&["verify", &taken.archive]).starts_with("ok: "));
    let shown = keeper.ask(&["show", &taken.archive]);
    assert!(shown.contains("/root/odd\\x0aname\\x1b[2J") && shown.contains("nobody came back"), "{shown}");
    let manifest = keeper.manifest(&taken.archive);
    let leased = manifest.leased.clone();
    assert_eq!((&*leased.node, &*leased.hostname, &*leased.template), ("web", "web-prod-03", "server"));
    assert_eq!((&*leased.image, leased.leases.len()), ("small", 2));
    assert_eq!(
        (leased.attacker, leased.session.as_deref()),
        (Some("10.77.0.254".parse().unwrap()), Some("0000000000000001"))
    );
    assert_eq!(destroyed.event.session.0, 2);
    let (first, second) = (&leased.leases[0], &leased.leases[1]);
    assert!(leased.began == first.began && first.ended.unwrap() < second.began, "{leased:?}");
    assert!(leased.ended == second.ended && second.ended.unwrap() <= manifest.taken, "{leased:?}");
    let changes = by_path(manifest);
    let odd = &changes["/root/odd\\x0aname\\x1b[2J"];
    assert!(odd.sample && odd.kept && String::from(odd.entry.mode) == "4755", "{odd:?}");
    assert_eq!((changes["/etc/issue"].change, changes["/root/more"].change), (How::Deleted, How::Added));
    // What makes it this host is not the intruder's.
    assert!(!changes.keys().any(|path| path.starts_with("/etc/host") || path.contains("dropbear_")), "{changes:?}");
    // One at the end of the honeynet, none of what nobody had.
    keeper.visit(3, &attacker, "echo last >/root/last");
    wait_for("one that nobody has", || (keeper.inits().len() == 2).then_some(()));
    let (own, config) = (keeper.own(), keeper.config.clone());
    // Beside the directories of samples and listings.
    let archives = |own: &Path| std::fs::read_dir(own.join("evidence")).unwrap().count() - 2;
    assert_eq!(archives(&own), 1);
    keeper.supervisor = None;
    wait_for("the keeper's end", || keeper.child.try_wait().unwrap());
    assert_eq!(keeper.traces(), Vec::<String>::new());
    assert_eq!((archives(&own), config.name == keeper.config.name), (2, true));
    let (names, _) = keeper.evidence();
    // Both may be of the same second.
    let last = names.iter().find(|name| **name != taken.archive).unwrap();
    assert!(by_path(keeper.manifest(last)).contains_key("/root/last"), "{names:?}");
}

#[test]
fn an_inspector_that_is_stopped_or_killed_keeps_nobody_waiting() {
    let mut keeper = Keeper::start(keeping(0));
    let net = Net::new();
    let attacker = net.ns("attacker");
    let inspector = keeper.inspected_at_length(&attacker);
    // Another container comes and goes, and so does another one of the same host.
    keeper.lease(2, 0, "10.77.0.20");
    let tap = keeper.tap(2);
    tap.arp(Ipv4Addr::new(10, 77, 0, 20));
    keeper.live(2);
    keeper.release(2, false);
    assert_eq!(keeper.told(EventId::ContainerDestroyed).event.dst.ip.get(), Some("10.77.0.20".parse().unwrap()));
    assert_eq!(keeper.visit(3, &attacker, "ls /root"), "", "another machine");
    assert_eq!(keeper.inspectors(), [inspector]);
    kill_process(inspector, Signal::KILL).unwrap();
    let failed = keeper.told(EventId::EvidenceFailed);
    assert_eq!(failed.why, "the inspector was killed or crashed; another one tries");
    let destroyed = keeper.told(EventId::ContainerDestroyed);
    assert!(
        keeper
            .manifest(&destroyed.archive)
            .changes
            .iter()
            .any(|change| change.kept && change.entry.size > 99 << 20 || change.why.is_some())
    );
    let (archives, samples) = keeper.evidence();
    assert_eq!(archives.len(), 2, "{archives:?}");
    assert!(!samples.iter().any(|name| name.starts_with('.')), "{samples:?}");
    keeper.end();
}

#[test]
fn an_inspector_that_hangs_is_killed_in_time() {
    let mut keeper = Keeper::start(keeping(0));
    let net = Net::new();
    let attacker = net.ns("attacker");
    let inspector = keeper.inspected_at_length(&attacker);
    let began = Instant::now();
    // 30 s, one for each 16 MiB, and whatever a busy machine adds.
    while keeper.inspectors().contains(&inspector) {
        assert!(began.elapsed() < Duration::from_secs(60), "it still hangs");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(began.elapsed() > Duration::from_secs(25), "{:?}", began.elapsed());
    let failed = keeper.told(EventId::EvidenceFailed);
    assert_eq!(failed.why, "the inspector took too long and was killed; what was changed in it is lost");
    assert_eq!(keeper.told(EventId::ContainerDestroyed).archive, "");
    keeper.is_clean();
    keeper.end();
}

/// A small file system that is full soon.
struct Full(PathBuf);

impl Full {
    fn mount(dir: PathBuf) -> Full {
        std::fs::create_dir_all(&dir).unwrap();
        crate::net::sh(&["mount", "-t", "tmpfs", "-o", "size=256k", "hwt", dir.to_str().unwrap()]);
        Full(dir)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        crate::net::sh(&["umount", "-l", self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_full_disk_costs_contents_first_and_is_told() {
    let mut keeper = Keeper::start(keeping(0));
    let full = Full::mount(keeper.own().join("evidence"));
    let net = Net::new();
    let attacker = net.ns("attacker");
    let much = "dd if=/dev/urandom of=/root/much bs=1M count=2 2>/dev/null; echo ok";
    assert_eq!(keeper.visit(1, &attacker, much), "ok\n");
    keeper.release(1, false);
    let failed = keeper.told(EventId::EvidenceFailed);
    assert!(
        failed.why.contains("No space left") && failed.why.ends_with("is listed, without contents"),
        "{}",
        failed.why
    );
    let destroyed = keeper.told(EventId::ContainerDestroyed);
    let manifest = keeper.manifest(&destroyed.archive);
    assert_eq!((manifest.contents, manifest.counts.kept), (Contents::Samples, 0));
    assert!(by_path(manifest)["/root/much"].sha256.is_some());
    // Not even that.
    let filler = std::fs::File::create(full.0.join("filler")).unwrap();
    while (&filler).write(&[7; 4096]).is_ok_and(|written| written > 0) {}
    assert_eq!(keeper.visit(2, &attacker, much), "ok\n");
    keeper.release(2, false);
    assert!(keeper.told(EventId::EvidenceFailed).why.ends_with("is listed, without contents"));
    let lost = keeper.told(EventId::EvidenceFailed);
    assert!(lost.why.contains("No space left") && lost.why.ends_with("what was changed in it is lost"), "{}", lost.why);
    let destroyed = keeper.told(EventId::ContainerDestroyed);
    assert_eq!((&*destroyed.archive, &*destroyed.why), ("", "released"));
    keeper.is_clean();
    let (archives, _) = keeper.evidence();
    assert_eq!(archives.iter().filter(|name| *name != "filler").count(), 1, "{archives:?}");
    drop(filler);
    keeper.end();
}

#[test]
fn what_is_too_much_goes_and_is_told() {
    let mut config = keeping(0);
    config.evidence.total = 1;
    let mut keeper = Keeper::start(config);
    let net = Net::new();
    let attacker = net.ns("attacker");
    let mut last = String::new();
    for id in [1, 2] {
        keeper.visit(id, &attacker, "printf '#!/bin/sh\n' >/root/tool");
        keeper.release(id, false);
        let destroyed = keeper.told(EventId::ContainerDestroyed);
        assert_eq!(keeper.evidence().0, [&*destroyed.archive]);
        last = destroyed.archive;
        if id == 1 {
            // Archives of two seconds are of different age.
            wait_for("the next second", || {
                let taken = std::fs::metadata(keeper.own().join("evidence").join(&last)).unwrap().modified().unwrap();
                (taken.elapsed().unwrap() > Duration::from_secs(1)).then_some(())
            });
        }
    }
    keeper.lease(3, 1, "10.77.0.1");
    let _tap = keeper.tap(3);
    keeper.live(3);
    keeper.release(3, false);
    let deleted = keeper.told(EventId::EvidenceDeleted);
    assert!(deleted.event.count >= 1 && deleted.why.contains(&last), "{}: {}", deleted.event.count, deleted.why);
    keeper.end();
}

#[test]
fn a_keeper_that_is_killed_meanwhile_has_a_successor_that_goes_on() {
    let net = Net::new();
    let attacker = net.ns("attacker");
    for finished in [false, true] {
        let mut keeper = Keeper::start(keeping(0));
        let inspector = keeper.inspected_at_length(&attacker);
        if finished {
            // It gets done, and nobody hears of it.
            let itself = Pid::from_raw(keeper.child.id() as i32).unwrap();
            kill_process(itself, Signal::STOP).unwrap();
            kill_process(inspector, Signal::CONT).unwrap();
            wait_for("an archive", || keeper.evidence().0.iter().any(|name| !name.starts_with('.')).then_some(()));
        }
        keeper.kill_itself();
        let successor = Keeper::start_unasked(keeper.config.clone());
        let ends = || (!successor.inspectors().contains(&inspector)).then_some(());
        wait_for("that it ends with its keeper", ends);
        let taken = successor.told(EventId::EvidenceTaken);
        assert_eq!(taken.why == "found finished", finished);
        let destroyed = successor.told(EventId::ContainerDestroyed);
        assert_eq!((&*destroyed.archive, &*destroyed.why), (&*taken.archive, "released"));
        successor.is_clean();
        let manifest = successor.manifest(&taken.archive);
        assert!(by_path(manifest).contains_key("/root/much"));
        let (archives, samples) = successor.evidence();
        assert_eq!(archives, [taken.archive]);
        assert!(!samples.iter().any(|name| name.starts_with('.')), "{samples:?}");
        successor.end();
    }
}

#[test]
fn what_a_honeynet_has_no_time_for_is_taken_when_it_is_started_again() {
    let mut keeper = Keeper::start(keeping(0));
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.inspected_at_length(&attacker);
    let began = Instant::now();
    keeper.supervisor = None;
    wait_for("the keeper's end", || keeper.child.try_wait().unwrap());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // Its files, and nothing else: no process, no mount.
    wait_for("that the inspector is gone", || keeper.inspectors().is_empty().then_some(()));
    let traces = keeper.traces();
    assert!(!traces.is_empty() && traces.iter().all(|trace| trace.starts_with("hw-")), "{traces:?}");
    wait_for("that its disk is in order", || {
        let disks = std::fs::read_dir(keeper.own().join("containers")).unwrap().flatten().map(|entry| entry.path());
        let disk = disks.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "disk")).unwrap();
        // Of the superblock of ext4, the state.
        let mut state = [0; 2];
        std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::open(disk).unwrap(), &mut state, 1024 + 58).unwrap();
        (state[0] & 1 == 1).then_some(())
    });
    // By then the machine was started anew, and the topology knows nothing of its host.
    forget_boot(&keeper);
    let mut config = keeper.config.clone();
    config.nodes[1].0 = "renamed".into();
    let again = Keeper::start(config);
    let destroyed = again.told(EventId::ContainerDestroyed);
    assert_eq!(
        (destroyed.event.node, destroyed.event.dst.ip.get()),
        (Event::NO_NODE, Some("10.77.0.1".parse().unwrap()))
    );
    assert_eq!(destroyed.why, "released");
    let manifest = again.manifest(&destroyed.archive);
    assert_eq!(manifest.leased.node, "web");
    assert!(by_path(manifest).contains_key("/root/much"));
    again.end();
}

/// Has what is written down about containers be of another boot of the machine.
fn forget_boot(keeper: &Keeper) {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for entry in std::fs::read_dir(keeper.own().join("containers")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "json") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(text.contains(boot.trim()));
            std::fs::write(entry.path(), text.replace(boot.trim(), "another")).unwrap();
        }
    }
}

#[test]
fn a_disk_that_a_machine_crashed_with_is_not_relied_on() {
    let mut keeper = Keeper::start(keeping(3600));
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.visit(1, &attacker, "echo mine >/root/tool");
    keeper.release(1, true);
    keeper.kill_itself();
    forget_boot(&keeper);
    let successor = Keeper::start_unasked(keeper.config.clone());
    let failed = successor.told(EventId::EvidenceFailed);
    assert_eq!(failed.event.dst.ip.get(), Some("10.77.0.1".parse().unwrap()));
    assert!(failed.why.contains("while its disk was in use") && failed.why.ends_with("is lost"), "{}", failed.why);
    successor.is_clean();
    successor.end();
}

#[test]
fn files_of_no_more_use_are_looked_at_before_a_successor_removes_them() {
    let mut keeper = Keeper::start(keeping(3600));
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.visit(1, &attacker, "echo mine >/root/tool");
    keeper.release(1, true);
    keeper.kill_itself();
    let mut config = keeper.config.clone();
    let NodeConfig::Hosts(hosts) = &mut config.nodes[1].1 else { panic!("hosts") };
    hosts.templates[0].backend.as_mut().unwrap().image = "missing".into();
    let successor = Keeper::start_unasked(config);
    let destroyed = successor.told(EventId::ContainerDestroyed);
    assert!(destroyed.why.contains("no use for it"), "{}", destroyed.why);
    assert!(by_path(successor.manifest(&destroyed.archive)).contains_key("/root/tool"));
    successor.is_clean();
    successor.end();
}
