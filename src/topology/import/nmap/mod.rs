//! Scans of nmap, as `-oX` writes them (nmap.dtd), turned into a topology that looks like what was scanned.
//!
//! `xml` reads the file, `banner` makes services say what nmap heard, `path` puts the hosts behind the routers
//! that their traces name.

mod banner;
mod path;
mod xml;

#[cfg(test)]
mod tests;

use super::draft::{Answer, Body, Draft, Host};
use super::yaml::shown;
use super::{Settings, Warnings, personality};
use crate::topology::{Diagnostic, Diagnostics};
use xml::{Found, Port, Proto, Scan};

/// Reads `text`.
pub fn read(text: &str, settings: Settings<'_>, warnings: &mut Warnings) -> Result<Draft, Diagnostics> {
    let scan = xml::read(text, warnings).map_err(|(line, what, help)| {
        let message = format!("{}:{line}: {what}", shown(settings.name));
        Diagnostics::from(Diagnostic::of_file(settings.name, message).help(help))
    })?;
    if scan.hosts.is_empty() {
        let message = format!("{}: no host of this scan is up", shown(settings.name));
        let help = "scan such as `nmap -sS -sV -O --traceroute -oX scan.xml 10.0.0.0/24`, and give the file scan.xml";
        return Err(Diagnostic::of_file(settings.name, message).help(help).into());
    }
    let mut draft = Draft {
        heading: vec![
            "From a scan of nmap, by `honeyweave import nmap`.".to_owned(),
            "Look through it, and through what it warned of, before it faces anybody.".to_owned(),
        ],
        ..Draft::default()
    };
    let places = path::plan(&mut draft, &scan.hosts, warnings);
    let mut macs = std::collections::HashSet::new();
    for (found, place) in scan.hosts.iter().zip(places) {
        let Some((segment, path)) = place else { continue };
        let Some(address) = found.address else { continue };
        let body = body(found, &scan, settings, warnings);
        let template = draft.template(&name(&body), body);
        let mac = found.mac.filter(|mac| macs.insert(*mac));
        if mac != found.mac {
            warnings.once(found.line, "several hosts have one MAC, as behind a router: only the first has it here");
        }
        draft.hosts.push(Host { line: found.line, address, segment, template, mac, name: found.name.clone(), path });
    }
    Ok(draft)
}

/// A name that tells what a template is: the personality, and the first open ports.
fn name(body: &Body) -> String {
    let open = body.tcp.iter().filter(|(_, answer)| !matches!(answer, Answer::Closed | Answer::Filtered));
    let ports: String = open.take(3).map(|(port, _)| format!("-{port}")).collect();
    // A name of nmap's database is too long to repeat.
    let system = if super::is_builtin(&body.personality) { &body.personality } else { "host" };
    format!("{system}{ports}")
}

fn body(found: &Found, scan: &Scan, settings: Settings<'_>, warnings: &mut Warnings) -> Body {
    let mut body = Body::new();
    if found.system.is_empty() {
        warnings.once(
            found.line,
            "nmap does not say which operating system this is: such hosts behave as `linux`; scan with `-O` to know",
        );
    } else {
        let (ours, sure) = personality(&found.system, settings.known);
        if !sure {
            let what =
                format!("there is no personality like `{}`: such hosts behave as `{ours}`", shown(&found.system));
            warnings.once(found.line, format!("{what}; choose another in the template if that gives them away"));
        }
        body.personality = ours;
        body.system.clone_from(&found.system);
    }
    for (proto, number, port) in found.ports.iter().map(|((proto, number), port)| (*proto, *number, port)) {
        let answer = answer(found, proto, port, warnings);
        let ports = if proto == Proto::Tcp { &mut body.tcp } else { &mut body.udp };
        ports.insert(number, answer);
    }
    body.tcp_default = rest(found, scan, Proto::Tcp);
    body.udp_default = rest(found, scan, Proto::Udp);
    for (default, ports) in [(&body.tcp_default, &mut body.tcp), (&body.udp_default, &mut body.udp)] {
        ports.retain(|_, answer| answer != default);
    }
    body
}

/// How ports answer that the scan does not list: as most of those that it counts.
fn rest(found: &Found, scan: &Scan, proto: Proto) -> Answer {
    let mut closed = 0u64;
    let mut filtered = 0u64;
    for (state, count, of) in &found.extra {
        // Before nmap 7.92 a count did not say its protocol.
        let of = of.unwrap_or(if scan.tcp { Proto::Tcp } else { Proto::Udp });
        if of != proto {
            continue;
        }
        match &**state {
            "closed" | "unfiltered" => closed = closed.saturating_add(*count),
            "filtered" | "open|filtered" | "closed|filtered" => filtered = filtered.saturating_add(*count),
            _ => {}
        }
    }
    if closed == 0 && filtered == 0 {
        for ((of, _), port) in &found.ports {
            match &*port.state {
                "closed" | "unfiltered" if *of == proto => closed += 1,
                "filtered" | "open|filtered" | "closed|filtered" if *of == proto => filtered += 1,
                _ => {}
            }
        }
    }
    if filtered > closed { Answer::Filtered } else { Answer::Closed }
}

fn answer(found: &Found, proto: Proto, port: &Port, warnings: &mut Warnings) -> Answer {
    match (&*port.state, proto) {
        ("open", Proto::Tcp) => match banner::of(port, &found.name) {
            Answer::Open if port.ssl => {
                let what = "what is spoken within TLS is not known at some ports: they are open and say nothing";
                warnings.once(port.line, what);
                Answer::Open
            }
            inside if port.ssl => Answer::Tls(Box::new(inside)),
            answer => answer,
        },
        ("open", Proto::Udp) => Answer::Open,
        ("closed" | "unfiltered", _) => Answer::Closed,
        ("filtered" | "open|filtered" | "closed|filtered", _) => Answer::Filtered,
        (other, _) => {
            warnings.once(port.line, format!("the state `{}` of a port is not known: it is closed", shown(other)));
            Answer::Closed
        }
    }
}
