//! The life of a container after its start: frozen, thawed, stopped, come back to, destroyed; and those kept ready.

use super::*;
use crate::net::Ns;

/// The keeper's containers that are frozen, by the directory of their cgroup.
fn frozen(keeper: &Keeper) -> usize {
    let name = format!("lxc.payload.hw-{}-", tag(&keeper.config));
    let state = |dir: &PathBuf| {
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        read("freezer.state").trim() == "FROZEN" || read("cgroup.events").contains("frozen 1")
    };
    let dirs = walk(Path::new("/sys/fs/cgroup"), 3);
    dirs.iter().filter(|dir| dir.to_string_lossy().contains(&name) && state(dir)).count()
}

fn with_pool(pool: u16) -> KeeperConfig {
    let mut config = config(vec![]);
    config.images[0].pool = pool;
    config
}

/// What is said first by port 22 of `ip`.
fn banner(attacker: &Ns, ip: &str) -> String {
    let address: std::net::SocketAddr = format!("{ip}:22").parse().unwrap();
    attacker.enter(move || {
        wait_for("the banner", || {
            use std::io::Read;
            let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
            let mut text = [0; 64];
            let len = stream.read(&mut text).ok().filter(|len| *len > 0)?;
            Some(String::from_utf8_lossy(&text[..len]).into_owned())
        })
    })
}

#[test]
fn a_container_that_is_kept_ready_becomes_whoever_is_asked_for() {
    let mut keeper = Keeper::start(with_pool(2));
    wait_for("two that are frozen", || (frozen(&keeper) == 2).then_some(()));
    let before = keeper.inits();
    let net = Net::new();
    let attacker = net.ns("attacker");
    // A host of its own, with two addresses, a name and the TTL of its personality.
    keeper.lease(1, 1, "10.77.0.1");
    let tap = keeper.tap(1);
    keeper.live(1);
    let ip = Ipv4Addr::new(10, 77, 0, 1);
    let mac = tap.arp(ip);
    assert_eq!(mac.0[..3], [0, 12, 41]);
    assert_eq!(tap.ping(mac, ip), 128);
    let _wire = Wire::lay(tap, &attacker, &["10.77.0.254/24", "fd77::fe/64"]);
    assert!(banner(&attacker, "10.77.0.1").starts_with("SSH-2.0-dropbear"));
    // `ssh` knows the key that the host is to have, and refuses any other.
    let run = |ip: &str, command: &str| {
        ssh(&attacker, &keeper.config, ("web", "10.77.0.1"), &format!("root:toor@{ip}"), command)
    };
    assert_eq!(run("10.77.0.1", "hostname; cat /etc/hostname"), "web-prod-03\nweb-prod-03\n");
    assert_eq!(run("fd77::1", "id -u"), "0\n");
    let network = run("10.77.0.1", "ip -4 -o addr show eth0; ip route; cat /etc/resolv.conf");
    assert!(network.contains("inet 10.77.0.1/24 brd 10.77.0.255 "), "{network}");
    assert!(network.contains("default via 10.77.0.254") && network.contains("nameserver 10.77.0.254"), "{network}");
    let links = run("10.77.0.1", "ip -o link show eth0");
    assert!(links.contains(&mac.to_string()) && links.contains(",UP"), "{links}");
    // It was one of them, and another one takes its place.
    let its = |keeper: &Keeper| keeper.inits().into_iter().filter(|pid| before.contains(pid)).count();
    assert_eq!(its(&keeper), 2);
    wait_for("the next one", || (frozen(&keeper) == 2 && keeper.inits().len() == 3).then_some(()));
    keeper.end();
}

#[test]
fn one_kept_ready_and_one_made_for_a_host_are_the_same_machine() {
    let look = |pool: u16| {
        let mut keeper = Keeper::start(with_pool(pool));
        if pool > 0 {
            wait_for("one that is frozen", || (frozen(&keeper) == usize::from(pool)).then_some(()));
        }
        let net = Net::new();
        let attacker = net.ns("attacker");
        keeper.lease(1, 1, "10.77.0.1");
        let _wire = Wire::lay(keeper.tap(1), &attacker, &["10.77.0.254/24", "fd77::fe/64"]);
        keeper.live(1);
        let command = "cd /etc; for f in hostname hosts resolv.conf dropbear/*; do echo $f; ls -ln $f | cut -c1-20; \
                       md5sum <$f; done; ip -o addr | sed 's/valid_lft.*//; s/^[0-9]*//'; ip route; ip -6 route; \
                       sysctl net.ipv4.ip_default_ttl; ps -o args | grep -v sed; grep -r . /sys/class/dmi/id/; \
                       cat /proc/sys/kernel/random/boot_id /proc/cmdline; md5sum /proc/cpuinfo /proc/partitions; \
                       ls /sys/devices/system/cpu; df -k / | tail -n 1 | tr -s ' ' | cut -d' ' -f1,2";
        let text = ssh(&attacker, &keeper.config, ("web", "10.77.0.1"), "root:toor@10.77.0.1", command);
        keeper.end();
        // Numbers of interfaces and processes are of no account.
        text
    };
    let (cold, warm) = (look(0), look(1));
    assert!(cold.contains("dropbear_ed25519_host_key") && cold.contains("10.77.0.254"), "{cold}");
    assert!(cold.contains("BOOT_IMAGE=") && cold.contains("sys_vendor") && cold.contains("/dev/sda1 "), "{cold}");
    assert!(cold.contains("fe80::") && !cold.contains("tentative") && !cold.contains("flags"), "{cold}");
    assert_eq!(cold, warm);
}

#[test]
fn who_has_nothing_to_do_is_frozen_and_goes_on_at_once() {
    let mut keeper = Keeper::start(config(vec![]));
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.lease(1, 1, "10.77.0.1");
    let _wire = Wire::lay(keeper.tap(1), &attacker, &["10.77.0.254/24"]);
    keeper.live(1);
    banner(&attacker, "10.77.0.1");
    let answer = |keeper: &mut Keeper| {
        keeper.say(&ToKeeper::Freeze { lease: LeaseId(1) });
        keeper.hear("an answer", |message, _| match message {
            FromKeeper::LeaseFrozen { lease: LeaseId(1) } => Some(true),
            FromKeeper::LeaseBusy { lease: LeaseId(1) } => Some(false),
            _ => None,
        })
    };
    wait_for("that it has nothing to do", || answer(&mut keeper).then_some(()));
    wait_for("that it is frozen", || (frozen(&keeper) == 1).then_some(()));
    // The kernel's part of it goes on.
    assert!(attacker.sh(&["ping", "-c1", "-W5", "10.77.0.1"]).contains(" 1 received"));
    keeper.say(&ToKeeper::Thaw { lease: LeaseId(1) });
    assert!(banner(&attacker, "10.77.0.1").starts_with("SSH-2.0-"));
    assert_eq!(frozen(&keeper), 0);
    let work = "while :; do :; done >/dev/null 2>&1 </dev/null & cat /proc/$!/stat";
    let stat = ssh(&attacker, &keeper.config, ("web", "10.77.0.1"), "root:toor@10.77.0.1", work);
    assert_eq!(stat.split(' ').nth(2), Some("R"), "it is not busy: {stat}");
    assert!(!answer(&mut keeper), "it has something to do");
    assert_eq!(frozen(&keeper), 0);
    // What is frozen ends, too.
    keeper.lease(2, 0, "10.77.0.20");
    let _tap = keeper.tap(2);
    keeper.live(2);
    keeper.say(&ToKeeper::Freeze { lease: LeaseId(2) });
    wait_for("the second that is frozen", || (frozen(&keeper) == 1).then_some(()));
    keeper.say(&ToKeeper::Release { lease: LeaseId(2), keep: false });
    assert_eq!(keeper.gone(2), "released");
    keeper.end();
}

#[test]
fn who_comes_back_finds_the_same_machine() {
    let mut config = config(vec![]);
    for (_, node) in &mut config.nodes {
        let NodeConfig::Hosts(hosts) = node else { continue };
        for template in &mut hosts.templates {
            template.backend.as_mut().unwrap().destroy_secs = 20;
        }
    }
    let mut keeper = Keeper::start(config);
    let net = Net::new();
    let attacker = net.ns("attacker");
    let visit = |keeper: &mut Keeper, id: u64, command: &str| {
        keeper.lease(id, 1, "10.77.0.1");
        let _wire = Wire::lay(keeper.tap(id), &attacker, &["10.77.0.254/24"]);
        keeper.live(id);
        ssh(&attacker, &keeper.config, ("web", "10.77.0.1"), "root:toor@10.77.0.1", command)
    };
    assert_eq!(visit(&mut keeper, 1, "echo mine >/root/tool; rm /etc/issue; ls /root"), "tool\n");
    keeper.say(&ToKeeper::Release { lease: LeaseId(1), keep: true });
    assert_eq!(keeper.gone(1), "released");
    assert_eq!(visit(&mut keeper, 2, "cat /root/tool; ls /etc/issue 2>&1 | grep -c No"), "mine\n1\n");
    // A keeper is killed, and the container, too: the successor has the files.
    keeper.child.kill().unwrap();
    keeper.child.wait().unwrap();
    let init = rustix::process::Pid::from_raw(keeper.inits()[0]).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    let mut successor = Keeper::start_unasked(keeper.config.clone());
    assert_eq!(successor.gone(2), "the keeper was started anew");
    assert_eq!(visit(&mut successor, 3, "cat /root/tool"), "mine\n");
    // Nobody comes back any more.
    successor.say(&ToKeeper::Release { lease: LeaseId(3), keep: true });
    assert_eq!(successor.gone(3), "released");
    let text = wait_for("that it is destroyed", || match successor.console.recv_msg() {
        Ok(Some((KeeperSays::Said(Said { event, data }), _))) if event.id == EventId::ContainerDestroyed => {
            assert_eq!((event.node, event.dst.ip.get()), (1, Some("10.77.0.1".parse().unwrap())));
            Some(String::from_utf8(data).unwrap())
        }
        _ => None,
    });
    assert!(text.ends_with("\0nobody came back"), "{text}");
    assert_eq!(successor.traces(), Vec::<String>::new());
    assert_eq!(visit(&mut successor, 4, "ls /root; ls /etc/issue"), "/etc/issue\n");
    successor.end();
}
