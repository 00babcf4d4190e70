//! Bad topologies say where and why.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;
use crate::node::TapIo;

/// Parses what must be sound.
pub fn good(text: &str) -> Plan {
    parse("test.yaml", text).unwrap_or_else(|mistakes| panic!("{:?}", miette::Report::new(mistakes)))
}

/// The mistakes of a text in which `«` marks where the first belongs, and that place.
fn bad(text: &str) -> (Diagnostics, (usize, usize)) {
    let at = text.find('«').unwrap_or_else(|| panic!("no mark in {text}"));
    let clean = text.replacen('«', "", 1);
    let place = (clean[..at].matches('\n').count() + 1, at - clean[..at].rfind('\n').map_or(0, |line| line + 1) + 1);
    (parse("test.yaml", &clean).err().unwrap_or_else(|| panic!("taken as sound: {clean}")), place)
}

fn render(mistakes: &Diagnostics) -> String {
    let mut out = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(120);
    handler.render_report(&mut out, mistakes).unwrap();
    out
}

/// Checks a table of bad topologies: the text with its mark, a part of the message, a part of the help.
fn all_bad(table: &[(&str, &str, &str)]) {
    for (text, message, help) in table {
        let (mistakes, place) = bad(text);
        let found = mistakes
            .errors
            .iter()
            .find(|error| error.message.contains(message))
            .unwrap_or_else(|| panic!("no `{message}` for {text}:\n{}", render(&mistakes)));
        assert_eq!((found.line, found.column), place, "{text}\n{}", render(&mistakes));
        let got = found.help.as_deref().unwrap_or("");
        assert!(got.contains(help), "`{got}` does not say `{help}`: {text}");
        assert_eq!(found.file, "test.yaml");
        assert_eq!(found.source_line, text.replace('«', "").lines().nth(place.0 - 1).unwrap_or(""));
        let rendered = render(&mistakes);
        assert!(rendered.contains(&format!("test.yaml:{}:{}", place.0, place.1)), "{rendered}");
    }
}

#[test]
fn bad_shapes() {
    all_bad(&[
        ("name: a\n«templtes: {}\nnodes: {}", "unknown key `templtes`", "did you mean `templates`?"),
        ("nodes:\n  s: {kind: switch, «prots: 4}", "unknown key `prots`", "did you mean `ports`?"),
        ("nodes:\n  s: {kind: switch, «zzzzzz: 4}", "unknown key `zzzzzz`", "the keys here are `kind`"),
        ("nodes:\n  s: {kind: «swich}", "unknown value `swich`", "did you mean `switch`?"),
        ("nodes:\n  s: {kind: switch}\n  «s: {kind: switch}", "duplicate key `s`", "rename"),
        ("name: a\n«name: b\nnodes: {}", "duplicate key `name`", "remove"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, tcp: {22: open, «\"22\": closed}}", "duplicate key `22`", ""),
        ("«name: a\n", "`nodes` is missing", "add `nodes:`"),
        ("nodes: «5", "a mapping", "space behind the colon"),
        ("nodes:\n  s: {kind: switch}\nlinks: «{a: b}", "a list", ""),
        ("nodes:\n  s: {kind: switch, fdb_capacity: «x}", "`x` is not a whole number", ""),
        ("nodes:\n  u: {kind: uplink, transit: «yes}", "`yes` is not true or false", "write true"),
        ("nodes:\n  u: {kind: uplink, io: «fast}", "`fast`", "xdp"),
        ("nodes:\n  s: {kind: switch}\n---\n«nodes: {}", "more than one document", "one document"),
        ("nodes:\n  s: «{kind: switch\n", "unclosed bracket", ""),
        ("nodes:\n  s: «*nothing", "no anchor", "quotes"),
        ("nodes:\n\t«s: 1", "tabs", "spaces"),
        ("nodes:\n  s: {kind: switch}\n   «t: {kind: switch}", "did not find expected key", "indent this line"),
        ("name: a\n  b«: c\nnodes: {}", "mapping values are not allowed", "indent this line"),
        ("links:\n  - endpoints: [a, \"b\"\n  «- endpoints: [c, d]", "only valid inside a block", "`[` or `{`"),
        ("links:\n  - endpoints: [a, b\n  - endpoints«: [c, d]", "illegal placement of ':'", "`[` or `{`"),
        ("name: «\"a\\q\"\nnodes: {}", "unknown escape", "single quotes"),
        ("nodes:\n  h: {kind: host, address: «{a: b}}", "a text or a list of texts", ""),
        ("nodes: «{}", "there are no nodes", "add a node"),
        ("«", "the topology is empty", "nodes"),
        ("# all of it is a comment\n«", "the topology is empty", "nodes"),
        ("nodes:\n  «s: {}", "`s` has no kind", "`uplink`, `tap`, `mirror`, `switch`"),
        ("nodes:\n  «\"a:b\": {kind: switch}", "cannot name a node", "letters"),
        ("name: «Office LAN\nnodes: {s: {kind: switch}}", "cannot name a honeynet", "lower-case"),
    ]);
}

#[test]
fn bad_keys_for_a_kind() {
    all_bad(&[
        ("nodes:\n  s: {kind: switch, «address: 10.0.0.1}", "`address` does not belong to a `switch`", "`ports`"),
        ("nodes:\n  h: {kind: host, «addresses: 10.0.0.1}", "does not belong to a `host`", "did you mean `address`?"),
        ("nodes:\n  h: {kind: hosts, «address: 10.0.0.1}", "does not belong to a `hosts`", "did you mean `addresses`?"),
        ("kinds:\n  router: {«tcp: {22: open}}\nnodes: {s: {kind: switch}}", "`tcp` does not belong to a `router`", ""),
        ("defaults: {«kind: switch}\nnodes: {s: {kind: switch}}", "`kind` cannot be a default", "node"),
    ]);
}

#[test]
fn bad_devices() {
    all_bad(&[
        ("nodes:\n  s: {kind: switch, ports: «0}", "cannot have 0 ports", "1 to 1024"),
        ("nodes:\n  s: {kind: switch, ports: «99999}", "cannot have 99999 ports", "1 to 1024"),
        ("nodes:\n  s: {kind: switch, ports: {1: {access: «0}}}", "0 is no VLAN", "1 to 4094"),
        ("nodes:\n  s: {kind: switch, ports: {1: {trunk: [1, «4095]}}}", "4095 is no VLAN", "1 to 4094"),
        ("nodes:\n  s: {kind: switch, ports: {1: {trunk: [«20-10]}}}", "20-10 is no VLAN", "1 to 4094"),
        ("nodes:\n  s: {kind: switch, ports: {1: {trunk: [1], native: «9999}}}", "9999 is no VLAN", ""),
        ("nodes:\n  s: {kind: switch, ports: {«1: {trunk: [1], access: 1}}}", "either an access port or a trunk", ""),
        ("nodes:\n  s: {kind: switch, ports: {1: {trunk: «[]}}}", "carries nothing", ""),
        ("nodes:\n  s: {kind: switch, ports: {1-4: {}, «3-5: {}}}", "port 3 is in two", ""),
        ("nodes:\n  s: {kind: switch, aging: «10}", "no unit", "10ms"),
        ("nodes:\n  «r: {kind: router}", "no interfaces", "interfaces:"),
        ("nodes:\n  r: {kind: router, interfaces: {a: [«10.0.0.1]}}", "no prefix length", "10.0.0.1/24"),
        ("nodes:\n  r: {kind: router, interfaces: {a: «10.0.0.1/40}}", "not a prefix length", "/32"),
        ("nodes:\n  r: {kind: router, interfaces: {a: [«10.0.0.0/24]}}", "cannot be a router's address", "10.0.0.1/24"),
        ("nodes:\n  r: {kind: router, interfaces: {a: {addresses: 10.0.0.1/24, mac: «xx}}}", "not a MAC", "00:0c:29"),
        (
            "nodes:\n  r: {kind: router, interfaces: {a: {addresses: 10.0.0.1/24, mac: «01:00:5e:00:00:01}}}",
            "not the MAC of one station",
            "even",
        ),
        ("nodes:\n  r: {kind: router, interfaces: {a: {addresses: fd00::1/64, mtu: «1000}}}", "MTU of 1000", "1280"),
        ("nodes:\n  r: {kind: router, vendor: «cisko, interfaces: {a: 10.0.0.1/24}}", "unknown vendor", "`cisco`"),
        (
            "nodes:\n  r:\n    kind: router\n    interfaces: {a: [10.0.0.1/16], b: [«10.0.5.1/24]}",
            "b's 10.0.5.0/24 overlaps a's 10.0.0.0/16 in one FIB",
            "prefix of its own",
        ),
        (
            "nodes:\n  r:\n    kind: router\n    interfaces: {a: 10.0.0.1/24}\n    routes: [{to: 10.9.0.0/16, via: «10.8.0.1}]",
            "on no interface's prefix",
            "10.0.0.0/24 (a)",
        ),
        (
            "nodes:\n  r:\n    kind: router\n    interfaces: {a: 10.0.0.1/24}\n    routes: [{to: 10.9.0.0/16, via: «10.0.0.1}]",
            "this router itself",
            "next one's",
        ),
        (
            "nodes:\n  r:\n    kind: router\n    interfaces: {a: 10.0.0.1/24}\n    routes: [{to: «10.0.0.0/24, via: 10.0.0.2}]",
            "connected to this router already",
            "",
        ),
        (
            "nodes:\n  r:\n    kind: router\n    interfaces: {a: 10.0.0.1/24}\n    routes: [{to: fd00::/8, via: «10.0.0.2}]",
            "different families",
            "",
        ),
        (
            "nodes:\n  r:\n    kind: router\n    interfaces: {a: 10.0.0.1/24}\n    routes: [{to: «10.9.0.1/16, via: 10.0.0.2}]",
            "host bits",
            "10.9.0.0/16",
        ),
        ("nodes:\n  w: {kind: uplink, interface: «a/b}", "cannot be an interface", "eth0"),
        ("nodes:\n  w: {kind: uplink, rate: «100}", "no unit", "100mbit"),
        ("nodes:\n  w: {kind: uplink, ring: «5000}", "5000 entries", "a power of two"),
        ("nodes:\n  w: {kind: uplink, ring: «65536}", "65536 entries", "from 1024 to 32768"),
        ("nodes:\n  w: {kind: uplink, mac_limit: «0}", "limit of 0", "256"),
        ("nodes:\n  «v: {kind: tap}", "the TAP `v` has no name", "interface: hw-vm1"),
        ("nodes:\n  v: {kind: tap, interface: «a b}", "cannot be an interface", "eth0"),
        ("nodes:\n  v: {kind: tap, interface: «hw%d}", "cannot be the name of a TAP", "without `%`"),
        (
            "nodes:\n  v: {kind: tap, interface: hw-a}\n  «w: {kind: tap, interface: hw-a}",
            "two TAPs would be named `hw-a`",
            "choose another",
        ),
        ("nodes:\n  v: {kind: tap, interface: hw-a, «rate: 1mbit}", "`rate` does not belong to a `tap`", "`capture`"),
        ("nodes:\n  w: {kind: uplink, allow: [«routin]}", "unknown value `routin`", "did you mean `routing`?"),
    ]);
}

#[test]
fn bad_hosts() {
    all_bad(&[
        ("nodes:\n  «h: {kind: hosts}", "has no addresses", "add `addresses:"),
        ("nodes:\n  h: {kind: hosts, addresses: «[]}", "has no addresses", ""),
        ("nodes:\n  h: {kind: hosts, addresses: «10.0.0.1/24}", "host bits", "did you mean `10.0.0.0/24`?"),
        ("nodes:\n  h: {kind: hosts, addresses: [10.0.0.1, «ten]}", "`ten` is not an address", "prefix"),
        ("nodes:\n  h: {kind: hosts, addresses: «224.0.0.0/24}", "not for hosts", "unicast"),
        ("nodes:\n  h: {kind: hosts, addresses: «10.0.0.0/30, except: 10.0.0.0/24}", "is empty", "except"),
        ("nodes:\n  h: {kind: hosts, addresses: 10.0.0.0/30, except: «10.9.0.1}", "none of the population's", ""),
        ("nodes:\n  h: {kind: hosts, addresses: «\"fd00::/64\"}", "larger than a /8", "/104"),
        ("nodes:\n  h: {kind: host, address: «10.0.0.0/24}", "single addresses", "kind: hosts"),
        ("nodes:\n  h: {kind: hosts, addresses: 10.0.0.0/30, mac: «shard}", "unknown MAC mode", "`shared`"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, mac: «10}", "not a MAC", ""),
        (
            "nodes:\n  h: {kind: host, address: 10.0.0.1, template: «web}\ntemplates: {wen: {}}",
            "unknown template",
            "`wen`",
        ),
        (
            "nodes:\n  h: {kind: hosts, addresses: 10.0.0.1, mix: {«web: 1}}\ntemplates: {wen: {}}",
            "unknown template",
            "`wen`",
        ),
        ("nodes:\n  h: {kind: hosts, addresses: 10.0.0.1, mix: {web: «0}}\ntemplates: {web: {}}", "out of range", ""),
        ("nodes:\n  h: {kind: hosts, addresses: 10.0.0.1, template: «a, mix: {a: 1}}\ntemplates: {a: {}}", "both", ""),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, personality: «window}", "unknown personality", "`windows`"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, vendor: «del}", "unknown vendor", "`dell`"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, vendor: «01:00:5e}", "group address", "even"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, talk: «mdn}", "unknown kind of talk", "`mdns`"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, talk: [arp, «auto]}", "no part of a list", "alone"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, limits: {talkers: «5000}}", "out of range", "4096"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, gateway: «ten}", "not an address", ""),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, limits: {flows: «0}}", "out of range", ""),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, hostname: «\"a b\"}", "no host name", ""),
        ("nodes:\n  «h: {kind: container, address: 10.0.0.1}", "needs a backend", "backend:"),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, tcp: {22: container}, backend: {image: «smal}}",
            "unknown image `smal`",
            "did you mean `small`?",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, backend: «{start: with-system}}",
            "no image",
            "image: small",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, tcp: {22: {container: ssh, host_keys: «[]}}, backend: {image: small}}",
            "an SSH server has a host key",
            "write such as `[rsa, ecdsa, ed25519]`",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, tcp: {22: {container: ssh, host_keys: [rsa, «rsa]}}, backend: {image: small}}",
            "a host has one key of a kind",
            "remove it",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, tcp: {22: {container: ssh, host_keys: [rsa, «dsa]}}, backend: {image: small}}",
            "unknown value `dsa`",
            "did you mean `rsa`?",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, tcp: {22: {container: telnet, «host_keys: [rsa]}}, backend: {image: small}}",
            "`host_keys` says nothing beside `container: telnet`",
            "remove it",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, tcp: {22: {container: ssh, acceptance: «11s}}, backend: {image: small}}",
            "11s",
            "",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, tcp: {80: {container: http, «acceptance: 1s}}, backend: {image: small}}",
            "says nothing beside `container: http`",
            "remove it",
        ),
        (
            "nodes:\n  h: {kind: container, address: 10.0.0.1, backend: «{image: small}}",
            "nothing ever starts",
            "container",
        ),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, tcp: {«22: container}}", "has no backend", "backend:"),
        (
            "templates: {t: {tcp: {22: container}, backend: {image: small, start: with-system}}}\nnodes:\n  h: {kind: hosts, addresses: 10.0.0.0/24, template: «t}",
            "would start 256 containers",
            "on-access",
        ),
    ]);
}

#[test]
fn bad_services() {
    let host = |tcp: &str| format!("nodes:\n  h: {{kind: host, address: 10.0.0.1, tcp: {tcp}}}");
    for (tcp, message, help) in [
        ("{«0: open}", "`0` is not a port", "1 to 65535"),
        ("{«70000: open}", "not a port", "1 to 65535"),
        ("{«20-10: open}", "ends before it begins", "10-20"),
        ("{22: «opne}", "`opne` is no answer", "did you mean `open`?"),
        ("{22: {«baner: x}}", "unknown key `baner`", "did you mean `banner`?"),
        ("{«22: {}}", "no service", "banner"),
        ("{«22: {banner: x, proxy: \"127.0.0.1:1\"}}", "two services", "keep one"),
        ("{22: {banner: x, «timeout: 5s}}", "`timeout` does not belong to `banner`", "remove"),
        ("{22: {script: «[]}}", "no program", "arguments"),
        ("{22: {script: [«prog, x]}}", "not an absolute path", "/usr/local/bin/prog"),
        ("{22: {script: [/bin/cat], timeout: «5}}", "no unit", ""),
        ("{22: {script: [/bin/cat], max: «0}}", "out of range", ""),
        ("{22: {proxy: «10.9.9.9}}", "not an address and a port", "10.9.9.9:80"),
        ("{22: {proxy: «\"example.org:80\"}}", "not an address and a port", "not looked up"),
        ("{«22: {proxy: \"10.9.9.9:80\"}}", "production address", "allow_production: true"),
        ("{80: {http: {pages: {«index: x}}}}", "does not begin with `/`", "`/index`"),
        ("{80: {http: {pages: {«/: {type: x}}}}}", "either `body` or `file`", ""),
        ("{80: {http: {pages: {/: {file: «/no/such/file}}}}}", "cannot read", "relative"),
        ("{80: {http: {server: «\"a\\nb\"}}}", "control characters", ""),
    ] {
        all_bad(&[(&host(tcp), message, help)]);
    }
    all_bad(&[
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, udp: {53: «opne}}", "no answer of a UDP port", "`open`"),
        ("nodes:\n  h: {kind: host, address: 10.0.0.1, udp: {«53: {}}}", "no service", "reply"),
        ("images:\n  i: {recipe: «smal}\nnodes: {s: {kind: switch}}", "unknown recipe", "`small`"),
        ("images:\n  «i: {}\nnodes: {s: {kind: switch}}", "no recipe", "recipe: small"),
        ("images:\n  small: {packages: [«-x]}\nnodes: {s: {kind: switch}}", "no name of a package", ""),
        ("images:\n  small: {users: [{name: «0x, password: a}]}\nnodes: {s: {kind: switch}}", "no log-in name", ""),
        ("images:\n  small: {users: [{name: x, password: «\"a:b\"}]}\nnodes: {s: {kind: switch}}", "cannot be set", ""),
        ("images:\n  «Small: {recipe: small}\nnodes: {s: {kind: switch}}", "cannot name an image", ""),
    ]);
}

/// A router with a /24 on a switch, for what hangs on it.
fn on_a_lan(nodes: &str, links: &str) -> String {
    format!(
        "nodes:\n  r: {{kind: router, interfaces: {{lan: [10.0.0.1/24, \"fd00::1/64\"]}}}}\n  s: {{kind: switch}}\n{nodes}\nlinks:\n  - endpoints: [r, \"s:1\"]\n{links}"
    )
}

#[test]
fn bad_addressing() {
    let one = |node: &str| on_a_lan(&format!("  h: {node}"), "  - endpoints: [h, \"s:2\"]");
    let two = |a: &str, b: &str| {
        on_a_lan(&format!("  a: {a}\n  b: {b}"), "  - endpoints: [a, \"s:2\"]\n  - endpoints: [b, \"s:3\"]")
    };
    for (text, message, help) in [
        (one("{kind: hosts, addresses: «10.0.0.0/24}"), "the router's own address (r:lan)", "except: [10.0.0.1]"),
        (one("{kind: host, address: «10.0.0.1}"), "10.0.0.1", "choose another address"),
        (one("{kind: host, address: «10.9.0.1}"), "outside of its segment's prefix (10.0.0.0/24 by r:lan)", "inside"),
        (one("{kind: hosts, addresses: «10.0.0.200-10.0.1.20}"), "`10.0.1.0-10.0.1.20` of", "shorter prefix"),
        (one("{kind: host, address: «10.0.0.255}"), "broadcast address of `10.0.0.0/24`", ""),
        (one("{kind: host, address: «10.0.0.0}"), "network address", ""),
        (one("{kind: host, address: 10.0.0.5, gateway: «10.9.9.9}"), "outside of the segment's prefixes", ""),
        (one("{kind: host, address: 10.0.0.5, gateway: «10.0.0.5}"), "is one of the hosts", ""),
        (one("{kind: host, address: 10.0.0.5, gateway: [10.0.0.1, «10.0.0.2]}"), "one default gateway", ""),
        (two("{kind: host, address: 10.0.0.5}", "{kind: host, address: «10.0.0.5}"), "both have 10.0.0.5", "another"),
        (
            two("{kind: hosts, addresses: «10.0.0.2-10.0.0.9}", "{kind: host, address: 10.0.0.5}"),
            "`a` and `b` both have 10.0.0.5 in one broadcast domain",
            "except: [10.0.0.5]",
        ),
        (
            two("{kind: hosts, addresses: 10.0.0.2-10.0.0.9}", "{kind: hosts, addresses: «10.0.0.8-10.0.0.20}"),
            "both have 10.0.0.8-10.0.0.9",
            "except: [10.0.0.8-10.0.0.9]",
        ),
        (one("{kind: hosts, addresses: [10.0.0.5, «10.0.0.2-10.0.0.9]}"), "`h` has 10.0.0.5 twice", ""),
        (
            two("{kind: router, interfaces: {x: «10.0.0.2/25}}", "{kind: host, address: 10.0.0.5}"),
            "overlaps 10.0.0.0/24 of r:lan in one broadcast domain",
            "same prefix length",
        ),
        (two("{kind: router, interfaces: {x: «10.0.0.1/24}}", "{kind: host, address: 10.0.0.5}"), "10.0.0.1", ""),
    ] {
        all_bad(&[(&text, message, help)]);
    }
}

#[test]
fn bad_links() {
    let link = |links: &str| {
        format!(
            "nodes:\n  w: {{kind: uplink}}\n  v: {{kind: uplink}}\n  a: {{kind: switch, ports: 4}}\n  b: {{kind: switch, ports: {{1-2: {{access: 10}}, up: {{trunk: [10, 20], native: 1}}}}}}\n  c: {{kind: switch, ports: 12}}\nlinks:\n{links}"
        )
    };
    for (links, message, help) in [
        ("  - endpoints: [«x, \"a:1\"]", "there is no node `x`", "`a`"),
        ("  - endpoints: [w, «\"a:5\"]", "`a` has no port `5`", "ports 1 to 4"),
        ("  - endpoints: [w, «\"b:upp\"]", "`b` has no port `upp`", "did you mean `up`?"),
        ("  - endpoints: [«\"w:1\", \"a:1\"]", "`w` has no port `1`", "`0`"),
        ("  - endpoints: [w, «a]", "which port of `a`?", "a:1"),
        ("  - endpoints: «[w]", "two ends", "endpoints:"),
        (
            "  - endpoints: [\"a:1\", \"c:1\"]\n  - endpoints: [«\"a:1\", \"c:2\"]",
            "`a:1` is linked twice",
            "switch between",
        ),
        (
            "  - endpoints: [\"a:1\", \"c:1\"]\n  - endpoints: [\"a:2\", «\"c:2\"]",
            "forwarding loop in VLAN 1: c - a - c",
            "spanning tree",
        ),
        ("  - endpoints: [\"a:1\", «\"a:2\"]", "forwarding loop in VLAN 1: a - a", ""),
        (
            "  - endpoints: [\"a:1\", \"c:1\"]\n  - endpoints: [\"b:up\", \"c:2\"]\n  - endpoints: [\"b:1\", \"a:2\"]\n  - endpoints: [\"b:2\", «\"c:4\"]",
            "forwarding loop",
            "",
        ),
        ("  - endpoints: [w, \"a:1\"]\n    delay: «10", "no unit", "10ms"),
        ("  - endpoints: [w, \"a:1\"]\n    delay: «10 msec", "no unit of a duration", "ms"),
        ("  - endpoints: [w, \"a:1\"]\n    delay: 1ms\n    jitter: «2ms", "larger than the delay", "delay"),
        ("  - endpoints: [w, \"a:1\"]\n    loss: «0.01", "no unit", "1%"),
        ("  - endpoints: [w, \"a:1\"]\n    rate: «10Mbit", "no unit of a rate", "10mbit"),
        ("  - endpoints: [w, \"a:1\"]\n    queue: «0", "queue of 0", "1000"),
        ("  - endpoints: [w, \"a:1\"]\n    «dealy: 1ms", "unknown key `dealy`", "`delay`"),
    ] {
        all_bad(&[(&link(links), message, help)]);
    }
    // VLANs keep apart what would be a loop; `transit` permits what would be a bridge.
    good(&link("  - endpoints: [\"b:1\", \"a:1\"]\n  - endpoints: [\"b:up\", \"a:2\"]"));
    let bridged = "nodes:\n  w: {kind: uplink T}\n  «v: {kind: uplink T}\n  s: {kind: switch}\nlinks:\n  - endpoints: [w, \"s:1\"]\n  - endpoints: [v, \"s:2\"]";
    all_bad(&[(&bridged.replace(" T", ""), "`w` and `v` are bridged", "transit: true")]);
    good(&bridged.replace(" T", ", transit: true").replace('«', ""));
    all_bad(&[("nodes:\n  w: {kind: uplink}\n  «v: {kind: uplink}\nlinks:\n  - endpoints: [w, v]", "are bridged", "")]);
}

#[test]
fn taps_are_bounded() {
    let many = |count: usize| {
        let taps = (1..=count)
            .map(|n| format!("\n  {}t{n}: {{kind: tap, interface: hw{n}}}", if n == 101 { "«" } else { "" }));
        format!("nodes:{}", taps.collect::<String>())
    };
    good(&many(100));
    all_bad(&[(&many(102), "more than 100 TAPs", "Linux bridge")]);
}

#[test]
fn macs_on_an_uplink_are_bounded() {
    let text = |uplink: &str, hosts: &str| {
        format!(
            "nodes:\n  w: {{kind: uplink{uplink}}}\n  h: {{kind: hosts, addresses: «10.1.0.0/16{hosts}}}\nlinks:\n  - endpoints: [w, h]"
        )
    };
    all_bad(&[(&text("", ""), "65536 MAC addresses would appear on the uplink `w`, which takes 256", "mac: shared")]);
    good(&text(", mac_limit: 65536", "").replace('«', ""));
    // Whatever is attached to a TAP has a MAC, too.
    let tap = "nodes:\n  w: {kind: uplink, mac_limit: 1}\n  s: {kind: switch}\n  v: {kind: tap, interface: hw-a}\n  h: {kind: host, address: «10.1.0.1}\nlinks:\n  - endpoints: [w, \"s:1\"]\n  - endpoints: [v, \"s:2\"]\n  - endpoints: [h, \"s:3\"]";
    all_bad(&[(tap, "2 MAC addresses would appear", "mac_limit")]);
    good(&text("", ", mac: shared").replace('«', ""));
}

#[test]
fn very_long_lines_are_cut() {
    let many = vec!["10.0.0.1"; 30_000].join(", ");
    let distinct: Vec<String> = (0..30_000).map(|n| format!("10.9.{}.{}", n / 250, n % 250 + 1)).collect();
    let distinct = distinct.join(", ");
    let text = format!("nodes: {{h: {{kind: hosts, addresses: [{distinct}, «é, {many}]}}}}");
    let (mistakes, place) = bad(&text);
    let error = mistakes.errors.iter().find(|error| error.message.contains("`é`")).unwrap();
    assert_eq!((error.line, error.column), place);
    assert!(error.source_line.len() <= 200 && error.source_line.contains('é'), "{}", error.source_line);
    let only = Diagnostics { errors: vec![error.clone()], more: 0 };
    let rendered = render(&only);
    assert!(rendered.contains(&format!("test.yaml:{}:{}", place.0, place.1)), "{rendered}");
    assert!(rendered.lines().all(|line| line.chars().count() < 300), "{rendered}");
    assert!(mistakes.errors.len() <= Diagnostics::MAX_LISTED && mistakes.more > 0);
    assert!(!render(&mistakes).is_empty());
}

#[test]
fn several_mistakes_are_told_at_once() {
    let text = "nodes:\n  s: {kind: switch, ports: 0}\n  h: {kind: host, address: x, vendor: y}\nlinks:\n  - endpoints: [a, b]";
    let mistakes = parse("test.yaml", text).unwrap_err();
    assert_eq!(mistakes.errors.len(), 5, "{}", render(&mistakes));
    assert!(mistakes.errors.is_sorted_by_key(|error| (error.line, error.column)));
    assert_eq!(mistakes.to_string(), "test.yaml has 5 mistakes");
    let json = serde_json::to_value(&mistakes).unwrap();
    assert_eq!(json["errors"][0]["line"], 2);
    assert_eq!(json["errors"][0]["source_line"], "  s: {kind: switch, ports: 0}");
}

#[test]
fn rendered_mistakes() {
    let unknown = bad("name: office\nnodes:\n  edge: {kind: router, «interfces: {lan: 10.0.0.1/24}}\n").0;
    insta::assert_snapshot!("unknown_key", render(&unknown));
    let overlap = on_a_lan(
        "  desktops: {kind: hosts, addresses: «10.0.0.2-10.0.0.99}\n  printer: {kind: host, address: 10.0.0.50}",
        "  - endpoints: [desktops, \"s:2\"]\n  - endpoints: [printer, \"s:3\"]",
    );
    insta::assert_snapshot!("overlap", render(&bad(&overlap).0));
    let cycle = "nodes:\n  a: {kind: switch}\n  b: {kind: switch}\n  c: {kind: switch}\nlinks:\n  - endpoints: [\"a:1\", \"b:1\"]\n  - endpoints: [\"b:2\", \"c:1\"]\n  - endpoints: [\"c:2\", «\"a:2\"]\n    delay: 5\n";
    insta::assert_snapshot!(
        "loop_and_unit",
        render(&bad(&cycle.replace("    delay: 5\n", "    delay: 5ms\n  - endpoints: [\"a:3\", \"d:1\"]\n")).0)
    );
}

#[test]
fn taps_are_read_as_the_machine_allows_unless_told() {
    let plan = |text: &str| good(&format!("name: t\n{text}nodes: {{core: {{kind: switch}}}}\n")).tap_io;
    assert_eq!([plan(""), plan("tap_io: auto\n"), plan("tap_io: plain\n")], [TapIo::Auto, TapIo::Auto, TapIo::Plain]);
}

#[test]
fn bad_cases() {
    let host = |case: &str| format!("nodes:\n  h: {{kind: host, address: 10.0.0.5, when: [{case}]}}\n");
    let table = [
        ("«{from: 10.0.0.0/8}", "this case says nothing", "add what differs"),
        ("{from: «10.0.0.0/33, ping: false}", "`/33` is not a prefix length", ""),
        ("{from: «[], ping: false}", "`from` is an empty list", "leave `from` out"),
        ("{during: «\"Mo 08:00-18:00\", ping: false}", "`Mo` is no day", "Mon-Fri 08:00-18:00"),
        ("{during: «\"08:00-18:00 CET\", ping: false}", "`CET` is no offset", "+02:00"),
        ("{os: «widnows, ping: false}", "unknown system `widnows`", "did you mean `windows`?"),
        ("{template: «server}", "unknown template `server`", ""),
        ("{«when: [], ping: false}", "unknown key `when`", ""),
        ("{from: 10.0.0.0/8, tcp: {«22: container}}", "port 22 is a container's", ""),
    ]
    .map(|(case, message, help)| (host(case), message, help));
    all_bad(&table.each_ref().map(|(text, message, help)| (&**text, *message, *help)));
    let templates = "templates:\n  a: {ping: false, when: [{os: linux, ping: true}]}\n  b: {tcp: {22: container}, backend: {image: small}}\n";
    all_bad(&[
        (
            &format!("{templates}  c: {{when: [{{template: «a}}]}}\nnodes:\n  h: {{kind: host, address: 10.0.0.5}}\n"),
            "`a` has cases itself",
            "write its cases here",
        ),
        (
            &format!("{templates}nodes:\n  h: {{kind: host, address: 10.0.0.5, when: [«{{template: b}}]}}\n"),
            "a host's container does not depend on who asks",
            "same `backend`",
        ),
    ]);
}
