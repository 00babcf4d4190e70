//! Templates whose container says something else than what stands before it: no mistake
//! that keeps a honeynet from running, but one that an intruder sees at the first look.

use std::collections::BTreeSet;

use crate::emulate::{Builtin, Interned, Splicing, TcpPort, Template, UdpPort};
use crate::node::NodeConfig;
use crate::service::{Service, ServiceKind};
use crate::topology::Plan;

/// Words by which a service says that it runs on something else than Linux.
const FOREIGN: [&str; 12] = [
    "windows",
    "microsoft",
    "iis/",
    "win32",
    "win64",
    "cisco",
    "freebsd",
    "openbsd",
    "vxworks",
    "rompager",
    "jetdirect",
    "solaris",
];
/// Distributions that the built-in recipes are not.
const DISTRIBUTIONS: [&str; 9] =
    ["ubuntu", "centos", "red hat", "redhat", "fedora", "suse", "alpine", "raspbian", "gentoo"];

/// One sentence for each contradiction.
pub fn find(plan: &Plan) -> Vec<String> {
    let mut found = BTreeSet::new();
    for node in &plan.nodes {
        let NodeConfig::Hosts(hosts) = &node.config else { continue };
        for template in &hosts.templates {
            let cases = template.cases.iter().map(|case| &hosts.templates[usize::from(case.template)]);
            for one in std::iter::once(template).chain(cases) {
                found.extend(of_template(one, &hosts.services));
            }
        }
    }
    found.into_iter().collect()
}

fn of_template(template: &Template, services: &[Service]) -> Vec<String> {
    let Some(backend) = &template.backend else { return Vec::new() };
    let personality = template.personality.get();
    let (name, image) = (&template.name, &backend.image);
    let mut found = Vec::new();
    // Telephones have Linux, but nobody logs in to one and finds Debian.
    let is_server = personality.is_linux && template.personality != Interned::from(Builtin::Android);
    if !is_server {
        found.push(format!(
            "`{name}` passes for {} on the wire, but its container (`{image}`) is a Linux server: whoever logs in sees \
             that; use a Linux personality, or services that are emulated",
            personality.name
        ));
    }
    if backend.splice == Splicing::Always && !personality.is_linux {
        found.push(format!(
            "`{name}` passes open connections through to its container (`splice: always`), whose TCP is Linux's and not \
             that of {}: leave `splice` out",
            personality.name
        ));
    }
    let ports = template.tcp.iter().filter_map(|(port, answer)| match answer {
        TcpPort::Open(id) => Some((*port, "tcp", *id)),
        _ => None,
    });
    let udp = template.udp.iter().filter_map(|(port, answer)| match answer {
        UdpPort::Open(Some(id)) => Some((*port, "udp", *id)),
        _ => None,
    });
    for (port, transport, id) in ports.chain(udp) {
        let Some(service) = services.get(usize::from(id.0)) else { continue };
        let Some(word) = says(&service.kind) else { continue };
        // What contradicts the personality as well is the personality's matter, unless that is Linux.
        if is_server {
            found.push(format!(
                "port {port}/{transport} of `{name}` says \"{word}\", but its container (`{image}`) is another system: \
                 whoever logs in at another port sees that"
            ));
        }
    }
    found
}

/// The word by which a service names a system that no image is.
fn says(kind: &ServiceKind) -> Option<&'static str> {
    let text = match kind {
        ServiceKind::Banner { banner, .. } => String::from_utf8_lossy(banner).into_owned(),
        ServiceKind::Http(site) => site.server.clone(),
        ServiceKind::Library(profile) => {
            format!("{} {} {}", profile.product, profile.version, profile.banner.as_deref().unwrap_or_default())
        }
        ServiceKind::Tls(secured) => return says(&secured.inner.kind),
        _ => return None,
    };
    let text = text.to_lowercase();
    FOREIGN.into_iter().chain(DISTRIBUTIONS).find(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;

    fn warnings(template: &str) -> Vec<String> {
        let text = format!(
            "nodes:\n  web:\n    kind: host\n    address: 10.0.0.1\n    backend: {{image: small}}\n    tcp:\n      22: container\n{template}"
        );
        find(&topology::parse("t", &text).unwrap())
    }

    #[test]
    fn a_linux_host_with_its_container_is_sound() {
        assert_eq!(warnings(""), Vec::<String>::new());
        assert_eq!(warnings("      25: {banner: \"220 mail ESMTP Postfix (Debian/GNU)\"}\n"), Vec::<String>::new());
        assert_eq!(warnings("    personality: linux-2.6\n"), Vec::<String>::new());
    }

    #[test]
    fn another_systems_face_before_linux_is_told() {
        for personality in ["windows", "printer", "cisco-ios", "android", "freebsd"] {
            let found = warnings(&format!("    personality: {personality}\n"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains("`web`") && found[0].contains("is a Linux server"), "{found:?}");
        }
    }

    #[test]
    fn splicing_shows_linux() {
        let text = "nodes: {web: {kind: host, address: 10.0.0.1, personality: windows, tcp: {22: container}, \
                    backend: {image: small, splice: always}}}";
        let found = find(&topology::parse("t", text).unwrap());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|text| text.contains("splice: always")), "{found:?}");
    }

    #[test]
    fn a_service_that_names_another_system_is_told() {
        let found = warnings("      25: {banner: \"220 mail Microsoft ESMTP\"}\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("25/tcp") && found[0].contains("microsoft"), "{found:?}");
        let found = warnings("      80: {http: {server: \"Apache/2.4.52 (Ubuntu)\", pages: {/: x}}}\n");
        assert!(found[0].contains("ubuntu"), "{found:?}");
    }
}
