//! From what was asked for to what was measured.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::BenchError;
use super::arp::Ask;
use super::drive::{Lane, Phase, Progress, Run, Watch, drive};
use super::echo::Echo;
use super::frames::{self, Frames};
use super::handshake::{Handshake, LONGEST_REQUEST};
use super::interface::Interface;
use super::neighbors::{learn, resolve};
use super::options::{FramesTo, Load, Probes, Question, Route};
use super::receive::Arrivals;
use super::report::{
    Answers, FramesReport, Generator, Handshakes, Latency, ProbeReport, ReceiveReport, Sending, SynAnswers, per_second,
    seconds,
};
use super::station::Station;
use super::syn::Syn;
use super::tally::Tally;
use super::targets::{Aim, Sources, Targets, size_of_prefix};
use super::tcp::Tcp;
use crate::sys::clock::{monotonic_nanos, realtime_micros};
use crate::sys::usage;
use crate::wire::{Mac, is_mapped, word_of};

/// Addresses behind one MAC that can be asked: an IPv4 /8.
const MOST_ROUTED: u64 = 1 << 24;
/// Addresses whose MACs can be kept: an IPv4 /12, 12 MiB.
const MOST_ON_LINK: u64 = 1 << 20;
/// Probes that are remembered at least and at most.
const OUTSTANDING: (u64, u64) = (1 << 10, 1 << 22);

/// Asks every address of a prefix, and measures the answers.
///
/// # Errors
/// If it cannot be done as it was asked for, nobody answers for a MAC, or the interface fails.
pub fn probe(interface: &str, probes: &Probes, load: &Load, watch: &mut dyn Watch) -> Result<ProbeReport, BenchError> {
    let interface = Interface::open(interface)?;
    check_hosts(probes.prefix)?;
    check_link(&interface, probes)?;
    let station = station(&interface, probes)?;
    let mut lane = Lane::new(interface, None);
    let everybody = Targets::all(probes.prefix, &station.sources, Mac::BROADCAST);
    let (all, mut interrupted) = (everybody.len(), false);
    if all == 0 {
        return Err(BenchError::OnlySources(probes.prefix));
    }
    let targets = match probes.route {
        _ if probes.question == Question::Arp => everybody,
        Route::Mac(mac) => Targets::all(probes.prefix, &station.sources, mac),
        Route::Via(router) => {
            let mac = resolve(&mut lane, &station, router, load, watch)?;
            Targets::all(probes.prefix, &station.sources, mac)
        }
        Route::Link | Route::SurelyLink => {
            let learned = learn(&mut lane, &station, probes.prefix, load, watch)?;
            interrupted = learned.interrupted;
            if learned.entries.is_empty() {
                return Err(if interrupted { BenchError::Interrupted } else { BenchError::Silent(probes.prefix) });
            }
            Targets::Some { base: word_of(probes.prefix.network()), entries: learned.entries.into() }
        }
    };
    let unresolved = all - targets.len();
    let mut load = load.clone();
    if probes.once {
        load.count = Some(targets.len().min(load.count.unwrap_or(u64::MAX)));
    }
    if interrupted {
        load.count = Some(0);
    }
    let mut tally = Tally::new(targets.len(), outstanding(&load));
    let aim = Aim::new(targets, station.sources.clone());
    let v4 = probes.prefix.network().is_ipv4();
    let (mac, run_mark) = (station.mac, mark());
    let (mut syn, mut handshake) = (None, None);
    let mut go = Go { lane: &mut lane, load: &load, tally: &mut tally, watch };
    let targets = aim.targets.len();
    // What was on its way before does not belong to this.
    go.lane.overruns(monotonic_nanos());
    let run = match &probes.question {
        Question::Echo => go.run(&mut Echo::new(station, aim, v4, run_mark))?,
        Question::Arp => go.run(&mut Ask::new(station, aim))?,
        Question::Syn { port } => {
            let mut probe = Syn::new(station, Tcp::new(aim, mac, v4, *port, run_mark));
            let run = go.run(&mut probe)?;
            syn = Some(SynAnswers { syn_ack: probe.syn_ack, rst: probe.rst });
            run
        }
        Question::Handshake { port, request } => {
            let tcp = Tcp::new(aim, mac, v4, *port, run_mark);
            let mut probe = Handshake::new(station, tcp, request, go.tally.capacity());
            let run = go.run(&mut probe)?;
            handshake = Some(Handshakes {
                completed: probe.completed,
                refused: probe.refused,
                responses: probe.responses,
                closed: probe.closed,
                reset: probe.reset,
                aborted: probe.completed - probe.closed - probe.reset,
                response_latency_ns: Latency::of(&probe.response_latency),
            });
            run
        }
    };
    let overruns = lane.overruns(monotonic_nanos());
    Ok(ProbeReport {
        bench: probes.question.as_str(),
        interface: lane.interface().name.clone(),
        prefix: probes.prefix.trunc().to_string(),
        targets,
        unresolved,
        responders: tally.responders,
        sending: Sending::of(&run, &tally),
        answers: Answers::of(&run, &tally),
        icmp_errors: tally.icmp_errors,
        syn,
        handshake,
        generator: Generator::of(&run, overruns),
        interrupted: interrupted || run.interrupted,
    })
}

/// What a run takes, whatever its kind of probe.
struct Go<'a> {
    lane: &'a mut Lane,
    load: &'a Load,
    tally: &'a mut Tally,
    watch: &'a mut dyn Watch,
}

impl Go<'_> {
    fn run<P: super::drive::Probe>(&mut self, probe: &mut P) -> Result<Run, BenchError> {
        drive(self.lane, self.load, Phase::Sending, probe, self.tally, self.watch)
    }
}

/// Sends frames to measure forwarding.
///
/// # Errors
/// If it cannot be done as it was asked for, or an interface fails.
pub fn frames(
    interface: &str,
    frames: &FramesTo,
    load: &Load,
    watch: &mut dyn Watch,
) -> Result<FramesReport, BenchError> {
    let sends = Interface::open(interface)?;
    let hears = frames.count_on.as_deref().map(Interface::open).transpose()?;
    let (from, longest) = (sends.mac, sends.longest.min(frames::MOST));
    if !(frames::LEAST..=longest).contains(&frames.size) {
        return Err(BenchError::Size { size: frames.size, least: frames::LEAST, most: longest });
    }
    let counted = frames.count_on.is_some();
    let mut load = load.clone();
    if !counted {
        load.wait = Duration::ZERO;
    }
    let mut lane = Lane::new(sends, hears);
    let mut tally = Tally::new(1, outstanding(&load));
    let mut probe = Frames::new(frames.mac, from, frames.flows, frames.size, mark() as u32);
    lane.overruns(monotonic_nanos());
    let run = drive(&mut lane, &load, Phase::Sending, &mut probe, &mut tally, watch)?;
    let overruns = lane.overruns(monotonic_nanos());
    Ok(FramesReport {
        bench: "frames",
        interface: lane.interface().name.clone(),
        to: frames.mac.to_string(),
        size: frames.size,
        sending: Sending::of(&run, &tally),
        answers: counted.then(|| Answers::of(&run, &tally)),
        generator: Generator::of(&run, if counted { overruns } else { 0 }),
        interrupted: run.interrupted,
    })
}

/// Counts the frames that another process sends, until `duration` is over or none has come for `wait`
/// after the first. `ready` is called with the interface's MAC as soon as frames are counted; switches
/// are told every second where that is.
///
/// # Errors
/// If the interface cannot be used or fails.
pub fn receive(
    interface: &str,
    load: &Load,
    ready: impl FnOnce(Mac),
    watch: &mut dyn Watch,
) -> Result<ReceiveReport, BenchError> {
    const SECOND: u64 = 1_000_000_000;
    let mut lane = Lane::new(Interface::open(interface)?, None);
    let mac = lane.interface().mac;
    lane.overruns(monotonic_nanos());
    let (begin, used) = (monotonic_nanos(), usage::own());
    let duration = u64::try_from(load.duration.as_nanos()).unwrap_or(u64::MAX);
    let (until, wait) = (begin.saturating_add(duration), u64::try_from(load.wait.as_nanos()).unwrap_or(u64::MAX));
    let mut arrivals = Arrivals::default();
    let (mut now, mut next_look, mut next_announcement, mut asked_to_end) = (begin, begin, begin, 0);
    let mut ready = Some(ready);
    loop {
        if now >= next_announcement {
            next_announcement = now + SECOND;
            lane.put(|frame| {
                frames::announce(frame, mac);
                true
            });
            lane.send();
        }
        if let Some(ready) = ready.take() {
            ready(mac);
        }
        let more = lane.receive(now)?;
        now = monotonic_nanos();
        lane.drain(|frame| {
            arrivals.hear(now, frame.bytes());
            false
        });
        if now >= next_look {
            next_look = now + SECOND / 10;
            let elapsed = Duration::from_nanos(now - begin);
            let frames = arrivals.received;
            asked_to_end =
                watch.look(&Progress { phase: Phase::Receiving, frames, answered: 0, goal: u64::MAX, elapsed });
        }
        let quiet = arrivals.received > 0 && now >= arrivals.last.saturating_add(wait);
        if asked_to_end > 0 || now >= until || quiet {
            break;
        }
        if !more && !load.spin {
            lane.sleep(next_look.min(next_announcement).min(until).saturating_sub(now));
        }
    }
    let took = arrivals.last - arrivals.first;
    let run = Run { begin, sending: took, used: usage::own().since(used), behind: 0, interrupted: asked_to_end > 0 };
    let overruns = lane.overruns(monotonic_nanos());
    Ok(ReceiveReport {
        bench: "receive",
        interface: lane.interface().name.clone(),
        received: arrivals.received,
        missing: arrivals.missing(),
        octets: arrivals.octets,
        seconds: seconds(took),
        // The first frame begins the time and does not count into it.
        rate: per_second(arrivals.received.saturating_sub(1), took),
        foreign: arrivals.foreign,
        generator: Generator::of(&run, overruns),
        interrupted: run.interrupted,
    })
}

/// A number that tells this run from others; nobody is to be kept from guessing it.
fn mark() -> u64 {
    let seed = realtime_micros() as u64 ^ u64::from(std::process::id()) << 40;
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// How many probes are to be remembered: those that `wait` and a second more may need.
fn outstanding(load: &Load) -> u64 {
    let (least, most) = OUTSTANDING;
    let time = load.wait.as_secs_f64() + 1.0;
    let by_rate = load.rate.map_or(most as f64, |rate| rate as f64 * time) as u64;
    by_rate.min(load.count.unwrap_or(u64::MAX)).clamp(least, most)
}

/// Refuses what no host has.
fn check_hosts(prefix: IpNet) -> Result<(), BenchError> {
    let first = prefix.network();
    let kind = if first.is_multicast() {
        "multicast"
    } else if first.is_loopback() {
        "the loopback's"
    } else if first.is_unspecified() {
        "everything, or an address that nobody has"
    } else {
        match first {
            IpAddr::V4(ip) if ip.octets()[0] >= 240 => "reserved",
            IpAddr::V6(_) if is_mapped(word_of(first)) => "IPv4 in IPv6",
            _ => return Ok(()),
        }
    };
    Err(BenchError::NoHosts(prefix, kind))
}

/// Refuses what would go somewhere else than the user thinks, or takes too much memory.
fn check_link(interface: &Interface, probes: &Probes) -> Result<(), BenchError> {
    let prefix = probes.prefix;
    let on_link = matches!(probes.route, Route::Link | Route::SurelyLink);
    if probes.question == Question::Arp && !on_link {
        return Err(BenchError::ArpOnLink(prefix));
    }
    if let Route::Via(router) = probes.route
        && router.is_ipv4() != prefix.network().is_ipv4()
    {
        return Err(BenchError::Family(prefix, router));
    }
    if let Some(source) = probes.source_prefix
        && source.network().is_ipv4() != prefix.network().is_ipv4()
    {
        return Err(BenchError::Family(prefix, source.network()));
    }
    let own: Vec<IpNet> = interface.prefixes().filter(|net| net.addr().is_ipv4() == prefix.addr().is_ipv4()).collect();
    if probes.route == Route::Link && !own.is_empty() && !own.iter().any(|net| net.contains(&prefix)) {
        let addresses = own.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
        return Err(BenchError::NotOnLink { prefix, interface: interface.name.clone(), addresses });
    }
    let (most, advice) = match on_link && probes.question != Question::Arp {
        true => (MOST_ON_LINK, " while each one's MAC has to be kept; a router named by --via takes more"),
        false => (MOST_ROUTED, ""),
    };
    let has = size_of_prefix(prefix);
    if has > u128::from(most) { Err(BenchError::TooMany { prefix, has, most, advice }) } else { Ok(()) }
}

/// A locally administered MAC beside that of an interface: what comes for it is no business of this machine's own
/// network stack, which would look at every answer in the time of who sent it.
fn another(Mac([first, rest @ ..]): Mac) -> Mac {
    let [b, c, d, e, f] = rest;
    Mac([(first | 2) ^ 4, b, c, d, e, f])
}

/// Who sends.
fn station(interface: &Interface, probes: &Probes) -> Result<Station, BenchError> {
    if let Question::Handshake { request, .. } = &probes.question
        && request.len() > LONGEST_REQUEST
    {
        return Err(BenchError::Request { len: request.len(), most: LONGEST_REQUEST });
    }
    let mac = interface.mac;
    let handshake = matches!(probes.question, Question::Handshake { .. });
    if let Some(prefix) = probes.source_prefix {
        let size = size_of_prefix(prefix);
        // The first address of a network is nobody's, and neither is the last one of IPv4.
        let (skip, has) = if size > 2 { (1, size - 2) } else { (0, size) };
        let has = u64::try_from(has).unwrap_or(u64::MAX);
        if probes.sources == 0 || probes.sources > has {
            return Err(BenchError::FewSources { prefix, has, wanted: probes.sources });
        }
        let sources = Sources { base: word_of(prefix.network()) + skip, count: probes.sources };
        if handshake && interface.addresses.iter().any(|(own, _)| sources.index(word_of(*own)).is_some()) {
            return Err(BenchError::OwnSource);
        }
        return Ok(Station { mac: another(mac), sources, answers: true });
    }
    if probes.sources != 1 {
        return Err(BenchError::Sources);
    }
    let target = match probes.route {
        Route::Via(router) => router,
        _ => probes.prefix.network(),
    };
    let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
    let own = interface.address_for(target);
    let own = own.ok_or_else(|| BenchError::NoSource { interface: interface.name.clone(), family })?;
    if handshake {
        return Err(BenchError::OwnSource);
    }
    Ok(Station { mac, sources: Sources::one(own), answers: false })
}
