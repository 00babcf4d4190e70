//! Connections whose handshake is not complete: a few octets each, so that a
//! flood of SYNs costs a bounded table and nothing else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{FlowKey, SynInfo};
use crate::emulate::{ClockTable, Personality, SynAckOption};
use crate::frame::PortNo;
use crate::wire::{Duration, Instant, Mac};

/// A handshake that we have answered with SYN/ACK.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen<S> {
    /// What the peer's SYN said.
    pub syn: SynInfo,
    /// Our initial sequence number.
    pub isn: u32,
    /// Where our timestamp clock stands at monotonic time 0, if timestamps are in use.
    pub ts_offset: Option<u32>,
    /// The host's personality.
    pub personality: &'static Personality,
    /// The host's MAC.
    pub mac: Mac,
    /// Where answers go on the link.
    pub peer_mac: Mac,
    /// The port that leads to the peer.
    pub port: PortNo,
    /// Hops that our packets seem to have taken.
    pub hops: u8,
    /// SYN/ACKs sent again so far.
    pub retries: u8,
    /// Whatever the owner wants to remember.
    pub owner: S,
}

/// The largest segment that Ethernet carries, which no MSS option of ours or of a peer exceeds here.
const ETHERNET_MSS: u16 = 1460;

impl<S> HalfOpen<S> {
    /// The window scale that we announce, if the peer offered to scale.
    pub fn window_scale(&self) -> Option<u8> {
        let offers = self.personality.syn_ack_options.contains(&SynAckOption::WindowScale);
        (offers && self.syn.options.window_scale.is_some()).then_some(self.personality.window_scale)
    }

    /// The most data that a segment to the peer may carry, timestamps taken off.
    pub fn mss(&self, v4: bool) -> u16 {
        let most = if v4 { ETHERNET_MSS } else { ETHERNET_MSS - 20 };
        // RFC 9293 §3.7.1: 536 if the peer names none; what is absurdly small is not believed.
        let peer = self.syn.options.mss.unwrap_or(536).clamp(64, most);
        if self.ts_offset.is_some() { peer - 12 } else { peer }
    }

    /// Writes the options of our SYN/ACK, in the personality's order, into `into`; returns how many octets.
    pub fn syn_ack_options(&self, v4: bool, now: Instant, into: &mut [u8; 40]) -> usize {
        let offered = &self.syn.options;
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            into[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        for option in self.personality.syn_ack_options {
            match option {
                SynAckOption::Mss => {
                    let [a, b] = (self.personality.mss - if v4 { 0 } else { 20 }).to_be_bytes();
                    put(&[2, 4, a, b]);
                }
                SynAckOption::WindowScale if offered.window_scale.is_some() => {
                    put(&[1, 3, 3, self.personality.window_scale]);
                }
                SynAckOption::SackPermitted if offered.sack_permitted => put(&[1, 1, 4, 2]),
                SynAckOption::SackTimestamps => {
                    let sack: &[u8] = if offered.sack_permitted { &[4, 2] } else { &[1, 1] };
                    match (self.ts_offset, offered.timestamps) {
                        (Some(offset), Some((value, _))) => {
                            put(sack);
                            put(&[8, 10]);
                            put(&timestamp(offset, self.personality.ts_hz, now).to_be_bytes());
                            put(&value.to_be_bytes());
                        }
                        _ if offered.sack_permitted => put(&[1, 1, 4, 2]),
                        _ => {}
                    }
                }
                SynAckOption::WindowScale | SynAckOption::SackPermitted => {}
            }
        }
        at
    }
}

/// A timestamp clock of `hz` ticks a second that stood at `offset` at monotonic time 0.
pub fn timestamp(offset: u32, hz: u32, now: Instant) -> u32 {
    let ticks = (i128::from(now.total_micros()) * i128::from(hz) / 1_000_000) as u32;
    offset.wrapping_add(ticks)
}

/// The table, and when which SYN/ACK is due again.
pub struct HalfOpenTable<S> {
    table: ClockTable<FlowKey, HalfOpen<S>>,
    retries: BinaryHeap<Reverse<(Instant, FlowKey)>>,
    budget: usize,
}

impl<S: Copy> HalfOpenTable<S> {
    /// A table of at most `capacity` handshakes. As many retransmissions may be
    /// pending; beyond that a SYN/ACK is sent once.
    pub fn new(capacity: usize, seed: u64) -> HalfOpenTable<S> {
        HalfOpenTable { table: ClockTable::new(capacity, seed), retries: BinaryHeap::new(), budget: capacity }
    }

    /// Handshakes under way.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Remembers a handshake. Returns the one evicted for it.
    pub fn insert(&mut self, key: FlowKey, entry: HalfOpen<S>, now: Instant) -> Option<(FlowKey, HalfOpen<S>)> {
        if let Some(first) = entry.personality.syn_ack_retries_ms.first()
            && self.retries.len() < self.budget
        {
            self.retries.push(Reverse((now + Duration::from_millis(u64::from(*first)), key)));
        }
        self.table.insert(key, entry)
    }

    /// The handshake of `key`.
    pub fn get(&mut self, key: &FlowKey) -> Option<&mut HalfOpen<S>> {
        self.table.get(key)
    }

    /// Takes a handshake out: it is complete or over.
    pub fn remove(&mut self, key: &FlowKey) -> Option<HalfOpen<S>> {
        self.table.remove(key)
    }

    /// The next handshake whose SYN/ACK is due again by `now`. One that has used
    /// up its retries is forgotten.
    pub fn next_due(&mut self, now: Instant) -> Option<(FlowKey, HalfOpen<S>)> {
        loop {
            let Reverse((at, key)) = *self.retries.peek()?;
            if at > now {
                return None;
            }
            self.retries.pop();
            let Some(entry) = self.table.get(&key) else { continue };
            entry.retries += 1;
            let schedule = entry.personality.syn_ack_retries_ms;
            if usize::from(entry.retries) > schedule.len() {
                self.table.remove(&key);
                continue;
            }
            let copy = *entry;
            // After the last one the peer has as long again to answer.
            let wait = schedule.get(usize::from(entry.retries)).or(schedule.last()).copied().unwrap_or(0);
            self.retries.push(Reverse((at + Duration::from_millis(u64::from(wait)), key)));
            return Some((key, copy));
        }
    }

    /// When [`HalfOpenTable::next_due`] has something.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.retries.peek().map(|Reverse((at, _))| *at)
    }

    /// All handshakes.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &HalfOpen<S>)> {
        self.table.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::Builtin;
    use crate::wire::TcpOptions;

    fn half_open(personality: Builtin, options: TcpOptions) -> HalfOpen<()> {
        let personality = personality.get();
        let ts_offset = (personality.ts_hz > 0 && options.timestamps.is_some()).then_some(5);
        HalfOpen {
            syn: SynInfo { isn: 1, window: 1024, options },
            isn: 2,
            ts_offset,
            personality,
            mac: Mac::ZERO,
            peer_mac: Mac::ZERO,
            port: PortNo(0),
            hops: 0,
            retries: 0,
            owner: (),
        }
    }

    fn options(entry: &HalfOpen<()>) -> Vec<u8> {
        let mut into = [0; 40];
        let n = entry.syn_ack_options(true, Instant::ZERO, &mut into);
        into[..n].to_vec()
    }

    const ALL: TcpOptions =
        TcpOptions { mss: Some(1460), window_scale: Some(7), sack_permitted: true, timestamps: Some((9, 0)) };
    const NO_TS: TcpOptions = TcpOptions { timestamps: None, ..ALL };
    const ONLY_MSS: TcpOptions = TcpOptions { window_scale: None, sack_permitted: false, ..NO_TS };

    #[test]
    fn linux_orders_its_options_as_linux_does() {
        // What Linux 6.1 was seen to answer to SYNs with these options.
        let full = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9, 1, 3, 3, 7];
        assert_eq!(options(&half_open(Builtin::Linux, ALL)), full);
        assert_eq!(options(&half_open(Builtin::Linux, NO_TS)), [2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7]);
        assert_eq!(options(&half_open(Builtin::Linux, ONLY_MSS)), [2, 4, 5, 0xb4]);
        let sackless = TcpOptions { sack_permitted: false, ..ALL };
        let expected = [2, 4, 5, 0xb4, 1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9, 1, 3, 3, 7];
        assert_eq!(options(&half_open(Builtin::Linux, sackless)), expected);
    }

    #[test]
    fn windows_and_ios_order_theirs() {
        assert_eq!(options(&half_open(Builtin::Windows, ALL)), [2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2]);
        assert_eq!(options(&half_open(Builtin::Windows, ONLY_MSS)), [2, 4, 5, 0xb4]);
        assert_eq!(options(&half_open(Builtin::CiscoIos, ALL)), [2, 4, 2, 0x18]);
    }

    #[test]
    fn retries_follow_the_schedule_and_end() {
        let mut table = HalfOpenTable::new(16, 1);
        let ip = "10.0.0.1".parse().unwrap();
        let key = FlowKey { local: ip, remote: ip, local_port: 1, remote_port: 2 };
        table.insert(key, half_open(Builtin::Windows, ALL), Instant::ZERO);
        let mut times = Vec::new();
        while let Some(at) = table.next_deadline() {
            if table.next_due(at).is_some() {
                times.push(at.total_millis());
            }
        }
        assert_eq!(times, [3000, 9000]);
        assert!(table.is_empty());
    }
}
