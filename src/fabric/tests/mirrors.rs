//! Mirrors: which frames sensors see, and how often.

use super::*;
use crate::node::{Mirror as Tee, MirrorConfig};

/// A mirror of some ports, and what its sensors see.
fn mirror(fabric: &mut Fabric, of: &[(NodeIdx, u16)]) -> (NodeIdx, crate::netdev::Memory) {
    let node = fabric.add("ids", 2, Box::new(|| Box::new(Tee)));
    let of: Vec<_> = of.iter().map(|(node, port)| (*node, PortNo(*port))).collect();
    fabric.mirror(node, &of);
    let sensor = wire(fabric, node, MirrorConfig::WIRE.0);
    (node, sensor)
}

fn seen(wire: &crate::netdev::Memory) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| wire.recv()).collect()
}

#[test]
fn both_directions_are_copied_once() {
    for of in [vec![0], vec![1], vec![0, 1, 2]] {
        let mut fabric = fabric();
        let core = bridge(&mut fabric, "core", 3);
        let wires: Vec<_> = (0..3).map(|port| wire(&mut fabric, core, port)).collect();
        let ports: Vec<_> = of.iter().map(|port| (core, *port)).collect();
        let (node, sensor) = mirror(&mut fabric, &ports);
        let (there, back) = (eth(B, A, 0x1234, b"there"), eth(A, B, 0x1234, b"back"));
        wires[0].send(&there);
        fabric.step(Instant::from_secs(1), None);
        // Flooded to two ports, and seen once.
        assert_eq!((seen(&wires[1]), seen(&wires[2])), (vec![there.clone()], vec![there.clone()]));
        assert_eq!(seen(&sensor), [there], "{of:?}");
        wires[1].send(&back);
        fabric.step(Instant::from_secs(1), None);
        assert_eq!((seen(&wires[0]), seen(&wires[2])), (vec![back.clone()], vec![]));
        assert_eq!(seen(&sensor), [back], "{of:?}");
        assert_eq!((fabric.counters(node).rx, fabric.counters(node).tx), (2, 2));
        assert_eq!(fabric.frames_in_use(), 0);
    }
}

#[test]
fn what_does_not_cross_a_port_is_not_copied() {
    let mut fabric = fabric();
    let core = bridge(&mut fabric, "core", 3);
    let wires: Vec<_> = (0..3).map(|port| wire(&mut fabric, core, port)).collect();
    let (_, sensor) = mirror(&mut fabric, &[(core, 2)]);
    wires[0].send(&eth(B, A, 0x1234, b"flooded"));
    wires[1].send(&eth(A, B, 0x1234, b"known"));
    fabric.step(Instant::from_secs(1), None);
    fabric.step(Instant::from_secs(1), None);
    assert_eq!(seen(&sensor), [eth(B, A, 0x1234, b"flooded")]);
}

#[test]
fn a_frame_on_a_long_way_is_seen_once_and_an_answer_in_its_buffer_too() {
    let mut fabric = fabric();
    let (near, far) = (bridge(&mut fabric, "near", 2), bridge(&mut fabric, "far", 2));
    // It answers in the buffer that came in, as hosts do.
    let echo = fabric.add("echo", 1, Box::new(|| Box::new(Mirror { break_on: 0xee })));
    let slow = LinkConfig { delay_us: 1000, ..LinkConfig::default() };
    fabric.link((near, PortNo(1)), (far, PortNo(0)), slow);
    fabric.link((far, PortNo(1)), (echo, PortNo(0)), LinkConfig::default());
    let outside = wire(&mut fabric, near, 0);
    let (_, one) = mirror(&mut fabric, &[(near, 0), (near, 1), (far, 0), (far, 1), (echo, 0)]);
    let (_, two) = mirror(&mut fabric, &[(far, 1)]);
    let (_, three) = mirror(&mut fabric, &[(echo, 0)]);
    // For everybody, so that the switch lets its echo back.
    let frame = eth(Mac([0xff; 6]), A, 0x1234, b"hello");
    outside.send(&frame);
    let mut now = Instant::from_secs(1);
    run(&mut fabric, &mut now, Instant::from_secs(2));
    assert_eq!(seen(&outside), std::slice::from_ref(&frame));
    for (sensor, name) in [(one, "one"), (two, "two"), (three, "three")] {
        assert_eq!(seen(&sensor), [frame.clone(), frame.clone()], "{name}: there and back");
    }
    assert_eq!(fabric.frames_in_use(), 0);
}

#[test]
fn a_sensor_cannot_speak() {
    let mut fabric = fabric();
    let core = bridge(&mut fabric, "core", 2);
    let wires: Vec<_> = (0..2).map(|port| wire(&mut fabric, core, port)).collect();
    let (node, sensor) = mirror(&mut fabric, &[(core, 0), (core, 1)]);
    sensor.send(&eth(Mac([0xff; 6]), A, 0x0806, b"who has"));
    fabric.step(Instant::from_secs(1), None);
    assert_eq!(wires.iter().map(|wire| seen(wire).len()).sum::<usize>() + seen(&sensor).len(), 0);
    assert_eq!(fabric.counters(node).discarded(DropReason::Sensor), 1);
}

#[test]
fn a_mirror_that_has_no_room_costs_nobody_else_a_frame() {
    let mut fabric = Fabric::new(Box::new(Vec::new()), 1, Arc::new(()));
    let core = bridge(&mut fabric, "core", 2);
    let wires: Vec<_> = (0..2).map(|port| wire(&mut fabric, core, port)).collect();
    let (node, sensor) = mirror(&mut fabric, &[(core, 0)]);
    // Its TAP is gone.
    fabric.detach(node, MirrorConfig::WIRE);
    for _ in 0..100 {
        wires[0].send(&eth(B, A, 0x1234, b"x"));
    }
    while fabric.step(Instant::from_secs(1), None) {}
    assert_eq!((seen(&wires[1]).len(), seen(&sensor).len()), (100, 0));
    assert_eq!(fabric.counters(node).discarded(DropReason::LinkDown), 100);
    assert_eq!(fabric.frames_in_use(), 0);
}
