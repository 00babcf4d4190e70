//! `kind: mirror`: where sensors listen, and to what.

use std::path::{Path, PathBuf};

use super::at::{At, Text};
use super::check::Checker;
use super::error::suggest;
use super::nodes::{self, Draft};
use super::raw::Node;
use crate::frame::PortNo;
use crate::node::{MirrorConfig, NodeConfig, NodeIdx, TapConfig, UplinkConfig};

/// Reads a mirror; what it is given copies of is known when all nodes are.
pub fn read(c: &mut Checker<'_>, node: &Node, name: &At<Text>, of: &mut Vec<At<Text>>) -> Option<MirrorConfig> {
    let tap = nodes::tap(c, node, name)?;
    of.extend(node.of.iter().flat_map(|texts| texts.value.0.iter().cloned()));
    if of.is_empty() {
        let span = node.of.as_ref().map_or(name.span, |of| of.span);
        let message = format!("the mirror `{}` has nothing to copy", name.0);
        c.error(span, message, "it needs `of`", "add such as `of: [wan]`, or single ports such as `of: [\"core:1\"]`");
        return None;
    }
    Some(MirrorConfig { tap: TapConfig { capture: false, ..tap }, of: Vec::new() })
}

/// Finds the ports that mirrors are given copies of.
pub fn settle(c: &mut Checker<'_>, drafts: &mut [Draft]) {
    let mut count = 0;
    for at in 0..drafts.len() {
        let Some(NodeConfig::Mirror(_)) = &drafts[at].config else { continue };
        count += 1;
        if count == MirrorConfig::MOST + 1 {
            let message = format!("there are more than {} mirrors", MirrorConfig::MOST);
            c.error(drafts[at].span, message, "one too many", "several sensors can listen to one");
        }
        let mut found = Vec::new();
        for text in &drafts[at].of {
            found.extend(ports(c, drafts, text).unwrap_or_default());
        }
        found.sort_unstable();
        found.dedup();
        if let Some(NodeConfig::Mirror(mirror)) = &mut drafts[at].config {
            mirror.of = found;
        }
    }
}

/// The file that a sensor writes its alerts to.
pub fn sensor(c: &mut Checker<'_>) -> Option<PathBuf> {
    let text = c.raw.ids.as_ref()?.eve.as_ref()?;
    let path = Path::new(&text.value.0);
    if !path.is_absolute() || path.file_name().is_none() {
        let message = format!("`{}` is not the whole path of a file", text.value.0);
        c.error(text.span, message, "here", "write such as /var/log/suricata/eve.json");
    }
    Some(path.to_owned())
}

/// The ports that `text` names. Nothing is said twice about a node with a mistake.
fn ports(c: &mut Checker<'_>, drafts: &[Draft], text: &At<Text>) -> Option<Vec<(NodeIdx, PortNo)>> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name.trim(), Some(port.trim())),
        None => (text.trim(), None),
    };
    let Some(at) = drafts.iter().position(|draft| draft.name == name) else {
        let help = suggest(name, drafts.iter().map(|draft| &*draft.name));
        c.error(text.span, format!("there is no node `{name}`"), "to be copied", help);
        return None;
    };
    let node = NodeIdx(at as u16);
    let named = |names: Vec<&str>| names.into_iter().map(str::to_owned).enumerate().collect::<Vec<_>>();
    // The ports by name, and those of the whole node: of a real interface the wire, for what a guard keeps inside is not
    // on it; of hosts their link, for a container's bytes pass that already.
    let (names, all) = match drafts[at].config.as_ref()? {
        NodeConfig::Bridge(bridge) => {
            let names = named(bridge.ports.iter().map(|port| &*port.name).collect());
            (names, (0..bridge.ports.len()).collect())
        }
        NodeConfig::Router(router) => {
            let names = named(router.interfaces.iter().map(|interface| &*interface.name).collect());
            (names, (0..router.interfaces.len()).collect())
        }
        NodeConfig::Uplink(_) => (named(vec!["0"]), vec![usize::from(UplinkConfig::WIRE.0)]),
        NodeConfig::Tap(_) => (named(vec!["0"]), vec![usize::from(TapConfig::WIRE.0)]),
        NodeConfig::Hosts(_) => (vec![(0, "0".to_owned()), (0, "eth0".to_owned())], vec![0]),
        NodeConfig::Mirror(_) => {
            let help = "name the nodes that the other one copies";
            c.error(text.span, format!("`{name}` is a mirror itself"), "no mirror copies another", help);
            return None;
        }
    };
    let wanted: Vec<usize> = match port {
        None => all,
        Some(port) => match names.iter().find(|(_, known)| known == port) {
            Some((number, _)) => vec![*number],
            None => {
                let help = suggest(port, names.iter().map(|(_, name)| &**name));
                c.error(text.span, format!("`{name}` has no port `{port}`"), "to be copied", help);
                return None;
            }
        },
    };
    Some(wanted.into_iter().map(|port| (node, PortNo(port as u16))).collect())
}

#[cfg(test)]
mod tests {
    use crate::frame::PortNo;
    use crate::node::{NodeConfig, NodeIdx};
    use crate::topology::{parse, tests::good};

    const NODES: &str = "
nodes:
  wan: {kind: uplink, interface: eth0}
  core: {kind: switch, ports: 3}
  edge: {kind: router, interfaces: {lan: [10.0.0.1/24], dmz: [10.1.0.1/24]}}
  web: {kind: host, address: 10.0.0.5}
links:
  - endpoints: [wan, 'core:1']
  - endpoints: ['core:2', 'edge:lan']
  - endpoints: ['core:3', web]
";

    fn with(mirror: &str) -> String {
        NODES.replace("links:", &format!("  ids: {{kind: mirror, {mirror}}}\nlinks:"))
    }

    fn of(mirror: &str) -> Vec<(u16, u16)> {
        let plan = good(&with(mirror));
        let config = &plan.nodes.iter().find(|node| node.name == "ids").unwrap().config;
        let NodeConfig::Mirror(mirror) = config else { panic!("{config:?}") };
        assert_eq!((&*mirror.tap.interface, mirror.tap.capture), ("hw-ids", false));
        mirror.of.iter().map(|(NodeIdx(node), PortNo(port))| (*node, *port)).collect()
    }

    #[test]
    fn a_mirror_has_the_ports_that_it_names() {
        assert_eq!(of("interface: hw-ids, of: wan"), [(0, 1)]);
        assert_eq!(of("interface: hw-ids, of: ['wan:0']"), [(0, 0)]);
        assert_eq!(of("interface: hw-ids, of: [core]"), [(1, 0), (1, 1), (1, 2)]);
        assert_eq!(of("interface: hw-ids, of: ['edge:dmz', 'core:2', web, 'web:eth0']"), [(1, 1), (2, 1), (3, 0)]);
    }

    #[test]
    fn a_sensors_file_is_named_by_its_whole_path() {
        let read = |eve: &str| parse("t", &format!("ids: {{eve: {eve}}}\n{NODES}"));
        let eve = read("/var/log/suricata/eve.json").unwrap().eve;
        assert_eq!(eve.as_deref(), Some(std::path::Path::new("/var/log/suricata/eve.json")));
        assert_eq!(good(NODES).eve, None);
        for eve in ["eve.json", "./eve.json", "/", "''"] {
            let mistakes = read(eve).unwrap_err();
            assert!(mistakes.errors[0].message.contains("is not the whole path of a file"), "{eve}: {mistakes:?}");
        }
    }

    #[test]
    fn what_copies_nothing_is_refused() {
        for (mirror, message) in [
            ("interface: hw-ids", "has nothing to copy"),
            ("interface: hw-ids, of: []", "has nothing to copy"),
            ("of: [core]", "has no name on this machine"),
            ("interface: hw-ids, of: [cor]", "there is no node `cor`"),
            ("interface: hw-ids, of: ['core:4']", "`core` has no port `4`"),
            ("interface: hw-ids, of: [ids]", "`ids` is a mirror itself"),
            ("interface: hw-ids, of: [core], capture: true", "`capture` does not belong to a `mirror`"),
        ] {
            let mistakes = parse("t", &with(mirror)).unwrap_err();
            assert!(mistakes.errors.iter().any(|error| error.message.contains(message)), "{mirror}: {mistakes:?}");
        }
        let linked = with("interface: hw-ids, of: [core]") + "  - endpoints: ['edge:dmz', ids]\n";
        let mistakes = parse("t", &linked).unwrap_err();
        assert!(mistakes.errors[0].message.contains("nothing is linked to the mirror `ids`"), "{mistakes:?}");
        let many: String =
            (0..9).map(|n| format!("  m{n}: {{kind: mirror, interface: hw-m{n}, of: [core]}}\n")).collect();
        let mistakes = parse("t", &NODES.replace("links:", &format!("{many}links:"))).unwrap_err();
        assert!(mistakes.errors[0].message.contains("more than 8 mirrors"), "{mistakes:?}");
        let twice =
            with("interface: hw-ids, of: [core]").replace("  web:", "  vm: {kind: tap, interface: hw-ids}\n  web:");
        let mistakes = parse("t", &twice).unwrap_err();
        assert!(mistakes.errors[0].message.contains("two TAPs would be named `hw-ids`"), "{mistakes:?}");
    }
}
