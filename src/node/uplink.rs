//! The guard between the honeynet and a real interface.
//!
//! A honeynet must never become its network's DHCP server, router or spanning
//! tree root, nor fill a production switch's FDB. What leaves is therefore
//! checked here, whatever node it comes from; what enters passes unchanged, but
//! for frames that bear one of our own MACs and can only be a loop.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use serde_json::json;

use super::{Cx, Guarded, Node, Show, UplinkConfig};
use crate::event::{DropReason, Event, EventId, Party};
use crate::frame::{Batch, Frame};
use crate::wire::{Duration, ETH, Instant, Mac, Packet, be16, dst_mac, ethertype, ethertype_of, icmp6, proto, src_mac};

/// Time over which the rate is held: a burst may use up that much at once.
const BURST: Duration = Duration::from_millis(100);
/// How long a MAC counts that no longer sends: as long as switches remember it (802.1D §7.9.2).
const AGING: Duration = Duration::from_secs(300);
/// How often MACs that fell silent are looked for.
const TIDY: Duration = Duration::from_secs(75);
/// One event a second and reason: a node that keeps trying is not a flood of events.
const QUIET: Duration = Duration::from_secs(1);

/// The node.
pub struct Uplink {
    config: UplinkConfig,
    /// Source MACs that have left, and when each last did.
    macs: HashMap<Mac, Seen, foldhash::fast::FixedState>,
    /// When silent ones are looked for again.
    next_sweep: Instant,
    /// When they are looked for although nobody wants their place here: another replica may.
    next_tidy: Instant,
    /// Kept by all replicas together: they have one wire.
    meter: Arc<Meter>,
    told: HashMap<u16, Instant>,
}

/// A MAC that has left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    at: Instant,
    /// This replica has counted it.
    counted: bool,
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let counted = self.macs.values().filter(|seen| seen.counted).count();
        self.meter.macs.fetch_sub(counted as u32, Ordering::Relaxed);
    }
}

/// How much has left, and by how many; the former as the time in nanoseconds at which it all would have left at the
/// allowed rate (the virtual scheduling algorithm of ITU-T I.371 annex A).
#[derive(Default)]
pub struct Meter {
    all_left: AtomicI64,
    /// MACs that have left, each counted by the replica that let it out first.
    macs: AtomicU32,
}

impl Uplink {
    /// A guard that has let nothing out yet.
    pub fn new(config: UplinkConfig, seed: u64) -> Uplink {
        Uplink::replica(config, seed, Arc::default())
    }

    /// One of several replicas, which keep to one rate.
    pub fn replica(config: UplinkConfig, seed: u64, meter: Arc<Meter>) -> Uplink {
        let macs = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Uplink { config, macs, next_sweep: Instant::ZERO, next_tidy: Instant::ZERO, meter, told: HashMap::new() }
    }

    /// Why a frame must not leave.
    #[inline]
    fn objection(&mut self, frame: &[u8], cx: &mut Cx<'_>) -> Option<DropReason> {
        let now = cx.now;
        if frame.len() < ETH {
            return Some(DropReason::Malformed);
        }
        let src = src_mac(frame);
        if src.is_group() || src == Mac::ZERO {
            return Some(DropReason::BadSource);
        }
        if let Some(protocol) = guarded(frame)
            && !self.config.allow.contains(&protocol)
        {
            return Some(DropReason::Guard);
        }
        if let Some(seen) = self.macs.get_mut(&src) {
            // Told again while it is in use, and before replicas forget it.
            if !cx.shard.is_alone() && period(seen.at) != period(now) {
                cx.teach(UplinkConfig::INSIDE, &src.0);
            }
            seen.at = now;
        } else if !self.admit(now) {
            return Some(DropReason::MacLimit);
        } else {
            self.macs.insert(src, Seen { at: now, counted: true });
            cx.teach(UplinkConfig::INSIDE, &src.0);
        }
        self.over_rate(frame.len() as u64, now).then_some(DropReason::RateLimit)
    }

    /// Whether one more MAC may appear on the wire, which is counted then.
    fn admit(&mut self, now: Instant) -> bool {
        let limit = self.config.mac_limit;
        let more = |count| (count < limit).then_some(count + 1);
        let count = |meter: &Meter| meter.macs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if count(&self.meter) {
            return true;
        }
        if now < self.next_sweep {
            return false;
        }
        self.next_sweep = now + QUIET;
        self.forget_silent(now);
        count(&self.meter)
    }

    /// Forgets MACs that fell silent: those that it has counted make room, in all replicas.
    fn forget_silent(&mut self, now: Instant) {
        let mut gone = 0;
        self.macs.retain(|_, seen| {
            let stays = now - seen.at <= AGING;
            gone += u32::from(!stays && seen.counted);
            stays
        });
        self.meter.macs.fetch_sub(gone, Ordering::Relaxed);
        self.next_tidy = now + TIDY;
    }

    #[inline]
    fn over_rate(&mut self, len: u64, now: Instant) -> bool {
        if self.config.rate_bytes == 0 {
            return false;
        }
        let nanos = |octets: u64| (u128::from(octets) * 1_000_000_000 / u128::from(self.config.rate_bytes)) as i64;
        let now = now.total_micros().saturating_mul(1000);
        let latest = now.saturating_add(nanos(burst_of(&self.config)));
        let cost = nanos(len);
        let add = |at: i64| Some(at.max(now).saturating_add(cost)).filter(|at| *at <= latest);
        self.meter.all_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err()
    }

    fn block(&mut self, frame: Frame, reason: DropReason, cx: &mut Cx<'_>) {
        let told = self.told.get(&(reason as u16)).is_some_and(|at| cx.now - *at < QUIET);
        if !told {
            self.told.insert(reason as u16, cx.now);
            let mut event = Event::new(EventId::GuardBlock, cx.now);
            event.code = reason as u16;
            let packet = Packet::parse(frame.bytes()).ok();
            let party = |ip: Option<IpAddr>, mac| Party { ip: ip.into(), mac, l4_port: 0 };
            event.src = party(packet.map(|p| p.src()), src_mac(frame.bytes()));
            event.dst = party(packet.map(|p| p.dst()), dst_mac(frame.bytes()));
            event.proto = packet.map_or(0, |p| p.proto);
            cx.emit(&mut event, &[]);
        }
        cx.discard(frame, reason);
    }
}

fn period(at: Instant) -> i64 {
    at.total_micros() / TIDY.total_micros() as i64
}

fn burst_of(config: &UplinkConfig) -> u64 {
    (config.rate_bytes * BURST.total_millis() / 1000).max(65_536)
}

/// Which guarded protocol a frame speaks, looking past 802.1Q and 802.1ad tags.
#[inline]
fn guarded(frame: &[u8]) -> Option<Guarded> {
    let dst = dst_mac(frame);
    if dst.is_group() {
        match dst.0 {
            // 802.1D bridge group, and Cisco's per-VLAN spanning tree.
            [0x01, 0x80, 0xc2, 0, 0, 0] | [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd] => return Some(Guarded::Bpdu),
            [0x01, 0x80, 0xc2, 0, 0, 0x0e] | [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcc] => return Some(Guarded::Discovery),
            // IS-IS (ISO 10589 §8.4.8).
            [0x01, 0x80, 0xc2, 0, 0, 0x14 | 0x15] => return Some(Guarded::Routing),
            _ => {}
        }
    }
    let mut inner = frame;
    while matches!(ethertype_of(inner), ethertype::VLAN | 0x88a8) && inner.len() >= ETH + 4 {
        inner = &inner[4..];
    }
    let ip = &inner[ETH.min(inner.len())..];
    let (protocol, l4) = match ethertype_of(inner) {
        ethertype::IPV4 if ip.len() >= 20 => (ip[9], ip.get(usize::from(ip[0] & 15) * 4..).unwrap_or_default()),
        // Extension headers hide nothing: what follows is looked for behind them, and what cannot
        // be found there may be an advertisement (RFC 7113 §3, RFC 6980 §5).
        ethertype::IPV6 => match Packet::parse(inner) {
            Ok(packet) if packet.fragment => {
                let next = packet.payload(inner).first();
                let hides = next.is_none_or(|next| matches!(*next, 0 | 43 | 60 | proto::ICMPV6));
                return hides.then_some(Guarded::RouterAdvertisement);
            }
            Ok(packet) => (packet.proto, packet.payload(inner)),
            Err(_) => return Some(Guarded::RouterAdvertisement),
        },
        0x88cc => return Some(Guarded::Discovery),
        _ => return None,
    };
    match protocol {
        proto::ICMPV6 if l4.first() == Some(&icmp6::ROUTER_ADVERT) => Some(Guarded::RouterAdvertisement),
        // EIGRP, OSPF, PIM.
        88 | 89 | 103 => Some(Guarded::Routing),
        112 => Some(Guarded::Vrrp),
        proto::UDP => match (be16(l4, 0), be16(l4, 2)) {
            (67, 68) | (547, 546) => Some(Guarded::DhcpServer),
            (_, 520 | 521) => Some(Guarded::Routing),
            (_, 1985 | 2029) => Some(Guarded::Vrrp),
            _ => None,
        },
        _ => None,
    }
}

impl Node for Uplink {
    fn passes_on(&self) -> bool {
        true
    }

    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            if frame.meta.handed {
                if let Some(mac) = frame.bytes().first_chunk() {
                    let counted = self.macs.get(&Mac(*mac)).is_some_and(|seen| seen.counted);
                    self.macs.insert(Mac(*mac), Seen { at: cx.now, counted });
                }
                cx.consume(frame);
                continue;
            }
            if frame.meta.port == UplinkConfig::WIRE {
                let left = self.macs.get(&src_mac(frame.bytes()));
                if left.is_some_and(|seen| cx.now - seen.at <= AGING) {
                    cx.discard(frame, DropReason::BadSource);
                } else {
                    cx.send(UplinkConfig::INSIDE, frame);
                }
                continue;
            }
            match self.objection(frame.bytes(), cx) {
                None => cx.send(UplinkConfig::WIRE, frame),
                Some(reason) => self.block(frame, reason, cx),
            }
        }
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        if cx.now >= self.next_tidy {
            self.forget_silent(cx.now);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        (!self.macs.is_empty()).then_some(self.next_tidy)
    }

    fn show(&self, what: Show, now: Instant, limit: usize) -> Option<Vec<serde_json::Value>> {
        (what == Show::Fdb).then(|| {
            let mut macs: Vec<_> = self.macs.iter().collect();
            macs.sort();
            let row = |(mac, seen): (&Mac, &Seen)| {
                json!({"mac": mac.to_string(), "vlan": null, "port": self.config.interface, "age_s": (now - seen.at).secs()})
            };
            macs.into_iter().take(limit).map(row).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PortNo;
    use crate::node::testing::{Bench, eth};
    use crate::wire::Headers;

    fn guard(allow: Vec<Guarded>, rate_bytes: u64) -> Bench<Uplink> {
        let config = UplinkConfig { allow, mac_limit: 4, rate_bytes, ..UplinkConfig::new("eth0") };
        Bench::new(Uplink::new(config, 1), 2)
    }

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn datagram(src: &str, dst: &str, protocol: u8, l4: &[u8]) -> Vec<u8> {
        let headers = Headers {
            dst_mac: B,
            src_mac: A,
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            proto: protocol,
            ttl: 64,
            tos: 0,
            ip_id: 0,
            df: false,
        };
        let mut frame = vec![0; headers.len() + l4.len()];
        let at = headers.write(&mut frame, l4.len());
        frame[at..].copy_from_slice(l4);
        frame
    }

    fn udp(src: u16, dst: u16) -> Vec<u8> {
        let mut l4 = vec![0; 8];
        l4[0..2].copy_from_slice(&src.to_be_bytes());
        l4[2..4].copy_from_slice(&dst.to_be_bytes());
        l4
    }

    fn harmful() -> Vec<(Guarded, Vec<u8>)> {
        let mut tagged = eth(B, A, 0x8100, &[0, 5]);
        tagged.extend_from_slice(&datagram("10.0.0.1", "10.0.0.2", proto::UDP, &udp(67, 68))[12..]);
        vec![
            (Guarded::Bpdu, eth(Mac([1, 0x80, 0xc2, 0, 0, 0]), A, 0x0026, &[0x42, 0x42, 3])),
            (Guarded::Discovery, eth(Mac([1, 0x80, 0xc2, 0, 0, 0x0e]), A, 0x88cc, b"lldp")),
            (Guarded::Discovery, eth(Mac([1, 0, 0x0c, 0xcc, 0xcc, 0xcc]), A, 0x0100, b"cdp")),
            (Guarded::DhcpServer, datagram("10.0.0.1", "255.255.255.255", proto::UDP, &udp(67, 68))),
            (Guarded::DhcpServer, tagged),
            (Guarded::DhcpServer, datagram("fe80::1", "fe80::2", proto::UDP, &udp(547, 546))),
            (Guarded::RouterAdvertisement, datagram("fe80::1", "ff02::1", proto::ICMPV6, &[134, 0, 0, 0, 64, 0, 0, 0])),
            (Guarded::Vrrp, datagram("10.0.0.1", "224.0.0.18", 112, &[0; 8])),
            (Guarded::Routing, datagram("10.0.0.1", "224.0.0.5", 89, &[0; 8])),
            (Guarded::Routing, datagram("10.0.0.1", "224.0.0.9", proto::UDP, &udp(520, 520))),
        ]
    }

    #[test]
    fn what_would_disturb_the_network_stays_inside_unless_allowed() {
        for (protocol, frame) in harmful() {
            let mut bench = guard(vec![], 0);
            assert!(bench.rx(0, &frame).is_empty(), "{protocol:?}");
            assert_eq!(bench.counters.discarded(DropReason::Guard), 1);
            assert_eq!(bench.events[0].0.id, EventId::GuardBlock);
            let mut bench = guard(vec![protocol], 0);
            assert_eq!(bench.rx(0, &frame), vec![(PortNo(1), frame.clone())], "{protocol:?}");
            assert_eq!(bench.rx(1, &eth(A, B, 0x1234, b"in")).len(), 1, "what comes in passes");
        }
    }

    #[test]
    fn a_client_may_ask_for_an_address_and_nobody_may_give_one() {
        let mut bench = guard(vec![], 0);
        let words = |ports: (u16, u16)| datagram("0.0.0.0", "255.255.255.255", proto::UDP, &udp(ports.0, ports.1));
        assert_eq!(bench.rx(0, &words((68, 67))).len(), 1);
        assert!(bench.rx(0, &words((67, 68))).is_empty());
    }

    #[test]
    fn macs_and_rate_are_limited() {
        let mut bench = guard(vec![], 0);
        for i in 0..10u8 {
            bench.rx(0, &eth(B, Mac([2, 9, 9, 9, 9, i]), 0x1234, b""));
        }
        assert_eq!(bench.counters.discarded(DropReason::MacLimit), 6);
        let mut bench = guard(vec![], 1_000_000);
        let sent = |bench: &mut Bench<Uplink>| {
            (0..500).filter(|_| !bench.rx(0, &eth(B, A, 0x1234, &[0; 986])).is_empty()).count()
        };
        assert_eq!(sent(&mut bench), 100, "one burst of 100 ms");
        bench.now += Duration::from_millis(50);
        assert_eq!(sent(&mut bench), 50);
    }

    #[test]
    fn our_own_frames_do_not_come_back() {
        let mut bench = guard(vec![], 0);
        bench.rx(0, &eth(B, A, 0x1234, b"out"));
        assert!(bench.rx(1, &eth(B, A, 0x1234, b"out")).is_empty());
        assert_eq!(bench.counters.discarded(DropReason::BadSource), 1);
    }

    #[test]
    fn macs_that_fell_silent_make_room() {
        let mut bench = guard(vec![], 0);
        let from = |i: u8| eth(B, Mac([2, 9, 9, 9, 9, i]), 0x1234, b"");
        (0..4).for_each(|i| assert_eq!(bench.rx(0, &from(i)).len(), 1));
        bench.now += Duration::from_secs(200);
        bench.rx(0, &from(0));
        assert!(bench.rx(0, &from(4)).is_empty());
        bench.now += Duration::from_secs(200);
        (4..7).for_each(|i| assert_eq!(bench.rx(0, &from(i)).len(), 1, "{i}"));
        assert!(bench.rx(0, &from(7)).is_empty());
        assert!(bench.rx(1, &from(0)).is_empty(), "one that is still in use comes back only in a loop");
        assert_eq!(bench.rx(1, &from(1)).len(), 1);
    }

    #[test]
    fn what_cannot_be_read_does_not_leave() {
        let advert = [134, 0, 0, 0, 64, 0, 0, 0];
        // Behind more headers than anybody needs (RFC 7113), and in a fragment (RFC 6980).
        let mut far = Vec::new();
        for next in [60, 60, 60, 60, proto::ICMPV6] {
            far.extend_from_slice(&[next, 0, 1, 4, 0, 0, 0, 0]);
        }
        far.extend_from_slice(&advert);
        let mut part = vec![proto::ICMPV6, 0, 0, 1, 0, 0, 0, 7];
        part.extend_from_slice(&advert);
        for frame in [datagram("fe80::1", "ff02::1", 60, &far), datagram("fe80::1", "ff02::1", 44, &part)] {
            let mut bench = guard(vec![], 0);
            assert!(bench.rx(0, &frame).is_empty());
            assert_eq!(bench.counters.discarded(DropReason::Guard), 1);
            assert_eq!(guard(vec![Guarded::RouterAdvertisement], 0).rx(0, &frame).len(), 1);
        }
        let mut part = vec![proto::UDP, 0, 0, 1, 0, 0, 0, 7];
        part.extend_from_slice(&udp(5, 6));
        assert_eq!(guard(vec![], 0).rx(0, &datagram("fe80::1", "fe80::2", 44, &part)).len(), 1);
        let mut twice = eth(B, A, 0x88a8, &[0, 5, 0x81, 0, 0, 6]);
        twice.extend_from_slice(&datagram("10.0.0.1", "10.0.0.2", proto::UDP, &udp(67, 68))[12..]);
        assert!(guard(vec![], 0).rx(0, &twice).is_empty(), "tags hide nothing");
    }

    proptest::proptest! {
        #[test]
        fn absurd_frames_do_no_harm(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)) {
            let mut bench = guard(vec![], 0);
            bench.rx(0, &bytes);
            bench.rx(1, &bytes);
        }
    }
}
