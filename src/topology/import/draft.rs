//! What both imports make: hosts and routers on segments, before any YAML is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::wire::Mac;

/// How a port answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// RST, or port unreachable.
    Closed,
    /// Silence.
    Filtered,
    /// Takes what comes.
    Open,
    /// A window that never opens.
    Tarpit,
    /// Speaks first.
    Banner(String),
    /// A web site with this `Server:` header.
    Http(Option<String>),
    /// One of the last two within TLS.
    Tls(Box<Answer>),
    /// A program and its arguments.
    Script(Vec<String>),
    /// Another server.
    Proxy(SocketAddr),
}

/// When a template is another one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// For sources in a prefix.
    From(IpNet),
    /// From one minute of the day to another.
    During(u16, u16),
    /// For sources with a system of this family.
    Os(&'static str),
}

/// What a template says; hosts for which it is the same share one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Body {
    /// Name of the personality.
    pub personality: String,
    /// The name that the source has for the operating system.
    pub system: String,
    /// Vendor, or three octets.
    pub vendor: Option<String>,
    /// Whether echo requests are answered.
    pub ping: bool,
    /// All other TCP ports.
    pub tcp_default: Answer,
    /// All other UDP ports.
    pub udp_default: Answer,
    /// TCP ports.
    pub tcp: BTreeMap<u16, Answer>,
    /// UDP ports.
    pub udp: BTreeMap<u16, Answer>,
    /// Rules, and the templates that are used instead where they hold; those have no rules. The first that holds counts.
    pub cases: Vec<(Rule, usize)>,
}

impl Body {
    /// A host that nothing is known of.
    pub fn new() -> Body {
        Body {
            personality: "linux".to_owned(),
            system: String::new(),
            vendor: None,
            ping: true,
            tcp_default: Answer::Closed,
            udp_default: Answer::Closed,
            tcp: BTreeMap::new(),
            udp: BTreeMap::new(),
            cases: Vec::new(),
        }
    }

    /// Ports that the checker counts for every node with this template, those of its cases excepted.
    pub fn ports(&self) -> usize {
        let wide = |default: &Answer, ports: usize| match default {
            Answer::Closed | Answer::Filtered => ports,
            _ => 65_535,
        };
        wide(&self.tcp_default, self.tcp.len()) + wide(&self.udp_default, self.udp.len())
    }
}

/// What a link does to frames.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Path {
    /// Microseconds.
    pub delay_us: u64,
    /// Thousandths of a percent.
    pub loss: u32,
    /// Bits a second; 0 is no limit.
    pub rate: u64,
}

impl Path {
    /// One after the other.
    pub fn then(self, other: Path) -> Path {
        let rate = match (self.rate, other.rate) {
            (0, rate) | (rate, 0) => rate,
            (a, b) => a.min(b),
        };
        Path {
            delay_us: self.delay_us.saturating_add(other.delay_us),
            loss: self.loss.saturating_add(other.loss).min(100_000),
            rate,
        }
    }
}

/// A broadcast domain with one prefix; those without an owner are all on the wire.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its prefix.
    pub net: IpNet,
    /// The router by which one gets there.
    pub owner: Option<usize>,
    /// That router's address on it, if it is known.
    pub address: Option<IpAddr>,
}

/// A router.
#[derive(Clone, Debug)]
pub struct Router {
    /// What is said of it in a comment.
    pub note: String,
    /// The segment by which it is reached, and its address there.
    pub up: (usize, IpAddr),
    /// The way to it from there.
    pub path: Path,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where the source names it.
    pub line: usize,
    /// Its address.
    pub address: IpAddr,
    /// Its segment.
    pub segment: usize,
    /// Its template.
    pub template: usize,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// What the source calls it.
    pub name: String,
    /// The way to it.
    pub path: Path,
}

/// All addresses of a prefix that are nobody else's.
#[derive(Clone, Debug)]
pub struct Population {
    /// Where the source names it.
    pub line: usize,
    /// The addresses.
    pub net: IpNet,
    /// Its segment.
    pub segment: usize,
    /// Its template.
    pub template: usize,
}

/// The whole.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Lines of the comment at the top.
    pub heading: Vec<String>,
    /// Templates: their names and what they say.
    pub templates: Vec<(String, Body)>,
    /// Index of what is in `templates` already.
    pub known: HashMap<Body, usize>,
    /// Segments.
    pub segments: Vec<Segment>,
    /// Routers; those nearer to the wire come first.
    pub routers: Vec<Router>,
    /// Hosts.
    pub hosts: Vec<Host>,
    /// Populations.
    pub populations: Vec<Population>,
    /// Names of templates.
    pub names: Names,
}

impl Draft {
    /// Ports that the checker counts for every node with this template.
    pub fn ports(&self, template: usize) -> usize {
        let of = |at: usize| self.templates.get(at).map_or(0, |(_, body)| body.ports());
        let cases = self.templates.get(template).map_or(&[][..], |(_, body)| &body.cases);
        of(template) + cases.iter().map(|(_, case)| of(*case)).sum::<usize>()
    }

    /// The template that says `body`, made under a name like `name` if there is none.
    pub fn template(&mut self, name: &str, body: Body) -> usize {
        if let Some(at) = self.known.get(&body) {
            return *at;
        }
        let name = self.names.unique(&super::yaml::plain_name(name, "host"));
        self.templates.push((name, body.clone()));
        self.known.insert(body, self.templates.len() - 1);
        self.templates.len() - 1
    }
}

/// Names, each given once.
#[derive(Clone, Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
    next: HashMap<String, usize>,
}

impl Names {
    /// `name`, or the same with a number if it is taken.
    pub fn unique(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        let next = self.next.entry(name.to_owned()).or_insert(2);
        loop {
            let candidate = format!("{name}-{next}");
            *next += 1;
            if self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}
