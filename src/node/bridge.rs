//! A learning switch: IEEE 802.1D learning and flooding, 802.1Q access and trunk ports.
//!
//! Within the node a frame is untagged and its VLAN is known; tags are taken
//! off where they come in and put on where they leave. Addresses that a bridge
//! must not forward (802.1D §7.12.6, `01:80:c2:00:00:0x`) stop here. The FDB is
//! bounded: when it is full, entries not used lately go first, and an attacker
//! who floods it with MACs makes his own frames flood, not his neighbors'.

use serde_json::json;

use super::{BridgeConfig, Cx, Node, PortVlan, Show};
use crate::emulate::ClockTable;
use crate::event::DropReason;
use crate::frame::{Batch, Frame, PortNo};
use crate::wire::{Duration, Instant, Mac, be16, dst_mac, ethertype, ethertype_of, src_mac};

/// MAC and VLAN in one word, which hashes fastest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FdbKey(u64);

impl FdbKey {
    #[inline]
    fn new(mac: Mac, vlan: u16) -> FdbKey {
        FdbKey(mac.to_u64() << 16 | u64::from(vlan))
    }

    fn mac(self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.0.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }

    fn vlan(self) -> u16 {
        self.0 as u16
    }
}

#[derive(Clone, Copy)]
struct FdbEntry {
    port: PortNo,
    seen: Instant,
}

/// The node.
pub struct Bridge {
    config: BridgeConfig,
    fdb: ClockTable<FdbKey, FdbEntry>,
    aging: Duration,
    next_sweep: Instant,
}

impl Bridge {
    /// A bridge with an empty FDB.
    pub fn new(config: BridgeConfig, seed: u64) -> Bridge {
        let fdb = ClockTable::new(config.fdb_capacity as usize, seed);
        let aging = Duration::from_secs(u64::from(config.aging_secs));
        Bridge { config, fdb, aging, next_sweep: Instant::ZERO }
    }

    /// The VLAN of a frame that came in by `port`, its tag taken off.
    #[inline]
    fn ingress(&self, port: PortNo, frame: &mut Frame) -> Option<u16> {
        let config = self.config.ports.get(usize::from(port.0))?;
        let tag = (ethertype_of(frame.bytes()) == ethertype::VLAN).then(|| be16(frame.bytes(), 14) & 0x0fff);
        let vlan = match (&config.vlan, tag) {
            (PortVlan::Access(vlan), None) => return Some(*vlan),
            // A tag with VLAN 0 carries only a priority (802.1Q §9.6).
            (PortVlan::Access(vlan), Some(0)) => *vlan,
            (PortVlan::Access(_), Some(_)) => return None,
            (PortVlan::Trunk { native, .. }, None) => return *native,
            (PortVlan::Trunk { native, .. }, Some(0)) => (*native)?,
            (PortVlan::Trunk { allowed, .. }, Some(vlan)) => {
                allowed.binary_search(&vlan).ok()?;
                vlan
            }
        };
        let bytes = frame.bytes_mut();
        if bytes.len() < 18 {
            return None;
        }
        bytes.copy_within(0..12, 4);
        frame.strip_front(4);
        Some(vlan)
    }

    /// Puts the tag on that `port` wants; `false` if it does not carry `vlan`.
    #[inline]
    fn egress(&self, port: usize, vlan: u16, frame: &mut Frame) -> bool {
        match &self.config.ports[port].vlan {
            PortVlan::Access(own) => *own == vlan,
            PortVlan::Trunk { native, .. } if *native == Some(vlan) => true,
            PortVlan::Trunk { allowed, .. } => {
                if allowed.binary_search(&vlan).is_err() || !frame.grow_front(4) {
                    return false;
                }
                let bytes = frame.bytes_mut();
                bytes.copy_within(4..16, 0);
                bytes[12..14].copy_from_slice(&ethertype::VLAN.to_be_bytes());
                bytes[14..16].copy_from_slice(&vlan.to_be_bytes());
                true
            }
        }
    }

    /// Whether `port` carries `vlan`.
    fn carries(&self, port: usize, vlan: u16) -> bool {
        match &self.config.ports[port].vlan {
            PortVlan::Access(own) => *own == vlan,
            PortVlan::Trunk { native, allowed } => *native == Some(vlan) || allowed.binary_search(&vlan).is_ok(),
        }
    }

    /// Returns whether that is news to replicas, which see other frames.
    #[inline]
    fn learn(&mut self, key: FdbKey, port: PortNo, cx: &Cx<'_>) -> bool {
        let new = FdbEntry { port, seen: cx.now };
        match self.fdb.slot(&key) {
            Ok(at) => {
                let old = std::mem::replace(self.fdb.value(at), new);
                !cx.shard.is_alone() && (old.port != port || self.period(old.seen) != self.period(cx.now))
            }
            Err(vacant) => {
                self.fdb.insert_new(key, vacant, new);
                !cx.shard.is_alone()
            }
        }
    }

    /// Time in parts of which several make the aging time: an address that is in use is told again in each.
    fn period(&self, at: Instant) -> i64 {
        at.total_micros() / (self.aging.total_micros() as i64 / 4).max(1)
    }

    /// Learns what a replica has learned.
    fn taught(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        if let Some(key) = frame.bytes().first_chunk() {
            self.learn(FdbKey(u64::from_ne_bytes(*key)), frame.meta.port, cx);
        }
        cx.consume(frame);
    }

    #[inline]
    fn forward(&mut self, mut frame: Frame, cx: &mut Cx<'_>) {
        let port = frame.meta.port;
        if frame.meta.handed {
            return self.taught(frame, cx);
        }
        if frame.len() < 14 {
            return cx.discard(frame, DropReason::Malformed);
        }
        let Some(vlan) = self.ingress(port, &mut frame) else {
            return cx.discard(frame, DropReason::Vlan);
        };
        let (dst, src) = (dst_mac(frame.bytes()), src_mac(frame.bytes()));
        if src.is_group() || src == Mac::ZERO {
            return cx.discard(frame, DropReason::BadSource);
        }
        let key = FdbKey::new(src, vlan);
        if self.learn(key, port, cx) {
            cx.teach(port, &key.0.to_ne_bytes());
        }
        if dst.is_group() {
            if dst.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && dst.0[5] < 0x10 {
                return cx.discard(frame, DropReason::Unsupported);
            }
            return self.flood(frame, vlan, cx);
        }
        let aging = self.aging;
        match self.fdb.get(&FdbKey::new(dst, vlan)) {
            Some(entry) if cx.now - entry.seen <= aging => {
                let out = entry.port;
                if out == port {
                    cx.discard(frame, DropReason::SamePort);
                } else if self.egress(usize::from(out.0), vlan, &mut frame) {
                    cx.send(out, frame);
                } else {
                    cx.discard(frame, DropReason::Vlan);
                }
            }
            _ => self.flood(frame, vlan, cx),
        }
    }

    fn flood(&mut self, frame: Frame, vlan: u16, cx: &mut Cx<'_>) {
        let from = usize::from(frame.meta.port.0);
        let mut last = None;
        for port in 0..self.config.ports.len() {
            if port == from || !self.carries(port, vlan) || !cx.is_linked(PortNo(port as u16)) {
                continue;
            }
            // The original goes out by the last port, copies by the others.
            if let Some(port) = last.replace(port) {
                match cx.pool.duplicate(&frame) {
                    Some(mut copy) => {
                        if self.egress(port, vlan, &mut copy) {
                            cx.send(PortNo(port as u16), copy);
                        } else {
                            cx.discard(copy, DropReason::Vlan);
                        }
                    }
                    None => cx.counters.discard(DropReason::NoBuffer),
                }
            }
        }
        let mut frame = frame;
        match last {
            Some(port) if self.egress(port, vlan, &mut frame) => cx.send(PortNo(port as u16), frame),
            _ => cx.discard(frame, DropReason::LinkDown),
        }
    }
}

impl Node for Bridge {
    fn passes_on(&self) -> bool {
        true
    }

    fn process(&mut self, rx: &mut Batch, cx: &mut Cx<'_>) {
        for frame in rx.drain(..) {
            self.forward(frame, cx);
        }
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        if cx.now >= self.next_sweep {
            let (now, aging) = (cx.now, self.aging);
            self.fdb.sweep(1024, |_, entry| now - entry.seen > aging, |_, _| {});
            self.next_sweep = super::next_second(now);
        }
    }

    fn port_name(&self, port: PortNo) -> Option<&str> {
        self.config.ports.get(usize::from(port.0)).map(|port| port.name.as_str())
    }

    fn show(&self, what: Show, now: Instant, limit: usize) -> Option<Vec<serde_json::Value>> {
        (what == Show::Fdb).then(|| {
            self.fdb
                .iter()
                .filter(|(_, entry)| now - entry.seen <= self.aging)
                .take(limit)
                .map(|(key, entry)| {
                    json!({
                        "mac": key.mac().to_string(),
                        "vlan": key.vlan(),
                        "port": self.config.ports[usize::from(entry.port.0)].name,
                        "age_s": (now - entry.seen).secs(),
                    })
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests;
