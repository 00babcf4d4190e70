//! How long echo replies and SYN/ACKs take, and whether a host that is spoken to
//! for the first time takes longer.
//!
//! The probes are raw packets: a SYN that no connection of this machine stands
//! behind is answered, and the answer is met with RST by this machine's own kernel,
//! so that no handshake completes and no container starts.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, SocketType, ipproto};

use super::lab::{Lab, Side, Stop};
use super::path::TOLERANCE_US;
use super::report::Report;
use super::target::{Group, Host};
use crate::sys::clock::{monotonic_micros, monotonic_nanos};
use crate::wire::checksum;

const CHECK: &str = "timing";
/// Measurements of a host, of each kind.
const ROUNDS: usize = 200;
/// Time for the measurements of a host, and for the first contacts with a template's hosts: a long way allows fewer.
const LONGEST_US: u64 = 8_000_000;
/// Contacts of a host that nobody has spoken to.
const CONTACTS: usize = 10;
/// Fewer hosts than that say nothing about first contacts.
const FEWEST: usize = 16;
/// Above this, first contacts are told apart.
const TOLD_APART: f64 = 0.60;
/// How long an answer is waited for.
const WAIT: Duration = Duration::from_millis(1000);
/// Between two probes.
const GAP: Duration = Duration::from_millis(1);

/// Sockets for probes.
struct Prober {
    icmp: UdpSocket,
    tcp: UdpSocket,
    number: u16,
}

impl Prober {
    /// To be called inside the attacker's namespace.
    fn new() -> io::Result<Prober> {
        let raw = |protocol: Protocol| {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(protocol))?;
            Ok::<UdpSocket, io::Error>(UdpSocket::from(socket))
        };
        // The ports of one run are not those of the one before: nothing of it is waited for.
        Ok(Prober { icmp: raw(ipproto::ICMP)?, tcp: raw(ipproto::TCP)?, number: monotonic_micros() as u16 })
    }

    /// Microseconds until the answer to an echo request; `None` without one.
    fn echo(&mut self, host: &Host) -> io::Result<Option<f64>> {
        self.number = self.number.wrapping_add(1);
        let mut packet = [0u8; 64];
        packet[0] = 8;
        let (own, number) = ((std::process::id() as u16).to_be_bytes(), self.number.to_be_bytes());
        packet[4..6].copy_from_slice(&own);
        packet[6..8].copy_from_slice(&number);
        let sum = checksum::of(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        let is_answer = |data: &[u8]| data.first() == Some(&0) && data.get(4..8) == Some(&[own, number].concat());
        exchange(&self.icmp, &packet, host.ip, is_answer)
    }

    /// Microseconds until the SYN/ACK; `None` without one.
    fn syn(&mut self, host: &Host, port: u16) -> io::Result<Option<f64>> {
        self.number = self.number.wrapping_add(1);
        let own = (1024 + self.number % 31_000).to_be_bytes();
        let sequence = monotonic_nanos() as u32;
        let mut packet = [0u8; 24];
        packet[..2].copy_from_slice(&own);
        packet[2..4].copy_from_slice(&port.to_be_bytes());
        packet[4..8].copy_from_slice(&sequence.to_be_bytes());
        // Six words, SYN, a window, and the MSS of Ethernet.
        packet[12..16].copy_from_slice(&[0x60, 0x02, 0xfa, 0xf0]);
        packet[20..].copy_from_slice(&[2, 4, 0x05, 0xb4]);
        let pseudo = checksum::pseudo(IpAddr::V4(host.way.source), IpAddr::V4(host.ip), 6, packet.len());
        let sum = checksum::finish(checksum::sum(pseudo, &packet)).to_be_bytes();
        packet[16..18].copy_from_slice(&sum);
        let ack = sequence.wrapping_add(1).to_be_bytes();
        let is_answer = |data: &[u8]| {
            data.get(..2) == Some(&port.to_be_bytes())
                && data.get(2..4) == Some(&own)
                && data.get(8..12) == Some(&ack)
                && data.get(13).is_some_and(|flags| flags & 0x12 == 0x12)
        };
        exchange(&self.tcp, &packet, host.ip, is_answer)
    }
}

/// Sends a packet and takes the time until its answer.
fn exchange(
    socket: &UdpSocket,
    packet: &[u8],
    to: Ipv4Addr,
    is_answer: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<f64>> {
    let begin = monotonic_nanos();
    socket.send_to(packet, SocketAddr::from((to, 0)))?;
    let mut buffer = [0u8; 2048];
    loop {
        let spent = Duration::from_nanos(monotonic_nanos() - begin);
        let Some(left) = WAIT.checked_sub(spent).filter(|left| !left.is_zero()) else { return Ok(None) };
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let (octets, from) = match socket.recv_from(&mut buffer) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = monotonic_nanos();
        // A raw socket sees the IP header, too.
        let header = usize::from(buffer[0] & 0xf) * 4;
        if from.ip() == IpAddr::V4(to) && buffer.get(header..octets).is_some_and(&is_answer) {
            return Ok(Some((end - begin) as f64 / 1e3));
        }
    }
}

/// The value below which `share` of them lie.
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let at = (values.len().checked_sub(1)? as f64 * share).round() as usize;
    values.get(at).copied()
}

/// How well the best threshold tells the two apart: the area under the ROC curve, 0.5 to 1.
pub fn area(one: &[f64], other: &[f64]) -> Option<f64> {
    let pairs = one.len().checked_mul(other.len()).filter(|pairs| *pairs > 0)? as f64;
    let wins = |a: &f64, b: &f64| if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 };
    let sum: f64 = one.iter().map(|a| other.iter().map(|b| wins(a, b)).sum::<f64>()).sum();
    Some((sum / pairs).max(1.0 - sum / pairs))
}

/// The standard error of [`area`] for two samples of `count` that do not differ.
fn chance(count: usize) -> f64 {
    let count = count.max(1) as f64;
    ((2.0 * count + 1.0) / (12.0 * count * count)).sqrt()
}

fn failed(error: &io::Error) -> Stop {
    Stop::Failed(format!("probes cannot be sent: {error}"))
}

/// Alternates echo and SYN at a host.
pub fn audit(lab: &Lab, host: &Host, report: &mut Report) -> Result<(), Stop> {
    let name = &host.template.name;
    let port = host.open.first().copied();
    if !host.template.ping && port.is_none() {
        report.skip(CHECK, Some(&host.ip.to_string()), "it answers neither to echo nor on any open port");
        return Ok(());
    }
    let measured = lab.inside(Side::Attacker, || -> Result<_, Stop> {
        let mut prober = Prober::new().map_err(|error| failed(&error))?;
        let (mut echo, mut syn, mut lost) = (Vec::new(), Vec::new(), 0);
        // What a first contact takes is measured by itself.
        let _ = warm(host);
        let until = monotonic_micros() + LONGEST_US as i64;
        for _ in 0..ROUNDS {
            lab.check()?;
            if monotonic_micros() > until {
                break;
            }
            if host.template.ping {
                let answer = prober.echo(host).map_err(|error| failed(&error))?;
                lost += usize::from(answer.is_none());
                echo.extend(answer);
                std::thread::sleep(GAP);
            }
            if let Some(port) = port {
                let answer = prober.syn(host, port).map_err(|error| failed(&error))?;
                lost += usize::from(answer.is_none());
                syn.extend(answer);
                std::thread::sleep(GAP);
            }
            if lost > ROUNDS / 10 {
                break;
            }
        }
        Ok((echo, syn, lost))
    })??;
    let (mut echo, mut syn, lost) = measured;
    let spread = |times: &mut [f64]| Some((quantile(times, 0.9)? - quantile(times, 0.1)?) as u64);
    let (echo_us, syn_us) = (quantile(&mut echo, 0.5), quantile(&mut syn, 0.5));
    if let Some(row) = report.row(name).filter(|row| row.echo_us.is_none() && row.syn_us.is_none()) {
        (row.echo_us, row.syn_us) = (echo_us.map(|us| us as u64), syn_us.map(|us| us as u64));
        (row.echo_spread_us, row.syn_spread_us) = (spread(&mut echo), spread(&mut syn));
    }
    if lost > ROUNDS / 10 {
        report.skip(CHECK, Some(&host.ip.to_string()), "more than a tenth of the probes was not answered");
        return Ok(());
    }
    let Some(wanted) = host.way.last() else { return Ok(()) };
    for (what, median) in [("an echo reply", echo_us), ("a SYN/ACK", syn_us)] {
        let Some(median) = median else { continue };
        if median as u64 > wanted.rtt_us + TOLERANCE_US + wanted.jitter_us {
            let seen = format!("{what} takes {:.1} ms", median / 1e3);
            let expected = format!("{:.1} ms, which the links take", wanted.rtt_us as f64 / 1e3);
            let advice = "see whether the machine is busy; `up --threads` may help";
            report.find(2, name, Some(&host.ip), CHECK, &seen, &expected, advice);
        }
    }
    Ok(())
}

/// Sends a datagram that nobody waits for, so that the machines on the way know each other's MACs, as they do in
/// a network that is in use.
fn warm(host: &Host) -> io::Result<()> {
    UdpSocket::bind((host.way.source, 0))?.send_to(&[0], (host.ip, 33_533))?;
    let way = host.way.last().map_or(0, |hop| hop.rtt_us);
    std::thread::sleep(Duration::from_millis(10) + Duration::from_micros(2 * way));
    Ok(())
}

/// Times of the first contact with each of `hosts` and of the last of ten.
///
/// One host is one contact ahead of the next, so that first and last contacts alternate: whatever the machine does
/// meanwhile meets both alike.
fn take_contacts(lab: &Lab, group: &Group, hosts: &[&Host]) -> Result<Vec<(f64, f64)>, Stop> {
    let mut prober = Prober::new().map_err(|error| failed(&error))?;
    let mut contact = |host: &Host| {
        let answer = match host.open.first() {
            Some(port) => prober.syn(host, *port),
            None => prober.echo(host),
        };
        std::thread::sleep(GAP);
        answer.map_err(|error| failed(&error))
    };
    for host in hosts {
        lab.check()?;
        let _ = warm(host);
    }
    // This program's own code is to be warm, too.
    for _ in 0..ROUNDS / 10 {
        lab.check()?;
        if let Some(host) = group.hosts.first() {
            contact(host)?;
        }
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); hosts.len()];
    for step in 0..hosts.len() + CONTACTS - 1 {
        lab.check()?;
        let begin = (step + 1).saturating_sub(CONTACTS);
        for (host, times) in hosts.iter().zip(&mut times).take(step + 1).skip(begin) {
            times.extend(contact(host)?);
        }
    }
    let complete = times.iter().filter(|times| times.len() == CONTACTS);
    Ok(complete.filter_map(|times| Some((*times.first()?, *times.last()?))).collect())
}

/// Speaks to each of a template's hosts for the first time, and nine times more.
pub fn first_contacts(lab: &Lab, group: &Group, report: &mut Report) -> Result<(), Stop> {
    let answers = |host: &&Host| host.template.ping || !host.open.is_empty();
    let mut hosts: Vec<&Host> = group.fresh.iter().filter(answers).collect();
    // Each takes its contacts and the datagram before them.
    let way = hosts.iter().filter_map(|host| host.way.last()).map(|hop| hop.rtt_us).max().unwrap_or(0);
    let most = usize::try_from(LONGEST_US / ((CONTACTS as u64 + 2) * way.max(1))).unwrap_or(usize::MAX);
    hosts.truncate(most.max(FEWEST));
    if hosts.len() < FEWEST {
        let why = format!("first contacts: {} hosts are too few to tell, {FEWEST} are needed", hosts.len());
        report.skip(CHECK, Some(&group.name), &why);
        return Ok(());
    }
    let pairs = lab.inside(Side::Attacker, || take_contacts(lab, group, &hosts))??;
    let (first, last): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let count = first.len();
    let Some(area) = area(&first, &last).filter(|_| count >= FEWEST) else {
        report.skip(CHECK, Some(&group.name), "first contacts: too many probes were not answered");
        return Ok(());
    };
    if let Some(row) = report.row(&group.name) {
        row.first_contact = Some((area * 100.0).round() / 100.0);
    }
    // A few hosts differ by chance.
    if area > TOLD_APART && area - 0.5 > 3.0 * chance(count) {
        let seen = format!("the first of ten contacts is told from the last in {count} hosts (area {area:.2})");
        let advice = "report it as a bug, unless the machine was busy: run it again";
        report.find(2, &group.name, None, CHECK, &seen, "an area below 0.60", advice);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_and_quantiles() {
        assert_eq!(area(&[1.0, 2.0], &[3.0, 4.0]), Some(1.0));
        assert_eq!(area(&[3.0, 4.0], &[1.0, 2.0]), Some(1.0));
        assert_eq!(area(&[1.0, 2.0], &[1.0, 2.0]), Some(0.5));
        assert_eq!(area(&[], &[1.0]), None);
        assert!((0.05..0.06).contains(&chance(64)));
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&mut [], 0.5), None);
        assert_eq!(quantile(&mut [f64::NAN, 1.0], 0.0), Some(1.0));
    }
}
