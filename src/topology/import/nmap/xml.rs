//! The XML of a scan, element by element, within bounds.
//!
//! What nmap.dtd has and a topology has no use for is skipped. Entities are the five of XML and character
//! references; a file that declares its own is refused, for expanding them has no end.

use std::collections::BTreeMap;
use std::net::IpAddr;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::topology::import::Warnings;
use crate::topology::import::yaml::shown;
use crate::wire::Mac;

/// Nesting that is read; nmap's own tables of script results are the deepest.
const MAX_DEPTH: usize = 64;
const MAX_HOSTS: usize = 65_536;
/// Ports of a host.
const MAX_PORTS: usize = 4096;
/// Ports of all hosts.
const MAX_ALL_PORTS: usize = 1_000_000;
const MAX_HOPS: usize = 64;
/// Attributes of an element.
const MAX_ATTRIBUTES: usize = 32;
/// Octets of a value that are kept.
const MAX_VALUE: usize = 256;

/// What is wrong: the line, what, and what to do.
pub type XmlError = (usize, String, &'static str);

/// TCP or UDP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Proto {
    #[default]
    Tcp,
    Udp,
}

impl Proto {
    fn of(name: &str) -> Option<Proto> {
        match name {
            "tcp" => Some(Proto::Tcp),
            "udp" => Some(Proto::Udp),
            _ => None,
        }
    }
}

/// A port as the scan found it.
#[derive(Clone, Debug, Default)]
pub struct Port {
    pub line: usize,
    pub state: String,
    pub service: String,
    pub product: String,
    pub version: String,
    pub extra: String,
    /// The name by which the service calls its host.
    pub hostname: String,
    /// Whether it is inside of TLS.
    pub ssl: bool,
}

/// A hop of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    pub ttl: u32,
    pub ip: IpAddr,
    /// Microseconds there and back.
    pub rtt_us: Option<u64>,
}

/// A host as the scan found it.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub line: usize,
    pub address: Option<IpAddr>,
    pub mac: Option<Mac>,
    pub name: String,
    /// The operating system that fits best.
    pub system: String,
    accuracy: u32,
    pub ports: BTreeMap<(Proto, u16), Port>,
    /// State, number and protocol of ports that are not listed.
    pub extra: Vec<(String, u64, Option<Proto>)>,
    /// The way there, nearest first; empty if it was not traced.
    pub hops: Vec<Hop>,
    pub distance: Option<u32>,
    /// Microseconds there and back.
    pub srtt_us: Option<u64>,
    down: bool,
    /// Whether nobody but the user said that it is up (`-Pn`).
    assumed: bool,
}

/// The scan.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Hosts that are up.
    pub hosts: Vec<Found>,
    /// Whether TCP ports were scanned.
    pub tcp: bool,
    ports: usize,
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
            // Of what is too long only the beginning matters, and an entity that is cut is not one.
            let mut end = raw.len().min(MAX_VALUE * 8);
            while !raw.is_char_boundary(end) {
                end -= 1;
            }
            let Ok(value) = quick_xml::escape::unescape(&raw[..end]) else { continue };
            let value: String = value.chars().take(MAX_VALUE).collect();
            all.push((attribute.key.as_ref().to_owned(), value));
        }
        Attributes(all)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key)?.parse().ok()
    }
}

/// Reads a scan. What comes behind a mistake in the XML is lost, what came before is not.
pub fn read(text: &str, warnings: &mut Warnings) -> Result<Scan, XmlError> {
    const HELP: &str = "give what `nmap -oX FILE` wrote, or scan again";
    let mut reader = Reader::from_str(text);
    let mut scan = Scan::default();
    let mut lines = Lines { text, at: 0, line: 1 };
    let (mut depth, mut root) = (0usize, false);
    let mut state = State::default();
    let broken = loop {
        let line = lines.of(reader.buffer_position());
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => break Some((line, format!("this is no XML: {}", shown(&error.to_string())))),
        };
        match event {
            Event::Start(element) | Event::Empty(element) if !root && element.name().as_ref() != "nmaprun" => {
                let name = shown(element.name().as_ref());
                return Err((
                    line,
                    format!("this is no scan of nmap: it begins with `<{name}>`, not with `<nmaprun>`"),
                    HELP,
                ));
            }
            Event::Start(element) => {
                root = true;
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err((line, format!("elements are nested more than {MAX_DEPTH} deep"), HELP));
                }
                state.start(element.name().as_ref(), &Attributes::of(&element), line, &mut scan, warnings);
            }
            Event::Empty(element) => {
                root = true;
                let name = element.name();
                state.start(name.as_ref(), &Attributes::of(&element), line, &mut scan, warnings);
                state.end(name.as_ref(), &mut scan, warnings);
            }
            Event::End(element) => {
                depth = depth.saturating_sub(1);
                state.end(element.name().as_ref(), &mut scan, warnings);
            }
            Event::DocType(doctype) if doctype.contains('[') => {
                let what = "the document type has declarations of its own (`[`), which are not read".to_owned();
                return Err((line, what, "nmap writes `<!DOCTYPE nmaprun>` only: remove what is in brackets"));
            }
            Event::Eof if depth > 0 => break Some((line, "the file ends before the scan does".to_owned())),
            Event::Eof => break None,
            _ => {}
        }
    };
    match broken {
        Some((line, what)) if scan.hosts.is_empty() => Err((line, what, HELP)),
        Some((line, what)) => {
            warnings.add(line, format!("{what}: only what stands before is there; scan again for the rest"));
            Ok(scan)
        }
        None if !root => Err((1, "this is no XML: there is no element in it".to_owned(), HELP)),
        None => Ok(scan),
    }
}

/// Lines of growing offsets, each octet looked at once.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, offset: u64) -> usize {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.text.len());
        if offset > self.at {
            self.line += self.text.as_bytes()[self.at..offset].iter().filter(|octet| **octet == b'\n').count();
            self.at = offset;
        }
        self.line
    }
}

/// The host and the port that are being read.
#[derive(Default)]
struct State {
    host: Option<Found>,
    port: Option<(Proto, u16, Port)>,
    extra: Option<(String, u64)>,
}

impl State {
    fn start(&mut self, name: &str, given: &Attributes, line: usize, scan: &mut Scan, warnings: &mut Warnings) {
        if name == "scaninfo" {
            scan.tcp |= given.get("protocol") == Some("tcp");
            return;
        }
        if name == "host" {
            self.port = None;
            self.host = Some(Found { line, ..Found::default() });
            return;
        }
        let Some(host) = &mut self.host else { return };
        if let Some((_, _, port)) = &mut self.port {
            match name {
                "state" => port.state = given.text("state"),
                "service" => {
                    port.service = given.text("name");
                    port.product = given.text("product");
                    port.version = given.text("version");
                    port.extra = given.text("extrainfo");
                    port.hostname = given.text("hostname");
                    port.ssl = given.get("tunnel") == Some("ssl") || port.service == "https";
                    if host.accuracy == 0 && host.system.is_empty() {
                        host.system = given.text("ostype");
                    }
                }
                _ => {}
            }
            return;
        }
        match name {
            "status" => {
                host.down = given.get("state") != Some("up");
                host.assumed = given.get("reason") == Some("user-set");
            }
            "address" => match given.get("addrtype") {
                Some("mac") => {
                    let mac = given.get("addr").and_then(|text| text.parse::<Mac>().ok());
                    host.mac = mac.filter(|mac| !mac.is_group() && *mac != Mac::ZERO);
                }
                _ if host.address.is_none() => host.address = given.number("addr"),
                _ => warnings.once(line, "a host has a second address: only the first is there"),
            },
            "hostname" if host.name.is_empty() => host.name = given.text("name"),
            "osmatch" => {
                let accuracy = given.number("accuracy").unwrap_or(1).max(1);
                if accuracy > host.accuracy {
                    host.accuracy = accuracy;
                    host.system = given.text("name");
                }
            }
            "port" => {
                let number = given.number::<u16>("portid").filter(|port| *port > 0);
                match (Proto::of(given.get("protocol").unwrap_or_default()), number) {
                    (Some(proto), Some(number)) => {
                        self.port = Some((proto, number, Port { line, ..Port::default() }));
                    }
                    _ => warnings.once(line, "ports of TCP and UDP only are taken over: others are left out"),
                }
            }
            "extraports" => self.extra = Some((given.text("state"), given.number("count").unwrap_or(0))),
            "extrareasons" => {
                if let (Some((state, _)), Some(proto)) = (&self.extra, given.get("proto").and_then(Proto::of))
                    && host.extra.len() < MAX_ATTRIBUTES
                {
                    host.extra.push((state.clone(), given.number("count").unwrap_or(0), Some(proto)));
                    // What the reasons count is not counted again.
                    self.extra = self.extra.take().map(|(state, _)| (state, 0));
                }
            }
            "hop" => {
                let ttl = given.number::<u32>("ttl").filter(|ttl| (1..=255).contains(ttl));
                if let (Some(ttl), Some(ip)) = (ttl, given.number("ipaddr"))
                    && host.hops.len() < MAX_HOPS
                {
                    let rtt = given.number::<f64>("rtt").filter(|rtt| rtt.is_finite() && *rtt >= 0.0);
                    // Milliseconds; the conversion saturates.
                    host.hops.push(Hop { ttl, ip, rtt_us: rtt.map(|rtt| (rtt * 1000.0) as u64) });
                }
            }
            "distance" => host.distance = given.number("value"),
            "times" => host.srtt_us = given.number("srtt"),
            _ => {}
        }
    }

    fn end(&mut self, name: &str, scan: &mut Scan, warnings: &mut Warnings) {
        match name {
            "port" => {
                let (Some((proto, number, port)), Some(host)) = (self.port.take(), &mut self.host) else { return };
                if host.ports.len() >= MAX_PORTS || scan.ports >= MAX_ALL_PORTS {
                    let what =
                        format!("a host has at most {MAX_PORTS} ports, all together a million: the rest is left out");
                    warnings.once(port.line, what);
                    return;
                }
                scan.ports += 1;
                host.ports.insert((proto, number), port);
            }
            "extraports" => {
                let (Some((state, count)), Some(host)) = (self.extra.take(), &mut self.host) else { return };
                if count > 0 && host.extra.len() < MAX_ATTRIBUTES {
                    host.extra.push((state, count, None));
                }
            }
            "host" => {
                let Some(mut host) = self.host.take() else { return };
                self.port = None;
                host.hops.sort_by_key(|hop| hop.ttl);
                if host.down {
                    return;
                }
                if host.address.is_none() {
                    warnings.once(host.line, "a host without an IP address is left out");
                } else if host.assumed
                    && host.mac.is_none()
                    && host.ports.values().all(|port| port.state.contains("filtered"))
                {
                    warnings.once(
                        host.line,
                        "hosts that nothing was heard of are left out: the scan only assumed that they are up (`-Pn`)",
                    );
                } else if scan.hosts.len() >= MAX_HOSTS {
                    warnings.once(host.line, format!("more than {MAX_HOSTS} hosts are up: the rest is left out"));
                } else {
                    scan.hosts.push(host);
                }
            }
            _ => {}
        }
    }
}
