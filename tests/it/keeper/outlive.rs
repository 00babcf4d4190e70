//! Containers that outlive a keeper or a switch.

use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

impl Keeper {
    fn die(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn holds(&self, id: u64, tap: &Tap) {
        self.switch.send_msg(&ToKeeper::Holds { lease: LeaseId(id) }, &[tap.0.as_fd()]).unwrap();
    }

    fn says(&mut self, wanted: FromKeeper) {
        self.hear(&format!("{wanted:?}"), |message, _| (*message == wanted).then_some(()));
    }
}

#[test]
fn a_container_outlives_the_keeper() {
    let mut keeper = Keeper::start(config(vec![]));
    let ip = |host: u8| Ipv4Addr::new(10, 77, 0, host);
    for id in [1, 2, 3] {
        keeper.lease(id, 0, &ip(30 + id as u8).to_string());
        keeper.live(id);
    }
    let [one, two, three] = [1, 2, 3].map(|id| keeper.tap(id));
    let mac = one.arp(ip(31));
    keeper.say(&ToKeeper::Freeze { lease: LeaseId(2) });
    keeper.says(FromKeeper::LeaseFrozen { lease: LeaseId(2) });
    let before = keeper.inits();
    keeper.die();
    assert_eq!(one.arp(ip(31)), mac, "nobody is needed for that");
    let mut successor = Keeper::start_unasked(keeper.config.clone());
    successor.says(FromKeeper::Follows);
    assert_eq!(successor.inits(), before);
    // The switch says what it has, and is told how that is.
    successor.holds(1, &one);
    successor.says(FromKeeper::LeaseLive { lease: LeaseId(1) });
    successor.says(FromKeeper::LeaseBusy { lease: LeaseId(1) });
    successor.holds(2, &two);
    successor.says(FromKeeper::LeaseFrozen { lease: LeaseId(2) });
    successor.holds(99, &three);
    assert_eq!(successor.gone(99), "the keeper was started anew");
    // It asks again for what never came, although it runs: the TAP is lost.
    successor.lease(3, 0, "10.77.0.33");
    assert_eq!(successor.gone(3), "its TAP was lost with a keeper");
    assert_eq!(one.arp(ip(31)), mac);
    successor.say(&ToKeeper::Thaw { lease: LeaseId(2) });
    two.arp(ip(32));
    // Their ends are noticed although neither is a child of the successor's.
    successor.say(&ToKeeper::Release { lease: LeaseId(1), keep: false });
    assert_eq!(successor.gone(1), "released");
    let init = *successor.inits().last().unwrap();
    kill(init);
    assert_eq!(successor.gone(2), "its init ended");
    assert_eq!(successor.inits(), [] as [i32; 0]);
    successor.end();
}

#[test]
fn what_outlives_the_keeper_and_is_nobodys_ends() {
    let mut keeper = Keeper::start(config(vec![]));
    keeper.lease(1, 0, "10.77.0.34");
    keeper.live(1);
    let _tap = keeper.tap(1);
    keeper.die();
    let mut successor = Keeper::start_unasked(keeper.config.clone());
    assert_eq!(successor.gone(1), "nobody came back");
    // Its files are there for who does.
    assert!(successor.traces().iter().any(|trace| trace.ends_with(".json")), "{:?}", successor.traces());
    assert_eq!(successor.inits(), [] as [i32; 0]);
    successor.end();
}

#[test]
fn containers_outlive_a_switch_and_wait_for_the_next() {
    let mut keeper = Keeper::start(config(vec![]));
    for host in [10, 11] {
        keeper.lease(host, 0, &format!("10.77.0.{host}"));
        keeper.live(host);
    }
    let before = keeper.inits();
    let ip = Ipv4Addr::new(10, 77, 0, 10);
    // The switch's descriptor is the test's: with it, the switch is gone.
    let mac = keeper.tap(10).arp(ip);
    keeper.say(&ToKeeper::Hello);
    keeper.lease(20, 0, "10.77.0.10");
    let tap = keeper.tap(20);
    keeper.live(20);
    assert_eq!(tap.arp(ip), mac);
    assert_eq!(keeper.inits(), before);
    // Nobody was told of an end.
    assert!(!keeper.heard.iter().any(|(message, _)| matches!(message, FromKeeper::LeaseGone { .. })));
    // The keeper dies, too, and after that the switch again.
    keeper.die();
    let mut successor = Keeper::start_unasked(keeper.config.clone());
    successor.holds(20, &tap);
    successor.says(FromKeeper::LeaseLive { lease: LeaseId(20) });
    drop(tap);
    successor.say(&ToKeeper::Hello);
    successor.lease(30, 0, "10.77.0.10");
    assert_eq!(successor.tap(30).arp(ip), mac);
    successor.live(30);
    // The other one, whose TAP nobody has any more, ended with the switch, but its files are there.
    wait_for("its end", || (successor.inits().len() == 1).then_some(()));
    assert!(before.contains(&successor.inits()[0]));
    successor.end();
}

#[test]
fn a_container_whose_tap_is_removed_is_replaced() {
    let mut keeper = Keeper::start(config(vec![]));
    keeper.lease(1, 0, "10.77.0.35");
    let tap = keeper.tap(1);
    keeper.live(1);
    let ip = Ipv4Addr::new(10, 77, 0, 35);
    tap.arp(ip);
    let init = keeper.inits()[0].to_string();
    let began = Instant::now();
    super::super::net::sh(&["nsenter", "-t", &init, "-n", "ip", "link", "del", "eth0"]);
    assert_eq!(keeper.gone(1), "its network device was removed");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    keeper.lease(2, 0, "10.77.0.35");
    let tap = keeper.tap(2);
    keeper.live(2);
    tap.arp(ip);
    keeper.end();
}
