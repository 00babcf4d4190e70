//! A draft to a text in the topology language.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Warnings;
use super::draft::{Answer, Body, Draft, Names, Path, Rule};
use super::settle::{self, Group};
use super::yaml::{plain_name, quoted, scalar, shown};
use crate::topology::addr::{self, Range};

/// Ports of one switch that are used; more make several switches.
const SWITCH_PORTS: usize = 1000;
/// MACs that an uplink lets out unless it is told otherwise.
const MAC_LIMIT: u128 = 256;

/// One end of a link: the node and its port, and what the link to it does.
type End = (String, Path);

/// Writes `draft`.
pub fn emit(mut draft: Draft, warnings: &mut Warnings) -> String {
    let groups = settle::settle(&mut draft, warnings);
    let mut out = Text::default();
    for line in &draft.heading {
        out.line(format_args!("# {}", shown(line)));
    }
    templates(&mut out, &draft, &groups);
    let mut ends: Vec<Vec<End>> = vec![Vec::new(); draft.segments.len()];
    out.line(format_args!("\nnodes:"));
    uplink(&mut out, &draft, &groups, warnings);
    routers(&mut out, &draft, &mut ends);
    hosts(&mut out, &draft, &groups, &mut ends);
    let mut wire: Vec<End> = vec![("wan".to_owned(), Path::default())];
    for (segment, ends) in draft.segments.iter().zip(&mut ends) {
        if segment.owner.is_none() {
            wire.append(ends);
        }
    }
    let mut links = Vec::new();
    join(&mut out, "wire", wire, &mut links);
    for (at, ends) in ends.into_iter().enumerate() {
        join(&mut out, &format!("lan-{}", at + 1), ends, &mut links);
    }
    if !links.is_empty() {
        out.line(format_args!("\nlinks:"));
    }
    for (a, b, path) in links {
        out.line(format_args!("  - endpoints: [{}, {}]", quoted(&a), quoted(&b)));
        if path.delay_us > 0 {
            // The longest that a link may take.
            let us = path.delay_us.min(60_000_000);
            let delay = if us % 1000 == 0 { format!("{}ms", us / 1000) } else { format!("{us}us") };
            out.line(format_args!("    delay: {delay}"));
        }
        if path.loss > 0 {
            out.line(format_args!("    loss: {}%", f64::from(path.loss) / 1000.0));
        }
        if path.rate > 0 {
            let rate = path.rate.clamp(8, 1_000_000_000_000_000);
            let rate = match (rate % 1_000_000, rate % 1000) {
                (0, _) => format!("{}mbit", rate / 1_000_000),
                (_, 0) => format!("{}kbit", rate / 1000),
                _ => format!("{rate}bit"),
            };
            out.line(format_args!("    rate: {rate}"));
        }
    }
    out.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// Entries that ports take: neighbors that answer alike are one range.
pub fn entries(ports: &BTreeMap<u16, Answer>) -> usize {
    ranges(ports).len()
}

fn ranges(ports: &BTreeMap<u16, Answer>) -> Vec<(u16, u16, &Answer)> {
    let mut ranges: Vec<(u16, u16, &Answer)> = Vec::new();
    for (port, answer) in ports {
        match ranges.last_mut() {
            Some((_, last, same)) if *same == answer && u32::from(*last) + 1 == u32::from(*port) => *last = *port,
            _ => ranges.push((*port, *port, answer)),
        }
    }
    ranges
}

fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Closed => "closed".to_owned(),
        Answer::Filtered => "filtered".to_owned(),
        Answer::Open => "open".to_owned(),
        Answer::Tarpit => "tarpit".to_owned(),
        Answer::Banner(banner) => format!("{{banner: {}}}", quoted(banner)),
        // What can be within TLS is a mapping.
        Answer::Tls(inside) => {
            let inside = self::answer(inside);
            inside.strip_suffix('}').map_or_else(|| inside.clone(), |open| format!("{open}, tls: true}}"))
        }
        Answer::Http(None) => "{http: {pages: {/: \"<html><body><h1>It works!</h1></body></html>\"}}}".to_owned(),
        Answer::Http(Some(server)) => format!(
            "{{http: {{server: {}, pages: {{/: \"<html><body><h1>It works!</h1></body></html>\"}}}}}}",
            quoted(server)
        ),
        Answer::Script(words) => {
            format!("{{script: [{}]}}", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
        }
        Answer::Proxy(target) if target.ip().is_loopback() => format!("{{proxy: \"{target}\"}}"),
        // Nothing reaches other machines only because it once did: whoever wants it says so.
        Answer::Proxy(target) => format!("open # {{proxy: \"{target}\", allow_production: true}}"),
    }
}

fn templates(out: &mut Text, draft: &Draft, groups: &[Group]) {
    let mut used = vec![false; draft.templates.len()];
    draft.hosts.iter().for_each(|host| used[host.template] = true);
    groups.iter().for_each(|group| used[group.template] = true);
    let in_cases: Vec<usize> = draft
        .templates
        .iter()
        .zip(&used)
        .filter(|(_, used)| **used)
        .flat_map(|((_, body), _)| body.cases.iter().map(|(_, case)| *case))
        .collect();
    in_cases.into_iter().for_each(|case| used[case] = true);
    if !draft.templates.is_empty() {
        out.line(format_args!("\ntemplates:"));
    }
    for ((name, body), used) in draft.templates.iter().zip(used) {
        let note = if used { "" } else { " # no host has it" };
        out.line(format_args!("  {}:{note}", scalar(name)));
        template(out, body);
        cases(out, draft, body);
    }
}

fn cases(out: &mut Text, draft: &Draft, body: &Body) {
    if !body.cases.is_empty() {
        out.line(format_args!("    when:"));
    }
    for (rule, case) in &body.cases {
        let rule = match rule {
            Rule::From(net) => format!("from: \"{net}\""),
            Rule::During(from, to) => {
                let clock = |minute: &u16| format!("{:02}:{:02}", minute / 60, minute % 60);
                format!("during: \"{}-{}\"", clock(from), if *to == 0 { "24:00".to_owned() } else { clock(to) })
            }
            Rule::Os(family) => format!("os: {family}"),
        };
        out.line(format_args!("      - {{{rule}, template: {}}}", scalar(&draft.templates[*case].0)));
    }
}

fn template(out: &mut Text, body: &Body) {
    let note = if body.system.is_empty() || body.system == body.personality {
        String::new()
    } else {
        format!(" # {}", shown(&body.system))
    };
    out.line(format_args!("    personality: {}{note}", scalar(&body.personality)));
    if let Some(vendor) = &body.vendor {
        out.line(format_args!("    vendor: {}", scalar(vendor)));
    }
    if !body.ping {
        out.line(format_args!("    ping: false"));
    }
    for (key, default, ports) in [("tcp", &body.tcp_default, &body.tcp), ("udp", &body.udp_default, &body.udp)] {
        match default {
            Answer::Closed => {}
            Answer::Filtered => out.line(format_args!("    {key}_default: filtered")),
            _ => {}
        }
        let wide = !matches!(default, Answer::Closed | Answer::Filtered);
        // What the default says already needs no entry.
        let own: BTreeMap<u16, Answer> = ports
            .iter()
            .filter(|(_, answer)| *answer != default)
            .map(|(port, answer)| (*port, answer.clone()))
            .collect();
        if own.is_empty() && !wide {
            continue;
        }
        out.line(format_args!("    {key}:"));
        if wide {
            out.line(format_args!("      1-65535: {}", answer(default)));
        }
        for (first, last, what) in ranges(&own) {
            if first == last {
                out.line(format_args!("      {first}: {}", answer(what)));
            } else if (first, last) != (1, 65_535) || !wide {
                out.line(format_args!("      {first}-{last}: {}", answer(what)));
            }
        }
    }
}

fn uplink(out: &mut Text, draft: &Draft, groups: &[Group], warnings: &mut Warnings) {
    let on_wire = |segment: usize| draft.segments[segment].owner.is_none();
    let routers = draft.routers.iter().filter(|router| on_wire(router.up.0)).count();
    let hosts = draft.hosts.iter().filter(|host| on_wire(host.segment)).count();
    let crowd: u128 = groups.iter().filter(|group| on_wire(group.segment)).map(|g| macs(draft, g)).sum();
    let macs = (routers + hosts) as u128 + crowd;
    if macs > MAC_LIMIT {
        let limit = macs + 16;
        warnings.add(0, format!(
            "{macs} MACs would appear on the wire, more than the uplink's guard lets out by itself: `mac_limit: {limit}` \
             allows them; see to it that the switch it is plugged into takes as many"
        ));
        out.line(format_args!("  wan: {{kind: uplink, mac_limit: {limit}}} # `up --uplink eth1` says which interface"));
    } else {
        out.line(format_args!("  wan: {{kind: uplink}} # `up --uplink eth1` says which interface"));
    }
}

/// MACs of a group.
fn macs(draft: &Draft, group: &Group) -> u128 {
    if shares_mac(draft, group) { 1 } else { group.len() }
}

/// A crowd on the wire has one MAC, as no switch there would learn thousands.
fn shares_mac(draft: &Draft, group: &Group) -> bool {
    draft.segments[group.segment].owner.is_none() && group.len() > 4096
}

/// The routers with their routes: everything that is not behind one is up.
fn routers(out: &mut Text, draft: &Draft, ends: &mut [Vec<End>]) {
    let mut routes: Vec<Vec<String>> = vec![Vec::new(); draft.routers.len()];
    let mut owned: Vec<Vec<usize>> = vec![Vec::new(); draft.routers.len()];
    for (at, segment) in draft.segments.iter().enumerate() {
        let Some(owner) = segment.owner else { continue };
        owned[owner].push(at);
        // The segment is told to every router on the way to it.
        let mut below = owner;
        while let Some(above) = draft.segments[draft.routers[below].up.0].owner {
            routes[above].push(format!("{{to: {}, via: {}}}", to(segment.net), via(draft.routers[below].up.1)));
            below = above;
        }
    }
    for (at, router) in draft.routers.iter().enumerate() {
        let (up, address) = router.up;
        let name = router_name(at);
        out.line(format_args!("  {name}: # {}", shown(&router.note)));
        out.line(format_args!("    kind: router"));
        out.line(format_args!("    interfaces:"));
        out.line(format_args!("      up: [\"{address}/{}\"]", draft.segments[up].net.prefix_len()));
        ends[up].push((format!("{name}:up"), router.path));
        for &segment in &owned[at] {
            let Segment { net, address } = Segment::of(draft, segment);
            let Some(address) = address else { continue };
            out.line(format_args!("      lan-{}: [\"{address}/{}\"]", segment + 1, net.prefix_len()));
            // First, so that the direct link reads from the wire inwards.
            ends[segment].insert(0, (format!("{name}:lan-{}", segment + 1), Path::default()));
        }
        let gateway = draft.segments[up].owner.and(draft.segments[up].address);
        let default = gateway.map(|gateway| format!("{{to: default, via: {}}}", via(gateway)));
        let all: Vec<String> = default.into_iter().chain(std::mem::take(&mut routes[at])).collect();
        if !all.is_empty() {
            out.line(format_args!("    routes:"));
            all.iter().for_each(|route| out.line(format_args!("      - {route}")));
        }
    }
}

/// The parts of a segment that its owner's interface needs.
struct Segment {
    net: IpNet,
    address: Option<IpAddr>,
}

impl Segment {
    fn of(draft: &Draft, at: usize) -> Segment {
        Segment { net: draft.segments[at].net, address: draft.segments[at].address }
    }
}

fn router_name(at: usize) -> String {
    format!("r{}", at + 1)
}

fn to(net: IpNet) -> String {
    quoted(&net.to_string())
}

fn via(ip: IpAddr) -> String {
    quoted(&ip.to_string())
}

fn hosts(out: &mut Text, draft: &Draft, groups: &[Group], ends: &mut [Vec<End>]) {
    let mut names = Names::default();
    for reserved in ["wan", "wire"] {
        names.unique(reserved);
    }
    for at in 0..draft.routers.len() {
        names.unique(&router_name(at));
    }
    // Hosts on the wire beside a router of another prefix have to be told their own.
    let prefix = |segment: usize, address: IpAddr| {
        let net = draft.segments[segment].net;
        let beside = |router: &super::draft::Router| {
            let at = router.up.0;
            draft.segments[at].owner.is_none() && router.up.1.is_ipv4() == address.is_ipv4()
        };
        let routed = draft.routers.iter().any(|router| router.up.0 == segment);
        let foreign = draft.segments[segment].owner.is_none() && !routed && draft.routers.iter().any(beside);
        let wide = addr::sensible_prefix(&[Range::one(address)]).filter(|_| addr::reserved(net).is_some());
        if foreign { format!(", prefix: {}", quoted(&wide.unwrap_or(net).to_string())) } else { String::new() }
    };
    for host in &draft.hosts {
        let address = host.address.to_string();
        let fallback = format!("h-{}", address.replace([':', '.'], "-"));
        // What a name looks like says nothing of switches that are still to be named.
        let wanted = Some(plain_name(&host.name, &fallback))
            .filter(|name| !name.starts_with("lan-") && !name.starts_with("wire"));
        let name = names.unique(&wanted.unwrap_or(fallback));
        let mac = host.mac.map(|mac| format!(", mac: \"{mac}\"")).unwrap_or_default();
        let template = scalar(&draft.templates[host.template].0);
        let prefix = prefix(host.segment, host.address);
        out.line(format_args!(
            "  {}: {{kind: host, address: \"{address}\", template: {template}{mac}{prefix}}}",
            scalar(&name)
        ));
        ends[host.segment].push((name, host.path));
    }
    for group in groups {
        let template = &draft.templates[group.template].0;
        let name = names.unique(&format!("{template}-hosts"));
        let list = |texts: Vec<String>| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
        out.line(format_args!("  {}:", scalar(&name)));
        out.line(format_args!("    kind: hosts"));
        let addresses = group.ranges.iter().map(|range| match range.prefixes()[..] {
            [net] if range.len() > 1 => net.to_string(),
            _ => range.to_string(),
        });
        out.line(format_args!("    addresses: [{}]", list(addresses.collect())));
        if !group.except.is_empty() {
            out.line(format_args!("    except: [{}]", list(group.except.iter().map(IpAddr::to_string).collect())));
        }
        out.line(format_args!("    template: {}", scalar(template)));
        if shares_mac(draft, group) {
            out.line(format_args!("    mac: shared"));
        }
        if let Some(first) = group.ranges.first() {
            let prefix = prefix(group.segment, first.first());
            if let Some(prefix) = prefix.strip_prefix(", ") {
                out.line(format_args!("    {prefix}"));
            }
        }
        ends[group.segment].push((name, Path::default()));
    }
}

/// Joins the ends of a segment: two by a link, more by a switch or several.
fn join(out: &mut Text, name: &str, ends: Vec<End>, links: &mut Vec<(String, String, Path)>) {
    match &ends[..] {
        [] | [_] => {}
        [(a, first), (b, second)] => links.push((a.clone(), b.clone(), first.then(*second))),
        _ => {
            let parts: Vec<&[End]> = ends.chunks(SWITCH_PORTS).collect();
            for (at, part) in parts.iter().enumerate() {
                let own = if at == 0 { name.to_owned() } else { format!("{name}.{at}") };
                let trunks = if at == 0 { parts.len() - 1 } else { 1 };
                out.line(format_args!("  {own}: {{kind: switch, ports: {}}}", part.len() + trunks));
                for (number, (end, path)) in part.iter().enumerate() {
                    links.push((end.clone(), format!("{own}:{}", number + 1), *path));
                }
                if at > 0 {
                    let port = parts[0].len() + at;
                    links.push((format!("{name}:{port}"), format!("{own}:{}", part.len() + 1), Path::default()));
                }
            }
        }
    }
}
