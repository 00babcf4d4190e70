//! When a container is frozen, and what has it go on.

use super::container_tests::live;
use super::lease::Rest;
use super::tests::{HOST_IP, bench, ip_frame, names, tcp_frame};
use super::*;
use crate::node::testing::Bench;
use crate::node::{LeaseId, Request};
use crate::wire::{Duration, flag};

/// The templates of [`bench`] freeze after 20 seconds and stop after 60.
const FREEZE: Duration = Duration::from_secs(20);

/// A live container nobody has a connection to, a moment before it is to be frozen.
fn idle() -> (Bench<Hosts>, LeaseId) {
    let mut bench = bench();
    let lease = live(&mut bench);
    // The connection that has brought it to life is over.
    bench.with(|node, cx| {
        let all: Vec<usize> = node.flows.slab.iter().map(|(index, _)| index).collect();
        for index in all {
            node.flows.slab[index].abort(cx.now);
            node.flows.dirty.push(index);
        }
        node.drive(cx);
    });
    assert!(bench.node.flows.slab.is_empty());
    later(&mut bench, Duration::from_millis(1500));
    bench.requests.clear();
    (bench, lease)
}

fn later(bench: &mut Bench<Hosts>, by: Duration) {
    let until = bench.now + by;
    bench.run_until(until);
}

fn rest(bench: &Bench<Hosts>) -> Rest {
    bench.node.leases.by_host.values().next().unwrap().rest
}

#[test]
fn who_is_not_spoken_to_is_frozen_and_then_stopped() {
    let (mut bench, lease) = idle();
    later(&mut bench, FREEZE);
    assert!(matches!(bench.requests.as_slice(), [Request::Freeze { lease: id }] if *id == lease));
    later(&mut bench, Duration::from_secs(5));
    assert_eq!(bench.requests.len(), 1, "it is asked once");
    bench.with(|node, cx| node.command(Command::LeaseFrozen { lease }, cx));
    assert_eq!(bench.node.leases.states()[&HOST_IP.parse::<IpAddr>().unwrap()].0.as_str(), "frozen");
    assert_eq!(names(&bench).last(), Some(&"container.frozen"));
    later(&mut bench, Duration::from_secs(60));
    assert!(matches!(bench.requests.as_slice(), [_, Request::Release { lease: id, keep: true }] if *id == lease));
}

#[test]
fn a_frame_for_it_has_it_go_on() {
    let (mut bench, lease) = idle();
    later(&mut bench, FREEZE);
    bench.with(|node, cx| node.command(Command::LeaseFrozen { lease }, cx));
    bench.requests.clear();
    // The emulator answers these, and nobody has to wake up.
    let echo = ip_frame(&bench, proto::ICMP, &[8, 0, 0, 0, 1, 2, 0, 1, 9, 9]);
    assert_eq!(bench.rx(0, &echo).len(), 1);
    assert!(bench.requests.is_empty());
    // A port that only the container knows of: its kernel answers, and what listens goes on.
    let syn = tcp_frame(&bench, 5, 4444, 100, 0, flag::SYN, b"");
    assert_eq!(bench.rx(0, &syn)[0].0.0, 1, "the container sees it");
    assert!(matches!(bench.requests.as_slice(), [Request::Thaw { lease: id }] if *id == lease));
    assert_eq!((rest(&bench), names(&bench).last()), (Rest::Awake, Some(&"container.thawed")));
    bench.rx(0, &syn);
    assert_eq!(bench.requests.len(), 1, "it is thawed once");
}

#[test]
fn who_is_spoken_to_while_being_frozen_goes_on() {
    let (mut bench, lease) = idle();
    later(&mut bench, FREEZE);
    bench.requests.clear();
    let syn = tcp_frame(&bench, 5, 4444, 100, 0, flag::SYN, b"");
    bench.rx(0, &syn);
    assert!(bench.requests.is_empty(), "nobody knows yet that it is frozen");
    bench.with(|node, cx| node.command(Command::LeaseFrozen { lease }, cx));
    assert!(matches!(bench.requests.as_slice(), [Request::Thaw { lease: id }] if *id == lease));
    assert_eq!(rest(&bench), Rest::Awake);
}

#[test]
fn who_has_something_to_do_is_asked_again_later() {
    let (mut bench, lease) = idle();
    later(&mut bench, FREEZE);
    bench.requests.clear();
    bench.with(|node, cx| node.command(Command::LeaseBusy { lease }, cx));
    later(&mut bench, Duration::from_secs(15));
    assert!(bench.requests.is_empty());
    later(&mut bench, Duration::from_secs(10));
    assert!(matches!(bench.requests.as_slice(), [Request::Freeze { lease: id }] if *id == lease));
}

#[test]
fn what_is_frozen_by_hand_goes_on_like_any_other() {
    let (mut bench, lease) = idle();
    bench.with(|node, cx| node.command(Command::LeaseFrozen { lease }, cx));
    assert_eq!((rest(&bench), names(&bench).last()), (Rest::Frozen, Some(&"container.frozen")));
    let syn = tcp_frame(&bench, 5, 4444, 100, 0, flag::SYN, b"");
    bench.rx(0, &syn);
    assert!(matches!(bench.requests.as_slice(), [Request::Thaw { lease: id }] if *id == lease));
    // By hand, too: nobody has to ask for it any more, and it is frozen again when it was idle for long enough.
    bench.with(|node, cx| node.command(Command::LeaseFrozen { lease }, cx));
    bench.requests.clear();
    bench.with(|node, cx| node.command(Command::LeaseBusy { lease }, cx));
    assert_eq!((rest(&bench), names(&bench).last()), (Rest::Awake, Some(&"container.thawed")));
    bench.rx(0, &syn);
    assert!(bench.requests.is_empty());
    later(&mut bench, FREEZE + Duration::from_secs(3));
    assert!(matches!(bench.requests.as_slice(), [Request::Freeze { lease: id }] if *id == lease));
}

#[test]
fn what_was_started_with_the_system_is_never_frozen() {
    let mut config = super::tests::config();
    let backend = config.templates[0].backend.as_mut().unwrap();
    (config.single, backend.start) = (true, crate::emulate::StartPolicy::WithSystem);
    let mut bench = Bench::new(Hosts::new(config, Identity::new(crate::emulate::Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    later(&mut bench, Duration::from_secs(300));
    assert!(bench.requests.is_empty());
}
