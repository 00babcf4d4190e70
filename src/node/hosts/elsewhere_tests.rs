//! The rest of the world, as a container meets it that may not leave.

use super::abuse_tests::datagram;
use super::gate_tests::{GATEWAY_MAC, GATEWAYS, LIMITS, OUTSIDE, bench, by, echo, outward, own_of, question, syn};
use super::tests::tcp_of;
use super::*;
use crate::frame::PortNo;
use crate::wire::flag;

#[test]
fn names_lead_elsewhere_by_the_gateway_and_by_any_other_server() {
    for server in [GATEWAYS[0], GATEWAYS[1], OUTSIDE[0], OUTSIDE[1]] {
        let mut bench = bench(Outward::Reflect, LIMITS);
        let mut answers = Vec::new();
        for sport in [5, 6] {
            let out = {
                let frame = outward(&bench, server, proto::UDP, 64, &question(sport));
                bench.rx(1, &frame)
            };
            assert_eq!((out.len(), out[0].0), (1, PortNo(1)), "{server}");
            let answer = Packet::parse(&out[0].1).unwrap();
            assert_eq!((answer.src().to_string().as_str(), src_mac(&out[0].1)), (server, GATEWAY_MAC));
            assert!(answer.checksum_ok(&out[0].1));
            answers.push(answer.payload(&out[0].1)[8..].to_vec());
        }
        assert_eq!(answers[0], answers[1], "the same each time");
        let address: [u8; 4] = *answers[0].last_chunk().unwrap();
        // Whoever is there answers, too.
        let dst = Ipv4Addr::from(address).to_string();
        let frame = outward(&bench, &dst, proto::TCP, 64, &syn(7, 80));
        let out = bench.rx(1, &frame);
        assert_eq!((out[0].0, tcp_of(&out[0].1).1.flags), (PortNo(1), flag::SYN | flag::ACK));
    }
    // Where the world is real, so is the name server.
    let mut bench = bench(Outward::Allow, LIMITS);
    let frame = outward(&bench, GATEWAYS[0], proto::UDP, 64, &question(5));
    assert_eq!(by(0, &bench.rx(1, &frame)), 1);
    // A reflected gateway is asked for names, and is a router otherwise.
    let mut bench = self::bench(Outward::Reflect, LIMITS);
    let frame = outward(&bench, GATEWAYS[0], proto::ICMP, 64, &echo(false, 1));
    assert_eq!(by(0, &bench.rx(1, &frame)), 1);
}

#[test]
fn many_questions_for_names_are_answered() {
    let mut bench = bench(Outward::Reflect, LIMITS);
    let answered: usize = (0..500)
        .map(|sport| {
            let frame = outward(&bench, GATEWAYS[0], proto::UDP, 64, &question(sport));
            by(1, &bench.rx(1, &frame))
        })
        .sum();
    assert_eq!(answered, 500);
}

#[test]
fn a_trace_to_elsewhere_shows_a_path() {
    for (family, dst) in OUTSIDE.into_iter().enumerate() {
        let mut bench = bench(Outward::Reflect, LIMITS);
        let hops = elsewhere::hops_to(dst.parse().unwrap());
        let mut routers = Vec::new();
        for ttl in 1..=hops {
            let frame = outward(&bench, dst, proto::UDP, ttl, &datagram(5, 33_434, 12));
            let out = bench.rx(1, &frame);
            let answer = Packet::parse(&out[0].1).unwrap();
            assert!(answer.checksum_ok(&out[0].1));
            assert_eq!((out[0].0, answer.dst()), (PortNo(1), own_of(dst).parse::<IpAddr>().unwrap()));
            assert_eq!(answer.payload(&out[0].1)[0], [11, 3][family], "time exceeded");
            assert_eq!(answer.ttl, [255, 64][family] - (ttl - 1));
            routers.push(answer.src());
        }
        assert_eq!(routers[0], GATEWAYS[family].parse::<IpAddr>().unwrap());
        let distinct: std::collections::HashSet<_> = routers.iter().collect();
        assert_eq!(distinct.len(), usize::from(hops), "{routers:?}");
        let frame = outward(&bench, dst, proto::UDP, hops + 1, &datagram(5, 33_434, 12));
        let end = &bench.rx(1, &frame)[0].1;
        let answer = Packet::parse(end).unwrap();
        assert_eq!(answer.src(), dst.parse::<IpAddr>().unwrap());
        assert_eq!(answer.payload(end)[..2], [[3, 3], [1, 4]][family], "port unreachable");
        let frame = outward(&bench, dst, proto::TCP, hops + 1, &syn(5, 80));
        let (answer, tcp, _) = tcp_of(&bench.rx(1, &frame)[0].1);
        assert_eq!((answer.src(), tcp.flags), (dst.parse().unwrap(), flag::SYN | flag::ACK));
    }
}
