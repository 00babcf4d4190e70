//! Good topologies mean what they say, and hostile ones do no harm.

use proptest::prelude::*;

use super::tests::good;
use super::*;
use crate::emulate::{Builtin, Outward, Says, StartPolicy, TcpPort, UdpPort};
use crate::frame::PortNo;
use crate::node::{
    AddrRange, BridgeConfig, Guarded, HostsConfig, MacMode, NodeConfig, PortVlan, RouterConfig, UplinkIo,
};
use crate::service::{Service, ServiceKind};

fn node<'a>(plan: &'a Plan, name: &str) -> &'a NodeConfig {
    &plan.nodes.iter().find(|node| node.name == name).unwrap().config
}

fn hosts<'a>(plan: &'a Plan, name: &str) -> &'a HostsConfig {
    match node(plan, name) {
        NodeConfig::Hosts(config) => config,
        other => panic!("{name} is {other:?}"),
    }
}

fn router<'a>(plan: &'a Plan, name: &str) -> &'a RouterConfig {
    match node(plan, name) {
        NodeConfig::Router(config) => config,
        other => panic!("{name} is {other:?}"),
    }
}

fn switch<'a>(plan: &'a Plan, name: &str) -> &'a BridgeConfig {
    match node(plan, name) {
        NodeConfig::Bridge(config) => config,
        other => panic!("{name} is {other:?}"),
    }
}

fn range(first: &str, last: &str) -> AddrRange {
    AddrRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
}

fn strings<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(T::to_string).collect()
}

fn shipped(name: &str) -> Plan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies").join(name);
    load(&path).unwrap_or_else(|mistakes| panic!("{:?}", miette::Report::new(mistakes)))
}

#[test]
fn every_shipped_topology_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies");
    let mut names = Vec::new();
    // Recipes lie beside those that use them.
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let plan = shipped(&name);
        assert_eq!(format!("{}.yaml", plan.name), name);
        names.push(name);
    }
    for expected in ["minimal", "office", "three-routers", "campus", "two-containers", "virtual-machines", "appliances"]
    {
        assert!(names.contains(&format!("{expected}.yaml")), "{expected}");
    }
}

#[test]
fn the_office_is_as_described() {
    let plan = shipped("office.yaml");
    let desktops = hosts(&plan, "desktops");
    assert_eq!(desktops.ranges, [range("10.1.0.0", "10.1.255.255")]);
    assert_eq!(strings(&desktops.segment.prefixes), ["10.0.0.0/14"]);
    assert_eq!(strings(&desktops.segment.gateways), ["10.0.0.1"]);
    assert_eq!(desktops.mix, [(0, 70), (1, 30)]);
    assert_eq!(desktops.templates[0].personality, Builtin::Windows.into());
    assert_eq!(desktops.templates[0].oui, [0xb8, 0xca, 0x3a]);
    // The VLAN of the servers ends at another interface of the router.
    assert_eq!(strings(&hosts(&plan, "intranet").segment.gateways), ["10.10.0.1"]);
    assert_eq!(strings(&hosts(&plan, "printer").segment.gateways), ["10.20.0.1"]);
    // The rest of the wire's prefix belongs to others.
    let inside = strings(&desktops.inside);
    assert!(inside.contains(&"192.0.2.1/32".to_owned()) && inside.contains(&"10.0.0.0/14".to_owned()), "{inside:?}");
    let shells = hosts(&plan, "shells");
    let backend = shells.templates[0].backend.as_ref().unwrap();
    assert_eq!((backend.image.as_str(), backend.start, backend.idle_secs), ("small", StartPolicy::OnAccess, 600));
    assert_eq!(shells.templates[0].outward, Outward::Reflect);
    assert_eq!(shells.services, [Service { name: "shell:22".to_owned(), kind: ServiceKind::Container }]);
    let build = hosts(&plan, "build");
    assert!(build.single);
    assert_eq!(build.hostname.as_deref(), Some("build01"));
    assert_eq!(plan.images.len(), 2);
    assert_eq!(plan.images[0].users[1].name, "admin");
}

#[test]
fn the_chain_has_its_latencies() {
    let plan = shipped("three-routers.yaml");
    let delays: Vec<u32> = plan.links.iter().map(|link| link.config.delay_us).collect();
    assert_eq!(delays, [0, 5_000, 10_000, 20_000]);
    let lan = hosts(&plan, "lan");
    assert_eq!(strings(&lan.segment.prefixes), ["10.3.0.0/24", "fd00:3::/64"]);
    assert_eq!(strings(&lan.segment.gateways), ["10.3.0.1", "fd00:3::1"]);
    assert_eq!(router(&plan, "r2").routes[0].to.to_string(), "0.0.0.0/0");
    assert_eq!(router(&plan, "r2").routes[2].to.to_string(), "::/0");
}

#[test]
fn a_slash_8_is_one_range() {
    let plan = shipped("campus.yaml");
    let campus = hosts(&plan, "campus");
    assert_eq!(campus.ranges, [range("10.0.0.0", "10.255.255.255")]);
    assert_eq!(plan.nodes.iter().map(PlanNode::host_count).sum::<u64>(), 1 << 24);
}

#[test]
fn values_resolve_node_template_kind_defaults() {
    let plan = good(
        r#"
defaults: {personality: linux, vendor: dell, ping: false, tcp: {22: open, 23: tarpit}, udp_default: filtered}
kinds:
  host: {vendor: hp, tcp: {23: closed, 8000-8010: open}, template: plain}
templates:
  plain: {tcp_default: filtered, tcp: {8005: filtered}}
  windows: {personality: windows, vendor: apple}
nodes:
  a: {kind: host, address: 10.0.0.1}
  b: {kind: host, address: 10.0.0.1, vendor: "00:0c:29", ping: true, tcp: {22: closed, 8000-8002: tarpit}}
  c: {kind: host, address: 10.0.0.1, template: windows}
  d: {kind: hosts, addresses: 10.0.0.1}
"#,
    );
    let a = &hosts(&plan, "a").templates[0];
    assert_eq!((a.name.as_str(), a.oui, a.ping), ("plain", [0x3c, 0xd9, 0x2b], false));
    assert_eq!((a.tcp_default, a.udp_default), (TcpPort::Filtered, UdpPort::Filtered));
    assert_eq!((a.tcp[&23], a.tcp[&8005]), (TcpPort::Closed, TcpPort::Filtered));
    assert!(matches!(a.tcp[&22], TcpPort::Open(_)) && matches!(a.tcp[&8010], TcpPort::Open(_)));
    assert!(!a.tcp.contains_key(&8011));
    let b = &hosts(&plan, "b").templates[0];
    assert_eq!((b.oui, b.ping), ([0, 0x0c, 0x29], true));
    assert_eq!((b.tcp[&22], b.tcp[&8002]), (TcpPort::Closed, TcpPort::Tarpit));
    assert!(matches!(b.tcp[&8003], TcpPort::Open(_)));
    let c = &hosts(&plan, "c").templates[0];
    assert_eq!((c.personality, c.oui, c.tcp_default), (Builtin::Windows.into(), [0, 3, 0x93], TcpPort::Closed));
    let d = &hosts(&plan, "d").templates[0];
    assert_eq!((d.name.as_str(), d.oui, d.tcp[&23]), ("d", [0xb8, 0xca, 0x3a], TcpPort::Tarpit));
}

#[test]
fn services_of_every_kind() {
    let plan = good(
        r#"
nodes:
  h:
    kind: host
    address: 10.0.0.1
    outward: drop
    tcp:
      21: {banner: "220 ready\r\n", close_after: 5s}
      22: container
      25: filtered
      80: {http: {server: nginx/1.22.1, pages: {/: "<html>", /style.css: {body: "a{}"}, /x: {body: y, type: text/plain}}}}
      8080: {proxy: "10.9.9.9:80", allow_production: true, connect_timeout: 2s}
      8081: {proxy: "127.0.0.1:80"}
      8082: {proxy: "10.0.0.1:80"}
      9000: {script: [/usr/bin/prog, arg, 5], timeout: 30s, max: 4}
      9001: {script: [/usr/bin/prog, arg, 5], timeout: 30s, max: 4}
    udp: {53: open, 123: {reply: "x"}, 161: filtered}
    backend: {image: debian, start: with-system, idle: 0}
"#,
    );
    let host = hosts(&plan, "h");
    let template = &host.templates[0];
    let kind = |port: u16| match template.tcp[&port] {
        TcpPort::Open(service) => &host.services[usize::from(service.0)].kind,
        other => panic!("{port} is {other:?}"),
    };
    assert_eq!(*kind(21), ServiceKind::Banner { banner: b"220 ready\r\n".to_vec(), close_after_secs: 5 });
    assert_eq!(*kind(22), ServiceKind::Container);
    assert_eq!(template.tcp[&25], TcpPort::Filtered);
    let ServiceKind::Http(site) = kind(80) else { panic!() };
    assert_eq!((site.server.as_str(), site.pages.len()), ("nginx/1.22.1", 3));
    assert_eq!(site.pages["/"].content_type, "text/html; charset=utf-8");
    assert_eq!(site.pages["/style.css"].content_type, "text/css");
    assert_eq!((site.pages["/x"].content_type.as_str(), &site.pages["/x"].body[..]), ("text/plain", &b"y"[..]));
    assert_eq!((kind(8080), kind(8081)), (&ServiceKind::Proxy(0), &ServiceKind::Proxy(1)));
    assert_eq!(plan.proxies[0].connect_timeout_ms, 2000);
    assert_eq!((kind(9000), kind(9001)), (&ServiceKind::Script(0), &ServiceKind::Script(0)));
    assert_eq!(plan.scripts[0].command, ["/usr/bin/prog", "arg", "5"]);
    assert_eq!((plan.scripts[0].timeout_secs, plan.scripts[0].max_running), (30, 4));
    assert_eq!((template.udp[&53], template.udp[&161]), (UdpPort::Open(None), UdpPort::Filtered));
    assert!(matches!(template.udp[&123], UdpPort::Open(Some(_))));
    assert_eq!(template.outward, Outward::Drop);
    assert_eq!(plan.images[0].recipe, "debian");
}

#[test]
fn devices_and_links() {
    let plan = good(
        r#"
nodes:
  wan: {kind: uplink, interface: eth0, allow: [bpdu, discovery], mac_limit: 10, rate: 100mbit, ring: 16384}
  s:
    kind: switch
    ports: {3: {access: 10}, 5-6: {trunk: [20-22, 10], native: 1}, up: {access: 20}}
    fdb_capacity: 1000
    aging: 30s
  r:
    kind: router
    vendor: juniper
    interfaces:
      lan: [10.0.0.1/24, "fd00::1/64"]
      dmz: {addresses: 10.1.0.1/24, mac: "00:0c:29:aa:00:11", mtu: 9000}
    routes: [{to: default, via: 10.0.0.2}]
  h: {kind: hosts, addresses: [10.1.0.0/24, 10.1.0.7], except: [10.1.0.1, 10.1.0.7], mac: shared, limits: {flows: 9, session_idle: 1m}}
links:
  - {endpoints: [wan, "s:up"], delay: 10ms, jitter: 2ms, loss: 1%, rate: 8mbit, queue: 5}
  - endpoints: ["r:dmz", "h:eth0"]
"#
        .replace("[10.1.0.0/24, 10.1.0.7]", "10.1.0.0/24")
        .as_str(),
    );
    let NodeConfig::Uplink(uplink) = node(&plan, "wan") else { panic!() };
    assert_eq!((uplink.interface.as_str(), uplink.mac_limit, uplink.rate_bytes), ("eth0", 10, 12_500_000));
    assert_eq!(uplink.allow, [Guarded::Bpdu, Guarded::Discovery]);
    assert_eq!(uplink.ring, 16_384);
    let s = switch(&plan, "s");
    assert_eq!((s.fdb_capacity, s.aging_secs, s.ports.len()), (1000, 30, 7));
    assert_eq!((s.ports[0].name.as_str(), &s.ports[0].vlan), ("1", &PortVlan::Access(1)));
    assert_eq!(s.ports[2].vlan, PortVlan::Access(10));
    assert_eq!(s.ports[5].vlan, PortVlan::Trunk { native: Some(1), allowed: vec![10, 20, 21, 22] });
    assert_eq!((s.ports[6].name.as_str(), &s.ports[6].vlan), ("up", &PortVlan::Access(20)));
    let r = router(&plan, "r");
    assert_eq!((r.oui, r.interfaces[1].mtu), ([0, 5, 0x85], 9000));
    assert_eq!(r.interfaces[1].mac.unwrap().to_string(), "00:0c:29:aa:00:11");
    let h = hosts(&plan, "h");
    // Neither network nor broadcast address, nor what is left out.
    assert_eq!(h.ranges, [range("10.1.0.2", "10.1.0.6"), range("10.1.0.8", "10.1.0.254")]);
    assert_eq!((h.mac_mode, h.limits.flows, h.limits.session_idle_secs), (MacMode::Shared, 9, 60));
    assert_eq!(h.limits.sessions, crate::node::Limits::default().sessions);
    let link = &plan.links[0];
    assert_eq!((link.a, link.b), ((NodeIdx(0), PortNo(0)), (NodeIdx(1), PortNo(6))));
    assert_eq!((link.config.delay_us, link.config.jitter_us, link.config.queue), (10_000, 2_000, 5));
    assert_eq!((link.config.loss, link.config.rate_bytes), (0.01, 1_000_000));
    assert_eq!((plan.links[1].a.1, plan.links[1].b.1), (PortNo(1), PortNo(0)));
}

#[test]
fn segments_without_a_router() {
    let plan = good("nodes:\n  h: {kind: hosts, addresses: 10.1.0.0/16}");
    let h = hosts(&plan, "h");
    assert_eq!(h.ranges, [range("10.1.0.0", "10.1.255.255")]);
    assert_eq!(strings(&h.segment.prefixes), ["10.0.0.0/14"]);
    assert!(h.segment.gateways.is_empty());
    assert_eq!(strings(&h.inside), ["10.1.0.0/16"]);
    let plan = good("nodes:\n  h: {kind: hosts, addresses: 10.1.0.20-10.1.0.30, gateway: 10.1.1.254}");
    assert_eq!(strings(&hosts(&plan, "h").segment.prefixes), ["10.1.0.0/23"]);
    assert_eq!(strings(&hosts(&plan, "h").segment.gateways), ["10.1.1.254"]);
    let plan =
        good("nodes:\n  h: {kind: host, address: [10.1.0.20, \"fd00::5\"], prefix: [10.0.0.0/8, \"fd00::/64\"]}");
    assert_eq!(strings(&hosts(&plan, "h").segment.prefixes), ["10.0.0.0/8", "fd00::/64"]);
    assert_eq!(hosts(&plan, "h").ranges.len(), 2);
}

#[test]
fn taps() {
    let plan = shipped("virtual-machines.yaml");
    let tap = |plan: &Plan, name: &str| match node(plan, name) {
        NodeConfig::Tap(tap) => (tap.interface.clone(), tap.capture),
        other => panic!("{name} is {other:?}"),
    };
    assert_eq!((tap(&plan, "vm1"), tap(&plan, "vm2")), (("hw-vm1".into(), true), ("hw-vm2".into(), true)));
    assert_eq!(graph_json(&plan)["nodes"][3], serde_json::json!({"name": "vm1", "kind": "tap", "interface": "hw-vm1"}));
    // What may be attached is inside, but on a real wire the rest of the prefix belongs to others.
    let text = "
kinds: {tap: {capture: false}}
nodes:
  vm: {kind: tap, interface: hw-vm}
  s: {kind: switch}
  h: {kind: host, address: 10.1.0.20}
  w: {kind: uplink}
links:
  - endpoints: [vm, 's:1']
  - endpoints: ['h', 's:2']
";
    let plan = good(text);
    assert_eq!(tap(&plan, "vm"), ("hw-vm".into(), false));
    assert_eq!(strings(&hosts(&plan, "h").inside), ["10.1.0.0/24"]);
    let plan = good(&format!("{text}  - endpoints: [w, 's:3']\n"));
    assert_eq!(strings(&hosts(&plan, "h").inside), ["10.1.0.20/32"]);
}

#[test]
fn the_uplink_option_names_the_interface() {
    let options = Options { uplink: Some("veth7".to_owned()), ..Options::default() };
    let one = "nodes:\n  w: {kind: uplink, interface: eth0}";
    let plan = parse_with("t", one, &options).unwrap();
    let NodeConfig::Uplink(uplink) = node(&plan, "w") else { panic!() };
    assert_eq!(uplink.interface, "veth7");
    let none = parse_with("t", "nodes:\n  s: {kind: tap, interface: hw-a}", &options).unwrap_err();
    assert!(none.to_string().contains("no uplink to put on `veth7`"), "{none}");
    let two = parse_with("t", "nodes:\n  w: {kind: uplink}\n  v: {kind: uplink}", &options).unwrap_err();
    assert!(two.to_string().contains("ambiguous"), "{two}");
}

#[test]
fn an_uplink_knows_how_it_receives_and_whether_tags_pass() {
    let receives = |wan: &str, rest: &str| {
        let text = format!("nodes:\n  wan: {{kind: uplink, interface: eth0{wan}}}\n{rest}");
        match node(&good(&text), "wan") {
            NodeConfig::Uplink(uplink) => (uplink.io, uplink.tagged),
            other => panic!("{other:?}"),
        }
    };
    let switch = |port: &str| {
        format!("  s: {{kind: switch, ports: {{up: {port}, lan: {{}}}}}}\nlinks:\n  - endpoints: [wan, \"s:up\"]")
    };
    assert_eq!(receives("", ""), (UplinkIo::Auto, false));
    assert_eq!(receives(", io: auto", &switch("{access: 7}")), (UplinkIo::Auto, false));
    assert_eq!(receives(", io: packet", &switch("{trunk: [7, 8]}")), (UplinkIo::Packet, true));
    assert_eq!(receives(", io: xdp", &switch("{trunk: [7], native: 7}")), (UplinkIo::Xdp, false));
    let other = "  v: {kind: uplink, interface: eth1, transit: true}\nlinks: [{endpoints: [v, wan]}]";
    assert_eq!(receives(", transit: true", other), (UplinkIo::Auto, true));
}

#[test]
fn files_are_read_with_care() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("My LAN.yaml");
    std::fs::write(folder.path().join("index.html"), "<b>").unwrap();
    let page = "nodes:\n  h: {kind: host, address: 10.0.0.1, tcp: {80: {http: {pages: {/: {file: index.html}}}}}}";
    std::fs::write(&path, format!("\u{feff}{page}\n  w: {{kind: uplink, interface: nix0}}")).unwrap();
    let loaded = open(&path, &Options::default()).unwrap();
    assert_eq!(loaded.plan.name, "my-lan");
    let ServiceKind::Http(site) = &hosts(&loaded.plan, "h").services[0].kind else { panic!() };
    assert_eq!(site.pages["/"].body, b"<b>");
    let missing = loaded.interface_error(NodeIdx(1), "there is no interface `nix0`", "see `ip link`");
    assert_eq!((missing.errors[0].line, missing.errors[0].column), (3, 32));

    std::fs::write(&path, b"name: a\nnodes: \xff\n").unwrap();
    let utf8 = load(&path).unwrap_err();
    assert!(utf8.errors[0].message.contains("not UTF-8"));
    assert_eq!((utf8.errors[0].line, utf8.errors[0].column), (2, 8));

    // Sparse: a hundred megabytes that are refused before a byte of them is read.
    std::fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    assert!(load(&path).unwrap_err().errors[0].message.contains("too large"));
    assert!(
        load(&folder.path().join("none.yaml")).unwrap_err().errors[0].help.as_ref().unwrap().contains("topologies/")
    );
    assert!(load(folder.path()).is_err());
    // A device has no length; the limit holds all the same.
    assert!(load(Path::new("/dev/zero")).unwrap_err().errors[0].message.contains("too large"));
}

#[test]
fn bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
    }
    assert!(parse("t", &bomb).is_err());
    let mut bomb = String::from("nodes:\n  h:\n    kind: hosts\n    addresses: &a [10.0.0.1]\n    except: &b [");
    bomb += &"*a, ".repeat(5000);
    assert!(parse("t", &(bomb + "]\n")).is_err());
    // Merge keys that multiply.
    let mut bomb = String::from("templates:\n  t0: &t0 {tcp: {1-60000: open}}\n");
    for level in 1..30 {
        bomb += &format!("  t{level}: {{<<: *t0}}\n");
    }
    bomb += "nodes:\n";
    for level in 0..30 {
        bomb += &format!("  h{level}: {{kind: host, address: 10.0.0.1, template: t{level}}}\n");
    }
    let refused = parse("t", &bomb).unwrap_err();
    assert!(refused.errors.iter().any(|error| error.message.contains("port ranges")), "{refused}");
    for deep in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(parse("t", &format!("nodes: {deep}")).is_err());
        assert!(parse("t", &deep).is_err());
    }
    let recursive = parse("t", "nodes: &n\n  a: *n\n").unwrap_err();
    assert_eq!(recursive.errors.len(), 1);
}

#[test]
fn talk_is_a_list_or_the_systems_own() {
    let plan = good(
        r#"
defaults: {talk: auto}
templates:
  phone: {personality: android, talk: [arp, mdns]}
nodes:
  a: {kind: host, address: 10.0.0.1, personality: windows}
  b: {kind: host, address: 10.0.0.1, template: phone}
  c: {kind: hosts, addresses: 10.0.0.0/24, talk: none, limits: {talkers: 9}}
  d: {kind: host, address: 10.0.0.1, talk: ssdp}
"#,
    );
    let talk = |name| hosts(&plan, name).templates[0].talk;
    assert_eq!(talk("a"), Builtin::Windows.get().talk.says);
    assert_eq!(talk("b"), Says::ARP.and(Says::MDNS));
    assert_eq!((talk("c"), talk("d")), (Says::NONE, Says::SSDP));
    assert_eq!(hosts(&plan, "c").limits.talkers, 9);
    assert_eq!(hosts(&plan, "c").hostname.as_deref(), Some("c"));
}

#[test]
fn every_documented_key_is_in_the_schema() {
    let schema = schema().to_string();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/topology.md")).unwrap();
    let mut keys = 0;
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let key = line.trim_start_matches("| `").split('`').next().unwrap();
        assert!(schema.contains(&format!("\"{key}\":")) || schema.contains(&format!("\"{key}\"")), "{key}");
        keys += 1;
    }
    assert!(keys > 60, "{keys}");
    // And the reverse: nothing that may be written is undocumented.
    let schema = super::schema();
    let mut objects: Vec<&serde_json::Value> = schema["$defs"].as_object().unwrap().values().collect();
    objects.push(&schema);
    for (key, value) in objects.iter().filter_map(|object| object["properties"].as_object()).flatten() {
        assert!(page.contains(&format!("| `{key}`")), "`{key}` is not in docs/topology.md");
        assert!(value["description"].as_str().is_some_and(|text| !text.is_empty()), "{key} has no description");
    }
}

#[test]
fn the_documented_example_is_sound() {
    let page = include_str!("../../docs/topology.md");
    let example = page.split("```").find_map(|block| block.strip_prefix("yaml\nname:")).unwrap();
    let plan = good(&format!("name:{example}"));
    assert_eq!(plan.name, "branch");
    // Network and broadcast address go by themselves, two others by `except`.
    assert_eq!(plan.nodes.iter().find(|node| node.name == "desktops").unwrap().host_count(), 65_532);
}

#[test]
fn drawings_show_every_node_and_link() {
    let plan = shipped("three-routers.yaml");
    insta::assert_snapshot!("mermaid", mermaid(&plan));
    insta::assert_snapshot!("dot", dot(&plan));
    let json = graph_json(&plan);
    assert_eq!(json["nodes"].as_array().unwrap().len(), 5);
    assert_eq!(json["links"][1]["a"], serde_json::json!({ "node": "r1", "port": "east" }));
    assert_eq!(json["nodes"][4]["count"], 481);
}

const SEEDS: [&str; 3] = [
    include_str!("../../topologies/office.yaml"),
    include_str!("../../topologies/three-routers.yaml"),
    include_str!("../../topologies/minimal.yaml"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever becomes of a topology's text, there is a plan or a message, and every message has its place in the text.
    #[test]
    fn mutations_never_panic(
        seed in 0usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, any::<prop::sample::Index>(), 0usize..40), 1..6),
    ) {
        let snippets = ["", " ", "\n", ":", "[", "}", "&a ", "*a", "0", "é", "10.0.0.0/8", "~"];
        let mut text: Vec<char> = SEEDS[seed].chars().collect();
        for (at, snippet, from, length) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + length / 8).min(text.len());
            let from = from.index(text.len() + 1);
            let moved: Vec<char> = text[from..(from + length).min(text.len())].to_vec();
            let new: Vec<char> = if length % 2 == 0 { moved } else { snippets[snippet].chars().collect() };
            text.splice(at..end, new);
        }
        let text: String = text.into_iter().collect();
        if let Err(mistakes) = parse("t", &text) {
            let lines = text.lines().count();
            for error in &mistakes.errors {
                prop_assert!(error.line <= lines + 1, "{error:?}");
                prop_assert!(!error.message.is_empty());
            }
            let rendered = format!("{:?}", miette::Report::new(mistakes));
            prop_assert!(!rendered.is_empty());
        }
    }

    /// The same for lines in another order, which keeps more of the structure.
    #[test]
    fn shuffled_lines_never_panic(seed in 0usize..3, swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8)) {
        let mut lines: Vec<&str> = SEEDS[seed].lines().collect();
        for (a, b) in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        let _ = parse("t", &lines.join("\n")).map_err(|mistakes| mistakes.to_string());
    }
}
