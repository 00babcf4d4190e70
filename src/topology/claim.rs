//! `claim` of a population: when addresses that nobody answers for become its own.

use super::at::At;
use super::check::Checker;
use super::raw::Claim;
use super::units;
use crate::node::ClaimConfig;

/// The longest time within which requests may have to come.
const LONGEST: u32 = 3600;
/// The shortest time after which an address is let go: hosts forget MACs no sooner.
const SHORTEST: u32 = 10;

/// What was written, with the defaults for what was not.
pub fn read(c: &mut Checker<'_>, claim: &Claim) -> Option<ClaimConfig> {
    let default = ClaimConfig::default();
    let mut bounded = |value: &Option<At<u32>>, default: u32, max: u32, what: &str| match value {
        Some(at) if at.value == 0 || at.value > max => {
            c.error(at.span, format!("{} {what}", at.value), "out of range", format!("write 1 to {max}"));
            default
        }
        Some(at) => at.value,
        None => default,
    };
    let most = u32::from(ClaimConfig::MOST_REQUESTS);
    let after = bounded(&claim.after, default.after.into(), most, "unanswered requests cannot be waited for");
    let limit =
        bounded(&claim.limit, default.limit, ClaimConfig::MOST_ADDRESSES, "addresses cannot be claimed at once");
    let within_secs = match &claim.within {
        Some(text) => match c.unit(text.span, units::duration_secs(text))? {
            secs if (1..=LONGEST).contains(&secs) => secs,
            _ => {
                let message = format!("requests cannot be counted within `{}`", text.0);
                c.error(text.span, message, "out of range", "write 1s to 1h");
                return None;
            }
        },
        None => default.within_secs,
    };
    let release_secs = match &claim.release {
        Some(text) => match c.unit(text.span, units::duration_secs(text))? {
            secs if secs == 0 || secs >= SHORTEST => secs,
            _ => {
                let message = format!("`{}` is too short to let go of an address", text.0);
                let help = format!("write {SHORTEST}s or more, or 0 for never");
                c.error(text.span, message, "hosts remember each other for longer", help);
                return None;
            }
        },
        None => default.release_secs,
    };
    let probe = claim.probe.as_ref().map_or(default.probe, |probe| probe.value);
    Some(ClaimConfig { after: after as u8, within_secs, probe, limit, release_secs, machine: Vec::new() })
}

#[cfg(test)]
mod tests {
    use crate::node::{ClaimConfig, HostsConfig, NodeConfig};
    use crate::topology::{Plan, parse};

    fn topology(dark: &str) -> String {
        format!(
            "nodes:\n  wan: {{kind: uplink}}\n  core: {{kind: switch, ports: 5}}\n  dark: {dark}\n\
             \x20 web: {{kind: host, address: 10.0.0.5}}\n  edge: {{kind: router, interfaces: {{lan: 10.0.0.1/24}}}}\n\
             links:\n  - endpoints: [wan, 'core:1']\n  - endpoints: [dark, 'core:2']\n\
             \x20 - endpoints: [web, 'core:3']\n  - endpoints: ['edge:lan', 'core:4']\n"
        )
    }

    fn hosts(plan: &Plan) -> &HostsConfig {
        let node = plan.nodes.iter().find(|node| node.name == "dark").unwrap();
        let NodeConfig::Hosts(hosts) = &node.config else { panic!("{node:?}") };
        hosts
    }

    fn mistakes(text: &str) -> Vec<String> {
        let errors = parse("t", text).unwrap_err().errors;
        errors.into_iter().map(|error| error.message).collect()
    }

    #[test]
    fn whatever_has_an_owner_is_left_out() {
        let text = topology("{kind: hosts, addresses: 10.0.0.0/24, gateway: 10.0.0.2, except: 10.0.0.9, claim: {}}");
        let plan = parse("t", &text).unwrap();
        let hosts = hosts(&plan);
        assert_eq!(hosts.claim.as_deref(), Some(&ClaimConfig::default()));
        for taken in ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.0.9", "10.0.0.255"] {
            assert_eq!(hosts.number_of(taken.parse().unwrap()), None, "{taken}");
        }
        assert_eq!(hosts.ranges.iter().map(|range| range.len()).sum::<u64>(), 256 - 6);
        // Others may own the rest: that is no inside for containers.
        let inside = |ip: &str| hosts.inside.iter().any(|net| net.contains(&ip.parse::<std::net::IpAddr>().unwrap()));
        assert!(inside("10.0.0.1") && inside("10.0.0.5") && !inside("10.0.0.77"));
        // Without `claim`, each of them is a mistake.
        let text = topology("{kind: hosts, addresses: 10.0.0.0/24, gateway: 10.0.0.2}");
        assert_eq!(mistakes(&text).len(), 3, "{:?}", mistakes(&text));
    }

    #[test]
    fn what_is_written_counts_and_what_cannot_be_is_refused() {
        let dark = |claim: &str| topology(&format!("{{kind: hosts, addresses: 10.0.0.0/24, claim: {claim}}}"));
        let plan = parse("t", &dark("{after: 2, within: 1m, probe: false, limit: 9, release: 0}")).unwrap();
        let claim = hosts(&plan).claim.clone().unwrap();
        let expected =
            ClaimConfig { after: 2, within_secs: 60, probe: false, limit: 9, release_secs: 0, machine: vec![] };
        assert_eq!(*claim, expected);
        for wrong in ["{after: 0}", "{after: 9}", "{within: 0}", "{within: 2h}", "{limit: 0}", "{release: 5s}"] {
            assert_eq!(mistakes(&dark(wrong)).len(), 1, "{wrong}: {:?}", mistakes(&dark(wrong)));
        }
        assert_eq!(mistakes(&dark("{}").replace("kind: host,", "kind: host, claim: {},")).len(), 1);
        let twice = topology("{kind: hosts, addresses: 10.0.0.0/25, claim: {}}").replace(
            "  web: {kind: host, address: 10.0.0.5}",
            "  web: {kind: hosts, addresses: 10.0.0.100-10.0.0.199, claim: {}}",
        );
        assert_eq!(mistakes(&twice).len(), 1, "two cannot both claim one");
        let eager = "{kind: hosts, addresses: 10.0.0.0/24, claim: {}, backend: {image: small, start: with-system}}";
        assert!(mistakes(&topology(eager)).iter().any(|message| message.contains("yet to be claimed")));
    }

    #[test]
    fn at_most_as_many_macs_as_are_claimed_appear_on_an_uplink() {
        let wide = |claim: &str| {
            let dark = format!("{{kind: hosts, addresses: 10.0.0.0/22, claim: {claim}}}");
            topology(&dark).replace("10.0.0.1/24", "10.0.0.1/22")
        };
        assert!(mistakes(&wide("{}"))[0].contains("MAC addresses would appear"));
        assert!(parse("t", &wide("{limit: 250}")).is_ok());
    }

    #[test]
    fn the_documented_example_is_sound() {
        let page = include_str!("../../docs/topology.md");
        let example = page.split("```").find_map(|block| block.strip_prefix("yaml\nname: dark")).unwrap();
        assert!(hosts(&parse("t", &format!("name: dark{example}")).unwrap()).claim.is_some());
    }
}
