//! An attack on a topology of one's own: what gives its hosts away?
//!
//! The topology comes up in scratch network namespaces, without containers, and an
//! attacker in another namespace turns on it what attackers have: nmap, p0f,
//! arp-fingerprint, traceroute and a clock. What they see is compared with what the
//! plan says. A difference is a [`Finding`].
//!
//! `lab` makes the namespaces, `path` and `target` say what is expected of whom,
//! `family` compares names of systems, one file for each check does the rest.

mod arp;
mod family;
mod lab;
#[cfg(feature = "nmap-db")]
mod nmap;
mod p0f;
mod path;
mod report;
mod services;
mod target;
mod timing;

use std::path::{Path, PathBuf};

pub use lab::Stop;
pub use report::{Finding, Report, Skipped, TemplateRow, Tool, clean};

use crate::node::{NodeConfig, NodeIdx};
use crate::topology::Plan;
use lab::Lab;
use path::Segment;
use target::{Group, Host};

/// Hosts of a template that are spoken to for the first time.
const FRESH: usize = 64;
/// The honeynet's end of the only wire, and what the attacker's ends are called.
const INSIDE: &str = "up0";
const OUTSIDE: &str = "eth";
/// Hosts whose services are asked for at once: nmap waits most of the time.
#[cfg(feature = "nmap-db")]
const AT_ONCE: usize = 4;

/// A check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// OS detection by nmap.
    NmapOs,
    /// Version detection by nmap, and ports that say nothing.
    Services,
    /// Passive fingerprinting.
    P0f,
    /// ARP and the vendors of MACs.
    Arp,
    /// Routers and delays.
    Traceroute,
    /// Latencies and first contacts.
    Timing,
}

impl Check {
    /// All of them, in the order in which they are made.
    pub const ALL: [Check; 6] =
        [Check::Timing, Check::Traceroute, Check::Arp, Check::P0f, Check::NmapOs, Check::Services];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Check::NmapOs => "nmap-os",
            Check::Services => "services",
            Check::P0f => "p0f",
            Check::Arp => "arp",
            Check::Traceroute => "traceroute",
            Check::Timing => "timing",
        }
    }

    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Check::NmapOs | Check::Services => Some(("nmap", "nmap")),
            Check::P0f => Some(("p0f", "p0f")),
            Check::Arp => Some(("arp-fingerprint", "arp-scan")),
            Check::Traceroute => Some(("traceroute", "traceroute")),
            Check::Timing => None,
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The topology's file.
    pub topology: PathBuf,
    /// nmap's database, if it is not where nmap's packages put it.
    pub os_db: Option<PathBuf>,
    /// Hosts of each template.
    pub hosts: usize,
    /// Checks.
    pub checks: Vec<Check>,
    /// Time for all of it.
    pub seconds: u64,
}

/// A program on this machine's path.
fn find_program(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Programs of the superuser are not on everyone's path.
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).filter(|place| place.is_absolute()).chain(usual);
    places.find_map(|place| Some(place.join(name)).filter(|file| file.is_file())?.to_str().map(str::to_owned))
}

/// The programs that `checks` need, and where they are.
pub fn tools(checks: &[Check]) -> Vec<Tool> {
    let mut tools: Vec<Tool> = Vec::new();
    for (name, package) in checks.iter().filter_map(|check| check.program()) {
        if tools.iter().all(|tool| tool.name != name) {
            tools.push(Tool { name, path: find_program(name), package });
        }
    }
    tools
}

/// Why `plan` cannot be audited at all, if it cannot.
pub fn unfit(plan: &Plan) -> Option<String> {
    let all: Vec<(NodeIdx, &str)> = uplinks(plan).collect();
    let unnamed = all.iter().position(|(_, interface)| interface.is_empty()).filter(|_| all.len() > 1);
    if all.is_empty() {
        Some("the topology has no uplink: an attacker has no way in".to_owned())
    } else if unnamed.is_some() {
        Some("the topology has several uplinks, and not all of them name an interface".to_owned())
    } else {
        None
    }
}

/// One run.
struct Audit<'a> {
    lab: Lab,
    options: &'a Options,
    report: Report,
    groups: Vec<Group>,
    say: &'a mut dyn FnMut(&str),
}

/// Brings the topology of `plan` up, attacks it and says what it saw; `say` is told how far it has come.
///
/// # Errors
/// If the topology does not come up here, or somebody interrupts it.
pub fn run(plan: &Plan, options: &Options, say: &mut dyn FnMut(&str)) -> Result<Report, Stop> {
    let mut lab = Lab::new(options.seconds)?;
    say("laying wires");
    let segments = wire(&lab, plan)?;
    say("bringing the topology up");
    lab.up(&arguments(options, plan))?;
    let secret = crate::control::place::secret(&lab.state().join(lab.name()));
    let secret = secret.map_err(|error| Stop::Failed(format!("no secret: {error}")))?;
    let groups = target::choose(plan, secret, &segments, options.hosts, FRESH);
    let mut report = Report { tools: tools(&options.checks), ..Report::default() };
    for group in &groups {
        let mut row = TemplateRow::new(&group.name, &group.personality);
        row.hosts = group.hosts.iter().map(|host| host.ip.to_string()).collect();
        report.templates.push(row);
        if group.hosts.is_empty() {
            let why = match group.unreachable {
                true => "the attacker has no way to its hosts over IPv4",
                false => "none of its hosts was found",
            };
            report.skip("hosts", Some(&group.name), why);
        }
    }
    for tool in report.tools.clone().iter().filter(|tool| tool.path.is_none()) {
        let of = options.checks.iter().filter(|check| check.program().is_some_and(|(name, _)| name == tool.name));
        let why = format!("`{}` is not on this machine: apt-get install {}", tool.name, tool.package);
        of.for_each(|check| report.skip(check.name(), None, &why));
    }
    let mut audit = Audit { lab, options, report, groups, say };
    for check in Check::ALL.into_iter().filter(|check| options.checks.contains(check)) {
        match audit.check(check) {
            Ok(()) => {}
            Err(Stop::Interrupted) => return Err(Stop::Interrupted),
            // What was found before counts all the same.
            Err(stop) => audit.report.skip(check.name(), None, &stop.to_string()),
        }
    }
    (audit.say)("taking the topology down");
    let mut report = audit.report;
    drop(audit.lab);
    report.settle();
    Ok(report)
}

/// What `honeyweave up` is told.
fn arguments(options: &Options, plan: &Plan) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut args = vec![text(&options.topology), "--without-containers".to_owned(), "--threads".to_owned(), "1".into()];
    if uplinks(plan).count() == 1 {
        args.extend(["--uplink".to_owned(), INSIDE.to_owned()]);
    }
    if let Some(path) = &options.os_db {
        args.extend(["--os-db".to_owned(), text(path)]);
    }
    args
}

fn uplinks(plan: &Plan) -> impl Iterator<Item = (NodeIdx, &str)> {
    plan.nodes.iter().enumerate().filter_map(|(at, node)| match &node.config {
        NodeConfig::Uplink(uplink) => Some((NodeIdx(at as u16), &*uplink.interface)),
        _ => None,
    })
}

/// Puts every uplink on a wire whose other end is the attacker's, with addresses of what is there.
fn wire(lab: &Lab, plan: &Plan) -> Result<Vec<Segment>, Stop> {
    let all: Vec<(NodeIdx, &str)> = uplinks(plan).collect();
    let mut segments = Vec::new();
    let mut gateway = None;
    for (number, (at, interface)) in all.iter().enumerate() {
        let outside = format!("{OUTSIDE}{number}");
        // Several uplinks are told apart by the interfaces that they name.
        let inside = if all.len() == 1 { INSIDE } else { interface };
        lab.wire(&outside, inside)?;
        let segment = Segment::of(plan, *at, &outside);
        for address in &segment.own {
            let taken = lab.attacker_ip(&["addr", "add", &address.to_string(), "dev", &outside]);
            // The same prefix behind two uplinks: the first one has it.
            if let Err(stop @ (Stop::Interrupted | Stop::TimeUp)) = taken {
                return Err(stop);
            }
        }
        gateway = gateway.or(segment.gateway());
        segments.push(segment);
    }
    if let Some(gateway) = gateway {
        lab.attacker_ip(&["route", "add", "default", "via", &gateway.to_string()])?;
    }
    Ok(segments)
}

impl Audit<'_> {
    /// Makes one of the checks of all hosts.
    fn check(&mut self, check: Check) -> Result<(), Stop> {
        let program = match check.program() {
            None => String::new(),
            Some((name, _)) => {
                let tool = self.report.tools.iter().find(|tool| tool.name == name);
                match tool.and_then(|tool| tool.path.clone()) {
                    Some(path) => path,
                    // Vendors of MACs and silent ports are looked at without a program.
                    None if matches!(check, Check::Arp | Check::Services) => String::new(),
                    None => return Ok(()),
                }
            }
        };
        match check {
            Check::Timing => {
                for group in &self.groups.clone() {
                    (self.say)(&format!("timing first contacts with {}", group.name));
                    timing::first_contacts(&self.lab, group, &mut self.report)?;
                }
                self.each("taking times of", timing::audit)
            }
            Check::Traceroute => {
                let mut traced = Vec::new();
                self.each("tracing the way to", |lab, host, report| {
                    // One way is as good as another of the same routers.
                    let routers = host.way.hops[..host.way.hops.len() - 1].to_vec();
                    let seen = (host.template.name.clone(), routers);
                    if traced.contains(&seen) {
                        return Ok(());
                    }
                    traced.push(seen);
                    path::audit(lab, &program, host, report)
                })
            }
            Check::Arp => {
                let vendors = arp::Vendors::load();
                if vendors.is_none() {
                    self.report.skip("arp", None, "vendors of MACs: nmap's list of them is not on this machine");
                }
                self.each("sending odd ARP requests to", |lab, host, report| {
                    if let Some(vendors) = &vendors {
                        arp::judge_vendor(host, vendors, report);
                    }
                    if host.way.is_on_link() && !program.is_empty() {
                        arp::audit(lab, &program, host, report)?;
                    }
                    Ok(())
                })
            }
            Check::P0f => {
                let mut interfaces: Vec<String> = self.hosts().map(|host| host.way.interface.clone()).collect();
                interfaces.sort();
                interfaces.dedup();
                let interfaces: Vec<&str> = interfaces.iter().map(String::as_str).collect();
                (self.say)("starting p0f");
                let listening = p0f::Listening::start(&self.lab, &program, &interfaces)?;
                self.each("connecting to", |lab, host, _| p0f::connect(lab, host))?;
                let seen = listening.end(&self.lab)?;
                self.each("judging", |_, host, report| {
                    p0f::judge(host, &seen, report);
                    Ok(())
                })
            }
            Check::NmapOs => self.nmap(&program),
            Check::Services => {
                self.each("listening to ports of", services::silent)?;
                if program.is_empty() { Ok(()) } else { self.services(&program) }
            }
        }
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.groups.iter().flat_map(|group| &group.hosts)
    }

    /// Does something with every host. One that fails does not keep the others from it.
    fn each(
        &mut self,
        doing: &str,
        mut f: impl FnMut(&Lab, &Host, &mut Report) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        for host in self.groups.iter().flat_map(|group| &group.hosts) {
            self.lab.check()?;
            (self.say)(&format!("{doing} {} ({})", host.ip, host.template.name));
            match f(&self.lab, host, &mut self.report) {
                Err(Stop::Failed(why)) => self.report.skip("hosts", Some(&host.ip.to_string()), &why),
                other => other?,
            }
        }
        Ok(())
    }

    #[cfg(feature = "nmap-db")]
    fn nmap(&mut self, program: &str) -> Result<(), Stop> {
        let mut personalities = crate::topology::personalities::Personalities::new(self.options.os_db.clone());
        let mut uptimes = Vec::new();
        let begin = crate::sys::clock::monotonic_micros();
        let done = self.each("OS detection of", |lab, host, report| {
            let uptime = nmap::audit(lab, program, host, &mut personalities, report)?;
            uptimes.extend(uptime.map(|uptime| {
                // All are told as of one moment, whenever their scan was.
                let since = (crate::sys::clock::monotonic_micros() - begin) / 1_000_000;
                (host.template.name.clone(), host.ip, uptime.saturating_sub(since.unsigned_abs()))
            }));
            Ok(())
        });
        nmap::judge_uptimes(&uptimes, &mut self.report);
        done
    }

    #[cfg(feature = "nmap-db")]
    fn services(&mut self, program: &str) -> Result<(), Stop> {
        let hosts: Vec<&Host> =
            self.groups.iter().flat_map(|group| &group.hosts).filter(|host| !host.speaking.is_empty()).collect();
        for some in hosts.chunks(AT_ONCE) {
            let names: Vec<String> = some.iter().map(|host| host.ip.to_string()).collect();
            (self.say)(&format!("version detection of {}", names.join(", ")));
            let lab = &self.lab;
            let asked: Vec<Result<services::Asked, Stop>> = std::thread::scope(|scope| {
                let runs: Vec<_> =
                    some.iter().map(|host| scope.spawn(move || services::ask(lab, program, host))).collect();
                let panicked = || Err(Stop::Failed("a thread of the audit panicked".to_owned()));
                runs.into_iter().map(|run| run.join().unwrap_or_else(|_| panicked())).collect()
            });
            for (host, asked) in some.iter().zip(asked) {
                services::judge(host, &asked?, &mut self.report);
            }
        }
        Ok(())
    }

    #[cfg(not(feature = "nmap-db"))]
    fn nmap(&mut self, _program: &str) -> Result<(), Stop> {
        let _ = &self.options;
        Err(Stop::Failed("this build lacks the feature `nmap-db`".to_owned()))
    }

    #[cfg(not(feature = "nmap-db"))]
    fn services(&mut self, _program: &str) -> Result<(), Stop> {
        Err(Stop::Failed("version detection: this build lacks the feature `nmap-db`".to_owned()))
    }
}
