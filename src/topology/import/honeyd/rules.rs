//! When a dynamic template is another one: the conditions of `add DYNAMIC use NAME if ...`.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::templates::Template;
use crate::emulate::OsFamily;
use crate::topology::import::Warnings;
use crate::topology::import::draft::Rule;
use crate::topology::import::yaml::shown;

/// Rules that a template may have: as many as a topology takes.
pub const MAX_RULES: usize = 64;

/// A rule, and the template that is used where it holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    /// The rule.
    pub rule: Rule,
    /// What the template was called.
    pub name: String,
    /// The template.
    pub template: Arc<Template>,
}

/// Reads what follows `if`. `None` if it is no condition; a condition without a counterpart is a warning.
pub fn read(text: &str, line: usize, warnings: &mut Warnings) -> Option<Option<Rule>> {
    let value = |key: &str| {
        let mut rest = text;
        for word in key.split(' ') {
            rest = rest.strip_prefix(word)?.trim_start();
        }
        Some(rest.trim().trim_matches('"').trim())
    };
    if let Some(name) = value("source os =") {
        let family = family(name);
        if family.is_none() {
            let what = format!("no system is told by its SYN that is like `{}`: this rule is left out", shown(name));
            let known = OsFamily::ALL.map(OsFamily::name).join(", ");
            warnings.add(line, format!("{what}; `os:` knows {known}"));
        }
        return Some(family.map(|family| Rule::Os(family.name())));
    }
    if let Some(net) = value("source ip =") {
        let net = net.parse::<IpNet>().ok().or_else(|| Some(IpNet::from(net.parse::<IpAddr>().ok()?)))?;
        return Some(Some(Rule::From(net.trunc())));
    }
    let (from, to) = value("time between")?.split_once('-')?;
    let (from, to) = (minute(from.trim())?, minute(to.trim())?);
    if from == to {
        warnings.add(line, "from a time to the same time there is none in between: this rule is left out");
        return Some(None);
    }
    let what = "times are the machine's own in Honeyd, and UTC here: write such as `+02:00` behind those of `during:`";
    warnings.once(line, what);
    Some(Some(Rule::During(from, to)))
}

/// The family that a name of p0f's, which Honeyd compares with, belongs to.
fn family(name: &str) -> Option<OsFamily> {
    let lower = name.to_lowercase();
    let words = [
        ("windows", OsFamily::Windows),
        ("linux", OsFamily::Linux),
        ("freebsd", OsFamily::FreeBsd),
        ("openbsd", OsFamily::OpenBsd),
        ("macos", OsFamily::MacOs),
        ("mac os", OsFamily::MacOs),
        ("darwin", OsFamily::MacOs),
        ("nmap", OsFamily::Scanner),
        ("unknown", OsFamily::Unknown),
    ];
    words.into_iter().find_map(|(word, family)| lower.contains(word).then_some(family))
}

/// `12:00am`, `5pm` or `17:30` in minutes.
fn minute(text: &str) -> Option<u16> {
    let lower = text.to_lowercase();
    let (clock, half) = match (lower.strip_suffix("am"), lower.strip_suffix("pm")) {
        (Some(clock), _) => (clock, Some(0)),
        (_, Some(clock)) => (clock, Some(12)),
        _ => (&*lower, None),
    };
    let clock = clock.trim_end();
    let (hours, minutes) = match (clock.split_once(':'), half) {
        (Some(parts), _) => parts,
        (None, Some(_)) => (clock, "0"),
        (None, None) => return None,
    };
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let hours = match half {
        Some(half) if (1..=12).contains(&hours) => hours % 12 + half,
        None if hours < 24 => hours,
        _ => return None,
    };
    (minutes < 60).then_some(hours * 60 + minutes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        let mut warnings = Warnings::default();
        let mut rule = |text| read(text, 1, &mut warnings);
        let net = |text: &str| Some(Some(Rule::From(text.parse().unwrap())));
        assert_eq!(rule("source ip = 10.0.0.0/8"), net("10.0.0.0/8"));
        assert_eq!(rule("source ip = 192.168.1.7/24"), net("192.168.1.0/24"));
        assert_eq!(rule("source ip = 10.1.2.3"), net("10.1.2.3/32"));
        assert_eq!(rule("source os = \"Windows XP SP1\""), Some(Some(Rule::Os("windows"))));
        assert_eq!(rule("source os = linux"), Some(Some(Rule::Os("linux"))));
        assert_eq!(rule("source os = \"AmigaOS\""), Some(None));
        assert_eq!(rule("time between 12:00am - 5:00am"), Some(Some(Rule::During(0, 300))));
        assert_eq!(rule("time between 10pm-06:30"), Some(Some(Rule::During(1320, 390))));
        assert_eq!(rule("time between 12:00pm - 12:00pm"), Some(None));
        for bad in ["", "source ip = x", "time between 25:00 - 26:00", "time between 13:00pm - 2:00pm", "moon = full"] {
            assert_eq!(rule(bad), None, "{bad}");
        }
    }
}
