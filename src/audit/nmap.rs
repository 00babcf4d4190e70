//! nmap's OS detection: does it name what the personality says, how far away does
//! it believe the host to be, and since when does it believe it to be up.

use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::family::{Family, Scanner};
use super::lab::{Lab, Stop};
use super::report::Report;
use super::target::Host;
use crate::emulate::Builtin;
use crate::topology::personalities::Personalities;

const CHECK: &str = "nmap-os";
/// Nesting that is read.
const MAX_DEPTH: usize = 64;
/// Names and ports of a host.
const MAX_LIST: usize = 256;
/// Attributes of an element.
const MAX_ATTRIBUTES: usize = 32;
/// Octets of a value.
const MAX_VALUE: usize = 8192;
/// Longest time that one host takes.
const LIMIT: Duration = Duration::from_secs(40);

/// A port as nmap saw it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// Whether it is open.
    pub open: bool,
    /// The product behind it.
    pub product: String,
    /// The service.
    pub service: String,
    /// Whether the service is only guessed by the port's number.
    pub guessed: bool,
}

/// A host as nmap saw it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scanned {
    /// Names and how sure nmap is of them, in percent; the first fits best.
    pub matches: Vec<(String, u8)>,
    /// What it saw, as it prints it.
    pub fingerprint: String,
    /// Routers and one.
    pub distance: Option<u32>,
    /// Seconds.
    pub uptime: Option<u64>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Whether nmap gave up.
    pub timed_out: bool,
}

struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn of(element: &BytesStart<'_>) -> Attributes {
        let mut attributes = element.attributes();
        // Comparing each name with all before it would take forever on an element made for that.
        attributes.with_checks(false);
        let mut all = Vec::new();
        for attribute in attributes.take(MAX_ATTRIBUTES).flatten() {
            let raw: &str = &attribute.value;
            let mut end = raw.len().min(MAX_VALUE);
            while !raw.is_char_boundary(end) {
                end -= 1;
            }
            let Ok(value) = quick_xml::escape::unescape(&raw[..end]) else { continue };
            all.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        Attributes(all)
    }

    fn text(&self, key: &str) -> String {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key).parse().ok()
    }
}

/// Reads the XML of a scan of one host.
///
/// # Errors
/// If it is none, or too deep.
pub fn parse(xml: &str) -> Result<Scanned, String> {
    let mut reader = Reader::from_str(xml);
    let mut scanned = Scanned::default();
    let (mut depth, mut root) = (0usize, false);
    loop {
        let event = reader.read_event().map_err(|error| format!("nmap's XML is broken: {error}"))?;
        let (element, is_empty) = match event {
            Event::Start(element) => (element, false),
            Event::Empty(element) => (element, true),
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                continue;
            }
            Event::DocType(doctype) if doctype.contains('[') => return Err("nmap's XML has entities".to_owned()),
            Event::Eof if root && depth == 0 => return Ok(scanned),
            Event::Eof => return Err("nmap's XML ends early".to_owned()),
            _ => continue,
        };
        root = true;
        depth += usize::from(!is_empty);
        if depth > MAX_DEPTH {
            return Err("nmap's XML is too deep".to_owned());
        }
        let given = Attributes::of(&element);
        match element.name().as_ref() {
            "host" => scanned.timed_out |= given.text("timedout") == "true",
            "osmatch" if scanned.matches.len() < MAX_LIST => {
                let accuracy = given.number::<u8>("accuracy").unwrap_or(0).min(100);
                scanned.matches.push((given.text("name"), accuracy));
            }
            "osfingerprint" => scanned.fingerprint = given.text("fingerprint"),
            "distance" => scanned.distance = given.number("value"),
            "uptime" => scanned.uptime = given.number("seconds"),
            "port" if scanned.ports.len() < MAX_LIST => {
                let port = given.number("portid").unwrap_or(0);
                scanned.ports.push(Port { port, ..Port::default() });
            }
            "state" => {
                if let Some(port) = scanned.ports.last_mut() {
                    port.open = given.text("state") == "open";
                }
            }
            "service" => {
                if let Some(port) = scanned.ports.last_mut() {
                    (port.product, port.service) = (given.text("product"), given.text("name"));
                    port.guessed = given.text("method") == "table";
                }
            }
            _ => {}
        }
    }
}

/// Has nmap look at a host. Returns when it believes it was started, in seconds before the scan.
pub fn audit(
    lab: &Lab,
    program: &str,
    host: &Host,
    personalities: &mut Personalities,
    report: &mut Report,
) -> Result<Option<u64>, Stop> {
    let target = host.ip.to_string();
    let ports: Vec<String> = host.open.first().into_iter().chain(&host.closed).map(u16::to_string).collect();
    if ports.is_empty() {
        report.skip(CHECK, Some(&target), "it answers on no TCP port");
        return Ok(None);
    }
    let ports = ports.join(",");
    let args = ["-O", "-n", "-Pn", "--max-retries", "2", "-vv", "-p", &ports, "-oX", "-", &target];
    let said = lab.run(program, &args, LIMIT)?;
    let scanned = match parse(&said.out) {
        Ok(scanned) if said.ok => scanned,
        Ok(_) => return skip(report, &target, &said.err),
        Err(why) => return skip(report, &target, &why),
    };
    judge(host, &scanned, personalities, report);
    Ok(scanned.uptime)
}

fn skip(report: &mut Report, target: &str, why: &str) -> Result<Option<u64>, Stop> {
    report.skip(CHECK, Some(target), why.trim());
    Ok(None)
}

/// Compares what nmap saw with what the host is to pass for.
pub fn judge(host: &Host, scanned: &Scanned, personalities: &mut Personalities, report: &mut Report) {
    let name = &host.template.name;
    let personality = &*host.template.personality.get().name;
    let perfect = scanned.matches.iter().filter(|(_, accuracy)| *accuracy == 100).count();
    if let Some(row) = report.row(name)
        && row.nmap.is_none()
        && let Some((best, accuracy)) = scanned.matches.first()
    {
        row.nmap = Some(super::report::clean(best));
        (row.accuracy, row.perfect) = (Some(*accuracy), Some(perfect));
    }
    let sure = !host.open.is_empty() && host.closed.is_some();
    match Builtin::by_name(personality) {
        Some(_) => judge_family(host, personality, scanned, sure, report),
        None => judge_name(host, personality, scanned, sure, personalities, report),
    }
    let wanted = host.way.hops.len() as u32;
    if let Some(distance) = scanned.distance.filter(|distance| *distance != wanted) {
        let (seen, expected) = (format!("distance {distance}"), format!("distance {wanted}, as the topology has it"));
        let advice = "its TTL is not the personality's, or ICMP errors carry another one: report it as a bug";
        report.find(2, name, Some(&host.ip), CHECK, &seen, &expected, advice);
    }
}

fn shown(scanned: &Scanned) -> String {
    let all: Vec<String> =
        scanned.matches.iter().take(3).map(|(name, accuracy)| format!("{name} ({accuracy}%)")).collect();
    if all.is_empty() { "no match".to_owned() } else { all.join(", ") }
}

/// A built-in personality is no record of the database: its family is what counts.
fn judge_family(host: &Host, personality: &str, scanned: &Scanned, sure: bool, report: &mut Report) {
    let Some(family) = Family::of(personality) else { return };
    let is_family = |(name, _): &&(String, u8)| family.is_named_by(Scanner::Nmap, name);
    let severity = match scanned.matches.iter().position(|found| is_family(&found)) {
        Some(0) => return,
        // Of a host without an open or a closed port nmap says itself that it is not sure.
        _ if !sure => 1,
        Some(_) => 2,
        None if scanned.matches.is_empty() => 2,
        None => 3,
    };
    let advice = "name an operating system of nmap's database: `honeyweave personality search WORDS`";
    let expected = format!("a name of the family of `{personality}` first");
    report.find(severity, &host.template.name, Some(&host.ip), CHECK, &shown(scanned), &expected, advice);
}

fn judge_name(
    host: &Host,
    personality: &str,
    scanned: &Scanned,
    sure: bool,
    personalities: &mut Personalities,
    report: &mut Report,
) {
    let place = scanned.matches.iter().position(|(name, _)| name == personality);
    let accuracy = place.and_then(|at| scanned.matches.get(at)).map_or(0, |(_, accuracy)| *accuracy);
    let perfect = scanned.matches.iter().filter(|(_, accuracy)| *accuracy == 100).count();
    let (name, ip) = (&host.template.name, Some(&host.ip as &dyn ToString));
    if place == Some(0) && accuracy == 100 {
        if perfect > 1 {
            let seen = format!("{perfect} names fit perfectly: {}", shown(scanned));
            let advice = "other records are the same in all that nmap compares; another version may do better";
            report.find(1, name, ip, CHECK, &seen, "one perfect match", advice);
        }
        return;
    }
    let differences = personalities
        .database()
        .ok()
        .and_then(|db| crate::emulate::nmap::differences(db, personality, &scanned.fingerprint))
        .unwrap_or_default();
    let severity = match place {
        _ if !sure => 1,
        Some(_) if accuracy == 100 => 1,
        Some(_) => 2,
        None if scanned.matches.is_empty() && Family::of(personality).is_none() => 2,
        None => 3,
    };
    let tests = match differences.as_slice() {
        [] => String::new(),
        all => format!("; {}", all.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    let advice = match sure {
        true => "`honeyweave personality show NAME` says what of it cannot be reproduced; choose a neighboring name",
        false => "give it an open and a closed port: without both nmap guesses",
    };
    report.find(severity, name, ip, CHECK, &format!("{}{tests}", shown(scanned)), personality, advice);
}

/// Hosts that were all started at the same moment were not started by people.
pub fn judge_uptimes(uptimes: &[(String, std::net::Ipv4Addr, u64)], report: &mut Report) {
    for (at, (template, ip, uptime)) in uptimes.iter().enumerate() {
        // A scan takes seconds, and nmap tells no fractions.
        let same = uptimes[..at].iter().find(|(_, _, other)| other.abs_diff(*uptime) <= 2 && *uptime > 0);
        if let Some((_, twin, _)) = same {
            let seen = format!("started in the same second as {twin}, {uptime} s ago");
            let advice = "report it as a bug: a host's uptime is derived from its address";
            report.find(2, template, Some(ip), CHECK, &seen, "an uptime of its own", advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0"?><!DOCTYPE nmaprun><nmaprun scanner="nmap"><host><address addr="10.0.0.1"/>
<ports><port protocol="tcp" portid="80"><state state="open"/><service name="http" product="nginx &amp; co" method="probed"/></port>
<port protocol="tcp" portid="81"><state state="closed"/><service name="x" method="table"/></port></ports>
<os><osmatch name="Linux 5.4" accuracy="100"/><osmatch name="Linux 5.0" accuracy="300"/>
<osfingerprint fingerprint="OS:SCAN(V=7.93)&#xa;OS:X"/></os><uptime seconds="77"/><distance value="2"/></host></nmaprun>"#;

    #[test]
    fn a_scan_is_read() {
        let scanned = parse(XML).unwrap();
        assert_eq!(scanned.matches, [("Linux 5.4".to_owned(), 100), ("Linux 5.0".to_owned(), 0)]);
        assert_eq!((scanned.distance, scanned.uptime), (Some(2), Some(77)));
        assert_eq!(scanned.fingerprint, "OS:SCAN(V=7.93)\nOS:X");
        let [http, closed] = &scanned.ports[..] else { panic!("{scanned:?}") };
        assert_eq!((http.port, http.open, &*http.product, http.guessed), (80, true, "nginx & co", false));
        assert_eq!((closed.port, closed.open, closed.guessed), (81, false, true));
    }

    #[test]
    fn absurd_scans_do_no_harm() {
        for wrong in ["", "no XML", "<nmaprun>", "<!DOCTYPE x [<!ENTITY a 'b'>]><nmaprun/>", &"<a>".repeat(100_000)] {
            assert!(parse(wrong).is_err(), "{wrong:.40}");
        }
        let many = format!("<nmaprun>{}</nmaprun>", "<osmatch name='x' accuracy='-1'/><port/>".repeat(100_000));
        let scanned = parse(&many).unwrap();
        assert_eq!((scanned.matches.len(), scanned.ports.len()), (MAX_LIST, MAX_LIST));
        let long = format!("<nmaprun><osmatch name='{}'/></nmaprun>", "é".repeat(1 << 20));
        assert!(parse(&long).unwrap().matches[0].0.len() <= MAX_VALUE);
        assert_eq!(parse("<nmaprun><state state='open'/><service/></nmaprun>"), Ok(Scanned::default()));
    }

    #[test]
    fn twins_are_found() {
        let mut report = Report::default();
        let host = |n: u8, uptime| ("t".to_owned(), std::net::Ipv4Addr::new(10, 0, 0, n), uptime);
        judge_uptimes(&[host(1, 5000), host(2, 90_000), host(3, 5002), host(4, 0), host(5, 0)], &mut report);
        let hosts: Vec<_> = report.findings.iter().map(|found| found.host.clone().unwrap()).collect();
        assert_eq!(hosts, ["10.0.0.3"]);
    }
}
