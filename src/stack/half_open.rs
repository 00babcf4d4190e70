//! Connections whose handshake is not complete: a few octets each, so that a
//! flood of SYNs costs a bounded table and nothing else. What follows from the
//! host's address (its MAC, its personality) is not kept.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{FlowKey, SynInfo, SynLook};
use crate::emulate::{ClockTable, Opt, Personality, write_options};
use crate::frame::PortNo;
use crate::wire::{Duration, Instant, Mac, TcpOptions};

/// How long a handshake has its place for certain, however many others begin meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a handshake may take (Linux gives up after 63 seconds).
const LIFETIME: Duration = Duration::from_secs(64);
/// SYN/ACKs that may wait to be sent again; others are sent once.
const RETRIES: usize = 16_384;
/// Between two looks for handshakes that nobody completes, each at a sixteenth of the table.
const SWEEP: Duration = Duration::from_secs(4);
/// A window scale that was not offered.
const NO_SCALE: u8 = 255;

/// A handshake that we have answered with SYN/ACK.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen<S> {
    /// The peer's initial sequence number.
    pub peer_isn: u32,
    /// Ours.
    pub isn: u32,
    /// When it began, in milliseconds of some time: only differences matter.
    began: u32,
    /// The value of the peer's timestamp.
    recent: u32,
    /// What the SYN looked like.
    pub look: SynLook,
    /// Where answers go on the link.
    pub peer_mac: Mac,
    /// The port that leads to the peer.
    pub port: PortNo,
    /// The peer's MSS, 0 if it named none.
    mss: u16,
    scale: u8,
    sack: bool,
    timestamps: bool,
    /// Hops that our packets seem to have taken.
    pub hops: u8,
    /// SYN/ACKs sent again by the schedule so far.
    retries: u8,
    /// Whether the SYN/ACK was sent again, for whatever reason.
    resent: bool,
    /// Whatever the owner wants to remember.
    pub owner: S,
}

/// The largest segment that Ethernet carries, which no MSS option of ours or of a peer exceeds here.
const ETHERNET_MSS: u16 = 1460;

fn stamp(now: Instant) -> u32 {
    now.total_millis() as u32
}

impl<S> HalfOpen<S> {
    /// The handshake that `syn` begins and that we answer with `isn`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        syn: &SynInfo,
        isn: u32,
        look: SynLook,
        peer_mac: Mac,
        port: PortNo,
        hops: u8,
        owner: S,
        now: Instant,
    ) -> HalfOpen<S> {
        let offered = &syn.options;
        HalfOpen {
            peer_isn: syn.isn,
            isn,
            began: stamp(now),
            recent: offered.timestamps.map_or(0, |(value, _)| value),
            look,
            peer_mac,
            port,
            mss: offered.mss.unwrap_or(0),
            scale: offered.window_scale.unwrap_or(NO_SCALE),
            sack: offered.sack_permitted,
            timestamps: offered.timestamps.is_some(),
            hops,
            retries: 0,
            resent: false,
            owner,
        }
    }

    /// What the SYN offered.
    pub fn offered(&self) -> TcpOptions {
        TcpOptions {
            mss: (self.mss > 0).then_some(self.mss),
            window_scale: (self.scale != NO_SCALE).then_some(self.scale),
            sack_permitted: self.sack,
            timestamps: self.timestamps.then_some((self.recent, 0)),
        }
    }

    /// What was agreed on of it with a host of `personality`.
    pub fn agreed(&self, personality: &Personality) -> TcpOptions {
        let offered = self.offered();
        TcpOptions {
            mss: offered.mss,
            window_scale: self.window_scales(personality).map(|(peer, _)| peer),
            sack_permitted: self.sack && personality.permits_sack(),
            timestamps: offered.timestamps.filter(|_| self.has_timestamps(personality)),
        }
    }

    /// How long it has lasted.
    pub fn age(&self, now: Instant) -> Duration {
        Duration::from_millis(u64::from(stamp(now).wrapping_sub(self.began)))
    }

    /// The SYN has come again, and is answered again.
    pub fn repeat(&mut self) {
        self.resent = true;
    }

    /// How long the peer took to answer; zero if nobody knows which SYN/ACK it has answered (RFC 6298 §3), or if it
    /// took so long that this tells nothing of the network.
    pub fn trip(&self, now: Instant) -> Duration {
        let age = self.age(now);
        if self.resent || age > PATIENCE { Duration::ZERO } else { age }
    }

    /// By how much the peer's windows and ours are shifted, if a host of `personality` scales windows, too.
    pub fn window_scales(&self, personality: &Personality) -> Option<(u8, u8)> {
        (personality.scales_windows() && self.scale != NO_SCALE).then_some((self.scale, personality.window_scale))
    }

    /// Whether both sides use timestamps.
    pub fn has_timestamps(&self, personality: &Personality) -> bool {
        personality.ts_hz > 0 && self.timestamps
    }

    /// The most data that a segment to the peer may carry, timestamps taken off.
    pub fn mss(&self, personality: &Personality, v4: bool) -> u16 {
        let most = if v4 { ETHERNET_MSS } else { ETHERNET_MSS - 20 };
        // RFC 9293 §3.7.1: 536 if the peer names none; what is absurdly small is not believed.
        let peer = if self.mss == 0 { 536 } else { self.mss.clamp(64, most) };
        if self.has_timestamps(personality) { peer - 12 } else { peer }
    }

    /// Writes the options of our SYN/ACK, in the personality's order, into `into`; returns how many octets.
    /// `clock` is our timestamp.
    pub fn syn_ack_options(&self, personality: &Personality, clock: u32, v4: bool, into: &mut [u8; 40]) -> usize {
        let mss = personality.mss - if v4 { 0 } else { 20 };
        let (scale, timestamps) = (self.scale != NO_SCALE, self.has_timestamps(personality));
        let options = personality.syn_ack_options.to(scale, self.sack, timestamps).iter().map(|option| match option {
            Opt::Mss(_) => Opt::Mss(mss),
            Opt::Scale(_) => Opt::Scale(personality.window_scale),
            other => *other,
        });
        write_options(options, clock, self.recent, into)
    }
}

/// A timestamp clock of `hz` ticks a second that stood at `offset` at monotonic time 0.
pub fn timestamp(offset: u32, hz: impl Into<i128>, now: Instant) -> u32 {
    let ticks = (i128::from(now.total_micros()) * hz.into() / 1_000_000) as u32;
    offset.wrapping_add(ticks)
}

/// The table, and when which SYN/ACK is due again.
pub struct HalfOpenTable<S> {
    table: ClockTable<FlowKey, HalfOpen<S>>,
    retries: BinaryHeap<Reverse<(Instant, FlowKey)>>,
    next_sweep: Instant,
}

/// What became of a handshake that was to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// There was room.
    Kept,
    /// One that nobody has completed made room.
    Evicted,
    /// There are as many recent ones as the table holds.
    Full,
}

impl<S: Copy> HalfOpenTable<S> {
    /// A table of at most `capacity` handshakes.
    pub fn new(capacity: usize, seed: u64) -> HalfOpenTable<S> {
        HalfOpenTable { table: ClockTable::new(capacity, seed), retries: BinaryHeap::new(), next_sweep: Instant::ZERO }
    }

    /// Handshakes under way.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Remembers a handshake, if not all others are too recent to be forgotten for it.
    /// A SYN/ACK is sent again as `schedule` says.
    pub fn insert(&mut self, key: FlowKey, entry: HalfOpen<S>, schedule: &[u32], now: Instant) -> Remembered {
        if self.table.is_empty() {
            self.next_sweep = now + SWEEP;
        }
        let outcome = match self.table.insert_over(key, entry, |old| old.age(now) >= PATIENCE) {
            Ok(None) => Remembered::Kept,
            Ok(Some((other, _))) if other == key => Remembered::Kept,
            Ok(Some(_)) => Remembered::Evicted,
            Err(_) => return Remembered::Full,
        };
        if let Some(first) = schedule.first()
            && self.retries.len() < RETRIES
        {
            self.retries.push(Reverse((now + Duration::from_millis(u64::from(*first)), key)));
        }
        outcome
    }

    /// The handshake of `key`, unless it began too long ago.
    #[inline]
    pub fn get(&mut self, key: &FlowKey, now: Instant) -> Option<&mut HalfOpen<S>> {
        self.table.get(key).filter(|entry| entry.age(now) < LIFETIME)
    }

    /// Takes a handshake out: it is complete or over.
    pub fn remove(&mut self, key: &FlowKey) -> Option<HalfOpen<S>> {
        self.table.remove(key)
    }

    /// The next handshake whose SYN/ACK is due again by `now`. One that has used
    /// up its retries, which `schedule` tells, is forgotten.
    pub fn next_due(
        &mut self,
        now: Instant,
        schedule: impl Fn(&FlowKey) -> &'static [u32],
    ) -> Option<(FlowKey, HalfOpen<S>)> {
        loop {
            let Reverse((at, key)) = *self.retries.peek()?;
            if at > now {
                return None;
            }
            self.retries.pop();
            let Some(entry) = self.table.get(&key) else { continue };
            entry.retries += 1;
            entry.resent = true;
            let schedule = schedule(&key);
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

    /// Forgets handshakes that nobody completes. To be called at [`HalfOpenTable::next_deadline`].
    pub fn sweep(&mut self, now: Instant) {
        if now >= self.next_sweep && !self.table.is_empty() {
            self.next_sweep = now + SWEEP;
            let some = (self.table.len() / 16).max(1024);
            self.table.sweep(some, |_, entry| entry.age(now) >= LIFETIME, |_, _| {});
        }
    }

    /// When [`HalfOpenTable::next_due`] or [`HalfOpenTable::sweep`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let sweep = (!self.table.is_empty()).then_some(self.next_sweep);
        self.retries.peek().map(|Reverse((at, _))| *at).into_iter().chain(sweep).min()
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

    fn half_open(options: TcpOptions, now: Instant) -> HalfOpen<()> {
        let syn = SynInfo { isn: 1, window: 1024, options };
        HalfOpen::new(&syn, 2, SynLook::of(&[], 64), Mac::ZERO, PortNo(0), 0, (), now)
    }

    fn options(personality: Builtin, options: TcpOptions) -> Vec<u8> {
        let mut into = [0; 40];
        let n = half_open(options, Instant::ZERO).syn_ack_options(personality.get(), 5, true, &mut into);
        into[..n].to_vec()
    }

    fn key(port: u16) -> FlowKey {
        let ip = "10.0.0.1".parse().unwrap();
        FlowKey { local: ip, remote: ip, local_port: 1, remote_port: port }
    }

    const ALL: TcpOptions =
        TcpOptions { mss: Some(1460), window_scale: Some(7), sack_permitted: true, timestamps: Some((9, 0)) };
    const NO_TS: TcpOptions = TcpOptions { timestamps: None, ..ALL };
    const ONLY_MSS: TcpOptions = TcpOptions { window_scale: None, sack_permitted: false, ..NO_TS };

    #[test]
    fn an_entry_is_small() {
        assert!(std::mem::size_of::<HalfOpen<[u8; 6]>>() <= 52, "{}", std::mem::size_of::<HalfOpen<[u8; 6]>>());
    }

    #[test]
    fn linux_orders_its_options_as_linux_does() {
        // What Linux 6.1 was seen to answer to SYNs with these options.
        let full = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9, 1, 3, 3, 7];
        assert_eq!(options(Builtin::Linux, ALL), full);
        assert_eq!(options(Builtin::Linux, NO_TS), [2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7]);
        assert_eq!(options(Builtin::Linux, ONLY_MSS), [2, 4, 5, 0xb4]);
        let sackless = TcpOptions { sack_permitted: false, ..ALL };
        let expected = [2, 4, 5, 0xb4, 1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9, 1, 3, 3, 7];
        assert_eq!(options(Builtin::Linux, sackless), expected);
    }

    #[test]
    fn windows_and_ios_order_theirs() {
        assert_eq!(options(Builtin::Windows, ALL), [2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2]);
        assert_eq!(options(Builtin::Windows, ONLY_MSS), [2, 4, 5, 0xb4]);
        assert_eq!(options(Builtin::CiscoIos, ALL), [2, 4, 2, 0x18]);
    }

    #[test]
    fn retries_follow_the_schedule_and_end() {
        let mut table = HalfOpenTable::new(16, 1);
        let schedule = &*Builtin::Windows.get().syn_ack_retries_ms;
        table.insert(key(2), half_open(ALL, Instant::ZERO), schedule, Instant::ZERO);
        let mut times = Vec::new();
        while let Some(at) = table.next_deadline() {
            if table.next_due(at, |_| schedule).is_some() {
                times.push(at.total_millis());
            }
            table.sweep(at);
        }
        assert_eq!(times, [3000, 9000]);
        assert!(table.is_empty());
    }

    #[test]
    fn recent_handshakes_are_not_forgotten_for_others() {
        let mut table = HalfOpenTable::new(4, 1);
        let put = |table: &mut HalfOpenTable<()>, port, now| table.insert(key(port), half_open(ALL, now), &[], now);
        let mut now = Instant::from_secs(100);
        for port in 0..4 {
            assert_eq!(put(&mut table, port, now), Remembered::Kept);
        }
        now += Duration::from_millis(2900);
        assert!((4..100).all(|port| put(&mut table, port, now) == Remembered::Full));
        assert!((0..4).all(|port| table.get(&key(port), now).is_some()));
        now += Duration::from_millis(200);
        // Each was looked for just now, and is passed over once.
        let kept = (100..110).filter(|port| put(&mut table, *port, now) == Remembered::Evicted).count();
        assert_eq!(kept, 4);
        now += LIFETIME;
        assert!(table.get(&key(109), now).is_none());
        table.sweep(now);
        assert!(table.is_empty());
    }
}
