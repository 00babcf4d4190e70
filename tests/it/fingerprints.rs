//! Whom fingerprinters take emulated hosts for.

use std::collections::BTreeMap;

use crate::lab::Lab;
use crate::net::wait_for;

/// A topology with a host for each personality, from 192.0.2.100 on.
fn hosts(personalities: &[String]) -> String {
    let mut text = "name: fingerprints\ntemplates:\n".to_owned();
    for (number, name) in personalities.iter().enumerate() {
        text += &format!("  t{number}: {{personality: {name:?}, tcp: {{80: open}}}}\n");
    }
    text += "nodes:\n  wan: {kind: uplink}\n  core: {kind: switch, ports: 32}\n";
    for number in 0..personalities.len() {
        text += &format!("  h{number}: {{kind: host, address: 192.0.2.{}, template: t{number}}}\n", 100 + number);
    }
    text += "links:\n  - endpoints: [wan, \"core:1\"]\n";
    for number in 0..personalities.len() {
        text += &format!("  - endpoints: [h{number}, \"core:{}\"]\n", number + 2);
    }
    text
}

/// Some names of the database on this machine; each run of the test takes the same ones.
fn some_names(count: usize) -> Option<Vec<String>> {
    let text = std::fs::read("/usr/share/nmap/nmap-os-db").ok()?;
    let text = String::from_utf8_lossy(&text);
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Fingerprint ")).collect();
    let step = names.len() / count;
    Some((0..count).map(|number| names[number * step + step / 2].to_owned()).collect())
}

/// Whether nmap's only perfect match is `name`, and what it says else.
fn named(lab: &Lab, address: &str, name: &str) -> Result<(), String> {
    let said = lab.attacker.sh(&["nmap", "-O", "-n", "-Pn", "-p", "80,81", "-oX", "-", address]);
    let matches: Vec<&str> =
        said.split("<osmatch name=\"").skip(1).filter_map(|rest| rest.split("\" line").next()).collect();
    let perfect: Vec<&&str> = matches.iter().filter(|found| found.ends_with("\" accuracy=\"100")).collect();
    let wanted = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    if perfect.iter().any(|found| ***found == format!("{wanted}\" accuracy=\"100")) {
        Ok(())
    } else {
        Err(format!("{name}: {matches:?}"))
    }
}

#[test]
fn nmap_names_hosts_as_their_template_does_by_itself() {
    let Some(names) = some_names(8) else {
        println!("SKIPPED: nmap's database is not on this machine (package nmap-common)");
        return;
    };
    // Sequence numbers follow nmap's clock: whoever is kept from his processor answers late.
    let lab = Lab::up_alone(&hosts(&names));
    lab.attacker_at("192.0.2.1/24", "192.0.2.254");
    let mut wrong = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let address = format!("192.0.2.{}", 100 + number);
        // Once more for those that somebody else's work has disturbed.
        let tries = (0..3).map(|_| named(&lab, &address, name)).find(Result::is_ok);
        if tries.is_none() {
            wrong.extend(named(&lab, &address, name).err());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What p0f calls a host of each personality, by its SYN/ACK; `???` if it has no name for it.
fn p0f(personalities: &[String]) -> Vec<String> {
    let lab = Lab::up(&hosts(personalities));
    lab.attacker_at("192.0.2.1/24", "192.0.2.254");
    let out = lab.path("p0f.log");
    let out_name = out.display().to_string();
    let mut p0f = lab.attacker.spawn(&["p0f", "-i", "eth0", "-o", &out_name]);
    p0f.wait_line("Entered main event loop");
    let address = |number: usize| format!("192.0.2.{}", 100 + number);
    let named = wait_for("p0f's word on every host", || {
        // A connection that it does not see from its beginning tells it nothing.
        for number in 0..personalities.len() {
            lab.attacker.run(&["nc", "-w", "1", "-z", &address(number), "80"]);
        }
        let said = std::fs::read_to_string(&out).unwrap_or_default();
        let mut named = BTreeMap::new();
        for line in said.lines().filter(|line| line.contains("mod=syn+ack|")) {
            let field =
                |key: &str| line.split('|').find_map(|part| part.strip_prefix(key)).unwrap_or_default().to_owned();
            named.insert(field("srv="), (field("os="), field("raw_sig=")));
        }
        (named.len() == personalities.len()).then_some(named)
    });
    let of = |number: usize| &named[&format!("{}/80", address(number))];
    for (number, name) in personalities.iter().enumerate() {
        println!("{name}: {:?}", of(number));
    }
    (0..personalities.len()).map(|number| of(number).0.clone()).collect()
}

/// Some names of the database that have each of these words in front.
fn names_of(words: &[&str], count: usize) -> Option<Vec<String>> {
    let text = std::fs::read("/usr/share/nmap/nmap-os-db").ok()?;
    let text = String::from_utf8_lossy(&text);
    let all: std::collections::BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("Fingerprint ")).collect();
    let some = |word: &&str| {
        let names: Vec<&str> = all.iter().copied().filter(|name| name.starts_with(word)).collect();
        (0..count.min(names.len())).map(move |n| names[n * names.len() / count.min(names.len())].to_owned()).collect()
    };
    Some(words.iter().flat_map::<Vec<String>, _>(some).collect())
}

#[test]
fn p0f_names_most_of_nmaps_systems_and_none_wrongly() {
    let families = [
        ("Microsoft Windows XP", "Windows"),
        ("Microsoft Windows 7", "Windows"),
        ("Linux 2.6", "Linux"),
        ("Linux 3", "Linux"),
        ("FreeBSD 9", "FreeBSD"),
        ("OpenBSD 5", "OpenBSD"),
    ];
    let Some(names) = names_of(&families.map(|(words, _)| words), 5) else {
        println!("SKIPPED: nmap's database is not on this machine (package nmap-common)");
        return;
    };
    let found = p0f(&names);
    let mut right = 0;
    for (name, found) in names.iter().zip(&found) {
        let (_, family) = families.iter().find(|(words, _)| name.starts_with(words)).unwrap();
        assert!(found == "???" || found.starts_with(family), "{name}: {found}");
        right += usize::from(found.starts_with(family));
    }
    println!("p0f names {right} of {}", names.len());
    // Of the others nmap has only records with windows that p0f does not know.
    assert!(5 * right >= 4 * names.len(), "p0f names {right} of {}", names.len());
}

#[test]
fn p0f_names_the_systems_that_it_knows() {
    let known = [
        ("linux-2.6", "Linux"),
        ("windows-7", "Windows"),
        ("windows-xp", "Windows"),
        ("freebsd", "FreeBSD"),
        ("openbsd", "OpenBSD"),
    ];
    // Newer than its database: it must not take them for something else.
    let newer = ["linux", "android", "windows", "macos", "cisco-ios", "printer", "plc"];
    let all: Vec<String> = known.iter().map(|(name, _)| *name).chain(newer).map(str::to_owned).collect();
    let named = p0f(&all);
    let of = |number: usize| named[number].as_str();
    for (number, (name, family)) in known.iter().enumerate() {
        assert!(of(number).starts_with(family), "{name}: {}", of(number));
    }
    for (number, name) in newer.iter().enumerate() {
        assert_eq!(of(known.len() + number), "???", "{name}");
    }
}
