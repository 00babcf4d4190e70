//! Configurations of Honeyd, construct by construct.

use crate::topology::Plan;
use crate::topology::import::{Imported, Settings, honeyd, is_builtin};
use crate::topology::tests::good;

/// A configuration as somebody might have it.
pub const BRANCH: &str = include_str!("branch.conf");

fn import(text: &str) -> (Imported, Plan) {
    let settings = Settings { name: "honeyd.conf", known: &is_builtin };
    let imported = honeyd(text.as_bytes(), settings).unwrap_or_else(|error| panic!("{error}: {text}"));
    let plan = good(&imported.yaml);
    (imported, plan)
}

/// What comes of `text` has `wanted` in it, and there is one warning for each of `warnings`: its line and a part of it.
fn becomes(text: &str, wanted: &[&str], warnings: &[(usize, &str)]) {
    let (imported, _) = import(text);
    for part in wanted {
        assert!(imported.yaml.contains(part), "no `{part}`:\n{}", imported.yaml);
    }
    let found: Vec<String> = imported.warnings.iter().map(|w| format!("{}: {}", w.line, w.text)).collect();
    assert_eq!(found.len(), warnings.len(), "{text}\n{found:#?}");
    for (line, part) in warnings {
        let said = imported.warnings.iter().any(|w| w.line == *line && w.text.contains(part));
        assert!(said, "no `{part}` in line {line}: {found:#?}");
    }
}

#[test]
fn templates_and_their_answers() {
    becomes(
        "create web\nset web personality \"Linux 2.6.8\"\nset web default tcp action block\nset web default udp action reset\n\
         set web default icmp action block\nadd web tcp port 80 open\nadd web tcp port 81 reset\nadd web tcp port 82 tarpit open\n\
         add web udp port 53 open\nadd web udp port 69 block\nbind 10.0.0.5 web\n",
        &[
            "  web:\n    personality: linux # Linux 2.6.8\n    ping: false\n    tcp_default: filtered\n",
            "      80: open\n      81: closed\n      82: tarpit\n",
            "    udp:\n      53: open\n      69: filtered\n",
            "h-10-0-0-5: {kind: host, address: \"10.0.0.5\", template: web}",
            "endpoints: [\"wan\", \"h-10-0-0-5\"]",
        ],
        &[],
    );
    becomes(
        "create a\nset a default tcp action open\nset a default udp action open\nadd a tcp port 22 block\nbind 10.0.0.5 a\n",
        &["    tcp:\n      1-65535: open\n      22: filtered\n", "    udp:\n      1-65535: open\n"],
        &[],
    );
    becomes("create a\nset a default tcp action tarpit open\nbind 10.0.0.5 a\n", &["1-65535: tarpit"], &[]);
}

#[test]
fn scripts_and_proxies() {
    becomes(
        "create a\nadd a tcp port 21 \"/usr/share/honeyd/ftp.sh --log x\"\nadd a tcp port 25 \"sh smtp.sh $ipsrc\"\n\
         add a udp port 161 \"perl snmp.pl\"\nadd a tcp port 22 proxy 127.0.0.1:2222\nadd a tcp port 23 proxy 198.51.100.7:23\n\
         add a tcp port 24 proxy $ipsrc:24\nadd a tcp port 26 tarpit \"/bin/cat\"\nadd a tcp port 27 internal \"x.py\"\nbind 10.0.0.5 a\n",
        &[
            "21: {script: [\"/usr/share/honeyd/ftp.sh\", \"--log\", \"x\"]}",
            "22: {proxy: \"127.0.0.1:2222\"}",
            "23: open # {proxy: \"198.51.100.7:23\", allow_production: true}\n",
            "24: open",
            "25: {script: [\"/bin/sh\", \"-c\", \"sh smtp.sh $ipsrc\"]}",
            "26: {script: [\"/bin/cat\"]}",
            "161: open",
        ],
        &[
            (3, "HONEYWEAVE_PEER"),
            (4, "scripts answer TCP only"),
            (6, "198.51.100.7:23, outside of the honeynet; if that is meant"),
            (7, "`$ipsrc`"),
            (8, "`tarpit` is left out"),
            (9, "inside of Honeyd"),
        ],
    );
}

#[test]
fn clones_and_bindings_are_as_they_were_at_that_line() {
    becomes(
        "create a\nadd a tcp port 22 open\nclone b a\nadd b tcp port 23 open\nbind 10.0.0.1 a\nbind 10.0.0.2 b\nbind 10.0.0.3 a\n\
         add a tcp port 99 open\nadd 10.0.0.3 tcp port 88 open\ndelete b tcp port 23\ndelete 10.0.0.2\nbind 10.0.0.4 b\n",
        // What 10.0.0.1 was bound to is by now what `b` says.
        &[
            "  b:\n    personality: linux\n    tcp:\n      22: open\n",
            "address: \"10.0.0.1\", template: b}",
            "address: \"10.0.0.4\", template: b}",
            "  a-2:\n    personality: linux\n    tcp:\n      22: open\n      88: open\n",
        ],
        &[],
    );
    let (imported, _) = import("create a\nbind 10.0.0.1 a\nset 10.0.0.1 personality \"Windows XP\"\nbind 10.0.0.2 a\n");
    assert!(imported.yaml.contains("personality: windows # Windows XP"), "{}", imported.yaml);
    assert!(imported.yaml.contains("personality: linux\n"), "{}", imported.yaml);
    let (imported, _) = import("create a\nbind 10.0.0.1 a\ndelete a\n");
    assert!(imported.yaml.contains("10.0.0.1"), "a host keeps its template: {}", imported.yaml);
}

#[test]
fn personalities_by_words_or_by_their_exact_name() {
    for (name, ours) in [
        ("Microsoft Windows XP Professional SP1", "windows"),
        ("Cisco 7206 running IOS 12.1(14)", "cisco-ios"),
        ("Linux kernel 2.4.20", "linux"),
    ] {
        becomes(
            &format!("create a\nset a personality \"{name}\"\nbind 10.0.0.1 a\n"),
            &[&format!("personality: {ours} # {name}")],
            &[],
        );
    }
    becomes(
        "create a\nset a personality \"AmigaOS 3.9\"\nbind 10.0.0.1 a\n",
        &["personality: linux # AmigaOS 3.9"],
        &[(2, "no personality like `AmigaOS 3.9`")],
    );
    let known = |name: &str| name.starts_with("Linux 2");
    let settings = Settings { name: "x", known: &known };
    let mut warnings = crate::topology::import::Warnings::default();
    let text = "create a\nset a personality \"Linux 2.6: new\"\nbind 10.0.0.1 a\n";
    let draft = super::read(text, settings, &mut warnings).unwrap();
    let yaml = crate::topology::import::emit::emit(draft, &mut warnings);
    assert!(yaml.contains("    personality: \"Linux 2.6: new\"\n"), "{yaml}");
}

#[test]
fn macs_vendors_and_loss() {
    becomes(
        "create a\nset a ethernet \"00:0C:29:01:02:03\"\nset a droprate in 0.5\nbind 10.0.0.1 a\nbind 10.0.0.2 a\n",
        &[
            "vendor: \"00:0c:29\"",
            "address: \"10.0.0.1\", template: a, mac: \"00:0c:29:01:02:03\"",
            "address: \"10.0.0.2\", template: a}",
            "    loss: 0.5%",
        ],
        &[(5, "only the first host")],
    );
    becomes("create a\nset a ethernet \"Dell computer\"\nbind 10.0.0.1 a\n", &["vendor: dell"], &[]);
    becomes("create a\nset a ethernet \"3com\"\nbind 10.0.0.1 a\n", &[], &[(2, "`3com` is not known")]);
}

#[test]
fn what_has_no_counterpart_is_said_with_its_line() {
    becomes(
        "create a\nset a uptime 1728650\nset a uid 32767 gid 32767\nset a maxfds 35\nadd a subsystem \"/usr/bin/smtpd\" shared\n\
         annotate \"AIX 4.0\" fragment old\noption a b c\ninclude \"other.conf\"\nbind 10.0.0.1 a\nbind to eth0\nbind eth1 a dhcp\n\
         dhcp a on eth0\nbind 10.0.0.9 to eth3\nbind 10.0.0.8 nobody\nnonsense here\nset a color red\nroute 10.0.0.1 tunnel 1.1.1.1 2.2.2.2\n",
        &["10.0.0.1"],
        &[
            (2, "`uptime`"),
            (3, "`uid`"),
            (4, "`maxfds`"),
            (5, "subsystem"),
            (6, "annotation"),
            (7, "option"),
            (8, "included file"),
            (10, "interface"),
            (11, "DHCP"),
            (12, "DHCP"),
            (13, "kind: tap"),
            (14, "no template `nobody`"),
            (15, "`nonsense here` is not understood"),
            (16, "`set a color red`"),
            (17, "tunnels"),
        ],
    );
}

#[test]
fn dynamic_templates_have_cases() {
    let text = "create w\nset w personality \"Windows 2000\"\ncreate l\nadd l tcp port 22 open\ndynamic magic\n\
                add magic use w if source os = \"windows\"\nadd magic use l if source ip = 10.9.0.0/16\n\
                add magic use w if time between 12:00am - 5:00pm\nadd magic use w if source os = \"BeOS\"\n\
                add magic otherwise use l\nbind 10.0.0.1 magic\n";
    becomes(
        text,
        &[
            "  magic:\n    personality: linux\n    tcp:\n      22: open\n    when:\n      - {os: windows, template: w}\n      \
             - {from: \"10.9.0.0/16\", template: l}\n      - {during: \"00:00-17:00\", template: w}\n",
            "  w:\n    personality: windows # Windows 2000\n",
            "address: \"10.0.0.1\", template: magic}",
        ],
        &[(8, "UTC here"), (9, "like `BeOS`")],
    );
    let (_, plan) = import(text);
    let hosts = plan.nodes.iter().find_map(|node| match &node.config {
        crate::node::NodeConfig::Hosts(hosts) => Some(hosts),
        _ => None,
    });
    let hosts = hosts.unwrap();
    assert_eq!((hosts.templates.len(), hosts.templates[0].cases.len()), (4, 3));
    assert_eq!(hosts.templates[1].personality, crate::emulate::Builtin::Windows.into());
    // Without a last word it is the first; what is dynamic itself is what it is otherwise.
    becomes(
        "create a\nadd a tcp port 1 open\ndynamic d\nadd d use a if source os = \"linux\"\ndynamic e\n\
         add e use d if source ip = 10.0.0.1\nadd e use nobody if source ip = 10.0.0.1\nadd e use a if moon = full\n\
         bind 10.0.0.1 e\n",
        &[
            "  d: # no host has it\n    personality: linux\n    tcp:\n      1: open\n    when:\n      - {os: linux, template: a}\n",
            "  e:\n    personality: linux\n    tcp:\n      1: open\n    when:\n      - {from: \"10.0.0.1/32\", template: a}\n",
        ],
        &[(6, "`d` is dynamic itself"), (7, "is not understood"), (8, "is not understood")],
    );
}

#[test]
fn routes_become_routers_with_links() {
    let text = "create a\nroute entry 10.0.0.1 network 10.0.0.0/8\nroute 10.0.0.1 link 10.0.0.0/24\n\
                route 10.0.0.1 add net 10.1.0.0/16 10.1.0.1 latency 55ms loss 3 bandwidth 1Mbps\nroute 10.1.0.1 link 10.1.0.0/24\n\
                route 10.0.0.1 add net 10.2.0.0/16 10.0.0.2 latency 5 bandwidth 64kbps drop between 10ms - 50ms\n\
                route 10.0.0.2 link 10.2.0.0/16\nroute 10.0.0.1 unreach 10.9.0.0/16\nroute 10.7.0.1 link 10.7.0.0/24\n\
                bind 10.0.0.5 a\nbind 10.1.0.5 a\nbind 10.2.0.5 a\nbind 10.1.0.1 a\nbind 172.16.0.1 a\n";
    becomes(
        text,
        &[
            "up: [\"192.0.2.1/24\"]",
            "lan-2: [\"10.0.0.1/24\"]",
            "{to: \"10.1.0.0/24\", via: \"100.64.0.2\"}",
            "{to: \"10.2.0.0/16\", via: \"10.0.0.2\"}",
            "{to: default, via: \"100.64.0.1\"}",
            "    delay: 55ms\n    loss: 3%\n    rate: 1mbit\n",
            "    delay: 5ms\n    rate: 64kbit\n",
            "prefix: \"172.16.0.0/24\"",
        ],
        &[
            (2, "write a free one"),
            (4, "100.64.0.0/10"),
            (6, "`drop between"),
            (8, "`unreach`"),
            (9, "no way leads"),
            (13, "10.1.0.1 is a router"),
            (14, "in no network that a router links"),
        ],
    );
    let (_, plan) = import(text);
    assert_eq!(plan.nodes.iter().filter(|node| node.name.starts_with('r')).count(), 3);
}

#[test]
fn the_default_template_fills_the_networks() {
    becomes(
        "create default\nset default personality \"Windows NT\"\nroute entry 10.0.0.1\nroute 10.0.0.1 link 10.0.0.0/24\nbind 10.0.0.7 default\n",
        &[
            "default-hosts:\n    kind: hosts\n    addresses: [\"10.0.0.0/24\"]\n    except: [\"10.0.0.1\", \"10.0.0.7\"]",
        ],
        &[(3, "192.0.2.1/24 stands for it")],
    );
    becomes("create default\n", &["  default: # no host has it"], &[(0, "`default` answers for all addresses")]);
}

#[test]
fn a_whole_configuration_is_taken_over() {
    let (imported, plan) = import(BRANCH);
    let hosts: u64 = plan.nodes.iter().map(|node| node.host_count()).sum();
    assert!(hosts > 500, "{hosts}:\n{}", imported.yaml);
    for node in ["r1", "r2", "r3", "h-10-20-1-10"] {
        assert!(plan.nodes.iter().any(|planned| planned.name == node), "{node}:\n{}", imported.yaml);
    }
    let lines: Vec<usize> = imported.warnings.iter().map(|warning| warning.line).collect();
    assert!(lines.is_sorted() && !lines.is_empty(), "{:#?}", imported.warnings);
}

#[test]
fn crowds_are_populations() {
    let mut text = "create a\nset a default tcp action block\n".to_owned();
    for host in 0..5000u32 {
        text.push_str(&format!("bind {} a\n", std::net::Ipv4Addr::from((10 << 24) + 257 + host)));
    }
    let (imported, plan) = import(&text);
    assert!(plan.nodes.len() < 100, "{}", plan.nodes.len());
    let hosts: u64 = plan.nodes.iter().map(|node| node.host_count()).sum();
    assert_eq!(hosts, 5000);
    assert!(imported.warnings.iter().any(|warning| warning.text.contains("one population")));
    assert!(imported.yaml.contains("mac_limit"), "{}", &imported.yaml[..2000]);
    // Few hosts with all of their ports open are many ports.
    let mut text = "create a\nset a default tcp action open\n".to_owned();
    (1..100).for_each(|host| text.push_str(&format!("bind 10.0.0.{host} a\n")));
    let (imported, plan) = import(&text);
    assert_eq!(plan.nodes.iter().map(|node| node.host_count()).sum::<u64>(), 99, "{}", imported.yaml);
}

#[test]
fn files_that_are_none_say_so() {
    let settings = Settings { name: "x\u{1b}.conf", known: &is_builtin };
    for (bytes, message) in [
        (&b""[..], "is empty"),
        (b" \n\n", "is empty"),
        (b"create a\0", "x\\u{1b}.conf:1: this is no text"),
        (b"\x7fELF nonsense\n", "nothing here is a statement"),
        (b"# only a comment\n", "nothing here is a statement"),
    ] {
        let error = honeyd(bytes, settings).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
