//! Containers that start, what is in them, and how they end.

use super::*;

#[test]
fn a_container_lives_and_leaves_nothing() {
    let mut keeper = Keeper::start(config(vec![]));
    keeper.lease(1, 1, "10.77.0.1");
    let tap = keeper.tap(1);
    let ip = Ipv4Addr::new(10, 77, 0, 1);
    let mac = tap.arp(ip);
    keeper.live(1);
    assert_eq!(mac.0[..3], [0, 12, 41]);
    // The personality's TTL, not Linux's.
    assert_eq!(tap.ping(mac, ip), 128);
    let inits = keeper.inits();
    assert_eq!(inits.len(), 1);
    let inside = |path: &str| format!("/proc/{}/root{path}", inits[0]);
    assert_eq!(std::fs::read_to_string(inside("/etc/hostname")).unwrap(), "web-prod-03\n");
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", inits[0])).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1000000", "65536"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", inits[0])).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", inits[0])).unwrap();
    assert!(!mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| at.starts_with("/lib"))), "{mounts}");
    // The second address, usable without the second that duplicate-address detection takes.
    let addresses = std::fs::read_to_string(format!("/proc/{}/net/if_inet6", inits[0])).unwrap();
    let address = addresses.lines().find(|line| line.starts_with("fd770000000000000000000000000001"));
    let flags = address.and_then(|line| line.split_whitespace().nth(4)).unwrap_or("none");
    assert_eq!(u8::from_str_radix(flags, 16).unwrap() & 0x40, 0, "tentative: {addresses}");
    keeper.say(&ToKeeper::Release { lease: LeaseId(1), keep: false });
    assert_eq!(keeper.gone(1), "released");
    // What was changed in it is taken first.
    wait_for("that nothing is left", || keeper.traces().is_empty().then_some(()));
    // The same host again: the same MAC.
    keeper.lease(2, 1, "10.77.0.1");
    assert_eq!(keeper.tap(2).arp(ip), mac);
    let took = keeper.end();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn an_attacker_logs_in_and_looks_around() {
    let mut keeper = Keeper::start(config(vec![]));
    let net = Net::new();
    let attacker = net.ns("attacker");
    for lease in [1, 2] {
        keeper.lease(lease, 1, "10.77.0.1");
        let wire = Wire::lay(keeper.tap(lease), &attacker, &["10.77.0.254/24", "fd77::fe/64"]);
        let run = |user: &str, ip: &str, command: &str| {
            let password = if user == "root" { "toor" } else { "guest" };
            let login = format!("{user}:{password}@{ip}");
            ssh(&attacker, &keeper.config, ("web", "10.77.0.1"), &login, command)
        };
        // The same key at both addresses and at the second contact; an empty home each time.
        // Without a console nobody reads the log, and whoever says more than ten things there waits.
        assert_eq!(run("root", "10.77.0.1", "id -u; hostname; ls; touch left-behind"), "0\nweb-prod-03\n");
        assert_eq!(run("guest", "fd77::1", "id -un; pwd"), "guest\n/home/guest\n");
        assert!(run("root", "10.77.0.1", "ping -c1 -W5 10.77.0.254").contains("1 packets received"));
        assert!(run("root", "10.77.0.1", "ip route").contains("default via 10.77.0.254"));
        // The password of another account, and nothing of the machine's.
        assert_eq!(run("root", "10.77.0.1", "su guest -c 'id -un'"), "guest\n");
        let denied = run(
            "root",
            "10.77.0.1",
            "mount -t tmpfs none /mnt; unshare -U id; echo 1 > /proc/sys/kernel/panic; ls /sys/fs/cgroup; dmesg; true",
        );
        assert_eq!(denied, "");
        assert!(!run("root", "10.77.0.1", "cat /proc/self/cgroup /proc/1/environ").contains("hwt-"));
        drop(wire);
        keeper.say(&ToKeeper::Release { lease: LeaseId(lease), keep: false });
        keeper.gone(lease);
    }
    keeper.end();
}

#[test]
fn nmap_runs_inside() {
    let config = config(vec![]);
    image::build(&state_dir(), &config.images[2], false, &Progress::Silent).unwrap();
    let mut keeper = Keeper::start(config);
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.lease(1, 4, "10.77.0.3");
    let _wire = Wire::lay(keeper.tap(1), &attacker, &["10.77.0.254/24"]);
    let login = "root:toor@10.77.0.3";
    let host = ("tools", "10.77.0.3");
    let _listener = attacker.enter(|| std::net::TcpListener::bind("10.77.0.254:8080").unwrap());
    let text = ssh(&attacker, &keeper.config, host, login, "nmap -n -sS -p 8079-8080 10.77.0.254");
    assert!(text.contains("8080/tcp open") && text.contains("8079/tcp closed"), "{text}");
    keeper.end();
}

#[test]
fn a_debian_container_serves_ssh_and_web() {
    let config = config(vec![]);
    image::build(&state_dir(), &config.images[3], false, &Progress::Silent).unwrap();
    let mut keeper = Keeper::start(config);
    let net = Net::new();
    let attacker = net.ns("attacker");
    keeper.lease(1, 5, "10.77.0.4");
    let _wire = Wire::lay(keeper.tap(1), &attacker, &["10.77.0.254/24"]);
    let host = ("debian", "10.77.0.4");
    let run = |login: &str, command: &str| ssh(&attacker, &keeper.config, host, login, command);
    let text = run("root:toor@10.77.0.4", "id -u; hostname; cat /etc/machine-id | wc -c; pgrep -x init");
    assert_eq!(text, "0\nweb-prod-03\n33\n1\n");
    assert_eq!(run("guest:guest@10.77.0.4", "id -un; pwd"), "guest\n/home/guest\n");
    assert!(run("guest:guest@10.77.0.4", "ping -c1 -W5 10.77.0.254").contains(" 1 received"));
    let page = wait_for("the web server", || {
        let output = attacker.run(&["curl", "-s", "-i", "http://10.77.0.4/"]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert!(page.contains("Server: nginx") && page.contains("Welcome to nginx"), "{page}");
    keeper.end();
}

#[test]
fn a_container_is_there_soon() {
    let mut keeper = Keeper::start(config(vec![]));
    let mut took = Vec::new();
    for id in 0..9 {
        let began = Instant::now();
        keeper.lease(id, 0, "10.77.0.40");
        // Kept until the end: with the last descriptor the device vanishes from the container.
        let tap = keeper.tap(id);
        tap.arp(Ipv4Addr::new(10, 77, 0, 40));
        let answered = began.elapsed();
        keeper.live(id);
        let released = Instant::now();
        keeper.say(&ToKeeper::Release { lease: LeaseId(id), keep: false });
        keeper.gone(id);
        took.push((answered, released.elapsed()));
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let start = median(took.iter().map(|(start, _)| *start).collect());
    let end = median(took.iter().map(|(_, end)| *end).collect());
    eprintln!("lease until ARP answers {start:?}, release until nothing is left {end:?}");
    // What it takes on a quiet machine is a tenth of that.
    assert!(start < Duration::from_millis(500) && end < Duration::from_secs(2), "{start:?}, {end:?}");
    keeper.end();
}

#[test]
fn many_containers_start_at_once_and_end_with_the_keeper() {
    let mut keeper = Keeper::start(config(vec![]));
    let began = Instant::now();
    let count = 12;
    for host in 0..count {
        keeper.lease(host, 0, &format!("10.77.0.{}", 10 + host));
    }
    let taps: Vec<Tap> = (0..count).map(|host| keeper.tap(host)).collect();
    let macs: std::collections::HashSet<Mac> =
        taps.iter().zip(0..).map(|(tap, host)| tap.arp(Ipv4Addr::new(10, 77, 0, 10 + host))).collect();
    assert_eq!(macs.len(), count as usize);
    eprintln!("{count} containers answer ARP after {:?}", began.elapsed());
    (0..count).for_each(|host| keeper.live(host));
    assert_eq!(keeper.inits().len(), count as usize);
    // A second lease of a host that has one is refused.
    keeper.lease(99, 0, "10.77.0.10");
    assert!(keeper.gone(99).contains("has a container already"));
    keeper.end();
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    let config = config(vec![]);
    // An image whose init is not there.
    let image = image::build(&state_dir(), &config.images[1], false, &Progress::Silent).unwrap();
    // Programs find their libraries at once, as on any machine: a service's answer does not take longer than there.
    assert!(image.rootfs().join("etc/ld.so.cache").is_file());
    std::fs::remove_file(image.rootfs().join("sbin/init")).unwrap_or_default();
    let mut keeper = Keeper::start(config);
    keeper.lease(1, 2, "10.77.1.1");
    let why = keeper.gone(1);
    assert!(why.contains("no recipe") || why.contains("not built"), "{why}");
    keeper.lease(2, 3, "10.77.1.2");
    let why = keeper.gone(2);
    assert!(why.contains("/sbin/init") || why.contains("exec"), "{why}");
    assert_eq!(keeper.traces(), Vec::<String>::new());
    keeper.lease(3, 0, "10.99.0.1");
    assert_eq!(keeper.gone(3), "10.99.0.1 is no host of node staff");
    keeper.end();
}

#[test]
fn a_container_that_dies_is_told() {
    let mut keeper = Keeper::start(config(vec![]));
    for (id, victim) in [(1, "init"), (2, "monitor")] {
        keeper.lease(id, 0, "10.77.0.20");
        let _tap = keeper.tap(id);
        keeper.live(id);
        let init = keeper.inits()[0];
        let pid = match victim {
            "init" => init,
            _ => honeyweave::container::worker::parent_of(init).unwrap(),
        };
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_eq!(keeper.gone(id), "its init ended");
        // Its disk stays for who comes back, and what is written down about it; nothing else is mounted. What was changed
        // is listed, which takes a moment.
        let traces = wait_for("the end of its processes", || {
            let traces = keeper.traces();
            (!traces.iter().any(|trace| trace.starts_with("process "))).then_some(traces)
        });
        let (mounts, files): (Vec<_>, Vec<_>) = traces.iter().partition(|trace| trace.starts_with("mount "));
        assert!(mounts.len() == 1 && !mounts[0].contains("rootfs"), "{victim}: {traces:?}");
        assert!(files.len() <= 3 && files.iter().all(|file| file.starts_with("hw-")), "{victim}: {traces:?}");
    }
    keeper.end();
}
