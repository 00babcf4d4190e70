//! TAPs by io_uring, against the kernel's own network stack. Where the machine has no io_uring, there is nothing to test.

use std::os::fd::AsFd;

use honeyweave::event::DropReason;
use honeyweave::frame::{Batch, Pool};
use honeyweave::netdev::{AfPacket, Netdev, Tap, TapRing};
use honeyweave::sys::{eventfd, interface, packet, tap};

use crate::net::{Net, Ns, wait_for};
use crate::netdev::{address, af_packet, bulk_test, now, receive_until, send, test_frame};

/// The Ethertype of what the tests send: the kernel says things of its own on a new interface.
const OURS: u16 = 0x88b5;

fn ring() -> Option<TapRing> {
    TapRing::new().inspect_err(|error| println!("no io_uring on this machine: {error}")).ok()
}

/// The TAP `name` in `ns`, switched on, and its other side.
fn tap_in(ns: &Ns, ring: &TapRing, name: &'static str) -> (Tap, AfPacket) {
    let fd = ns.enter(|| tap::open(name, tap::Offload::Tcp).unwrap().0);
    ns.enter(|| interface::set_up(name, true).unwrap());
    let device = Tap::new(fd, 1500).through(Some(ring));
    assert_eq!(device.kind(), "tap (io_uring)");
    (device, af_packet(ns, name))
}

fn is_ours(bytes: &[u8]) -> bool {
    bytes[12..14] == OURS.to_be_bytes()
}

#[test]
fn frames_of_all_lengths_pass_in_order() {
    let Some(ring) = ring() else { return };
    let net = Net::new();
    let ns = net.ns("a");
    let (mut ours, mut theirs) = tap_in(&ns, &ring, "tap0");
    // More than two bursts, from the shortest frame to the longest.
    let frames: Vec<Vec<u8>> = (0..160u16)
        .map(|n| {
            let mut bytes = test_frame(OURS, n as u8);
            bytes.resize(60 + usize::from(n) * 1454 / 159, n as u8);
            bytes
        })
        .collect();
    assert_eq!((frames[0].len(), frames[159].len()), (60, 1514));
    for back in [false, true] {
        let (from, to): (&mut dyn Netdev, &mut dyn Netdev) =
            if back { (&mut theirs, &mut ours) } else { (&mut ours, &mut theirs) };
        assert_eq!(send(from, &frames), 160);
        let mut seen = Vec::new();
        receive_until(to, |bytes| {
            if is_ours(bytes) {
                seen.push(bytes.to_vec());
            }
            seen.len() == 160
        });
        assert!(seen == frames, "in order and unchanged");
    }
}

#[test]
fn super_frames_pass_whole() {
    let Some(ring) = ring() else { return };
    let net = Net::new();
    let (a, b) = (net.ns("a"), net.ns("b"));
    let (from, _) = tap_in(&a, &ring, "tap0");
    let (to, _) = tap_in(&b, &ring, "tap0");
    address(&a, "tap0", 1);
    address(&b, "tap0", 2);
    bulk_test([Box::new(from), Box::new(to)], &a, &b);
}

#[test]
fn it_goes_down_comes_back_and_vanishes() {
    let Some(ring) = ring() else { return };
    let net = Net::new();
    let ns = net.ns("a");
    let (mut ours, _) = tap_in(&ns, &ring, "tap0");
    let (mut pool, mut batch) = (Pool::new(256), Batch::default());
    ns.enter(|| interface::set_up("tap0", false).unwrap());
    assert_eq!(send(&mut ours, &[test_frame(OURS, 1)]), 0);
    assert!(!ours.rx(now(), &mut pool, &mut batch).unwrap(), "down is no error");
    ns.enter(|| interface::set_up("tap0", true).unwrap());
    let mut theirs = af_packet(&ns, "tap0");
    assert_eq!(send(&mut ours, &[test_frame(OURS, 2), vec![0; 1515], test_frame(OURS, 3)]), 2);
    receive_until(&mut theirs, |bytes| bytes[11] == 3);
    assert_eq!(send(&mut theirs, &[test_frame(OURS, 4)]), 1);
    wait_for("a frame to be read", || (eventfd::wait_readable(&ours.fds(), 0).unwrap() == 1).then_some(()));
    // Frames wait in it when it goes.
    ns.sh(&["ip", "link", "del", "tap0"]);
    wait_for("the end of the device", || ours.rx(now(), &mut pool, &mut batch).is_err().then_some(()));
    batch.drain(..).for_each(|frame| pool.put(frame));
    assert_eq!(pool.in_use(), 0);
    assert_eq!(send(&mut ours, &[test_frame(OURS, 5)]), 0);
}

#[test]
fn what_finds_no_buffer_is_counted() {
    let Some(ring) = ring() else { return };
    let net = Net::new();
    let ns = net.ns("a");
    let (mut ours, mut theirs) = tap_in(&ns, &ring, "tap0");
    let (mut pool, mut batch) = (Pool::new(8), Batch::default());
    let frames: Vec<Vec<u8>> = (0..40).map(|n| test_frame(OURS, n)).collect();
    assert_eq!(send(&mut theirs, &frames), 40);
    wait_for("all frames", || {
        ours.rx(now(), &mut pool, &mut batch).unwrap();
        let counters = ours.discards().unwrap();
        (counters.rx + counters.discarded(DropReason::NoBuffer) >= 40).then_some(())
    });
    assert_eq!((batch.len(), pool.in_use(), ours.discards().unwrap().rx), (8, 8, 8));
    batch.drain(..).for_each(|frame| pool.put(frame));
    assert_eq!(pool.in_use(), 0);
    // With buffers again it goes on.
    assert_eq!(send(&mut theirs, &[test_frame(OURS, 99)]), 1);
    receive_until(&mut ours, |bytes| is_ours(bytes) && bytes[11] == 99);
    // While every large buffer is in use, small frames still pass.
    let mut large: Vec<_> = std::iter::from_fn(|| pool.tail()).collect();
    assert_eq!(send(&mut theirs, &[test_frame(OURS, 100)]), 1);
    wait_for("a frame", || {
        ours.rx(now(), &mut pool, &mut batch).unwrap();
        batch.iter().any(|frame| frame.bytes()[11] == 100).then_some(())
    });
    large.drain(..).chain(batch.drain(..)).for_each(|frame| pool.put(frame));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_device_goes_with_its_last_user_although_the_ring_stays() {
    let Some(ring) = ring() else { return };
    let net = Net::new();
    let ns = net.ns("a");
    for mark in 0..3 {
        let (mut ours, mut theirs) = tap_in(&ns, &ring, "tap0");
        assert_eq!(send(&mut ours, &[test_frame(OURS, mark)]), 1);
        receive_until(&mut theirs, |bytes| is_ours(bytes) && bytes[11] == mark);
        drop(ours);
        // A program that another test begins has all descriptors of this process for a moment.
        wait_for("the device's end", || ns.enter(|| interface::index("tap0").is_err()).then_some(()));
    }
}

/// With several threads, others than the one that reads a TAP write to it, by rings of their own.
#[test]
fn two_rings_write_to_one_device() {
    let (Some(ring), Some(other)) = (ring(), ring()) else { return };
    let net = Net::new();
    let ns = net.ns("a");
    let fd = ns.enter(|| tap::open("tap0", tap::Offload::Tcp).unwrap().0);
    ns.enter(|| interface::set_up("tap0", true).unwrap());
    let second = fd.as_fd().try_clone_to_owned().unwrap();
    let mut devices = [Tap::new(fd, 1500).through(Some(&ring)), Tap::new(second, 1500).through(Some(&other))];
    let mut theirs = ns.enter(|| AfPacket::new(packet::open("tap0", true).unwrap(), 1500));
    let frames = [0u8, 100].map(|first| (first..first + 64).map(|n| test_frame(OURS, n)).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for (device, frames) in devices.iter_mut().zip(&frames) {
            scope.spawn(move || assert_eq!(send(device, frames), 64));
        }
    });
    let mut seen = [Vec::new(), Vec::new()];
    receive_until(&mut theirs, |bytes| {
        if is_ours(bytes) {
            seen[usize::from(bytes[11] >= 100)].push(bytes.to_vec());
        }
        seen.iter().map(Vec::len).sum::<usize>() == 128
    });
    assert!(seen == frames, "those of each in order");
}
