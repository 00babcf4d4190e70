//! A host's lease from its first word to its end, in virtual time.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::hostile_tests::answer;
use super::testing::option;
use super::*;
use crate::wire::{DhcpMessageType, Duration, Instant, Mac};

pub(super) const MAC: Mac = Mac([0, 0x0c, 0x29, 1, 2, 3]);
pub(super) const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const RIVAL: Mac = Mac([2, 0, 0, 0, 0, 9]);
const PACE: Pace = Pace { probes: 3, announcements: 2, gap: Duration::from_millis(1000) };

/// A machine, and what it has done so far.
struct Host {
    machine: Machine,
    now: Instant,
    roll: u64,
    done: Vec<(Instant, Act)>,
}

impl Host {
    fn new() -> Host {
        let now = Instant::from_secs(1000);
        Host { machine: Machine::new(MAC, PACE, now), now, roll: 7, done: Vec::new() }
    }

    fn roll(&mut self) -> u64 {
        self.roll = self.roll.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.roll
    }

    /// Does everything that comes due until `until`.
    fn run(&mut self, until: Instant) {
        while self.machine.deadline() <= until {
            self.now = self.now.max(self.machine.deadline());
            let before = self.machine.deadline();
            let roll = self.roll();
            match self.machine.due(self.now, roll) {
                Some(act) => self.done.push((self.now, act)),
                None => assert!(self.machine.deadline() > before, "it would spin in {:?}", self.machine.state()),
            }
        }
        self.now = until;
    }

    fn wait(&mut self, secs: u64) {
        self.run(self.now + Duration::from_secs(secs));
    }

    fn hear(&mut self, payload: &[u8]) -> Result<Option<Act>, Refusal> {
        let reply = Reply::parse(payload)?;
        let roll = self.roll();
        let act = self.machine.hear(&reply, self.now, roll, |_| None)?;
        self.done.extend(act.map(|act| (self.now, act)));
        Ok(act)
    }

    /// The last message, and when it was said.
    fn said(&self) -> (Instant, Message) {
        let said = self.done.iter().rev().find_map(|(at, act)| match act {
            Act::Say(message) | Act::Decline(message, _) => Some((*at, *message)),
            _ => None,
        });
        said.expect("it said something")
    }

    fn answer(&mut self, kind: u8, secs: u32) -> Result<Option<Act>, Refusal> {
        let lease = option(51, &secs.to_be_bytes());
        let payload = answer(kind, self.said().1.xid, IP, &[lease, option(1, &[255, 255, 255, 0])].concat());
        self.hear(&payload)
    }

    /// Has it leased an address for `secs`.
    fn lease(&mut self, secs: u32) {
        self.run(self.now);
        self.answer(2, secs).unwrap();
        self.answer(5, secs).unwrap();
        self.wait(5);
        assert_eq!(self.machine.state(), State::Bound);
    }

    fn acts(&self) -> Vec<Act> {
        self.done.iter().map(|(_, act)| *act).collect()
    }
}

#[test]
fn a_lease_is_asked_for_tested_taken_and_announced() {
    let mut host = Host::new();
    host.run(host.now);
    let discover = host.said().1;
    assert_eq!((discover.kind, discover.requested, discover.ciaddr), (DhcpMessageType::Discover, None, None));
    let Some(Act::Say(request)) = host.answer(2, 3600).unwrap() else { panic!() };
    let asked = (request.kind, request.xid, request.requested, request.server, request.ciaddr, request.to_server);
    assert_eq!(asked, (DhcpMessageType::Request, discover.xid, Some(IP), Some(SERVER), None, false));
    host.done.clear();
    assert_eq!(host.answer_to(request.xid, 5).unwrap(), None);
    host.wait(10);
    let lease = *host.machine.lease().unwrap();
    assert_eq!((lease.ip, lease.prefix, lease.secs, lease.t1, lease.t2), (IP, 24, 3600, 1800, 3150));
    let probes = [Act::Probe(IP); 3];
    assert_eq!(host.acts(), [&probes[..], &[Act::Take(lease), Act::Announce(IP), Act::Announce(IP)]].concat());
    let times: Vec<u64> = host.done.iter().map(|(at, _)| (*at - host.done[0].0).total_millis()).collect();
    assert_eq!(times, [0, 1000, 2000, 3000, 3000, 4000]);
}

impl Host {
    fn answer_to(&mut self, xid: u32, kind: u8) -> Result<Option<Act>, Refusal> {
        let options = [option(51, &3600u32.to_be_bytes()), option(1, &[255, 255, 255, 0])].concat();
        self.hear(&answer(kind, xid, IP, &options))
    }
}

#[test]
fn nobody_answers() {
    let mut host = Host::new();
    host.wait(100_000);
    let times: Vec<u64> = host.done.iter().map(|(at, _)| (*at - host.done[0].0).secs()).collect();
    // RFC 2131 §4.1: 4, 8, 16, 32 seconds, give or take one.
    for (at, expected) in times[1..5].iter().zip([4, 12, 28, 60]) {
        assert!(at.abs_diff(expected) <= 4, "{times:?}");
    }
    let day = host.done.iter().filter(|(at, _)| *at < Instant::from_secs(1000 + 86_400)).count();
    assert!((500..1300).contains(&day), "{day} messages a day");
    assert!(
        host.acts().iter().all(|act| matches!(act, Act::Say(message) if message.kind == DhcpMessageType::Discover))
    );
    let xids: std::collections::HashSet<u32> =
        host.acts().iter().map(|act| if let Act::Say(message) = act { message.xid } else { 0 }).collect();
    assert_eq!(xids.len(), host.done.len().div_ceil(5), "each attempt is a transaction");
}

#[test]
fn renewals_are_asked_of_the_server_then_of_everybody_and_then_the_address_is_gone() {
    let mut host = Host::new();
    host.lease(3600);
    let begun = Instant::from_secs(1000);
    host.done.clear();
    // Renewed at T1, by its server.
    host.run(begun + Duration::from_secs(1800));
    let (at, renew) = host.said();
    assert_eq!(at, begun + Duration::from_secs(1800));
    let asked = (renew.kind, renew.requested, renew.server, renew.ciaddr, renew.to_server);
    assert_eq!(asked, (DhcpMessageType::Request, None, None, Some(IP), true), "RFC 2131 §4.3.2");
    assert_eq!(host.answer(5, 3600), Ok(None));
    assert_eq!((host.machine.state(), host.done.len()), (State::Bound, 1), "a renewal is not announced");
    // Not renewed: half of the rest of the time each, then everybody, then the end.
    host.done.clear();
    host.run(begun + Duration::from_secs(1800 + 3600));
    let times: Vec<u64> = host.done.iter().map(|(at, _)| (*at - begun).secs() - 1800).collect();
    let to_server: Vec<bool> =
        host.acts().iter().map(|act| matches!(act, Act::Say(message) if message.to_server)).collect();
    assert_eq!(times[..4], [1800, 2475, 2812, 2981]);
    let rebinding = times.iter().position(|at| *at == 3150).unwrap();
    assert!(to_server[..rebinding].iter().all(|to| *to) && to_server[rebinding..].iter().all(|to| !to));
    assert_eq!(host.done.last().unwrap(), &(begun + Duration::from_secs(5400), Act::LetGo(IP, Loss::Expired)));
    assert_eq!(host.machine.state(), State::Init);
    // It asks for what it had.
    host.wait(20);
    let again = host.said().1;
    assert_eq!((again.kind, again.requested), (DhcpMessageType::Discover, Some(IP)));
    host.lease(3600);
}

#[test]
fn another_server_may_renew_only_what_everybody_was_asked() {
    let mut host = Host::new();
    host.lease(3600);
    let other = |host: &Host| {
        let options = [option(54, &[192, 0, 2, 2]), option(51, &3600u32.to_be_bytes())].concat();
        testing::reply(5, (host.said().1.xid, MAC), IP, &options)
    };
    host.run(Instant::from_secs(1000 + 1800));
    let reply = other(&host);
    assert_eq!(host.hear(&reply), Err(Refusal::Changed));
    host.run(Instant::from_secs(1000 + 3150));
    assert_eq!(host.machine.state(), State::Rebinding);
    let reply = other(&host);
    assert_eq!(host.hear(&reply), Ok(None));
    assert_eq!(host.machine.lease().unwrap().server, Ipv4Addr::new(192, 0, 2, 2));
}

#[test]
fn a_refusal_by_the_server_ends_a_lease() {
    let mut host = Host::new();
    host.run(host.now);
    host.answer(2, 3600).unwrap();
    assert_eq!(host.answer(6, 0), Ok(None));
    assert_eq!(host.machine.state(), State::Init);
    assert!(
        host.machine.deadline() >= host.now + Duration::from_secs(10),
        "a server that only refuses is no reason to hurry"
    );
    host.wait(20);
    host.lease(120);
    host.wait(60);
    assert_eq!(host.answer(6, 0), Ok(Some(Act::LetGo(IP, Loss::Nak))));
}

#[test]
fn an_address_that_is_in_use_is_declined() {
    let mut host = Host::new();
    let mut times = Vec::new();
    for _ in 0..4 {
        host.run(host.machine.deadline().max(host.now));
        host.answer(2, 3600).unwrap();
        host.answer(5, 3600).unwrap();
        host.wait(1);
        assert_eq!(host.machine.conflict(RIVAL, host.now), None);
        host.run(host.now);
        times.push(host.now);
        let (at, Act::Decline(message, RIVAL)) = host.done.last().unwrap() else { panic!("{:?}", host.done) };
        assert_eq!(*at, host.now);
        let said = (message.kind, message.requested, message.server, message.ciaddr);
        assert_eq!(said, (DhcpMessageType::Decline, Some(IP), Some(SERVER), None));
        assert_eq!(host.machine.state(), State::Init);
    }
    assert!(host.acts().iter().all(|act| !matches!(act, Act::Take(_) | Act::Announce(_))));
    let gaps: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).secs()).collect();
    assert!(gaps[0] >= 10 && gaps[1] >= 20 && gaps[2] >= 3600, "{gaps:?}");
}

#[test]
fn an_address_is_defended_once_and_then_given_up() {
    let mut host = Host::new();
    host.lease(3600);
    host.wait(10);
    assert_eq!(host.machine.conflict(RIVAL, host.now), Some(Act::Announce(IP)));
    host.wait(11);
    assert_eq!(host.machine.conflict(RIVAL, host.now), Some(Act::Announce(IP)), "long after the last time");
    host.wait(5);
    assert_eq!(host.machine.conflict(RIVAL, host.now), Some(Act::LetGo(IP, Loss::Conflict)));
    host.run(host.now);
    assert!(matches!(host.done.last(), Some((_, Act::Decline(_, RIVAL)))));
    host.wait(20);
    assert_eq!(host.said().1.requested, None, "it does not ask for that one again");
}

#[test]
fn what_is_said_late_or_to_others_changes_nothing() {
    let mut host = Host::new();
    host.run(host.now);
    let xid = host.said().1.xid;
    assert_eq!(host.answer_to(xid, 5), Ok(None), "nothing was asked for yet");
    assert_eq!(host.answer_to(xid ^ 1, 2), Ok(None), "another transaction");
    assert_eq!(host.machine.state(), State::Selecting);
    host.answer_to(xid, 2).unwrap();
    assert_eq!(host.answer_to(xid, 2), Ok(None), "the second offer");
    assert_eq!(host.machine.state(), State::Requesting);
    assert_eq!(host.machine.conflict(RIVAL, host.now), None, "nothing is its own yet");
    host.answer_to(xid, 5).unwrap();
    assert_eq!(host.answer_to(xid, 6), Ok(None), "it has its lease");
    assert_eq!(host.machine.state(), State::Testing);
}

proptest! {
    /// Whatever happens in whatever order, it goes on, says little, and has only what it was granted.
    #[test]
    fn no_server_makes_it_spin(steps in proptest::collection::vec((0u8..8, 0u32..4000, any::<u32>()), 1..80)) {
        let mut host = Host::new();
        let begin = host.now;
        for (what, wait, number) in steps {
            host.run(host.now + Duration::from_secs(u64::from(wait)));
            let xid = host.done.iter().rev().find_map(|(_, act)| match act {
                Act::Say(message) => Some(message.xid),
                _ => None,
            });
            let options = [option(51, &number.to_be_bytes()), option(58, &(number / 7).to_be_bytes())].concat();
            match what {
                0..=3 => {
                    let kind = [2, 5, 6, 5][usize::from(what)];
                    let _ = host.hear(&answer(kind, xid.unwrap_or(0), IP, &options));
                }
                4 => drop(host.machine.conflict(RIVAL, host.now)),
                _ => {}
            }
            prop_assert!(host.machine.deadline() <= host.now + Duration::from_secs(u64::from(Lease::LONGEST)));
        }
        let secs = (host.now - begin).secs();
        prop_assert!(host.done.len() as u64 <= 200 + secs / 5, "{} acts in {secs} seconds", host.done.len());
    }
}
