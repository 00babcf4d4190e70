//! When hosts say something by themselves: who does, in which order, how often.
//!
//! A node has few talkers, however many hosts it has, all of them known from the start, one heap of
//! times, and a rate that it keeps to. Each act says one thing and names the next; what it says is in `say`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{Cx, Rng};
use super::answer::Later;
use super::tcp::Budget;
use super::tenants::{Place, home_of};
use super::{Hosts, Target};
use crate::emulate::talk::Seeks;
use crate::emulate::{Says, TalkHabits, TcpPort};
use crate::wire::{Duration, Instant, Mac, link_local, solicited_node, word_of};

/// Most addresses that a host speaks of.
const ADDRESSES: usize = 8;
/// Acts that a node may do at once, and a second: a population that is switched on is no flood.
const BUDGET: (u32, u32) = (50, 100);
/// Questions that a node looks at at once, and a second: some hundred hosts may have to say whether they are meant.
const QUESTIONS: (u32, u32) = (100, 100);
/// Answers that go to everybody on the segment, at once and a second: everybody has to read them (RFC 6762 §6).
const MULTICASTS: (u32, u32) = (100, 20);
/// When an act is tried again for which the rate had no room.
const AGAIN: Duration = Duration::from_millis(50);
/// Between the first acts of two hosts, on average, and of the first and the last one at most.
const SPREAD: (u64, u64) = (400, 120_000);
/// How often a NetBIOS name is claimed, and milliseconds between (RFC 1002 §5.1.1.1: 250; Windows takes longer).
const CLAIMS: (u8, u64) = (4, 750);
/// Probes for a name of multicast DNS, and milliseconds between (RFC 6762 §8.1).
const PROBES: (u8, u64) = (3, 250);

/// A host that says something by itself.
pub(super) struct Talker {
    pub target: Target,
    pub name: String,
    pub says: Says,
    pub v4: Option<Ipv4Addr>,
    /// Its link-local address, and then all others.
    pub v6: Vec<Ipv6Addr>,
    /// Of those that lease their address, which, and where everybody on its network is reached.
    pub tenant: Option<u16>,
    pub everybody: Option<Ipv4Addr>,
    /// What it offers, and at which TCP ports.
    pub services: Vec<(&'static str, u16)>,
    /// A listener query waits to be answered.
    pub answers: bool,
    /// The same of IPv4: a query for members.
    pub answers_v4: bool,
}

impl Talker {
    pub(super) fn link_local(&self) -> Option<Ipv6Addr> {
        self.v6.first().copied()
    }

    /// The multicast groups that it listens to.
    pub(super) fn groups(&self) -> Vec<Ipv6Addr> {
        let mut groups: Vec<Ipv6Addr> = self.v6.iter().map(|ip| solicited_node(*ip)).collect();
        for (kind, last) in [(Says::MDNS, [0, 0xfb]), (Says::LLMNR, [1, 3]), (Says::SSDP, [0, 0xc])] {
            if self.says.contains(kind) {
                groups.push(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, last[0], last[1]));
            }
        }
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// One thing that a host does by itself, and how often it has done that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Act {
    ArpProbe(u8),
    ArpAnnouncement(u8),
    /// Looks for its gateway.
    Gateway,
    /// Looks whether an IPv6 address is another's.
    Duplicate(u8),
    /// Reports the groups that it listens to.
    Listen(u8),
    /// Answers a listener query.
    ListenAnswer,
    RouterSolicitation(u8),
    /// Reports the groups of IPv4 that it listens to.
    Member(u8),
    /// Answers a query for members, of an old querier or not.
    MemberAnswer {
        is_old: bool,
    },
    /// Claims its NetBIOS names.
    Claim(u8),
    /// Announces itself to the browser.
    Browser(u8),
    Llmnr(u8),
    MdnsProbe(u8),
    MdnsAnnouncement(u8),
    /// Looks for services.
    MdnsQuery(u8),
    Search(u8),
}

/// The talkers of a node.
pub(super) struct Talk {
    pub talkers: Vec<Talker>,
    by_link_local: HashMap<u128, u16>,
    pub due: BinaryHeap<Reverse<(Instant, u16, Act)>>,
    /// Answers that wait.
    pub later: Vec<Later>,
    budget: Budget,
    /// Questions that are looked at.
    pub questions: Budget,
    /// Answers that go to everybody.
    pub multicasts: Budget,
    /// Who said to be the gateway.
    pub gateway: Option<(Ipv4Addr, Mac)>,
    /// Payload of a datagram.
    pub scratch: Vec<u8>,
    begun: bool,
}

impl Talk {
    pub(super) fn new(share: impl Fn(u32) -> u32) -> Talk {
        Talk {
            talkers: Vec::new(),
            by_link_local: HashMap::new(),
            due: BinaryHeap::new(),
            later: Vec::new(),
            budget: Budget::new(share(BUDGET.0), share(BUDGET.1)),
            questions: Budget::new(share(QUESTIONS.0), share(QUESTIONS.1)),
            multicasts: Budget::new(share(MULTICASTS.0), share(MULTICASTS.1)),
            gateway: None,
            scratch: Vec::new(),
            begun: false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let due = self.due.peek().map(|Reverse((at, ..))| *at);
        due.into_iter().chain(self.later.iter().map(|answer| answer.at)).min()
    }

    /// Adds one that is silent until an act of it is due.
    fn seat(&mut self, talker: Talker) {
        if let Some(own) = talker.link_local() {
            self.by_link_local.insert(word_of(IpAddr::V6(own)), self.talkers.len() as u16);
        }
        self.talkers.push(talker);
    }

    fn at(&mut self, at: Instant, talker: u16, act: Act) {
        self.due.push(Reverse((at, talker, act)));
    }

    /// The next act whose time has come, if the rate has room for it.
    fn next(&mut self, now: Instant) -> Option<(u16, Act)> {
        let Reverse((at, talker, act)) = *self.due.peek()?;
        if at > now {
            return None;
        }
        self.due.pop();
        if !self.budget.take(now) {
            self.at(now + AGAIN, talker, act);
            return None;
        }
        Some((talker, act))
    }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `secs` give or take a quarter.
fn about(secs: u64, rng: &mut Rng) -> Duration {
    Duration::from_millis(750 * secs + (rng.unit() * 500.0 * secs as f64) as u64)
}

impl Hosts {
    /// Chooses who is going to talk, and when each begins: all hosts of a small population, so many of
    /// a large one, evenly spread. Every replica chooses the same; each has those speak that it keeps.
    pub(super) fn begin_talk(&mut self, cx: &mut Cx<'_>) {
        if std::mem::replace(&mut self.talk.begun, true) || self.config.templates.iter().all(|t| t.talk.is_empty()) {
            return;
        }
        if self.dhcp.is_some() {
            return self.seat_tenants();
        }
        // Addresses that have to be claimed may be another's: nobody speaks for them before.
        if self.claims.is_some() {
            return;
        }
        let hosts = if self.config.single { 1 } else { self.config.addresses() };
        let count = hosts.min(u64::from(self.config.limits.talkers)).min(u64::from(u16::MAX));
        let stride = (hosts / count.max(1)).max(1);
        let spread = (SPREAD.0 * count).min(SPREAD.1);
        for index in 0..count {
            let seed = self.identity.talk_seed(index);
            let number = (u128::from(index) * u128::from(hosts) / u128::from(count)) as u64 + seed % stride;
            let Some(talker) = self.config.address_of(number).and_then(|ip| self.talker(number, ip)) else { continue };
            let at = self.talk.talkers.len() as u16;
            let habits = self.habits(&talker);
            if self.other_owner(talker.target.word, cx).is_none() {
                let begin = cx.now + millis(100 + (seed >> 32) % spread);
                self.schedule_first(begin, at, &talker, habits);
            }
            self.talk.seat(talker);
        }
    }

    /// Hosts that lease their addresses are silent until they have one.
    fn seat_tenants(&mut self) {
        let Some(dhcp) = &self.dhcp else { return };
        let most = self.config.limits.talkers as usize;
        let all = dhcp.tenants.all.iter().zip(0u16..).take(most).filter_map(|(tenant, number)| {
            let target = Target { word: home_of(number), template: tenant.template, mac: tenant.mac, hops: 0 };
            Some(Talker { tenant: Some(number), ..self.talker_of(target, tenant.name.clone(), &[])? })
        });
        let all: Vec<Talker> = all.collect();
        all.into_iter().for_each(|talker| self.talk.seat(talker));
    }

    /// Host `number` has leased an address, or has none any more: it talks as long as it has one.
    pub(super) fn talk_at(&mut self, number: u16, place: Option<Place>, cx: &mut Cx<'_>) {
        let Some(at) = self.talk.talkers.iter().position(|talker| talker.tenant == Some(number)) else { return };
        self.talk.due.retain(|Reverse((_, of, _))| usize::from(*of) != at);
        self.talk.later.retain(|answer| usize::from(answer.talker) != at);
        let talker = &mut self.talk.talkers[at];
        talker.v4 = place.map(|place| place.ip);
        talker.everybody = place.map(Place::everybody);
        (talker.answers, talker.answers_v4) = (false, false);
        let word = place.map_or(home_of(number), |place| word_of(IpAddr::V4(place.ip)));
        talker.target.word = word;
        if place.is_none() || self.other_owner(word, cx).is_some() {
            return;
        }
        let talkers = std::mem::take(&mut self.talk.talkers);
        self.schedule_first(cx.now, at as u16, &talkers[at], self.habits(&talkers[at]));
        self.talk.talkers = talkers;
    }

    pub(super) fn talker(&self, number: u64, ip: IpAddr) -> Option<Talker> {
        let target = self.target(word_of(ip))?;
        let ranges = &self.config.ranges;
        let all: Vec<IpAddr> = match self.config.single {
            true => ranges.iter().flat_map(|range| [range.first, range.last]).take(2 * ADDRESSES).collect(),
            false => vec![ip],
        };
        let name = self.config.name_of(&self.identity, number, self.template(target.template));
        self.talker_of(target, name, &all)
    }

    fn talker_of(&self, target: Target, name: String, all: &[IpAddr]) -> Option<Talker> {
        let template = self.template(target.template);
        // A container has no link-local address that anybody knows of.
        let says = if template.backend.is_some() { template.talk.without(Says::IPV6) } else { template.talk };
        if says.is_empty() {
            return None;
        }
        let v4 = all.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let mut v6 = Vec::new();
        if says.contains(Says::IPV6) {
            v6.push(link_local(target.mac));
            v6.extend(all.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }));
            v6.dedup();
            v6.truncate(ADDRESSES);
        }
        let offered = template.personality.get().talk.mdns_offers.services();
        let is_open = |port: u16| matches!(template.tcp.get(&port), Some(TcpPort::Open(_)));
        let services = offered.iter().copied().filter(|(_, port)| is_open(*port)).collect();
        Some(Talker {
            target,
            name,
            says,
            v4,
            v6,
            tenant: None,
            everybody: None,
            services,
            answers: false,
            answers_v4: false,
        })
    }

    pub(super) fn habits(&self, talker: &Talker) -> &'static TalkHabits {
        &self.template(talker.target.template).personality.get().talk
    }

    /// What a host does first once it is switched on at `begin`.
    fn schedule_first(&mut self, begin: Instant, at: u16, talker: &Talker, habits: &TalkHabits) {
        let says = |kind| talker.says.contains(kind);
        let mut first = |after: u64, act| self.talk.at(begin + millis(after), at, act);
        let mut ready = 0;
        if says(Says::ARP) && talker.tenant.is_some() {
            // It has tested and announced its address already.
            first(300, Act::Gateway);
        } else if says(Says::ARP) && talker.v4.is_some() {
            ready = u64::from(habits.arp_probes) * u64::from(habits.arp_gap_ms);
            first(0, if habits.arp_probes > 0 { Act::ArpProbe(0) } else { first_of(habits) });
        }
        if !talker.v6.is_empty() {
            first(120, Act::Duplicate(0));
        }
        if !talker.groups_v4().is_empty() {
            first(ready + 300, Act::Member(0));
        }
        // Names follow once the address is its own, those over IPv6 as soon as the link-local one is.
        ready += 1200;
        if says(Says::NETBIOS) && talker.v4.is_some() {
            first(ready, Act::Claim(0));
        }
        if says(Says::LLMNR) {
            first(ready + 90, Act::Llmnr(0));
        }
        if says(Says::MDNS) {
            first(ready + 160, Act::MdnsProbe(0));
        }
        if says(Says::SSDP) && talker.v4.is_some() {
            first(ready + 700, Act::Search(0));
        }
    }

    /// Does what is due.
    pub(super) fn talk(&mut self, cx: &mut Cx<'_>) {
        self.answer_later(cx);
        while let Some((at, act)) = self.talk.next(cx.now) {
            let Some(talker) = self.talk.talkers.get_mut(usize::from(at)) else { continue };
            match act {
                Act::ListenAnswer => talker.answers = false,
                Act::MemberAnswer { .. } => talker.answers_v4 = false,
                _ => {}
            }
            let Some(talker) = self.talk.talkers.get(usize::from(at)) else { continue };
            let habits = self.habits(talker);
            let addresses = talker.v6.len() as u8;
            self.say(usize::from(at), act, cx);
            if let Some((act, after)) = next(act, habits, addresses, cx.rng) {
                self.talk.at(cx.now + after, at, act);
            }
            if act == Act::Listen(0) {
                self.talk.at(cx.now + millis(40), at, Act::RouterSolicitation(0));
            }
        }
    }

    /// Who has a link-local address.
    #[cold]
    pub(super) fn link_local_target(&self, word: u128) -> Option<Target> {
        // Most of what is not ours is of the hosts' own prefix.
        if word >> 118 != 0xfe80 >> 6 {
            return None;
        }
        let at = self.talk.by_link_local.get(&word)?;
        let talker = self.talk.talkers.get(usize::from(*at))?;
        Some(Target { word, ..talker.target })
    }

    /// A gateway that a talker looked for has answered.
    pub(super) fn heard_gateway(&mut self, ip: Ipv4Addr, mac: Mac) {
        if !mac.is_group() && self.is_gateway(IpAddr::V4(ip)) {
            self.talk.gateway = Some((ip, mac));
        }
    }
}

fn first_of(habits: &TalkHabits) -> Act {
    if habits.arp_announcements > 0 { Act::ArpAnnouncement(0) } else { Act::Gateway }
}

/// What follows `act` of a host with so many IPv6 addresses, and after how long.
fn next(act: Act, habits: &TalkHabits, addresses: u8, rng: &mut Rng) -> Option<(Act, Duration)> {
    let gap = millis(u64::from(habits.arp_gap_ms));
    Some(match act {
        Act::ArpProbe(n) if n + 1 < habits.arp_probes => (Act::ArpProbe(n + 1), gap),
        Act::ArpProbe(_) => (first_of(habits), gap),
        Act::ArpAnnouncement(n) if n + 1 < habits.arp_announcements => (Act::ArpAnnouncement(n + 1), gap),
        Act::ArpAnnouncement(_) => (Act::Gateway, millis(300)),
        Act::Gateway => (Act::Gateway, about(u64::from(habits.arp_again_secs), rng)),
        Act::Duplicate(n) if n + 1 < addresses => (Act::Duplicate(n + 1), millis(1000)),
        Act::Duplicate(_) => (Act::Listen(0), millis(1000)),
        // Once more, for what gets lost (RFC 3810 §9.1).
        Act::Listen(0) => (Act::Listen(1), millis(100 + rng.next_u64() % 900)),
        // RFC 3376 §8.11, the same.
        Act::Member(0) => (Act::Member(1), millis(100 + rng.next_u64() % 900)),
        // RFC 4861 §6.3.7: at most three, four seconds apart.
        Act::RouterSolicitation(n) if n < 2 => (Act::RouterSolicitation(n + 1), millis(4000)),
        Act::Claim(n) if n + 1 < CLAIMS.0 => (Act::Claim(n + 1), millis(CLAIMS.1)),
        Act::Claim(_) => (Act::Browser(0), millis(1000)),
        Act::Browser(n) => (Act::Browser((n + 1).min(4)), Duration::from_secs(browser_secs(n))),
        Act::Llmnr(0) => (Act::Llmnr(1), millis(410)),
        Act::Llmnr(_) => (Act::Llmnr(2), about(900, rng)),
        Act::MdnsProbe(n) if n + 1 < PROBES.0 => (Act::MdnsProbe(n + 1), millis(PROBES.1)),
        Act::MdnsProbe(_) => (Act::MdnsAnnouncement(0), millis(PROBES.1)),
        Act::MdnsAnnouncement(0) => (Act::MdnsAnnouncement(1), millis(1000)),
        Act::MdnsAnnouncement(_) if habits.mdns_seeks == Seeks::Nothing => return None,
        Act::MdnsAnnouncement(_) => (Act::MdnsQuery(0), millis(20 + rng.next_u64() % 100)),
        // RFC 6762 §5.2: after a second, then after twice as long as before, up to an hour.
        Act::MdnsQuery(n) => (Act::MdnsQuery((n + 1).min(12)), about((1u64 << n).min(3600), rng)),
        // Thrice within six seconds, then every two minutes.
        Act::Search(n) if n < 2 => (Act::Search(n + 1), millis(3000)),
        Act::Search(_) => (Act::Search(0), about(120, rng)),
        Act::Listen(_) | Act::ListenAnswer | Act::RouterSolicitation(_) => return None,
        Act::Member(_) | Act::MemberAnswer { .. } => return None,
    })
}

/// Seconds until the announcement that follows the `n`th ([MS-BRWS] §3.2.6: from one minute to twelve).
pub(super) fn browser_secs(n: u8) -> u64 {
    60 * (1u64 << n.min(4)).min(12)
}
