//! Cases of hosts (`when`): what differs by who asks, and when.

use schemars::JsonSchema;
use serde::Deserialize;

use super::addr;
use super::at::{At, Map, Text, Texts};
use super::check::Checker;
use super::layers::{self, Layer};
use super::raw::{PortDefault, TcpEntry, TemplateKeys, UdpEntry, mapping};
use super::source::Span;
use super::units::UnitError;
use crate::emulate::{Case, OsFamily, Window};
use crate::wire::word_of;

/// Cases of a template: each packet of a source is held against them.
const MAX_CASES: usize = 64;

/// Days of the week, as they are written.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

mapping! {
    /// A case: all of `from`, `during` and `os` that is there has to apply. What else is said is laid over the template.
    struct CaseKeys {
        /// Sources: prefixes, ranges such as `10.0.0.10-10.0.0.200`, single addresses.
        from: Texts,
        /// Times such as `Mon-Fri 08:00-18:00`, in UTC; with an offset behind it, such as `+02:00`, in that zone.
        during: Texts,
        /// Systems of the source by its SYN: `linux`, `windows`, `macos`, `freebsd`, `openbsd`, `scanner` (SYNs that nmap, masscan or ZMap wrote themselves), `unknown`.
        os: Texts,
        /// The template that the host has then, instead of its own.
        template: Text,
        /// How the operating system behaves on the network then.
        personality: Text,
        /// Whether echo requests are answered then.
        ping: bool,
        /// TCP ports that differ.
        tcp: Map<At<TcpEntry>>,
        /// All other TCP ports.
        tcp_default: PortDefault,
        /// UDP ports that differ.
        udp: Map<At<UdpEntry>>,
        /// All other UDP ports.
        udp_default: PortDefault,
    }
}

/// A case, and what is laid over the template for it.
#[derive(Clone, Debug)]
pub struct CaseLayer {
    /// Without the template's index.
    pub case: Case,
    /// The named template, by its place among all.
    pub template: Option<usize>,
    pub layer: Layer,
    pub span: Span,
}

/// Reads the cases of a layer.
pub fn read(c: &mut Checker<'_>, cases: &At<Vec<At<CaseKeys>>>) -> Vec<CaseLayer> {
    if cases.len() > MAX_CASES {
        let help = "join cases that differ by their sources only: `from` takes a list";
        c.error(cases.span, format!("there are more than {MAX_CASES} cases"), "too many here", help);
        return Vec::new();
    }
    cases.iter().map(|keys| read_one(c, keys)).collect()
}

fn read_one(c: &mut Checker<'_>, keys: &At<CaseKeys>) -> CaseLayer {
    if keys.present().iter().all(|(key, _)| matches!(*key, "from" | "during" | "os")) {
        let help = "add what differs, such as `tcp: {22: closed}` or `template: NAME`";
        c.error(keys.span, "this case says nothing", "everything would be as without it", help);
    }
    for (texts, what) in [(&keys.from, "from"), (&keys.during, "during"), (&keys.os, "os")] {
        if let Some(texts) = texts.as_ref().filter(|texts| texts.0.is_empty()) {
            let help = format!("write at least one, or leave `{what}` out");
            c.error(texts.span, format!("`{what}` is an empty list"), "this case would never apply", help);
        }
    }
    let mut ranges = Vec::new();
    for text in keys.from.iter().flat_map(|from| &from.value.0) {
        ranges.extend(c.unit(text.span, addr::parse(text)).map(|(range, _)| range));
    }
    let mut during = Vec::new();
    for text in keys.during.iter().flat_map(|during| &during.value.0) {
        during.extend(c.unit(text.span, window(text)));
    }
    let mut os = Vec::new();
    for text in keys.os.iter().flat_map(|os| &os.value.0) {
        match OsFamily::by_name(text) {
            Some(family) => os.push(family),
            None => c.unknown(text.span, "system", text, OsFamily::ALL.map(OsFamily::name)),
        }
    }
    let template = keys.template.as_ref().and_then(|name| {
        let templates = c.raw.templates.as_ref();
        let at = templates.and_then(|templates| templates.position(name));
        match at {
            None => {
                let known: Vec<&str> = templates.iter().flat_map(|templates| templates.names()).collect();
                c.unknown(name.span, "template", name, known);
            }
            Some(at) if templates.and_then(|all| all.0.get(at)).is_some_and(|(_, named)| named.when.is_some()) => {
                let help = "name one without `when`, and write its cases here";
                c.error(name.span, format!("`{}` has cases itself", name.0), "a case of a case", help);
            }
            Some(_) => {}
        }
        at
    });
    let mut from: Vec<(u128, u128)> =
        addr::normalize(ranges).iter().map(|range| (word_of(range.first()), word_of(range.last()))).collect();
    // IPv4 lies within IPv6 here.
    from.sort_unstable();
    let layer = layers::read(c, &keys.template_keys());
    CaseLayer { case: Case { from, during, os, template: 0 }, template, layer, span: keys.span }
}

impl CaseKeys {
    fn template_keys(&self) -> TemplateKeys<'_> {
        TemplateKeys {
            personality: self.personality.as_ref(),
            vendor: None,
            ping: self.ping.as_ref(),
            tcp: self.tcp.as_ref(),
            tcp_default: self.tcp_default.as_ref(),
            udp: self.udp.as_ref(),
            udp_default: self.udp_default.as_ref(),
            backend: None,
            outward: None,
            when: None,
            normalize: None,
            talk: None,
        }
    }
}

/// A time of the week: days, a time of the day and an offset from UTC, of which the first or the second and the
/// third may be left out.
fn window(text: &str) -> Result<Window, UnitError> {
    let bad = |what: &str| {
        (what.to_owned(), "write such as \"Mon-Fri 08:00-18:00\", \"22:00-06:00 +02:00\" or \"Sat,Sun\"".to_owned())
    };
    let mut words = text.split_whitespace().peekable();
    let mut window = Window { days: 0x7f, from: 0, to: 1440, ahead: 0 };
    let named = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic());
    let days_named = words.next_if(named).map(|word| days(word).ok_or_else(|| bad(&format!("`{word}` is no day"))));
    let has_days = days_named.is_some();
    if let Some(days) = days_named {
        window.days = days?;
    }
    let times = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    if let Some(word) = times {
        let ends = word.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        (window.from, window.to) = ends.ok_or_else(|| bad(&format!("`{word}` is no time of the day")))?;
        if window.from == window.to || window.from == 1440 || window.to == 0 {
            return Err(bad(&format!("`{word}` has no length")));
        }
    }
    if !has_days && times.is_none() {
        return Err(bad(&format!("`{text}` is no time")));
    }
    if let Some(word) = words.next() {
        window.ahead = offset(word).ok_or_else(|| {
            let why = format!("`{word}` is no offset from UTC");
            (why, "write it such as +02:00 or -05:30, or leave it out for UTC".to_owned())
        })?;
    }
    if words.next().is_some() {
        return Err(bad(&format!("`{text}` says too much")));
    }
    Ok(window)
}

/// Days such as `Mon-Fri,Sun` as bits. A range may pass the end of the week.
fn days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut bits = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let span = (last + 7 - first) % 7;
        bits |= (0..=span).fold(0, |bits, next| bits | 1 << ((first + next) % 7));
    }
    Some(bits)
}

/// `HH:MM`, up to `24:00`, in minutes.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok())?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (minutes < 60 && hours * 60 + minutes <= 1440).then_some(hours * 60 + minutes)
}

/// `+HH:MM` or `-HH:MM` in minutes, at most 14 hours, as the world has them.
fn offset(text: &str) -> Option<i16> {
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let minutes = i16::try_from(minute(rest)?).ok().filter(|minutes| *minutes <= 14 * 60)?;
    Some(sign * minutes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::good;
    use super::super::{Plan, parse};
    use super::*;
    use crate::emulate::{Builtin, TcpPort, Template};
    use crate::node::{HostsConfig, NodeConfig};

    #[test]
    fn windows_are_read() {
        for (text, days, from, to, ahead) in [
            ("Mon-Fri 08:00-18:00", 0b001_1111, 480, 1080, 0),
            ("22:00-06:00", 0x7f, 1320, 360, 0),
            ("Sat,sun", 0b110_0000, 0, 1440, 0),
            ("Fri-Mon 00:00-24:00 +05:30", 0b111_0001, 0, 1440, 330),
            ("Wed 09:30-10:00 -03:00", 0b000_0100, 570, 600, -180),
        ] {
            assert_eq!(window(text), Ok(Window { days, from, to, ahead }), "{text}");
        }
        for text in [
            "",
            "Mo 08:00-18:00",
            "8-18",
            "08:00",
            "08:00-08:00",
            "24:00-06:00",
            "08:00-24:01",
            "08:60-09:00",
            "08:00-18:00 CET",
            "08:00-18:00 +15:00",
            "+02:00",
            "Mon 08:00-09:00 +01:00 x",
            "Mon-Fry",
        ] {
            assert!(window(text).is_err(), "{text}");
        }
    }

    fn hosts<'a>(plan: &'a Plan, name: &str) -> &'a HostsConfig {
        match plan.nodes.iter().find(|node| node.name == name).map(|node| &node.config) {
            Some(NodeConfig::Hosts(config)) => config,
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn cases_are_laid_over_their_template() {
        let plan = good(
            "templates:
  pc:
    personality: windows
    vendor: dell
    tcp: {22: open, 445: open}
    when:
      - {from: [10.0.0.0/8, 2001:db8::1], tcp: {3389: open, 22: closed}}
      - {during: \"Mon-Fri 08:00-18:00 +02:00\", os: [linux, scanner], template: server}
  server: {personality: linux, vendor: hp, tcp: {80: open}, ping: false}
nodes:
  pcs: {kind: hosts, addresses: 10.1.0.0/28, mix: {pc: 1, server: 2}, tcp: {9: filtered}}
",
        );
        let config = hosts(&plan, "pcs");
        assert_eq!((config.mix.as_slice(), config.templates.len()), (&[(0, 1), (3, 2)][..], 4));
        let [pc, inside, office, server] = &config.templates[..] else { panic!("{:?}", config.templates) };
        let [first, second] = &pc.cases[..] else { panic!("{:?}", pc.cases) };
        assert_eq!((first.template, second.template), (1, 2));
        let word = |text: &str| word_of(text.parse().unwrap());
        assert_eq!(
            first.from,
            [(word("10.0.0.0"), word("10.255.255.255")), (word("2001:db8::1"), word("2001:db8::1"))]
        );
        assert_eq!((first.during.len(), first.os.len()), (0, 0));
        assert_eq!((second.during[0].days, second.during[0].from, second.during[0].ahead), (0b1_1111, 480, 120));
        assert_eq!(second.os, [OsFamily::Linux, OsFamily::Scanner]);
        let ports = |template: &Template| template.tcp.keys().copied().collect::<Vec<_>>();
        assert_eq!((ports(inside), inside.tcp[&22]), (vec![9, 22, 445, 3389], TcpPort::Closed));
        assert_eq!((inside.personality, inside.oui), (Builtin::Windows.into(), pc.oui));
        // The other template in the place of its own, and yet the same machine.
        assert_eq!((ports(office), office.ping, office.personality), (vec![9, 80], false, Builtin::Linux.into()));
        assert_eq!((office.oui, &*office.name), (pc.oui, "pc"));
        assert_ne!(server.oui, pc.oui);
        assert!(inside.cases.is_empty() && server.cases.is_empty());
    }

    #[test]
    fn a_case_may_be_what_brings_a_container_to_life() {
        let text = |port: &str| {
            format!(
                "nodes:
  srv: {{kind: container, address: 10.1.0.5, backend: {{image: small}}, when: [{{from: 10.0.0.0/8, tcp: {{22: {port}}}}}]}}
"
            )
        };
        let plan = good(&text("container"));
        let config = hosts(&plan, "srv");
        assert_eq!(config.templates[0].backend, config.templates[1].backend);
        assert!(matches!(config.templates[1].tcp[&22], TcpPort::Open(_)));
        assert!(parse("test.yaml", &text("open")).is_err(), "nothing ever starts it");
    }
}
