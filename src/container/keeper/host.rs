//! From a request of the switch to what is started for it. The request holds
//! nothing but indexes and an address; everything else is the plan's.

use std::net::IpAddr;

use crate::container::image::{self, Image};
use crate::container::{ImageConfig, KeeperConfig};
use crate::emulate::{Grant, Identity, RsaKey, RsaSeed, TcpPort, Template};
use crate::node::{AddrRange, HostsConfig, NodeConfig, NodeIdx, attacker_of, host_label, numbered_name};
use crate::service::{Middle, ServiceKind, SshMiddle};
use crate::wire::Mac;

/// Addresses that an interface inside is given; whoever writes a whole prefix for one host gets its first ones.
const MOST_ADDRESSES: usize = 256;

/// The host that a container is started for.
#[derive(Clone, Debug)]
pub struct Host<'a> {
    /// The population it belongs to.
    pub hosts: &'a HostsConfig,
    /// What it is.
    pub template: &'a Template,
    /// Its MAC.
    pub mac: Mac,
    /// Its name.
    pub hostname: String,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its default gateways.
    pub gateways: Vec<IpAddr>,
    /// What is fixed about it.
    pub identity: Identity,
    /// The address that stands for it.
    pub ip: IpAddr,
    /// Its RSA key, if it has one and that is there.
    pub rsa: Option<RsaKey>,
}

/// Finds host `ip` of node `node`; the error says why it can have no container.
pub fn find(config: &KeeperConfig, node: NodeIdx, ip: IpAddr) -> Result<Host<'_>, String> {
    let Some((name, node_config)) = config.nodes.get(usize::from(node.0)) else {
        return Err(format!("there is no node {}", node.0));
    };
    let NodeConfig::Hosts(hosts) = node_config else {
        return Err(format!("node {name} has no hosts"));
    };
    let identity = Identity::new(config.secret, name);
    let (Some(number), Some(mac)) = (hosts.number_of(ip), hosts.mac_of(&identity, ip)) else {
        return Err(format!("{ip} is no host of node {name}"));
    };
    let Some((_, template)) = hosts.template_of(&identity, ip) else {
        return Err(format!("{ip} has no template"));
    };
    // A single host has all the addresses of its node; of a population's host no other is known.
    let own: Vec<IpAddr> = match hosts.single {
        true => hosts.ranges.iter().flat_map(AddrRange::addresses).take(MOST_ADDRESSES).collect(),
        false => vec![ip],
    };
    let mut addresses: Vec<(IpAddr, u8)> = Vec::new();
    for address in own {
        let longest = hosts.segment.prefixes.iter().filter(|p| p.contains(&address)).map(|p| p.prefix_len()).max();
        let len = longest.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
        if !addresses.contains(&(address, len)) {
            addresses.push((address, len));
        }
    }
    let hostname = match &hosts.hostname {
        Some(hostname) if hosts.single => hostname.clone(),
        _ if hosts.single => host_label(name),
        _ => numbered_name(name, number),
    };
    let gateways = hosts.segment.gateways.clone();
    Ok(Host { hosts, template, mac, hostname, addresses, gateways, identity, ip: hosts.host_of(ip), rsa: None })
}

impl Host<'_> {
    /// Who is in the middle of its SSH, if somebody is.
    pub fn ssh(&self) -> Option<&SshMiddle> {
        let of_port = |port: &TcpPort| match port {
            TcpPort::Open(service) => match &self.hosts.services.get(usize::from(service.0))?.kind {
                ServiceKind::Recorded(middle) => match &**middle {
                    Middle::Ssh(ssh) => Some(ssh),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        self.template.tcp.values().find_map(of_port)
    }

    /// What its RSA key is made from, if it has one: where nobody is in the middle, its own server shows what it has.
    pub fn rsa_seed(&self) -> Option<RsaSeed> {
        self.ssh()?.rsa(&self.identity, self.ip)
    }

    /// Whether it can have a container that is `attacker`'s, or nobody's.
    ///
    /// # Errors
    /// If its containers are shared, or that is no attacker: no sound switch asks for such.
    pub fn may_grant(&self, attacker: Option<IpAddr>) -> Result<(), String> {
        let each = self.template.backend.as_ref().is_some_and(|backend| backend.grant == Grant::PerAttacker);
        match attacker {
            Some(ip) if !each => Err(format!("{} has one container for all, and none for {ip}", self.ip)),
            Some(ip) if attacker_of(ip) != ip => Err(format!("{ip} stands for no attacker")),
            _ => Ok(()),
        }
    }

    /// The image that its template names, if it is built.
    pub fn image(&self, config: &KeeperConfig) -> Result<Image, String> {
        let Some(backend) = &self.template.backend else {
            return Err(format!("template {} has no container", self.template.name));
        };
        // A built-in image needs no entry in the topology.
        let built_in = ImageConfig::plain(&backend.image);
        let image = config.images.iter().find(|image| image.name == backend.image).unwrap_or(&built_in);
        image::find(&config.state_dir, image).map_err(|error| error.to_string())
    }
}

/// Whether something listens for TCP connections in the network of process `pid`.
pub fn listens(pid: i32) -> bool {
    // The fourth column is the state; 0A is LISTEN.
    let has = |table: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().skip(1).any(|line| line.split_whitespace().nth(3) == Some("0A"))
    };
    has("tcp") || has("tcp6")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::emulate::{Backend, Builtin, Outward, Secret, Splicing, StartPolicy, TcpPort, UdpPort};
    use crate::node::{Limits, MacMode, Segment, UplinkConfig};

    pub fn config() -> KeeperConfig {
        let template = Template {
            name: "server".into(),
            personality: Builtin::Linux.into(),
            oui: [0, 12, 41],
            tcp: BTreeMap::new(),
            tcp_default: TcpPort::Closed,
            udp: BTreeMap::new(),
            udp_default: UdpPort::Closed,
            normalize: Default::default(),
            ping: true,
            backend: Some(Backend {
                image: "small".into(),
                start: StartPolicy::OnAccess,
                grant: Grant::PerHost,
                predefined: false,
                freeze_secs: 20,
                idle_secs: 60,
                destroy_secs: 3600,
                splice: Splicing::Auto,
                limits: Default::default(),
                hardware: Default::default(),
                no_new_privs: false,
            }),
            outward: Outward::Reflect,
            gate: Default::default(),
            cases: vec![],
            talk: Default::default(),
        };
        let range = |first: &str, last: &str| AddrRange { first: first.parse().unwrap(), last: last.parse().unwrap() };
        let population = HostsConfig {
            ranges: vec![range("10.1.0.10", "10.1.0.250")],
            single: false,
            hostname: None,
            mix: vec![(0, 1)],
            templates: vec![template],
            services: vec![],
            mac_mode: MacMode::PerHost,
            mac: None,
            segment: Segment {
                prefixes: vec![
                    "10.0.0.0/8".parse().unwrap(),
                    "10.1.0.0/16".parse().unwrap(),
                    "fd00::/64".parse().unwrap(),
                ],
                gateways: vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            },
            claim: None,
            dhcp: None,
            inside: vec![],
            response_time: crate::node::ResponseTime::None,
            limits: Limits::default(),
        };
        let single = HostsConfig {
            ranges: vec![range("10.1.0.5", "10.1.0.5"), range("fd00::5", "fd00::5")],
            single: true,
            hostname: Some("web-prod-03".into()),
            ..population.clone()
        };
        let uplink = UplinkConfig::new("hwt0");
        KeeperConfig {
            name: "test".into(),
            state_dir: "/nonexistent".into(),
            secret: Secret([9; 16]),
            nodes: vec![
                ("edge".into(), NodeConfig::Uplink(uplink)),
                ("Staff_LAN".into(), NodeConfig::Hosts(population)),
                ("web".into(), NodeConfig::Hosts(single)),
            ],
            scripts: vec![],
            threads: 1,
            images: vec![],
            evidence: Default::default(),
            truncate: None,
            eve: None,
            by_mounts: false,
            logs: false,
        }
    }

    #[test]
    fn finds_what_the_plan_says() {
        let config = config();
        let host = find(&config, NodeIdx(1), "10.1.0.12".parse().unwrap()).unwrap();
        assert_eq!(host.hostname, "staff-lan-03");
        assert_eq!(host.addresses, [("10.1.0.12".parse().unwrap(), 16)]);
        assert_eq!(host.mac.0[..3], [0, 12, 41]);
        let host = find(&config, NodeIdx(2), "fd00::5".parse().unwrap()).unwrap();
        assert_eq!(host.hostname, "web-prod-03");
        assert_eq!(host.addresses, [("10.1.0.5".parse().unwrap(), 16), ("fd00::5".parse().unwrap(), 64)]);
        assert_eq!(host.ip, "10.1.0.5".parse::<IpAddr>().unwrap());
    }

    /// The plan joins addresses that are next to each other.
    #[test]
    fn a_host_with_neighboring_addresses_has_all_of_them() {
        let mut config = config();
        let NodeConfig::Hosts(hosts) = &mut config.nodes[2].1 else { panic!("hosts") };
        hosts.ranges[0].last = "10.1.0.8".parse().unwrap();
        let host = find(&config, NodeIdx(2), "10.1.0.7".parse().unwrap()).unwrap();
        let own: Vec<String> = host.addresses.iter().map(|(address, _)| address.to_string()).collect();
        assert_eq!(own, ["10.1.0.5", "10.1.0.6", "10.1.0.7", "10.1.0.8", "fd00::5"]);
        let NodeConfig::Hosts(hosts) = &mut config.nodes[2].1 else { panic!("hosts") };
        hosts.ranges[1].last = "fd00::ffff:ffff".parse().unwrap();
        assert_eq!(find(&config, NodeIdx(2), "10.1.0.7".parse().unwrap()).unwrap().addresses.len(), 256);
    }

    #[test]
    fn grants_what_the_template_says() {
        let mut config = config();
        let granted = |config: &KeeperConfig, attacker: Option<&str>| {
            let host = find(config, NodeIdx(1), "10.1.0.12".parse().unwrap()).unwrap();
            host.may_grant(attacker.map(|ip| ip.parse().unwrap()))
        };
        assert_eq!(granted(&config, None), Ok(()));
        assert!(granted(&config, Some("192.0.2.1")).unwrap_err().contains("one container for all"));
        let NodeConfig::Hosts(hosts) = &mut config.nodes[1].1 else { panic!("hosts") };
        hosts.templates[0].backend.as_mut().unwrap().grant = Grant::PerAttacker;
        for whose in [None, Some("192.0.2.1"), Some("2001:db8:1:2::")] {
            assert_eq!(granted(&config, whose), Ok(()));
        }
        assert!(granted(&config, Some("2001:db8:1:2::3")).unwrap_err().contains("stands for no attacker"));
    }

    #[test]
    fn refuses_what_it_does_not_say() {
        let config = config();
        for (node, ip, why) in [
            (0, "10.1.0.12", "node edge has no hosts"),
            (1, "10.1.0.9", "10.1.0.9 is no host of node Staff_LAN"),
            (3, "10.1.0.12", "there is no node 3"),
        ] {
            assert_eq!(find(&config, NodeIdx(node), ip.parse().unwrap()).unwrap_err(), why);
        }
        let host = find(&config, NodeIdx(1), "10.1.0.12".parse().unwrap()).unwrap();
        assert!(host.image(&config).unwrap_err().contains("image `small` is not built"));
    }
}
