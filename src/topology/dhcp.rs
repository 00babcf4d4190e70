//! `dhcp` of a population: how many of its hosts lease their addresses, and from whom.

use std::net::Ipv4Addr;

use super::at::At;
use super::check::Checker;
use super::raw::{Dhcp, Node};
use super::source::Span;
use crate::node::DhcpConfig;

/// What was written, with the defaults for what was not. `at` is where it was written.
pub fn read(c: &mut Checker<'_>, dhcp: &Dhcp, node: &Node, at: Span) -> Option<DhcpConfig> {
    let mistakes = c.errors.len();
    let others = [
        ("addresses", node.addresses.as_ref().map(|at| at.span)),
        ("except", node.except.as_ref().map(|at| at.span)),
        ("claim", node.claim.as_ref().map(|at| at.span)),
    ];
    for (key, span) in others.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        let message = format!("hosts that lease their addresses have no `{key}`");
        c.error(span, message, "the server says which they have", "keep one of both, or make two nodes of it");
    }
    if let Some(mac) = node.mac.as_ref().filter(|mac| mac.value.0 == "shared") {
        let help = "leave it out: each host has a MAC of its own";
        c.error(mac.span, "hosts that lease their addresses cannot share one MAC", "a server tells them by it", help);
    }
    let most = u32::from(DhcpConfig::MOST);
    let mut bounded = |value: &At<u32>, most: u32, help: String| {
        if value.value == 0 || value.value > most {
            c.error(value.span, format!("{} leases cannot be taken", value.value), "out of range", help);
        }
        value.value.clamp(1, most) as u16
    };
    let limit =
        dhcp.limit.as_ref().map_or(DhcpConfig::LIMIT, |limit| bounded(limit, most, format!("write 1 to {most}")));
    let Some(hosts) = &dhcp.hosts else {
        c.error(at, "it is not said how many hosts lease their addresses", "here", "add such as `hosts: 5`");
        return None;
    };
    let help = format!("write 1 to {limit}, or raise `limit` (to {most} at most), if the server has as many to spare");
    let hosts = bounded(hosts, limit.into(), help);
    let mut servers = Vec::new();
    for text in dhcp.server.iter().flat_map(|server| &server.value.0) {
        match text.parse::<Ipv4Addr>() {
            Ok(ip) => servers.push(ip),
            Err(_) => {
                let help = "write such as 10.0.0.1";
                c.error(text.span, format!("`{}` is no address of IPv4", text.0), "the DHCP server", help);
            }
        }
    }
    (c.errors.len() == mistakes).then_some(DhcpConfig { hosts, limit, servers, machine: Vec::new() })
}

#[cfg(test)]
mod tests {
    use crate::node::{DhcpConfig, HostsConfig, NodeConfig};
    use crate::topology::{Plan, parse};

    fn topology(staff: &str) -> String {
        format!(
            "templates:\n  pc: {{personality: windows, vendor: dell, tcp: {{445: open}}}}\n\
             \x20 shell: {{tcp: {{22: container}}, backend: {{image: small}}}}\n\
             nodes:\n  wan: {{kind: uplink, mac_limit: 24}}\n  core: {{kind: switch, ports: 3}}\n  staff: {staff}\n\
             \x20 edge: {{kind: router, interfaces: {{lan: 10.0.0.1/24}}}}\n\
             links:\n  - endpoints: [wan, 'core:1']\n  - endpoints: [staff, 'core:2']\n  - endpoints: ['edge:lan', 'core:3']\n"
        )
    }

    fn hosts(plan: &Plan) -> &HostsConfig {
        let node = plan.nodes.iter().find(|node| node.name == "staff").unwrap();
        let NodeConfig::Hosts(hosts) = &node.config else { panic!("{node:?}") };
        hosts
    }

    fn mistake(staff: &str) -> String {
        let errors = parse("t", &topology(staff)).unwrap_err().errors;
        errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn hosts_lease_what_a_server_gives() {
        let plan = parse("t", &topology("{kind: hosts, dhcp: {hosts: 5}, template: pc}")).unwrap();
        let config = hosts(&plan);
        let (servers, machine) = (vec![], vec![]);
        assert_eq!(config.dhcp.as_deref(), Some(&DhcpConfig { hosts: 5, limit: 16, servers, machine }));
        assert!(config.ranges.is_empty());
        assert_eq!(config.segment.gateways, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(plan.nodes.iter().map(|node| node.host_count()).sum::<u64>(), 5);
        let text = "{kind: hosts, dhcp: {hosts: 20, limit: 20, server: [10.0.0.2, 10.0.0.3]}, template: pc}";
        let plan = parse("t", &topology(text)).unwrap();
        let dhcp = hosts(&plan).dhcp.as_ref().unwrap();
        assert_eq!((dhcp.hosts, dhcp.limit, dhcp.servers.len()), (20, 20, 2));
    }

    #[test]
    fn what_cannot_be_leased_is_said() {
        for (text, expected) in [
            ("{kind: hosts, dhcp: {}, template: pc}", "it is not said how many"),
            ("{kind: hosts, dhcp: {hosts: 0}, template: pc}", "0 leases cannot be taken"),
            ("{kind: hosts, dhcp: {hosts: 17}, template: pc}", "17 leases cannot be taken"),
            ("{kind: hosts, dhcp: {hosts: 5, limit: 257}, template: pc}", "257 leases cannot be taken"),
            ("{kind: hosts, dhcp: {hosts: 24, limit: 24}, template: pc}", "25 MAC addresses would appear"),
            ("{kind: hosts, dhcp: {hosts: 5, server: nobody}, template: pc}", "`nobody` is no address of IPv4"),
            ("{kind: hosts, dhcp: {hosts: 5}, addresses: 10.0.0.0/28, template: pc}", "have no `addresses`"),
            ("{kind: hosts, dhcp: {hosts: 5}, claim: {}, template: pc}", "have no `claim`"),
            ("{kind: hosts, dhcp: {hosts: 5}, mac: shared, template: pc}", "cannot share one MAC"),
            ("{kind: hosts, dhcp: {hosts: 5}, template: shell}", "has no container"),
            ("{kind: host, dhcp: {hosts: 1}, address: 10.0.0.5}", "`dhcp` does not belong to a `host`"),
        ] {
            let said = mistake(text);
            assert!(said.contains(expected), "{text}: {said}");
        }
        let apart = topology("{kind: hosts, dhcp: {hosts: 5}}").replace("  - endpoints: [wan, 'core:1']\n", "");
        let errors = parse("t", &apart.replace("  wan: {kind: uplink, mac_limit: 24}\n", "")).unwrap_err().errors;
        assert!(errors.iter().any(|error| error.message.contains("no DHCP server")), "{errors:?}");
    }
}
