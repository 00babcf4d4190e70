//! Whatever is given: no panic, and a topology that is sound or an error that says why not.

use proptest::prelude::*;

use super::{Imported, MAX_WARNINGS, Settings, honeyd, is_builtin, nmap};
use crate::topology::Diagnostics;
use crate::topology::tests::good;

type Translate = fn(&[u8], Settings<'_>) -> Result<Imported, Diagnostics>;

fn survives(translate: Translate, bytes: &[u8]) {
    match translate(bytes, Settings { name: "input", known: &is_builtin }) {
        Ok(imported) => {
            good(&imported.yaml);
            let texts = imported.warnings.iter().map(|warning| &warning.text);
            for text in texts.chain([&imported.yaml]) {
                assert!(text.chars().all(|c| c == '\n' || (' '..='~').contains(&c)), "{text:?}");
            }
            assert!(imported.warnings.len() <= MAX_WARNINGS + 1);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains("no sound topology"), "{text}\n{}", String::from_utf8_lossy(bytes));
            assert!(text.chars().all(|c| (' '..='~').contains(&c)), "{text:?}");
        }
    }
}

/// Statements of Honeyd that are often right: few names, few addresses.
fn statement() -> impl Strategy<Value = String> {
    const COMMON: [&str; 10] = [
        "create a",
        "create default",
        "set a default tcp action open",
        "add a tcp port 80 open",
        "route entry 10.0.0.1 network 10.0.0.0/8",
        "route 10.0.0.1 link 10.0.0.0/24",
        "route 10.0.0.1 add net 10.1.0.0/16 10.1.0.1 latency 5ms",
        "route 10.1.0.1 link 10.1.0.0/24",
        "bind 10.1.0.2 a",
        "route 10.1.0.1 add net 10.2.0.0/16 10.0.0.1",
    ];
    const WORDS: [&str; 40] = [
        "a",
        "b",
        "default",
        "tcp",
        "udp",
        "icmp",
        "action",
        "open",
        "block",
        "reset",
        "tarpit",
        "port",
        "22",
        "80",
        "65535",
        "personality",
        "\"Linux\"",
        "ethernet",
        "\"00:0c:29:00:00:01\"",
        "proxy",
        "127.0.0.1:80",
        "droprate",
        "in",
        "5",
        "to",
        "link",
        "add",
        "net",
        "entry",
        "network",
        "latency",
        "55ms",
        "loss",
        "bandwidth",
        "1Mbps",
        "unreach",
        "use",
        "if",
        "\"",
        "#",
    ];
    const FIRST: [&str; 9] = ["create", "clone", "set", "add", "bind", "route", "delete", "dynamic", "option"];
    let ip = (0..3u8, 0..3u8, 0..6u8).prop_map(|(b, c, d)| format!("10.{b}.{c}.{d}"));
    let net = (0..3u8, 0..3u8, 1..=32u8).prop_map(|(b, c, length)| format!("10.{b}.{c}.0/{length}"));
    let word = prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
    let random = (
        prop::sample::select(&FIRST[..]),
        prop::collection::vec(prop_oneof![4 => word, 2 => ip.clone(), 1 => net.clone()], 0..8),
    )
        .prop_map(|(first, rest)| format!("{first} {}", rest.join(" ")));
    let bind = ip.clone().prop_map(|ip| format!("bind {ip} a"));
    let link = (ip.clone(), net.clone()).prop_map(|(ip, net)| format!("route {ip} link {net}"));
    let add = (ip.clone(), net, ip).prop_map(|(ip, net, next)| format!("route {ip} add net {net} {next}"));
    let common = prop::sample::select(&COMMON[..]).prop_map(str::to_owned);
    prop_oneof![4 => common, 2 => random, 2 => bind, 2 => link, 2 => add]
}

/// Elements of a scan, in any order.
fn element() -> impl Strategy<Value = String> {
    let ip = (0..3u8, 0..3u8, prop::sample::select(vec![0u8, 1, 2, 9, 254, 255]))
        .prop_map(|(b, c, d)| format!("10.{b}.{c}.{d}"));
    let host =
        (ip.clone(), prop::collection::vec((1..5u32, ip.clone(), 0..90u32), 0..5), ".{0,12}", 0..3usize, any::<u16>());
    let host = host.prop_map(|(ip, hops, name, state, port)| {
        let hops: String =
            hops.iter().map(|(ttl, ip, rtt)| format!("<hop ttl=\"{ttl}\" ipaddr=\"{ip}\" rtt=\"{rtt}.5\"/>")).collect();
        let name = quick_xml::escape::escape(&name).into_owned();
        let state = ["open", "closed", "open|filtered"][state];
        format!(
            "<host><status state=\"up\"/><address addr=\"{ip}\" addrtype=\"ipv4\"/><hostnames><hostname name=\"{name}\"/></hostnames>\
             <ports><port protocol=\"tcp\" portid=\"{port}\"><state state=\"{state}\"/><service name=\"ssh\" product=\"{name}\" \
             version=\"{name}\"/></port></ports><os><osmatch name=\"{name}\" accuracy=\"9\"/></os><trace>{hops}</trace></host>"
        )
    });
    let odd = prop::sample::select(vec![
        "<host>",
        "</host>",
        "<ports>",
        "<port protocol=\"udp\" portid=\"7\">",
        "<!-- x -->",
        "<![CDATA[x]]>",
        "&lt;",
        "&#0;",
        "<a b='",
        "<extraports state=\"filtered\" count=\"99999999999999999999\"/>",
        "<times srtt=\"-1\"/>",
    ]);
    prop_oneof![9 => host, 1 => odd.prop_map(str::to_owned)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_octets_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(honeyd, &bytes);
        survives(nmap, &bytes);
        survives(nmap, &[b"<nmaprun>", &bytes[..]].concat());
    }

    #[test]
    fn any_text_is_survived(text in "(create|bind|route|[ \"#\\n]|\\PC){0,40}") {
        survives(honeyd, text.as_bytes());
        survives(nmap, format!("<nmaprun><host a=\"{text}").as_bytes());
    }

    #[test]
    fn any_configuration_is_sound(lines in prop::collection::vec(statement(), 0..60)) {
        survives(honeyd, lines.join("\n").as_bytes());
    }

    #[test]
    fn any_scan_is_sound(elements in prop::collection::vec(element(), 0..20)) {
        survives(nmap, format!("<nmaprun>{}</nmaprun>", elements.concat()).as_bytes());
    }
}

#[test]
fn a_million_lines_are_read() {
    let mut text = "create a\nbind 10.0.0.1 a\n".to_owned();
    (0..1_000_000u32)
        .for_each(|line| text.push_str(if line % 2 == 0 { "nonsense \u{1b}[2J\n" } else { "set a uptime 5\n" }));
    let imported = honeyd(text.as_bytes(), Settings { name: "x", known: &is_builtin }).unwrap();
    assert_eq!(imported.warnings.len(), MAX_WARNINGS + 1);
    assert!(imported.warnings.last().unwrap().text.contains("more warnings"));
    let text = format!("<nmaprun>{}</nmaprun>", "<host><status state=\"up\"/></host>\n".repeat(500_000));
    survives(nmap, text.as_bytes());
}

#[test]
fn what_is_too_large_is_not_read() {
    let bytes = vec![b' '; super::MAX_INPUT as usize + 1];
    let error = nmap(&bytes, Settings { name: "x", known: &is_builtin }).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
}
