//! The rest of the world, as a container meets it whose template reflects: every address has a host, some hops away, that
//! speaks the protocol of the port that it is asked at, so that a worm shows its next stage. Names lead to such addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{Cx, HostsConfig};
use super::{Hosts, Target};
use crate::emulate::reply::{self, IcmpError, Voice};
use crate::emulate::{Builtin, Identity, Outward, ServiceId, TcpPort, Template, UdpPort};
use crate::event::DropReason;
use crate::frame::Frame;
use crate::service::tls::{Credentials, Leaf, Name, Secured};
use crate::service::{HttpSite, Names, Page, Profile, Protocol, Service, ServiceKind};
use crate::wire::Packet;

/// What a web server shows that nobody has set up.
const PAGE: &str = "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n</head>\n<body>\n\
    <h1>Welcome to nginx!</h1>\n<p>If you see this page, the nginx web server is successfully installed and\n\
    working. Further configuration is required.</p>\n</body>\n</html>\n";

/// The template of hosts elsewhere, and the services that it names, which stand behind those of `config`.
pub(super) fn world(config: &HostsConfig, identity: &Identity) -> (Template, Vec<Service>) {
    let page = Page { content_type: "text/html".to_owned(), body: PAGE.into() };
    let pages = BTreeMap::from([("/".to_owned(), page)]);
    let http = ServiceKind::Http(HttpSite { server: "nginx/1.22.1".to_owned(), pages, ..HttpSite::default() });
    let library = |protocol| ServiceKind::Library(Box::new(Profile::new(protocol, None)));
    let tls = |inner: &ServiceKind| {
        let subject = Name { common_name: "{address}".to_owned(), ..Name::default() };
        let credentials = Credentials::Own(Box::new(Leaf { subject, ..Leaf::default() }));
        let inner = Service { name: "elsewhere".to_owned(), kind: inner.clone() };
        ServiceKind::Tls(Box::new(Secured { credentials, inner }))
    };
    let names = ServiceKind::Names(Box::new(Names {
        key: identity.names(),
        not: config.inside.iter().chain(&config.segment.prefixes).copied().collect(),
        v6: config.segment.gateways.iter().any(IpAddr::is_ipv6),
    }));
    let (smtp, irc) = (library(Protocol::Smtp), library(Protocol::Irc));
    let kinds: [(&[u16], &[u16], ServiceKind); 10] = [
        (&[443, 8443], &[], tls(&http)),
        (&[80, 8000, 8080], &[], http),
        (&[22], &[], library(Protocol::Ssh)),
        (&[23, 2323], &[], library(Protocol::Telnet)),
        (&[465], &[], tls(&smtp)),
        (&[25, 587], &[], smtp),
        (&[53], &[53], names),
        (&[], &[123], library(Protocol::Ntp)),
        (&[6697], &[], tls(&irc)),
        (&[6667], &[], irc),
    ];
    let (mut tcp, mut udp, mut services) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    let mut add = |kind: ServiceKind| {
        services.push(Service { name: "elsewhere".to_owned(), kind });
        ServiceId((config.services.len() + services.len() - 1) as u16)
    };
    let sink = add(ServiceKind::Sink);
    for (tcp_ports, udp_ports, kind) in kinds {
        let id = add(kind);
        tcp.extend(tcp_ports.iter().map(|port| (*port, TcpPort::Open(id))));
        udp.extend(udp_ports.iter().map(|port| (*port, UdpPort::Open(Some(id)))));
    }
    // Where traceroute sends its probes, hosts say that they have come to the end.
    udp.extend((33_434..=33_534).map(|port| (port, UdpPort::Closed)));
    let template = Template {
        name: "elsewhere".into(),
        personality: Builtin::Linux.into(),
        oui: [0, 0, 0],
        tcp,
        tcp_default: TcpPort::Open(sink),
        udp,
        udp_default: UdpPort::Filtered,
        normalize: Default::default(),
        ping: true,
        backend: None,
        outward: Outward::Reflect,
        gate: Default::default(),
        cases: vec![],
        talk: Default::default(),
    };
    (template, services)
}

/// The routers between a container and an address elsewhere: 6 to 14, the same for a whole network.
pub(super) fn hops_to(ip: IpAddr) -> u8 {
    let network = match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 16),
        IpAddr::V6(ip) => (ip.to_bits() >> 80) as u64,
    };
    6 + (network % 9) as u8
}

impl Hosts {
    /// Answers a packet whose TTL does not reach to `target` as the router does at which it ends (RFC 1812 §5.3.1).
    pub(super) fn expire(&mut self, mut frame: Frame, packet: &Packet, target: &Target, cx: &mut Cx<'_>) {
        let away = packet.ttl.max(1) - 1;
        let gateway = self.config.segment.gateways.iter().find(|gateway| gateway.is_ipv4() == packet.is_v4());
        let router = match gateway {
            Some(gateway) if away == 0 => *gateway,
            _ => self.router_at(packet.dst(), away),
        };
        let ip_id = cx.rng.next_u32() as u16;
        let voice = Voice { mac: target.mac, personality: Builtin::CiscoIos.get(), ip_id, hops: away, flow_label: 0 };
        let complains = !packet.fragment && reply::may_complain(frame.bytes(), packet);
        if complains && reply::icmp_error(&mut frame, packet, IcmpError::TimeExceeded, router, &voice) {
            cx.counters.discard(DropReason::TtlExceeded);
            return self.reply(frame, cx);
        }
        cx.discard(frame, DropReason::TtlExceeded);
    }

    /// The router so many hops away on the way to `ip`: near ones are everybody's, far ones those of a network.
    fn router_at(&self, ip: IpAddr, away: u8) -> IpAddr {
        let way = if away < 4 { 0 } else { u64::from(hops_to(ip)) };
        let word = self.identity.names().derive(0, &[u64::from(away), way]);
        match ip {
            // Networks of carriers.
            IpAddr::V4(_) => {
                let [a, b, c, ..] = word.to_be_bytes();
                let first = [62, 80, 129, 195][usize::from(a & 3)];
                IpAddr::V4(Ipv4Addr::new(first, b, c, (word as u8).clamp(1, 254)))
            }
            IpAddr::V6(_) => {
                let [a, b] = [word as u16, (word >> 16) as u16];
                IpAddr::V6(Ipv6Addr::new(0x2001, 0x0600 | a & 0xff, b, 0, 0, 0, 0, (word >> 32) as u16 & 0xff | 1))
            }
        }
    }
}
