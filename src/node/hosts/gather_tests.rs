//! Segments that a device cuts.

use super::tests::{Client, config};
use super::*;
use crate::emulate::Secret;
use crate::node::testing::Bench;
use crate::wire::Duration;

#[test]
fn a_page_leaves_in_super_frames_unless_their_numbers_would_tell() {
    use crate::emulate::Builtin::{Linux, MacOs};
    for (system, counts) in [(Linux, true), (MacOs, false)] {
        let mut config = config();
        config.templates[0].personality = system.into();
        let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
        bench.with(|node, cx| node.tick(cx));
        let mut client = Client::new(&bench, 80);
        client.run(&mut bench, Duration::from_millis(100));
        client.ids.clear();
        client.send(&bench, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.run(&mut bench, Duration::from_secs(5));
        assert_eq!(client.got.iter().filter(|b| **b == b'~').count(), 20_000, "{system:?}");
        assert_eq!(bench.super_frames > 0, counts, "{system:?}");
        let follows = client.ids.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
        assert_eq!((client.ids.len() > 13, follows), (true, counts), "{system:?}: {:?}", client.ids);
        assert_eq!(bench.pool.in_use(), 0);
    }
}

#[test]
fn without_large_buffers_segments_leave_one_by_one() {
    let mut bench = Bench::new(Hosts::new(config(), Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    let mut client = Client::new(&bench, 80);
    client.run(&mut bench, Duration::from_millis(100));
    let large: Vec<_> = std::iter::from_fn(|| bench.pool.tail()).collect();
    client.send(&bench, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let began = bench.now;
    client.run(&mut bench, Duration::from_millis(500));
    assert_eq!(client.got.iter().filter(|b| **b == b'~').count(), 20_000, "{:?}", bench.now - began);
    assert_eq!((bench.super_frames, bench.pool.in_use()), (0, large.len()));
}
