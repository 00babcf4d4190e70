//! How long services let an attacker wait.

use super::abuse_tests::{bench_of, connect};
use super::pace::Wait;
use super::tests::{config, tcp_frame, tcp_of};
use super::*;
use crate::node::ResponseTime;
use crate::node::testing::Bench;
use crate::wire::{Duration, flag};

fn paced() -> Bench<Hosts> {
    bench_of(HostsConfig { response_time: ResponseTime::Auto, ..config() })
}

/// Lets time go by until data comes; returns how long that took and the data.
fn wait(bench: &mut Bench<Hosts>) -> (u64, Vec<u8>) {
    let begin = bench.now;
    for _ in 0..20 {
        bench.now = bench.node.next_deadline().expect("something is due");
        let sent = bench.with(|node, cx| node.tick(cx));
        let said: Vec<u8> = sent.iter().flat_map(|(_, frame)| tcp_of(frame).2).collect();
        if !said.is_empty() {
            return ((bench.now - begin).total_micros(), said);
        }
    }
    panic!("nobody says anything");
}

#[test]
fn a_banner_takes_its_time() {
    let mut bench = paced();
    let mut took: Vec<u64> = (0..101)
        .map(|n| {
            connect(&mut bench, 40_000 + n, 21);
            let (took, said) = wait(&mut bench);
            assert!(said.starts_with(b"220 ready"));
            took
        })
        .collect();
    took.sort_unstable();
    assert!((1_200..1_900).contains(&took[50]) && took[90] > took[10] * 3 / 2, "{took:?}");
}

#[test]
fn a_page_takes_as_long_as_the_containers_take() {
    let mut bench = paced();
    let ask = |bench: &mut Bench<Hosts>, port: u16| {
        let (seq, ack) = connect(bench, port, 80);
        let (first, rest) = (&b"GET / HT"[..], &b"TP/1.1\r\nHost: a\r\n\r\n"[..]);
        let part = tcp_frame(bench, port, 80, seq, ack, flag::ACK, first);
        assert!(bench.rx(0, &part).iter().all(|(_, frame)| tcp_of(frame).2.is_empty()));
        let part = tcp_frame(bench, port, 80, seq + first.len() as u32, ack, flag::ACK, rest);
        assert!(bench.rx(0, &part).iter().all(|(_, frame)| tcp_of(frame).2.is_empty()), "not in the same batch");
        let (took, said) = wait(bench);
        assert!(said.starts_with(b"HTTP/1.1 200"));
        took
    };
    assert!(ask(&mut bench, 40_000) < 1_500);
    for n in 0..20 {
        bench.node.pace.learn(80, Wait::Answer, Duration::from_micros(7_000 + n));
    }
    assert!((6_990..7_100).contains(&ask(&mut bench, 40_001)));
}
