//! Relays in the middle, in virtual time.

use super::super::container_tests::{by, inside};
use super::super::tests::{Client, config, tcp_frame, tcp_of};
use super::super::*;
use super::App;
use crate::emulate::Secret;
use crate::frame::PortNo;
use crate::node::Request;
use crate::node::testing::Bench;
use crate::service::{Middle as Kind, Policy, ServiceKind, SshMiddle};
use crate::stack::RelayEnd;
use crate::wire::{Duration, flag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn bench() -> Bench<Hosts> {
    let mut config = config();
    config.services[2].kind = ServiceKind::Recorded(Box::new(Kind::Ssh(SshMiddle {
        identification: "SSH-2.0-x".into(),
        opens: Policy::Any,
        login: None,
        host_keys: vec![],
        keyboard_interactive: false,
        refusal_ms: 0,
        acceptance_ms: 0,
        keep: 0,
    })));
    let mut bench = Bench::new(Hosts::new(config, Identity::new(Secret([3; 16]), "hosts"), 5), 2);
    bench.with(|node, cx| node.tick(cx));
    bench
}

/// An attacker who is connected to a relay.
fn met(bench: &mut Bench<Hosts>) -> (Client, RelayEnd) {
    let mut client = Client::new(bench, 22);
    client.run(bench, Duration::from_millis(5));
    let Some(Request::Open { pipe, session, local, .. }) = bench.requests.pop() else { panic!("no relay") };
    assert!(session != crate::event::SessionId(0) && local.port() == 22);
    (client, pipe)
}

/// Has the container start that the last request is for; the SYN into it, as its number and what is to be acknowledged.
fn start(bench: &mut Bench<Hosts>) -> u32 {
    bench.with(|node, cx| node.tick(cx));
    let Some(Request::Lease { lease, .. }) = bench.requests.pop() else { panic!("no lease") };
    bench.with(|node, cx| node.command(Command::LeaseTap { lease, port: PortNo(1) }, cx));
    let out = bench.with(|node, cx| node.command(Command::LeaseLive { lease }, cx));
    syn_of(&out)
}

fn syn_of(out: &[(PortNo, Vec<u8>)]) -> u32 {
    let (_, syn, _) = tcp_of(by(1, out)[0]);
    assert_eq!((syn.src, syn.dst, syn.flags), (41000, 22, flag::SYN), "the attacker's own port");
    syn.seq.wrapping_add(1)
}

/// The container takes the connection.
fn take(bench: &mut Bench<Hosts>, ack: u32) {
    let frame = inside(bench, 9000, ack, flag::SYN | flag::ACK, &[], b"");
    bench.rx(1, &frame);
}

fn flags(port: u16, out: &[(PortNo, Vec<u8>)]) -> Vec<u8> {
    by(port, out).into_iter().map(|frame| tcp_of(frame).1.flags).collect()
}

#[tokio::test]
async fn a_relay_dials_when_it_has_a_reason_to() {
    let mut bench = bench();
    let (mut client, mut relay) = met(&mut bench);
    client.send(&bench, b"SSH-2.0-client");
    client.run(&mut bench, Duration::from_millis(5));
    let mut said = [0; 14];
    relay.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"SSH-2.0-client");
    relay.write_all(b"SSH-2.0-x").await.unwrap();
    let out = bench.with(|node, cx| node.tick(cx));
    assert_eq!(tcp_of(by(0, &out)[0]).2, b"SSH-2.0-x");
    assert!(bench.requests.is_empty(), "nobody needs a container yet");

    let mut dialed = relay.dialer().dial();
    dialed.write_all(b"from the middle").await.unwrap();
    let ack = start(&mut bench);
    take(&mut bench, ack);
    let frame = inside(&bench, 9001, ack.wrapping_add(15), flag::ACK | flag::PSH, &[], b"from inside");
    let out = bench.rx(1, &frame);
    assert!(by(0, &out).is_empty(), "nothing that the relay has not said");
    let mut heard = [0; 11];
    dialed.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"from inside");

    // The container hangs up; the attacker is the relay's business.
    let frame = inside(&bench, 9012, ack.wrapping_add(15), flag::FIN | flag::ACK, &[], b"");
    let out = bench.rx(1, &frame);
    assert!(by(0, &out).is_empty());
    assert_eq!(dialed.read(&mut heard).await.unwrap(), 0);
    drop(dialed);
    bench.with(|node, cx| node.tick(cx));
    assert_eq!(bench.node.flows.slab.len(), 1);
    relay.shutdown().await.unwrap();
    let out = bench.with(|node, cx| node.tick(cx));
    assert_eq!(flags(0, &out), [flag::FIN | flag::ACK]);
}

#[tokio::test]
async fn what_fails_inside_is_told_to_the_relay_which_may_dial_again() {
    let mut bench = bench();
    let (_client, relay) = met(&mut bench);
    let mut first = relay.dialer().dial();
    let ack = start(&mut bench);
    take(&mut bench, ack);
    // Killed.
    let lease = bench.node.leases.by_host.values().next().unwrap().id;
    let out = bench.with(|node, cx| node.command(Command::LeaseGone { lease, why: "killed".into() }, cx));
    assert!(by(0, &out).is_empty(), "{out:?}");
    assert_eq!(first.read(&mut [0; 8]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    drop(first);
    bench.with(|node, cx| node.tick(cx));
    assert!(bench.requests.is_empty(), "it has not dialed again");

    let mut second = relay.dialer().dial();
    let ack = start(&mut bench);
    take(&mut bench, ack);
    second.write_all(b"again").await.unwrap();
    let out = bench.with(|node, cx| node.tick(cx));
    assert_eq!(tcp_of(by(1, &out)[0]).2, b"again");
    // A third one takes its place: the container sees a reset, then the next attempt.
    let _third = relay.dialer().dial();
    let out = bench.with(|node, cx| node.tick(cx));
    assert_eq!(flags(1, &out)[0] & flag::RST, flag::RST, "{out:?}");
    assert!(second.read(&mut [0; 8]).await.is_err());
}

#[tokio::test]
async fn that_nothing_listens_inside_is_told_apart_from_a_connection_that_breaks_off() {
    let mut bench = bench();
    let (_client, relay) = met(&mut bench);
    let mut dialed = relay.dialer().dial();
    let mut ack = start(&mut bench);
    // A service that has only begun may listen yet, so it is asked again and again.
    for _ in 0..2000 {
        let refusal = inside(&bench, 0, ack, flag::RST | flag::ACK, &[], b"");
        bench.rx(1, &refusal);
        bench.now += Duration::from_millis(100);
        let out = bench.with(|node, cx| node.tick(cx));
        let again = by(1, &out).into_iter().map(tcp_of).find(|(_, tcp, _)| tcp.flags == flag::SYN);
        ack = again.map_or(ack, |(_, tcp, _)| tcp.seq.wrapping_add(1));
        if bench.node.flows.slab.iter().all(|(_, flow)| match &flow.app {
            App::Inner(inner) => inner.middle.as_ref().is_some_and(|middle| middle.inside.is_none()),
            _ => true,
        }) {
            break;
        }
    }
    let error = dialed.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
    let error = dialed.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
}

#[tokio::test]
async fn an_attacker_who_resets_ends_both() {
    let mut bench = bench();
    let (client, mut relay) = met(&mut bench);
    let mut dialed = relay.dialer().dial();
    let ack = start(&mut bench);
    take(&mut bench, ack);
    let reset = tcp_frame(&bench, 41000, 22, client.next.1, 0, flag::RST, b"");
    let out = bench.rx(0, &reset);
    assert_eq!(flags(1, &out).last().map(|flags| flags & flag::RST), Some(flag::RST), "{out:?}");
    assert!(relay.read(&mut [0; 8]).await.is_err() && dialed.read(&mut [0; 8]).await.is_err());
    assert!(bench.node.flows.slab.is_empty());
    assert_eq!(bench.node.sockets.budget().used(), 0);
}

#[tokio::test]
async fn a_relay_that_is_gone_leaves_nothing() {
    let mut bench = bench();
    let (_client, relay) = met(&mut bench);
    let dialed = relay.dialer().dial();
    let ack = start(&mut bench);
    take(&mut bench, ack);
    drop((relay, dialed));
    let out = bench.with(|node, cx| node.tick(cx));
    assert_eq!(flags(0, &out).last().map(|flags| flags & flag::RST), Some(flag::RST), "{out:?}");
    assert_eq!(flags(1, &out).last().map(|flags| flags & flag::RST), Some(flag::RST), "{out:?}");
    assert!(bench.node.flows.slab.is_empty());
}
